"""Whether ONNX Runtime's kernel for x86 without VNNI can go wrong on a quantized graph, and how often it does.

On AVX2 the kernel for uint8 activations and int8 weights multiplies in pairs (``vpmaddubsw``): two products are added
in int16, and the sum saturates. Pairs are neighbors along the reduction axis, elements 2i and 2i + 1: of a convolution
(rows, columns, channels of its group), channels innermost; of a linear layer its features, those of an image in the
order in which that is stored. Depthwise convolutions have a kernel that adds in int32. All of that was measured with
ONNX Runtime 1.31.1 under ``qemu-x86_64 -cpu Haswell``; with VNNI, on ARM, and in LiteRT nothing saturates. Folded
convolutions (:mod:`edgecnn.export.onnx.int8.folding`) are looked at as the file has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgecnn.export.onnx.int8.channels_last import columns_as_stored, reads_as_stored, stored_last
from edgecnn.export.onnx.int8.depthwise import adapt_depthwise
from edgecnn.export.onnx.int8.exact import exact_float_layers
from edgecnn.export.onnx.int8.folding import fold_of
from edgecnn.export.onnx.int8.nodes import OFFSET
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import Activation, Conv2d, Linear, ValueName
from edgecnn.program.qparams import INT8_MAX, INT8_MIN, bounds
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.targets.runtimes.onnxruntime import ONNXRUNTIME

INT16 = np.iinfo(np.int16)
POSITIONS = 512
"""Windows of a layer that are looked at, evenly spread over all of the samples."""
SAMPLES = 32

Ints = npt.NDArray[np.int32]
Last = frozenset[ValueName]


class LayerSaturation(msgspec.Struct, frozen=True, kw_only=True):
    """What can happen, and what did, in one layer.

    Attributes:
        layer: Name of the node.
        pairs: Pairs of weights.
        risky: How many of them saturate for some activations that the layer's input can hold.
        worst: The sum furthest from 0 that a pair can reach; int16 holds -32768 to 32767.
        observed: Outputs computed from calibration data; 0 where no pair is risky or no data was given.
        wrong: How many of those have a saturated pair.
    """

    layer: str
    pairs: int
    risky: int
    worst: int
    observed: int = 0
    wrong: int = 0


class Saturation(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a quantized graph.

    Attributes:
        layers: The layers whose kernel adds in pairs.
        samples: Calibration samples that ``observed`` and ``wrong`` were counted on.
        uint8_weights: Whether the ONNX file stores the weights of the layers at risk as uint8, so that none saturates.
    """

    layers: tuple[LayerSaturation, ...]
    samples: int = 0
    uint8_weights: bool = False

    @property
    def possible(self) -> bool:
        """Whether any pair of any layer can saturate."""
        return any(layer.risky for layer in self.layers)

    @property
    def rate(self) -> float:
        """Share of the outputs looked at, over the layers at risk, that have a saturated pair."""
        observed = sum(layer.observed for layer in self.layers)
        return sum(layer.wrong for layer in self.layers) / observed if observed else 0.0

    @property
    def risky(self) -> tuple[str, ...]:
        """Layers that can saturate, those where it was seen most often first."""
        risky = [layer for layer in self.layers if layer.risky]
        return tuple(layer.layer for layer in sorted(risky, key=lambda layer: -layer.wrong / max(layer.observed, 1)))

    @property
    def in_file(self) -> tuple[str, ...]:
        """As ``risky``, with the weights as the ONNX file stores them."""
        return () if self.uint8_weights else self.risky

    def summary(self) -> str:
        """One line for people."""
        if not self.possible:
            return "x86 without VNNI: no pair of products can leave int16, ONNX Runtime computes the same there"
        risky = [layer for layer in self.layers if layer.risky]
        if self.uint8_weights:
            return (
                f"x86 without VNNI: the weights of {len(risky)} of {len(self.layers)} layers are uint8, with which ONNX"
                " Runtime cannot saturate"
            )
        text = f"x86 without VNNI: ONNX Runtime can saturate in {len(risky)} of {len(self.layers)} layers"
        if self.samples:
            worst = max(risky, key=lambda layer: layer.wrong / max(layer.observed, 1))
            text += f"; on {self.samples} calibration samples it does in {_percent(self.rate)} of their outputs"
            if worst.wrong:
                text += f" (most in {worst.layer}: {_percent(worst.wrong / worst.observed)})"
        assert ONNXRUNTIME.saturation is not None
        return f"{text}; {ONNXRUNTIME.saturation.remedy}"


