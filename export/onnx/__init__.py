"""ONNX: protobuf, opset 13 and up, layout as in torch."""
