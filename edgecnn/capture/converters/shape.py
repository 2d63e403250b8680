"""Converters of concatenation, slicing, reshaping, permutation and indexing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from edgecnn.capture.converters.base import Args, Builder, Unsupported, axis_of, whole
from edgecnn.graph import ops
from edgecnn.graph.ops import ValueName

Values = tuple[ValueName, ...]


def cat(b: Builder, a: Args) -> ValueName:
    """Convert cat."""
    values = [v for v in a["tensors"] if b.shape(v) != (0,)]  # torch lets an empty vector join anything
    return b.add(ops.Concat(xs=tuple(values), axis=axis_of(a["dim"], len(b.shape(values[0])))))


def hstack(b: Builder, a: Args) -> ValueName:
    """Convert hstack: a concatenation along axis 1."""
    return b.add(ops.Concat(xs=tuple(a["tensors"]), axis=1))


def stack(b: Builder, a: Args) -> ValueName:
    """Convert stack: a concatenation along a new axis."""
    rank = len(b.shape(a["tensors"][0])) + 1
    axis = axis_of(a["dim"], rank)
    parts = []
    for value in a["tensors"]:
        shape = b.shape(value)
        to = (*shape[:axis], 1, *shape[axis:])
        elements = b.elements(value)
        parts.append(
            b.add(ops.Reshape(x=value, to=to), "part") if elements is None else b.constant(elements.reshape(to), "part")
        )
    return b.add(ops.Concat(xs=tuple(parts), axis=axis))


def reshape(b: Builder, a: Args) -> ValueName:
    """Convert every operator that only changes the shape, to the shape of torch's result."""
    return b.add(ops.Reshape(x=a.tensor(), to=b.result_shape))


def permute(b: Builder, a: Args) -> ValueName:
    """Convert permute."""
    rank = len(b.shape(a["self"]))
    return b.add(ops.Transpose(x=a["self"], order=tuple(axis_of(d, rank) for d in a["dims"])))


def transpose(first: str, second: str) -> Callable[[Builder, Args], ValueName]:
    """Make a converter that swaps two axes, given by these arguments."""

    def convert(b: Builder, a: Args) -> ValueName:
        return _exchange(b, a["self"], a[first], a[second])

    return convert


def turn(b: Builder, a: Args) -> ValueName:
    """Convert t and mT: swap the last two axes."""
    return _exchange(b, a["self"], -2, -1) if len(b.shape(a["self"])) > 1 else a.tensor()


def _exchange(b: Builder, x: ValueName, i: int, j: int) -> ValueName:
    rank = len(b.shape(x))
    order = list(range(rank))
    i, j = axis_of(i, rank), axis_of(j, rank)
    order[i], order[j] = order[j], order[i]
    return b.add(ops.Transpose(x=x, order=tuple(order)))


def movedim(b: Builder, a: Args) -> ValueName:
    """Convert movedim: move some axes, keep the order of the others."""
    rank = len(b.shape(a["self"]))
    source, target = (
        [axis_of(d, rank) for d in ([a[k]] if isinstance(a[k], int) else a[k])] for k in ("source", "destination")
    )
    rest = iter(i for i in range(rank) if i not in source)
    order = tuple(source[target.index(i)] if i in target else next(rest) for i in range(rank))
    return b.add(ops.Transpose(x=a["self"], order=order))


def slice_(b: Builder, a: Args) -> ValueName:
    """Convert slice."""
    shape = b.shape(a["self"])
    axis = axis_of(a["dim"], len(shape))
    start, stop, step = slice(a["start"], a["end"], a["step"]).indices(shape[axis])
    return b.add(ops.Slice(x=a["self"], axis=axis, start=start, stop=stop, step=step))


def narrow(b: Builder, a: Args) -> ValueName:
    """Convert narrow: ``length`` elements from ``start``."""
    shape = b.shape(a["self"])
    axis = axis_of(a["dim"], len(shape))
    start = axis_of(a["start"], shape[axis])
    return b.add(ops.Slice(x=a["self"], axis=axis, start=start, stop=start + a["length"]))


def select(b: Builder, a: Args) -> ValueName:
    """Convert select: one element of an axis, which is dropped."""
    shape = b.shape(a["self"])
    axis = axis_of(a["dim"], len(shape))
    return _element(b, a["self"], axis, axis_of(a["index"], shape[axis]), "")


def _element(b: Builder, x: ValueName, axis: int, index: int, suffix: str) -> ValueName:
    shape = b.shape(x)
    taken = b.add(ops.Slice(x=x, axis=axis, start=index, stop=index + 1), "element")
    return b.add(ops.Reshape(x=taken, to=(*shape[:axis], *shape[axis + 1 :])), suffix)


