"""Models of the zoo, and how a file's outputs and operators are read, for fp16, int8-dynamic and int16x8."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema

from edgecnn.capture.capture import capture
from edgecnn.export.onnx.export import export_onnx
from edgecnn.export.onnx.fp16 import export_onnx_fp16
from edgecnn.export.tflite.export import export_tflite
from edgecnn.export.tflite.fp16 import export_tflite_fp16
from edgecnn.export.tflite.int16 import export_tflite_int16x8
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph, Input, Node, Output
from edgecnn.graph.verify import batch_is_free
from edgecnn.models import create_model
from edgecnn.program.quantized16 import QuantizedGraph16
from edgecnn.quantize.observe import observe
from edgecnn.quantize.prepare import prepare
from edgecnn.quantize.quantize16 import quantize_int16

ZOO = ("conv_pool", "lenet5", "resnet8")
FP32 = {"onnx": export_onnx, "tflite": export_tflite}
FP16 = {"onnx": export_onnx_fp16, "tflite": export_tflite_fp16}
REFERENCE = {"xnnpack": False, "reference_kernels": True}


@cache
def zoo_model(name: str) -> tuple[Graph, np.ndarray]:
    torch.manual_seed(0)
    model = create_model(name).eval()
    x = torch.rand(24, *model.input_shape)
    return prepare(capture(model, [x[:1]])), x.numpy()


def outputs_of(
    agent: Any, graph: Graph, written: Written, arrays: Any, runtime: str = "litert", **options: Any
) -> list[Any]:
    with agent.open(runtime, written.data, "case.tflite", **options) as session:
        stored = [
            np.ascontiguousarray(x.transpose(written.axes[i.name])) for x, i in zip(arrays, graph.inputs, strict=True)
        ]
        outputs = session.infer(stored)
    return [o.transpose(np.argsort(written.axes[n.name])) for o, n in zip(outputs, graph.outputs, strict=True)]


def operator_codes(data: bytes) -> set[tuple[int, int]]:
    return {(c.builtinCode, c.version) for c in schema.ModelT.InitFromPackedBuf(data, 0).operatorCodes}


def operator_code(name: str) -> int:
    return int(getattr(schema.BuiltinOperator, name))


def quantized16(graph: Graph, arrays: list[np.ndarray]) -> QuantizedGraph16:
    rows = [arrays] if batch_is_free(graph) else [[a[i : i + 1] for a in arrays] for i in range(len(arrays[0]))]
    return quantize_int16(graph, observe(graph, rows))


def integers16(q: QuantizedGraph16, arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [q.activations[i.name].quantize(x) for i, x in zip(q.graph.inputs, arrays, strict=True)]


def alone16(q: QuantizedGraph16, node: Node) -> QuantizedGraph16:
    constants = {i: q.graph.constants[i] for i in node.inputs if i in q.graph.constants}
    graph = Graph(
        inputs=tuple(Input(i, q.graph.shapes[i]) for i in dict.fromkeys(node.inputs) if i not in constants),
        nodes=(node,),
        outputs=(Output("output", node.name),),
        constants=MappingProxyType(constants),
    )
    return replace(q, graph=graph)


def run16(agent: Any, q: QuantizedGraph16, integers: list[np.ndarray], **options: Any) -> list[np.ndarray]:
    reals = [q.activations[i.name].dequantize(x) for i, x in zip(q.graph.inputs, integers, strict=True)]
    outputs = outputs_of(agent, q.graph, export_tflite_int16x8(q, version="0"), reals, **options)
    return [
        np.rint(y.astype(np.float64) / float(q.activations[o.value].scale)).astype(np.int64)
        for y, o in zip(outputs, q.graph.outputs, strict=True)
    ]
