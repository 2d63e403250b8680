"""Operators of the tests' cases, many side by side in one file, on any runtime and board."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from cases.base import Case, captured
from support.int8 import EXPORTERS, Executor, integers, quantized_graph, run, signature

from edgecnn.errors import EdgecnnError
from edgecnn.export.onnx.export import export_onnx
from edgecnn.export.tflite.export import export_tflite
from edgecnn.golden.float import execute_float
from edgecnn.golden.integer import execute_by_rules
from edgecnn.graph import ops
from edgecnn.graph.graph import Graph, Input, Node, Output
from edgecnn.graph.ops import with_inputs
from edgecnn.parity.metrics import relative_error
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.targets.runtimes.refusals import NotOfferedError

SAMPLES = 4
FILE = 40
"""Operators in a file."""
FLOAT_LIMIT = 1e-5
RULES = {
    "onnxruntime": "half_even_fp32",
    "litert": "xnnpack",
    "tflite-runtime": "tflite_runtime_reference",
    "tflite-micro": "gemmlowp",
}
FORMS = {"onnxruntime": "onnx", "litert": "tflite", "tflite-runtime": "tflite", "tflite-micro": "tflite"}
FLOAT_EXPORTERS = {"onnx": export_onnx, "tflite": export_tflite}


@dataclass
class Cell:
    """What an operator gave at a place: values, those that differ, the worst difference, and why it is not offered."""

    values: int = 0
    off: int = 0
    worst: float = 0.0
    refused: str = ""
    parts: int = 0
    lost: int = 0


@dataclass(frozen=True)
class Part:
    """An operator of a case with the values it reads, and what it is to give by each rule; ``float`` is one rule."""

    graph: Graph
    node: Node
    reads: dict[str, dict[str, np.ndarray]]
    expected: dict[str, np.ndarray]
    q: QuantizedGraph | None = None

    @property
    def kind(self) -> str:
        op = self.node.op
        return "Conv2d, depthwise" if isinstance(op, ops.Conv2d) and op.groups > 1 else type(op).__name__


def int8_parts(rules: Sequence[str], cases: Iterable[Case]) -> Iterator[Part]:
    seen: set[Any] = set()
    for case in cases:
        if case.int8 or not case.batch_free:
            continue
        inputs = [np.asarray(x) for x in case.inputs(SAMPLES)]
        q = quantized_graph(captured(case), inputs)
        new = [n for n in q.graph.nodes if signature(n, q.graph.shapes) not in seen]
        seen.update(signature(n, q.graph.shapes) for n in new)
        values = execute_by_rules(q, integers(q, inputs), rules) if new else {}
        for node in new:
            reads = {r: {i: v[i] for i in node.inputs if i not in q.graph.constants} for r, v in values.items()}
            yield Part(q.graph, node, reads, {r: v[node.name] for r, v in values.items()}, q)


def float_parts(cases: Iterable[Case]) -> Iterator[Part]:
    seen: set[Any] = set()
    for case in cases:
        if not case.batch_free:
            continue
        graph, arrays = captured(case), [np.asarray(x) for x in case.inputs(SAMPLES)]
        new = [n for n in graph.nodes if signature(n, graph.shapes) not in seen]
        seen.update(signature(n, graph.shapes) for n in new)
        values = execute_float(graph, arrays) if new else {}
        for node in new:
            reads = {"float": {i: values[i] for i in node.inputs if i not in graph.constants}}
            yield Part(graph, node, reads, {"float": values[node.name]})


def chosen(parts: Iterator[Part], each: int | None) -> list[Part]:
    """So many of each kind, spread evenly; all without a number."""
    kinds: dict[str, list[Part]] = defaultdict(list)
    for part in parts:
        kinds[part.kind].append(part)
    return [p for own in kinds.values() for p in own[:: max(1, -(-len(own) // each)) if each else 1]]


def together(parts: Sequence[Part], rule: str) -> tuple[Graph, QuantizedGraph | None, list[np.ndarray]]:
    """One graph of operators that do not read each other, their names told apart, and what it is to be given."""
    inputs, nodes, constants, given = [], [], {}, []
    activations: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    biases: dict[str, Any] = {}
    for k, part in enumerate(parts):
        own = {i: f"p{k}.{i}" for i in part.node.inputs}
        for value, array in part.reads[rule].items():
            inputs.append(Input(own[value], part.graph.shapes[value]))
            given.append(array)
        name = f"p{k}.{part.node.name}.result"
        nodes.append(replace(part.node, name=name, op=with_inputs(part.node.op, own)))
        constants |= {own[i]: part.graph.constants[i] for i in own if i in part.graph.constants}
        if part.q is not None:
            activations |= {own[i]: part.q.activations[i] for i in own if i in part.q.activations}
            activations[name] = part.q.activations[part.node.name]
            weights |= {own[i]: part.q.weights[i] for i in own if i in part.q.weights}
            if part.node.name in part.q.biases:
                biases[name] = part.q.biases[part.node.name]
    graph = Graph(
        inputs=tuple(inputs),
        nodes=tuple(nodes),
        outputs=tuple(Output(f"out{k}", n.name) for k, n in enumerate(nodes)),
        constants=MappingProxyType(constants),
    )
    if not activations:
        return graph, None, given
    return graph, QuantizedGraph(graph=graph, activations=activations, weights=weights, biases=biases), given


def outputs_of(agent: Any, executor: Executor, parts: Sequence[Part]) -> list[np.ndarray]:
    """What an executor gives for operators side by side."""
    rule = "float" if parts[0].q is None else executor.rounding
    graph, q, given = together(parts, rule)
    if q is not None:
        return run(agent, executor, q, EXPORTERS[executor.form](q, version="0"), given)
    written = FLOAT_EXPORTERS[executor.form](graph, version="0")
    stored = [np.ascontiguousarray(a.transpose(written.axes[i.name])) for a, i in zip(given, graph.inputs, strict=True)]
    with agent.open(executor.runtime, written.data, f"float.{executor.form}", **executor.options) as session:
        found = session.infer(stored)
    return [a.transpose(np.argsort(written.axes[o.name])) for a, o in zip(found, graph.outputs, strict=True)]


def compare(agent: Any, executor: Executor, parts: Sequence[Part], cells: Callable[[str], Cell]) -> None:
    """Add what operators give to their cells; a file that is refused is halved until the operator is known."""
    try:
        outputs = outputs_of(agent, executor, parts)
    except EdgecnnError as error:
        if not agent.alive:  # a crash or a cut line is no answer about operators
            raise
        if len(parts) == 1:
            cell = cells(parts[0].kind)
            cell.parts, cell.lost, cell.refused = cell.parts + 1, cell.lost + 1, reason(error)
            return
        for half in (parts[: len(parts) // 2], parts[len(parts) // 2 :]):
            compare(agent, executor, half, cells)
        return
    for part, got in zip(parts, outputs, strict=True):
        cell = cells(part.kind)
        expected = part.expected["float" if part.q is None else executor.rounding]
        if part.q is None:
            off, worst = int(relative_error(got, expected) > FLOAT_LIMIT), relative_error(got, expected)
        else:
            steps = np.abs(got.astype(np.int64) - expected)
            off, worst = int((steps > 0).sum()), float(steps.max(initial=0))
        cell.parts, cell.values, cell.off = cell.parts + 1, cell.values + got.size, cell.off + off
        cell.worst = max(cell.worst, worst)


def survey(
    agent: Any, executor: Executor, parts: Sequence[Part], cells: dict[tuple[str, str], Cell], precision: str
) -> None:
    """All operators of a precision at one place."""
    for start in range(0, len(parts), FILE):
        compare(agent, executor, parts[start : start + FILE], lambda kind: cells.setdefault((kind, precision), Cell()))


def reason(error: EdgecnnError) -> str:
    """Why, in a few words."""
    if isinstance(error, NotOfferedError):
        return error.why.rstrip(".")
    return " ".join(error.message.split(". ")[0].split(": ", 1)[-1].split())[:80]


def writable(part: Part, form: str) -> bool:
    """Whether the format has the operator: TFLite has no error function."""
    return not (form == "tflite" and isinstance(part.node.op, ops.Erf))
