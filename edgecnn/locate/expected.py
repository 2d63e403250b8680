"""The golden values that an artifact's tensors should hold, and how far observed tensors are from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.bundle import Artifact, Manifest
from edgecnn.export.written import Place
from edgecnn.graph.ops import Conv2d, MaxPool2d, ValueName
from edgecnn.locate.execute import execute, taken
from edgecnn.locate.reexport import Reexport
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """How far a tensor is from its golden value.

    Attributes:
        unit: ``LSB``, or ``range`` for shares of the value's range.
        largest: The largest difference; infinite where a value is NaN or infinite.
        mean: The mean difference.
        count: How many elements differ.
        elements: How many elements there are.
    """

    unit: str
    largest: float
    mean: float
    count: int
    elements: int

    def __str__(self) -> str:
        if math.isinf(self.largest):
            return "NaN or infinite, or of another shape"
        if self.unit == "LSB":
            return f"{self.largest:.4g} LSB at most, {self.mean:.3g} on average, in {self.count:,} of {self.elements:,}"
        return f"{self.largest:.2g} of its range at most, {self.mean:.2g} on average"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The program executed on some samples.

    Attributes:
        reexport: The program.
        rule: The golden executor's rule, a name of `edgecnn.locate.execute.rules_of`; without meaning in float.
        inputs: The graph's inputs as it takes them: int8 or int16 where it is quantized.
        values: Every value by name: int8 or int16, or float32 where it is float.
        sums: The accumulators of layers that a file holds as such.
    """

    reexport: Reexport
    rule: str
    inputs: tuple[Array, ...]
    values: Mapping[ValueName, Array]
    sums: Mapping[ValueName, Array]

    def encoded(self, value: ValueName, place: Place) -> Array:
        """The value of all samples as a file stores it in a place."""
        array = self.values[value]
        match place.form:
            case "integers" if self.reexport.int16 is not None:
                pass
            case "integers":
                array = _widened(self._integers(value), place, self._zero(value)).astype(np.int16) + place.offset
                array = array.astype(np.uint8 if place.offset else np.int8)
            case "centered":
                array = _widened(self._integers(value).astype(np.float32) - self._zero(value), place, 0)
            case "sums":
                array = _widened(self.sums[value].astype(np.float32), place, 0)
            case _:
                array = self.real(value)
        stored = np.ascontiguousarray(array.transpose(place.axes))
        return stored.reshape(len(stored), *place.shape) if place.shape else stored

    def real(self, value: ValueName) -> Array:
        """The value's real numbers."""
        array = self.values[value]
        if self.reexport.int16 is not None:
            return self.reexport.int16.activations[value].dequantize(array)
        q = self.reexport.quantized
        return array if q is None or array.dtype == np.float32 else q.activations[value].dequantize(array)

    def gap(self, value: ValueName, place: Place, found: Array) -> Gap:
        """How far an observed tensor is from the value; infinitely far where its shape differs."""
        own = self.values[value].shape
        found, wanted = (own_elements(array, place, own) for array in (found, self.encoded(value, place)))
        if place.form == "real":
            return real_gap(found, wanted)
        if found.shape != wanted.shape:
            return Gap(unit="LSB", largest=math.inf, mean=math.inf, count=wanted.size, elements=wanted.size)
        apart = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
        if place.form == "sums":
            channel = [1 if a == 1 else 0 for a in place.axes].index(1)
            factors = self._factors(place.layer, apart.shape[channel])
            apart = apart * factors.reshape([-1 if i == channel else 1 for i in range(apart.ndim)])
        return _measured("LSB", apart)

    def _integers(self, value: ValueName) -> Array:
        from edgecnn.golden.float_layers import as_integers

        assert self.reexport.quantized is not None
        return as_integers(self.reexport.quantized, value, self.values[value])

    def _zero(self, value: ValueName) -> int:
        assert self.reexport.quantized is not None
        return self.reexport.quantized.activations[value].zero_point

    def _factors(self, layer: ValueName, channels: int) -> Array:
        """By channel, how many steps of the layer's value one unit of its accumulator is."""
        q = self.reexport.quantized
        assert q is not None
        op: Any = q.graph.producers[layer].op
        own = q.activations[op.x].scale * q.weights[op.weight].scales / q.activations[layer].scale
        return np.pad(own.astype(np.float64), (0, channels - len(own)), constant_values=1.0)


