"""int8 in ONNX, in the forms that ONNX Runtime has fast kernels for."""