def unbind(b: Builder, a: Args) -> Values:
    """Convert unbind: every element of an axis."""
    shape = b.shape(a["self"])
    axis = axis_of(a["dim"], len(shape))
    return tuple(_element(b, a["self"], axis, i, str(i)) for i in range(shape[axis]))


def pieces(b: Builder, a: Args) -> Values:
    """Convert split, chunk and similar operators, with the lengths of torch's results."""
    x = a["self"]
    shape = b.shape(x)
    axis = axis_of(a.get("dim", 0), len(shape))
    parts, start = [], 0
    for i, piece in enumerate(b.result_shapes):
        stop = start + piece[axis]
        parts.append(b.add(ops.Slice(x=x, axis=axis, start=start, stop=stop), str(i)))
        start = stop
    return tuple(parts)


def pick(function: Callable[..., torch.Tensor], *keys: str) -> Callable[[Builder, Args], ValueName]:
    """Make a converter of an operator that picks elements axis by axis; torch itself tells which."""

    def convert(b: Builder, a: Args) -> ValueName:
        rank = len(b.shape(a.tensor()))
        if any(axis_of(d, rank) == 0 for k in ("dims", "dim") if k in keys for d in _listed(a[k])):
            raise Unsupported("it repeats or reorders the samples of a batch", "the same along another axis")
        return pick_along(b, a.tensor(), lambda numbers: function(numbers, *(a[k] for k in keys)))

    return convert


def spread(b: Builder, a: Args) -> ValueName:
    """Convert expand_as."""
    to = b.result_shape
    return pick_along(b, a["self"], lambda numbers: numbers.expand(to))


def tile(b: Builder, a: Args) -> ValueName:
    """Convert tile."""
    return pick_along(b, a["self"], lambda numbers: torch.tile(numbers, a["dims"]))


def _listed(dims: Any) -> Sequence[int]:
    return [] if dims is None else [dims] if isinstance(dims, int) else list(dims)


def pick_along(b: Builder, x: ValueName, function: Callable[[torch.Tensor], torch.Tensor]) -> ValueName:
    """Gather elements along each axis as a function of torch moves the positions of that axis."""
    shape, to = b.shape(x), b.result_shape
    if len(shape) < len(to):
        shape = (1,) * (len(to) - len(shape)) + shape
        x = b.add(ops.Reshape(x=x, to=shape), "raised")
    found: list[tuple[int, tuple[int, ...]]] = []
    for axis, length in enumerate(shape):
        numbers = torch.arange(length).reshape([-1 if i == axis else 1 for i in range(len(shape))]).expand(shape)
        moved = function(numbers).movedim(axis, 0).reshape(to[axis], -1)
        indices = whole(moved[:, 0].tolist())
        if not bool((moved == moved[:, :1]).all()):
            raise Unsupported("it mixes axes", "reshape and permute")
        if indices != tuple(range(length)):
            found.append((axis, indices))
    if found and found[0][0] == 0:
        raise Unsupported("it repeats or reorders the samples of a batch", "the same along another axis")
    return _gathered(b, x, found)


def _gathered(b: Builder, x: ValueName, found: Sequence[tuple[int, tuple[int, ...]]]) -> ValueName:
    if len(b.shape(x)) == 4 and {axis for axis, _ in found} == {2, 3}:
        return b.add(ops.GatherImage(x=x, rows=found[0][1], columns=found[1][1]))
    for i, (axis, indices) in enumerate(found):
        x = b.add(ops.Gather(x=x, axis=axis, indices=indices), "" if i + 1 == len(found) else f"axis{axis}")
    return x


def index(b: Builder, a: Args) -> ValueName:
    """Convert index by a constant tensor along one axis."""
    given = [(i, v) for i, v in enumerate(a["indices"]) if v is not None]
    if len(given) != 1:
        raise Unsupported("indexing by several tensors is not supported", "one after the other, or slices")
    axis, value = given[0]
    return _by_constant(b, a["self"], axis, value)


def index_select(b: Builder, a: Args) -> ValueName:
    """Convert index_select by constant indices."""
    return _by_constant(b, a["self"], axis_of(a["dim"], len(b.shape(a["self"]))), a["index"])


def _by_constant(b: Builder, x: ValueName, axis: int, value: Any) -> ValueName:
    elements = b.elements(value)
    if elements is None or elements.ndim != 1:
        raise Unsupported("indices that are computed, or not in a row, are not supported", "constant indices")
    length = b.shape(x)[axis]
    if len(elements) != b.result_shape[axis]:
        raise Unsupported("a mask of booleans is not supported", "the indices that it stands for")
    indices = whole(np.where(elements < 0, elements + length, elements).astype(int))
    if axis == 0:
        raise Unsupported("it picks samples of a batch", "the same along another axis")
    return b.add(ops.Gather(x=x, axis=axis, indices=indices))
