"""Which convolutions ONNX files fold (:mod:`edgecnn.export.onnx.int8.fold` says how); no number changes by it.

ONNX Runtime's integer convolution looks up every place of every window by a pointer, and that is what layers of few
channels spend their time on; it has a quick kernel for input channels in fours and at least 16 output channels, in
fours too, and a slow one for others. Folded, such layers have fewer windows, and channels enough, or need few more that
are zeros. Products with zeros are added, so the choice weighs both, by shapes alone (docs/quantization.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgecnn.export.onnx.int8.fold import Fold
from edgecnn.export.onnx.int8.nodes import FileGraph, FoldedConv, HalvesPool
from edgecnn.graph.graph import Node
from edgecnn.graph.ops import Conv2d, MaxPool2d, ValueName
from edgecnn.program.quantized import QuantizedGraph

MOST_ADDED = 2.0
"""Products of a folded layer over those of a plain one, both with channels in fours: beyond that processors without
dot products would lose much."""
LARGEST_BLOCK = 16
POINTER, PRODUCT, WINDOW, DIRECT = 3.0, 1 / 150, 1.0, 8.0
"""Nanoseconds, as measured on x86 with AVX-512 VNNI: looking up a place, a product (of 16 channels at a time), a
window apart from these, and a window of one place."""
NODE, COPIED = 1500.0, 0.1
"""Nanoseconds of an operator that copies or renames, and of a byte copied."""
SLOW = 2.2
"""How much longer the other kernel takes."""
FEW, BLOCK = 3, 16
"""Channels read by layers that float kernels are as quick with, where channels given fill ONNX Runtime's blocks."""


def folded_convolutions(graph: FileGraph) -> FileGraph:
    """Write convolutions of few channels as convolutions of blocks, and the poolings that read their halves.

    Does not apply to convolutions in groups, to float layers, to what reads a constant, nor where a fold is slower or
    more than doubles the products.
    """
    found = folds(graph.quantized)
    halves = {name: fold for name, fold in found.items() if fold.halves}
    folded = [FoldedConv(graph.nodes[name].node, fold) for name, fold in found.items()]
    pools = [
        HalvesPool(node, halves[node.op.x])
        for node in graph.graph.nodes
        if isinstance(node.op, MaxPool2d) and node.op.x in halves
    ]
    return graph.with_nodes([*folded, *pools])


def folds(q: QuantizedGraph) -> dict[ValueName, Fold]:
    """The convolutions that are to be folded, by the names of their nodes."""
    found = {node.name: fold_of(q, node) for node in q.graph.nodes}
    return {name: fold for name, fold in found.items() if fold is not None}


def fold_of(q: QuantizedGraph, node: Node) -> Fold | None:
    """How a node is to be folded; None where it stays as it is."""
    op = node.op
    if not isinstance(op, Conv2d) or op.groups > 1 or node.name in q.skipped or op.x in q.graph.constants:
        return None
    fold = _cheapest(q.graph.shapes[op.x], q.graph.shapes[op.weight], node, op)
    if fold is None:
        return None
    first = op.x in {i.name for i in q.graph.inputs}
    halves = fold.outputs % 4 == 0 and fold.given == node.shape[1] and _pooled(q, node)
    return replace(fold, planes=first and fold.inputs > 1, halves=halves)


def pays(image: tuple[int, ...], weight: tuple[int, ...], node: Node, op: Conv2d) -> bool:
    """Whether a depthwise convolution would be folded if it were one over all channels, which ``op`` says."""
    channels, _, *kernel = weight
    return _cheapest(image, (channels, channels, *kernel), node, op) is not None


def _pooled(q: QuantizedGraph, node: Node) -> bool:
    """Whether all that reads a value is one pooling of two by two."""
    readers = [n for n in q.graph.nodes if node.name in n.inputs]
    if len(readers) != 1 or any(o.value == node.name for o in q.graph.outputs) or readers[0].name in q.skipped:
        return False
    match readers[0].op:
        case MaxPool2d(kernel=(2, 2), stride=(2, 2), dilation=(1, 1), padding=padding):
            return not any(padding)
    return False


def _cheapest(image: tuple[int, ...], weight: tuple[int, ...], node: Node, op: Conv2d) -> Fold | None:
    outs, ins, _, columns = weight
    if ins <= FEW and outs % BLOCK == 0 and op.stride == (1, 1):
        return None
    plain = Fold(inputs=1, outputs=1, first=0, width=columns, right=0, read=ins, given=outs)
    best, chosen = _cost(image, weight, node.shape, plain), None
    for fold in _candidates(image, weight, node, op):
        if fold.width * _fours(fold.inputs * fold.read) > MOST_ADDED * columns * _fours(ins):
            continue
        cost = _cost(image, weight, node.shape, fold)
        if cost < best:
            best, chosen = cost, fold
    return chosen


def _candidates(image: tuple[int, ...], weight: tuple[int, ...], node: Node, op: Conv2d) -> Iterator[Fold]:
    """Every fold, with channels as they are and with those that the quick kernel wants."""
    outs, ins, _, columns = weight
    for outputs in sorted({*range(1, LARGEST_BLOCK + 1), node.shape[3]}):
        fold = _fold(op, (ins, columns), image[3], node.shape[3], outputs)
        if fold is not None:
            read = next(c for c in range(ins, ins + 4) if c * fold.inputs % 4 == 0)
            given = next(c for c in range(outs, outs + BLOCK) if c * outputs % 4 == 0 and c * outputs >= BLOCK)
            yield replace(fold, read=ins, given=outs)
            yield replace(fold, read=read, given=given)


def _fold(op: Conv2d, weight: tuple[int, int], image: int, result: int, outputs: int) -> Fold | None:
    """The fold into blocks of so many places; None where rows are no whole blocks, or blocks would be left over."""
    channels, columns = weight
    whole = next(n for n in range(image, image + 4) if n * channels % 4 == 0)
    blank = Fold(inputs=whole, outputs=outputs, first=0, width=1, right=0, read=0, given=0)
    if outputs == result:
        return blank
    inputs = outputs * op.stride[1]
    if image % inputs or result % outputs:
        return None
    first = -op.padding[2] // inputs
    last = (op.stride[1] * (outputs - 1) - op.padding[2] + op.dilation[1] * (columns - 1)) // inputs
    right = result // outputs + last - image // inputs
    if right < 0:
        return None
    return replace(blank, inputs=inputs, first=first, width=last - first + 1, right=right)


def _cost(image: tuple[int, ...], weight: tuple[int, ...], result: tuple[int, ...], fold: Fold) -> float:
    """Nanoseconds, roughly."""
    outs, ins = fold.outputs * fold.given, fold.inputs * fold.read
    windows, places = result[2] * result[3] // fold.outputs, weight[2] * fold.width
    each = WINDOW + POINTER * places if places > 1 else DIRECT
    each += places * ins * (outs + -outs % BLOCK) * PRODUCT
    quick = ins % 4 == 0 and outs % 4 == 0 and outs >= BLOCK
    cost = windows * each * (1 if quick else SLOW)
    cost += NODE * ((fold.inputs > 1) + (fold.outputs > 1))
    if fold.read > weight[1] or fold.beyond(image[3]):
        cost += NODE + COPIED * fold.read * image[2] * image[3]
    if fold.given > weight[0]:
        cost += NODE + COPIED * weight[0] * result[2] * result[3]
    return cost


def _fours(channels: int) -> int:
    return channels + -channels % 4