def _percent(share: float) -> str:
    return "none" if share == 0 else "less than 0.01 %" if share < 1e-4 else f"{100 * share:.2f} %"


def find_saturation(
    q: QuantizedGraph, inputs: Sequence[npt.NDArray[np.floating]] = (), *, exclude: Iterable[ValueName] = ()
) -> Saturation:
    """Bound every pair exactly, and count on data where the bound lets some through.

    Args:
        q: The quantized graph.
        inputs: Calibration samples, one float array per graph input; at most ``SAMPLES`` evenly spread ones are run.
            Without them nothing is counted.
        exclude: Nodes that are written in another form than QLinearConv or QGemm.
    """
    left_out = set(exclude) | q.skipped
    nodes = [n for n in q.graph.nodes if n.name not in left_out and _adds_in_pairs(q, n)]
    last = stored_last(q)
    layers = [_bound(q, node, last) for node in nodes]
    samples = min(SAMPLES, len(inputs[0])) if inputs else 0
    if samples and any(layer.risky for layer in layers):
        values = _values(q, inputs, samples)
        layers = [
            _counted(q, n, last, values, layer) if layer.risky else layer
            for n, layer in zip(nodes, layers, strict=True)
        ]
    return Saturation(layers=tuple(layers), samples=samples)


def saturation_of_file(q: QuantizedGraph, inputs: Sequence[npt.NDArray[np.float32]]) -> Saturation:
    """What ONNX Runtime's kernel for x86 without VNNI makes of the file that is written from a quantized graph.

    Args:
        q: The quantized graph.
        inputs: Samples that saturated sums are counted on, one float array per graph input.
    """
    adapted = adapt_depthwise(q).quantized
    found = find_saturation(adapted, inputs, exclude=exact_float_layers(adapted))
    return msgspec.structs.replace(found, uint8_weights=q.uint8_weights)


def _adds_in_pairs(q: QuantizedGraph, node: Node) -> bool:
    match node.op:
        case Linear():
            return True
        case Conv2d(x=x, groups=groups):
            return groups == 1 or groups != q.graph.shapes[x][1]
    return False


def reduction_order(weights: npt.NDArray[np.int8]) -> Ints:
    """Weights as (outputs, reduction), in the order in which the kernel adds, padded with 0 to whole pairs."""
    rows = weights.transpose(0, 2, 3, 1) if weights.ndim == 4 else weights
    rows = rows.reshape(len(rows), -1).astype(np.int32)
    return np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))


def _weights(q: QuantizedGraph, node: Node, last: Last) -> npt.NDArray[np.int8]:
    """As the ONNX file has them: folded, where it folds the layer, or in the order of an image's channels last."""
    assert isinstance(node.op, Conv2d | Linear)
    weights = q.weights[node.op.weight].integers
    if isinstance(node.op, Conv2d) and (fold := fold_of(q, node)):
        return fold.weights(node.op, weights)
    if isinstance(node.op, Linear) and reads_as_stored(q.graph, node.op, last):
        return columns_as_stored(weights, q.graph.shapes[node.op.x][1:])
    return weights


def _pairs(q: QuantizedGraph, node: Node, last: Last) -> Ints:
    """(outputs, pairs, 2)."""
    rows = reduction_order(_weights(q, node, last))
    return rows.reshape(len(rows), -1, 2)


def _extremes(q: QuantizedGraph, node: Node, last: Last) -> tuple[Ints, Ints]:
    """The highest and the lowest sum of each pair, over all activations that the layer's input can hold."""
    assert isinstance(node.op, Conv2d | Linear)
    pairs, (low, high) = _pairs(q, node, last), _input_bounds(q, node.op.x)
    up = np.where(pairs > 0, pairs * high, pairs * low).sum(axis=2)
    down = np.where(pairs > 0, pairs * low, pairs * high).sum(axis=2)
    return up, down


def _input_bounds(q: QuantizedGraph, value: ValueName) -> tuple[int, int]:
    """Lowest and highest uint8 of a value; padding is its zero point, which lies between."""
    producer = q.graph.producers.get(value)
    activation = getattr(producer.op, "activation", Activation.NONE) if producer else Activation.NONE
    low, high = bounds(q.activations[value], activation)
    zero = q.activations[value].zero_point
    assert INT8_MIN <= low <= high <= INT8_MAX
    return min(low, zero) + OFFSET, max(high, zero) + OFFSET