def own_elements(found: Array, place: Place, shape: Sequence[int]) -> Array:
    """A tensor with the axes of the value that it holds, whose shape is given, and without channels of zeros."""
    if place.shape and found.shape[1:] == place.shape:
        wide = [shape[0], place.channels or shape[1], *shape[2:]]
        found = found.reshape([len(found), *(wide[axis] for axis in place.axes[1:])])
    if not place.channels or found.ndim != len(place.axes):
        return found
    return found.take(range(min(shape[1], found.shape[place.axes.index(1)])), axis=place.axes.index(1))


def real_gap(found: Array, wanted: Array) -> Gap:
    """How far real numbers are from wanted ones: as shares of their range, or of their magnitude if all are equal."""
    if found.shape != wanted.shape:
        return Gap(unit="range", largest=math.inf, mean=math.inf, count=wanted.size, elements=wanted.size)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(found.astype(np.float64) - wanted)
    low, high = float(wanted.min(initial=np.inf)), float(wanted.max(initial=-np.inf))
    magnitude = max(abs(low), abs(high)) or 1.0
    extent = high - low
    return _measured("range", apart / (extent if extent > 1e-6 * magnitude else magnitude))


def _measured(unit: str, apart: Array) -> Gap:
    apart = np.where(np.isfinite(apart), apart, np.inf)
    return Gap(
        unit=unit,
        largest=float(apart.max(initial=0.0)),
        mean=float(apart.mean()) if apart.size else 0.0,
        count=int((apart > 0).sum()),
        elements=int(apart.size),
    )


def _widened(array: Array, place: Place, zero: int) -> Array:
    extra = place.channels - array.shape[1] if place.channels else 0
    widths = [(0, extra if axis == 1 else 0) for axis in range(array.ndim)]
    return np.pad(array, widths, constant_values=zero) if extra > 0 else array


def expect(reexport: Reexport, manifest: Manifest, artifact: Artifact, inputs: Sequence[Array], rule: str) -> Expected:
    """Execute the program on real inputs (samples, ...), by a rule of its golden executor."""
    given = taken(reexport, manifest, artifact, inputs)
    values = execute(reexport, given, rule)
    q = reexport.quantized
    wanted = {
        value for value, places in reexport.written.places.items() if any(place.form == "sums" for place in places)
    }
    sums = {} if q is None else _sums(q, values, wanted)
    return Expected(reexport=reexport, rule=rule, inputs=given, values=values, sums=sums)


def _sums(q: QuantizedGraph, values: Mapping[ValueName, Array], wanted: set[ValueName]) -> dict[ValueName, Array]:
    """Accumulators of convolutions, and of the poolings that read them."""
    import torch

    from edgecnn.golden.float import EXECUTORS

    found: dict[ValueName, Array] = {}
    for node in q.graph.nodes:
        if node.name not in wanted:
            continue
        if isinstance(node.op, MaxPool2d):
            given = torch.from_numpy(found[node.op.x].astype(np.float64))
            found[node.name] = EXECUTORS[MaxPool2d](node.op, len(given), given).numpy()
        elif isinstance(node.op, Conv2d):
            x = values[node.op.x].astype(np.float64) - q.activations[node.op.x].zero_point
            weights = torch.from_numpy(q.weights[node.op.weight].integers.astype(np.float64))
            acc = EXECUTORS[Conv2d](node.op, len(x), torch.from_numpy(x), weights).numpy()
            found[node.name] = acc + q.biases[node.name].reshape(-1, 1, 1)
    return found
