"""Each operator of a quantized graph alone in a model: the golden integers go in, and what comes out is compared."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from support.paths import ROOT
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.data.sources import load_dataset
from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.tflite.export import export_tflite_int8
from edgecnn.export.written import Written
from edgecnn.golden.integer import execute_by_rules
from edgecnn.graph.graph import Graph, Input, Node, Output
from edgecnn.graph.ops import Conv2d, ValueName, with_inputs
from edgecnn.graph.verify import batch_is_free
from edgecnn.models import create_model
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.quantize.observe import observe
from edgecnn.quantize.prepare import prepare
from edgecnn.quantize.quantize import quantize

CALIBRATION = 64
NETWORKS = ("conv_pool", "lenet5", "resnet8", "depthwise")
EXPORTERS = {"onnx": export_onnx_int8, "tflite": export_tflite_int8}


@dataclass(frozen=True)
class Executor:
    """A runtime as it is used here, and the golden rule that describes it."""

    form: str
    runtime: str
    options: Mapping[str, Any]
    rounding: str


REFERENCE = {"reference_kernels": True, "xnnpack": False}
EXECUTORS: Mapping[str, Executor] = MappingProxyType(
    {
        "onnxruntime": Executor("onnx", "onnxruntime", {}, "half_even_fp32"),
        "xnnpack": Executor("tflite", "litert", {}, "xnnpack"),
        "reference": Executor("tflite", "litert", REFERENCE, "litert_reference"),
    }
)
ELSEWHERE: Mapping[str, Executor] = MappingProxyType(
    {
        "tflite-runtime": Executor("tflite", "tflite-runtime", {}, "tflite_runtime_reference"),
        "tflite-runtime reference": Executor("tflite", "tflite-runtime", REFERENCE, "tflite_runtime_reference"),
        "tflite-micro": Executor("tflite", "tflite-micro", {}, "gemmlowp"),
    }
)
"""Executors whose runtimes live in environments of their own. tflite-runtime's optimized kernels follow no one rule."""
ALL: Mapping[str, Executor] = MappingProxyType({**EXECUTORS, **ELSEWHERE})
PYTHONS = MappingProxyType(
    {
        "tflite-runtime": "EDGECNN_TFLITE_RUNTIME_PYTHON",
        "tflite-micro": "EDGECNN_TFLITE_MICRO_PYTHON",
        "openvino": "EDGECNN_OPENVINO_PYTHON",
    }
)
"""What names an environment's interpreter; else it lies beside the sources, where ``make runtimes`` puts it."""


def python_of(runtime: str) -> str | None:
    """The interpreter that has a runtime: this one, that of its own environment, or None where there is none."""
    if runtime not in PYTHONS:
        return sys.executable
    beside = ROOT / f".venv-{runtime}" / "bin" / "python"
    python = os.environ.get(PYTHONS[runtime]) or str(beside)
    return python if Path(python).exists() else None


@dataclass(frozen=True)
class Compared:
    """One operator on one executor; ``place`` is that of a worst value."""

    node: Node
    executor: str
    values: int
    mismatches: int
    worst: int
    place: str = ""

    @property
    def kind(self) -> str:
        """The operator's class; depthwise convolutions count apart."""
        op = self.node.op
        return "Depthwise" if isinstance(op, Conv2d) and op.groups > 1 else type(op).__name__


class Depthwise(nn.Module):
    """Depthwise separable blocks, strided and not, with a global average."""

    input_shape = (3, 48, 48)

    def __init__(self) -> None:
        super().__init__()

        def block(channels: int, out: int, stride: int) -> list[nn.Module]:
            deep = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
            return [deep, nn.BatchNorm2d(channels), nn.ReLU6(), nn.Conv2d(channels, out, 1), nn.BatchNorm2d(out)]

        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.body = nn.Sequential(*block(8, 16, 1), nn.ReLU(), *block(16, 24, 2), nn.ReLU6(), *block(24, 24, 1))
        self.pool, self.scores = nn.AvgPool2d(12), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(self.pool(self.body(self.stem(x))).flatten(1))