def _bound(q: QuantizedGraph, node: Node, last: Last) -> LayerSaturation:
    up, down = _extremes(q, node, last)
    highest, lowest = int(up.max(initial=0)), int(down.min(initial=0))
    return LayerSaturation(
        layer=node.name,
        pairs=up.size,
        risky=int(((up > INT16.max) | (down < INT16.min)).sum()),
        worst=highest if highest >= -lowest else lowest,
    )


def _values(
    q: QuantizedGraph, inputs: Sequence[npt.NDArray[np.floating]], samples: int
) -> Mapping[ValueName, npt.NDArray[Any]]:
    from edgecnn.golden.integer import execute_integer

    places = np.linspace(0, len(inputs[0]) - 1, samples).round().astype(int)
    given = [q.activations[i.name].quantize(a[places]) for i, a in zip(q.graph.inputs, inputs, strict=True)]
    return {i.name: a for i, a in zip(q.graph.inputs, given, strict=True)} | execute_integer(q, given)


def _counted(
    q: QuantizedGraph,
    node: Node,
    last: Last,
    values: Mapping[ValueName, npt.NDArray[Any]],
    layer: LayerSaturation,
) -> LayerSaturation:
    up, down = _extremes(q, node, last)
    outputs, places = np.nonzero((up > INT16.max) | (down < INT16.min))
    weights = _pairs(q, node, last)[outputs, places]
    rows = _windows(q, node, last, values)
    groups = node.op.groups if isinstance(node.op, Conv2d) else 1
    group = outputs // (len(up) // groups)
    wrong = np.zeros((rows.shape[1], len(up)), bool)
    for first in range(0, len(outputs), 4096):  # so many pairs at a time, to bound memory
        some = slice(first, first + 4096)
        a = rows[group[some], :, places[some]]
        sums = (a * weights[some, None, :]).sum(axis=2)
        saturated = (sums > INT16.max) | (sums < INT16.min)
        pair, window = np.nonzero(saturated)
        wrong[window, outputs[some][pair]] = True
    return msgspec.structs.replace(layer, observed=wrong.size, wrong=int(wrong.sum()))


def _windows(q: QuantizedGraph, node: Node, last: Last, values: Mapping[ValueName, npt.NDArray[Any]]) -> Ints:
    """What the layer reads as uint8, in the kernel's order: (groups, windows, pairs, 2), evenly spread windows."""
    from edgecnn.golden.float_layers import as_integers

    assert isinstance(node.op, Conv2d | Linear)
    x = as_integers(q, node.op.x, values[node.op.x]).astype(np.int32) + OFFSET
    if isinstance(node.op, Conv2d):
        zero = q.activations[node.op.x].zero_point + OFFSET
        op, shape = node.op, q.graph.shapes[node.op.weight]
        if fold := fold_of(q, node):
            op, shape, x = fold.convolution(op), _weights(q, node, last).shape, fold.image(x, zero)
        rows = _image_windows(op, x, shape, zero)
    else:
        flat = x.reshape(1, -1, q.graph.shapes[node.op.weight][1])
        if reads_as_stored(q.graph, node.op, last):
            flat = columns_as_stored(flat[0], q.graph.shapes[node.op.x][1:])[None]
        rows = flat[:, _spread(flat.shape[1])]
    rows = np.pad(rows, ((0, 0), (0, 0), (0, rows.shape[2] % 2)))
    return rows.reshape(*rows.shape[:2], -1, 2)


def _image_windows(op: Conv2d, x: Ints, weight: Sequence[int], zero: int) -> Ints:
    """(groups, windows, rows x columns x channels of the group)."""
    top, bottom, left, right = op.padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=zero)
    extent = [(k - 1) * d + 1 for k, d in zip(weight[2:], op.dilation, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(2, 3))
    views = views[:, :, :: op.stride[0], :: op.stride[1], :: op.dilation[0], :: op.dilation[1]]
    samples, channels, height, width, *kernel = views.shape
    sample, row, column = np.unravel_index(_spread(samples * height * width), (samples, height, width))
    windows = views[sample, :, row, column].reshape(len(sample), op.groups, channels // op.groups, *kernel)
    return np.ascontiguousarray(windows.transpose(1, 0, 3, 4, 2)).reshape(op.groups, len(sample), -1)


def _spread(count: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, count - 1, min(count, POSITIONS)).round().astype(np.int64)
