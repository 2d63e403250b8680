"""int8 TFLite files of the tests' networks, written once."""

from __future__ import annotations

from functools import cache

from support.int8 import quantized_network

from edgecnn.export.tflite.export import export_tflite_int8


@cache
def data(name: str) -> bytes:
    return export_tflite_int8(quantized_network(name), version="0").data
