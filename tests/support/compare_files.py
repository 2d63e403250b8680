"""ONNX files for comparisons."""

from __future__ import annotations

from onnx import TensorProto

FLOAT, UINT8, INT8, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8, TensorProto.INT64


def relu(write, name, shape, operator="Relu"):
    return write(name, [(operator, ["x"], ["y"], {})], [("x", FLOAT, shape)], [("y", FLOAT, shape)])
