"""Execute an artifact's program in the golden executor of its precision, as a whole or operator by operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgecnn.bundle import Artifact, Manifest
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import ValueName
from edgecnn.locate.reexport import Reexport
from edgecnn.parity.runner import stored_inputs
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.program.quantized16 import INT16_MAX, INT16_MIN, QuantizedGraph16, Scale16
from edgecnn.types import Array

Values = Mapping[ValueName, Array]


def taken(reexport: Reexport, manifest: Manifest, artifact: Artifact, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Real inputs (samples, ...) as the program takes them: as integers where it is an integer program."""
    if reexport.int16 is not None:
        scales = reexport.int16.activations
        return tuple(_int16(scales[i.name], a) for i, a in zip(reexport.graph.inputs, inputs, strict=True))
    return tuple(inputs) if reexport.quantized is None else graph_inputs(reexport.quantized, manifest, artifact, inputs)


def execute(reexport: Reexport, inputs: Sequence[Array], rule: str) -> dict[ValueName, Array]:
    """Every value by name, for inputs as the program takes them.

    Args:
        reexport: The program.
        inputs: Its inputs; see :func:`taken`.
        rule: One of :func:`rules_of` its precision; without meaning in float32.
    """
    if reexport.quantized is not None:
        return run_integers(reexport.quantized, inputs, rule)
    if reexport.int16 is not None:
        return run_int16(reexport.int16, inputs, rule)
    if reexport.precision == "int8-dynamic":
        from edgecnn.golden.int8_dynamic import execute_dynamic

        return execute_dynamic(reexport.graph, inputs, rule=rule)
    from edgecnn.golden.batches import execute_samples

    return execute_samples(reexport.graph, inputs)


def execute_alone(reexport: Reexport, node: Node, values: Values, rule: str) -> Array:
    """The result of one operator for values of the program, by one of :func:`rules_of` its precision."""
    if reexport.quantized is not None:
        from edgecnn.golden.integer import execute_node

        return execute_node(reexport.quantized, node, values, rounding=rule)
    if reexport.int16 is not None:
        from edgecnn.golden.integer16 import execute_int16_node

        return execute_int16_node(reexport.int16, node, values, linear=rule)
    from edgecnn.golden.int8_dynamic import DynamicGraph

    return DynamicGraph(reexport.graph).node(node, values, rule)


def rules_of(reexport: Reexport) -> tuple[str, ...]:
    """The rules of rounding known for a precision; none in float32, where only the order of sums can differ."""
    if reexport.quantized is not None:
        from edgecnn.golden.integer import KERNEL_SETS

        return tuple(KERNEL_SETS)
    if reexport.int16 is not None:
        from edgecnn.golden.integer16 import LINEAR

        return tuple(LINEAR)
    if reexport.precision == "int8-dynamic":
        from edgecnn.golden.int8_dynamic import RULES

        return tuple(RULES)
    return ()


def outputs_of(reexport: Reexport, values: Values) -> list[Array]:
    """The outputs among a program's values: as integers where it is an integer program."""
    if reexport.quantized is None:
        return [values[o.value] for o in reexport.graph.outputs]
    from edgecnn.golden.float_layers import as_integers

    q = reexport.quantized
    return [as_integers(q, o.value, values[o.value]) for o in q.graph.outputs]


def graph_inputs(
    q: QuantizedGraph, manifest: Manifest, artifact: Artifact, inputs: Sequence[Array]
) -> tuple[Array, ...]:
    """Real inputs as the quantized graph's integers, after the preprocessing inside the file where it takes bytes."""
    spec = artifact.spec.quantization
    if spec is None or spec.io == "float32":
        return tuple(q.activations[i.name].quantize(a) for i, a in zip(q.graph.inputs, inputs, strict=True))
    offset = 128 if spec.io == "uint8" else 0
    stored = stored_inputs(manifest, artifact, inputs)
    axes = [i.axes[artifact.format] for i in manifest.inputs]
    return tuple(
        (a.astype(np.int16) - offset).astype(np.int8).transpose(np.argsort(order))
        for a, order in zip(stored, axes, strict=True)
    )


def run_integers(q: QuantizedGraph, inputs: Sequence[Array], rule: str) -> dict[ValueName, Array]:
    """Every value of a quantized graph, sample by sample where the batch is not free."""
    from edgecnn.golden.integer import execute_integer
    from edgecnn.graph.verify import batch_is_free

    if batch_is_free(q.graph):
        return execute_integer(q, inputs, rounding=rule)
    rows = [execute_integer(q, [a[i : i + 1] for a in inputs], rounding=rule) for i in range(len(inputs[0]))]
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


def _int16(params: Scale16, real: Array) -> Array:
    """Quantize an input as LiteRT's kernel does; its reference kernel divides, and rounds half away from 0."""
    with np.errstate(over="ignore"):
        steps = np.rint(real.astype(np.float32) * (np.float32(1) / params.scale))
    integers: Array = np.clip(steps, INT16_MIN, INT16_MAX).astype(np.int16)
    return integers


def run_int16(q: QuantizedGraph16, inputs: Sequence[Array], rule: str) -> dict[ValueName, Array]:
    """Every value of an int16x8 graph, sample by sample where the batch is not free."""
    from edgecnn.golden.integer16 import execute_int16
    from edgecnn.graph.verify import batch_is_free

    if batch_is_free(q.graph):
        return dict(execute_int16(q, inputs, linear=rule))
    rows = [execute_int16(q, [a[i : i + 1] for a in inputs], linear=rule) for i in range(len(inputs[0]))]
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