def network(name: str) -> Any:
    """A model of the zoo, or the depthwise one; seeded, its batch norms with statistics of their own."""
    torch.manual_seed(7)
    module = (Depthwise() if name == "depthwise" else create_model(name)).eval()
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1.0, 0.2)
            nn.init.normal_(m.bias, 0.0, 0.2)
            m.running_mean.normal_(0.0, 0.2)
            m.running_var.uniform_(0.3, 2.0)
    return module


@cache
def quantized_network(name: str) -> QuantizedGraph:
    """Such a network, calibrated on the first images."""
    module = network(name)
    return quantized(module, [images(module.input_shape, CALIBRATION)])


def saturating() -> tuple[nn.Module, np.ndarray]:
    """Large weights of one sign next to each other, and inputs near the top of their range."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(288, 4)
    )
    with torch.no_grad():
        module[0].weight.copy_(0.5 + torch.rand(8, 2, 3, 3))
        module[2].weight.copy_((0.5 + torch.rand(8, 8, 3, 3)) * torch.tensor([1.0, -1.0] * 4).reshape(8, 1, 1, 1))
    return module, 0.7 + 0.3 * np.random.default_rng(0).random((16, 2, 8, 8), np.float32)


def images(shape: tuple[int, ...], count: int) -> np.ndarray:
    """Digits resized to a model's input, each time round shifted by a pixel more; colours are shifts of one image."""
    digits = load_dataset("digits", input_shape=(1, *shape[1:]), split="all")
    grey = digits.batch(np.arange(count) % len(digits))
    grey = np.stack([np.roll(x, i // len(digits), axis=(1, 2)) for i, x in enumerate(grey)])
    return np.concatenate([np.roll(grey, c, axis=3) * (1 - 0.2 * c) for c in range(shape[0])], axis=1).astype(
        np.float32
    )


def quantized(module: Any, inputs: Sequence[Any], **options: Any) -> QuantizedGraph:
    """A module quantized by what it does on samples."""
    return quantized_graph(capture(module, [torch.as_tensor(x[:1]) for x in inputs]), inputs, **options)


def quantized_graph(graph: Graph, inputs: Sequence[Any], **options: Any) -> QuantizedGraph:
    """A captured graph quantized by what it does on samples."""
    graph = prepare(graph)
    arrays = [np.asarray(x) for x in inputs]
    batches = [arrays] if batch_is_free(graph) else [[a[i : i + 1] for a in arrays] for i in range(len(arrays[0]))]
    return quantize(graph, observe(graph, batches), **options)


def integers(q: QuantizedGraph, inputs: Sequence[Any]) -> list[np.ndarray]:
    """Real inputs as the graph's integers."""
    return [q.activations[i.name].quantize(np.asarray(x)) for i, x in zip(q.graph.inputs, inputs, strict=True)]


def alone(q: QuantizedGraph, node: Node) -> QuantizedGraph:
    """A graph of one operator, with the parameters that it has in the whole."""
    constants = {i: q.graph.constants[i] for i in node.inputs if i in q.graph.constants}
    reads = dict.fromkeys(i for i in node.inputs if i not in constants)
    graph = Graph(
        inputs=tuple(Input(i, q.graph.shapes[i]) for i in reads),
        nodes=(node,),
        outputs=(Output("output", node.name),),
        constants=MappingProxyType(constants),
    )
    return QuantizedGraph(graph=graph, activations=q.activations, weights=q.weights, biases=q.biases)


def signature(node: Node, shapes: Mapping[ValueName, Any]) -> tuple[Any, ...]:
    """The operator's class, settings and shapes."""
    settings = [getattr(node.op, f.name) for f in fields(node.op) if f.name not in node.op.VALUES]
    return (type(node.op), *map(str, settings), *(shapes[i] for i in node.inputs))


def side_by_side(q: QuantizedGraph, nodes: Sequence[Node]) -> tuple[QuantizedGraph, list[ValueName]]:
    """A graph of operators that do not read each other, and which value each of its inputs is to be given."""
    inputs, reads, apart, activations = [], [], [], dict(q.activations)
    for node in nodes:
        computed = dict.fromkeys(i for i in node.inputs if i not in q.graph.constants)
        own = {i: f"in{len(inputs) + k}" for k, i in enumerate(computed)}
        for value, name in own.items():
            inputs.append(Input(name, q.graph.shapes[value]))
            reads.append(value)
            activations[name] = q.activations[value]
        apart.append(replace(node, op=with_inputs(node.op, own)))
    graph = Graph(
        inputs=tuple(inputs),
        nodes=tuple(apart),
        outputs=tuple(Output(f"out{k}", n.name) for k, n in enumerate(nodes)),
        constants=MappingProxyType({i: c for i, c in q.graph.constants.items() if any(i in n.inputs for n in nodes)}),
    )
    return QuantizedGraph(graph=graph, activations=activations, weights=q.weights, biases=q.biases), reads


def run(agent: Any, executor: Executor, q: QuantizedGraph, written: Written, inputs: Sequence[np.ndarray]) -> Any:
    """The integers that a runtime gives for integers, all in the graph's own layout."""
    reals = [q.activations[i.name].dequantize(x) for i, x in zip(q.graph.inputs, inputs, strict=True)]
    stored = [
        np.array(x.transpose(written.axes[i.name]), order="C") for i, x in zip(q.graph.inputs, reals, strict=True)
    ]
    with agent.open(executor.runtime, written.data, f"int8.{executor.form}", **executor.options) as session:
        outputs = session.infer(stored)
    return [
        _integers(o.transpose(np.argsort(written.axes[name.name])), q, name)
        for o, name in zip(outputs, q.graph.outputs, strict=True)
    ]


def _integers(real: np.ndarray, q: QuantizedGraph, output: Output) -> np.ndarray:
    params = q.activations[output.value]
    exact = real.astype(np.float64) / float(params.scale)
    whole = np.rint(exact)
    assert np.abs(exact - whole).max(initial=0) < 1e-3, f"{output.name} is no integer times its scale"
    return whole.astype(np.int64) + params.zero_point


def teacher_forced(
    agent: Any,
    q: QuantizedGraph,
    inputs: Sequence[np.ndarray],
    names: Sequence[str] = tuple(EXECUTORS),
    nodes: Sequence[Node] | None = None,
) -> Iterator[Compared]:
    """Every operator of a graph (or those given), each on what the golden executor gives it, side by side in a file."""
    golden = execute_by_rules(q, inputs, sorted({ALL[n].rounding for n in names}))
    nodes = q.graph.nodes if nodes is None else nodes
    if not nodes:
        return
    apart, reads = side_by_side(q, nodes)
    written = {form: EXPORTERS[form](apart, version="0") for form in {ALL[n].form for n in names}}
    for name in names:
        executor = ALL[name]
        values = golden[executor.rounding]
        outputs = run(agent, executor, apart, written[executor.form], [values[v] for v in reads])
        for node, got in zip(nodes, outputs, strict=True):
            yield compared(node, name, got, values[node.name])


def compared(node: Node, executor: str, got: np.ndarray, expected: np.ndarray) -> Compared:
    """Count what differs."""
    assert got.shape == expected.shape, f"{node.describe()} on {executor}: {got.shape}, not {expected.shape}"
    off = np.abs(got - expected.astype(np.int64))
    place = "" if not off.any() else str(tuple(int(i) for i in np.argwhere(off == off.max())[0]))
    return Compared(node, executor, off.size, int((off > 0).sum()), int(off.max(initial=0)), place)
