"""The float exporters and their runtimes, and how closely they are held to torch."""

from __future__ import annotations

import os

from edgecnn.export.onnx.export import export_onnx
from edgecnn.export.tflite.export import export_tflite

EXPORTERS = {"onnx": export_onnx, "tflite": export_tflite}
RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert"}
LIMIT = 1e-5
"""Largest error of fp32 as a share of the output's range."""
SEARCH = bool(os.environ.get("EDGECNN_SEARCH"))
"""Whether property tests draw new examples instead of the same ones in every run."""
