"""Converters of padding, resizing, and shuffles between pixels and channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own habit)

from edgecnn.capture.converters.base import Args, Builder, Converter, Unsupported, as_image, as_signal, batched, whole
from edgecnn.capture.converters.shape import pick_along
from edgecnn.graph import ops
from edgecnn.graph.fold_channel_order import shuffled
from edgecnn.graph.ops import ValueName


def pad(b: Builder, a: Args) -> ValueName:
    """Convert pad, with a constant or with pixels of the image."""
    mode = a.get("mode", "constant")
    return constant_pad(b, a) if mode == "constant" else _pad_with_image(b, a, mode)


def constant_pad(b: Builder, a: Args) -> ValueName:
    """Convert padding with a constant; negative amounts crop."""
    amounts: Sequence[int] = a["pad"]
    x, rank = a["self"], len(b.shape(a["self"]))
    pairs = [(amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2)]
    pairs += [(0, 0)] * (rank - len(pairs))
    for axis, (before, after) in enumerate(reversed(pairs)):
        length = b.shape(x)[axis]
        if min(before, after) < 0:
            x = b.add(ops.Slice(x=x, axis=axis, start=max(-before, 0), stop=length - max(-after, 0)), "cut")
    added = tuple((max(before, 0), max(after, 0)) for before, after in reversed(pairs))
    return b.add(ops.Pad(x=x, pads=added, value=float(a.get("value") or 0.0)))


def pad_with_image(mode: str) -> Converter:
    """Make a converter of reflecting, replicating or circular padding; torch pads the numbers of rows and columns."""
    return lambda b, a: _pad_with_image(b, a, mode)


def _pad_with_image(b: Builder, a: Args, mode: str) -> ValueName:
    amounts = list(a["pad"] if "pad" in a else a["padding"])
    return pick_along(b, a.tensor(), lambda numbers: _padded(numbers, amounts, mode))


def _padded(numbers: torch.Tensor, amounts: list[int], mode: str) -> torch.Tensor:
    return F.pad(numbers.double(), amounts, mode=mode).long()


def nearest(operator: str, axes: int) -> Converter:
    """Make a converter of nearest-neighbour resizing; torch itself tells which pixels are nearest."""
    base, overload = operator.split(".")
    function: Callable[..., torch.Tensor] = getattr(getattr(torch.ops.aten, base), overload)

    def convert(b: Builder, a: Args) -> ValueName:
        if len(b.shape(a["input"])) != axes + 2:
            raise Unsupported("resizing takes a batch of images")
        return pick_along(b, a["input"], lambda numbers: function(numbers.double(), *_size_and_factors(a, axes)).long())

    return convert


def _size_and_factors(a: Args, axes: int) -> tuple[Any, ...]:
    """The arguments of an overload with ``scale_factors`` or ``scales_h, scales_w``."""
    if "scale_factors" in a:
        return a["output_size"], a["scale_factors"]
    return (a["output_size"], *(a[k] for k in (("scales_h", "scales_w") if axes == 2 else ("scales",))))


def bilinear(b: Builder, a: Args) -> ValueName:
    """Convert bilinear resizing."""
    x = batched(b, a["input"], 4, "resizing")
    return b.add(_bilinear(x, b.result_shape[2:], a, _factors(a)))


def linear(b: Builder, a: Args) -> ValueName:
    """Convert linear resizing of a signal to bilinear resizing of an image of height 1."""
    x = as_image(b, a["input"], "resizing")
    factors = _factors(a)
    resized = _bilinear(x, (1, b.result_shape[-1]), a, None if factors is None else (1.0, *factors))
    return as_signal(b, b.add(resized, "resized"))


def _bilinear(x: ValueName, to: Sequence[int], a: Args, factors: Sequence[float] | None) -> ops.ResizeBilinear:
    rows, columns = whole(to)
    pair = None if factors is None or a["align_corners"] else (float(factors[0]), float(factors[1]))
    return ops.ResizeBilinear(x=x, to=(rows, columns), align_corners=bool(a["align_corners"]), factors=pair)


def _factors(a: Args) -> Sequence[float] | None:
    if "scale_factors" in a:
        factors: Sequence[float] | None = a["scale_factors"]
        return factors
    given = [a[k] for k in ("scales_h", "scales_w", "scales") if k in a]
    return None if None in given else given


def pixel_shuffle(b: Builder, a: Args) -> ValueName:
    """Convert pixel_shuffle to DepthToSpace."""
    x = batched(b, a["self"], 4, "pixel shuffle")
    return b.add(ops.DepthToSpace(x=x, block=a["upscale_factor"], channels_first=True))


def pixel_unshuffle(b: Builder, a: Args) -> ValueName:
    """Convert pixel_unshuffle to SpaceToDepth and a Gather, because torch orders channels differently."""
    x, block = batched(b, a["self"], 4, "pixel unshuffle"), a["downscale_factor"]
    moved = b.add(ops.SpaceToDepth(x=x, block=block), "squares")
    return b.add(ops.Gather(x=moved, axis=1, indices=shuffled(b.shape(moved)[1], block * block)))


def channel_shuffle(b: Builder, a: Args) -> ValueName:
    """Convert channel_shuffle to a Gather."""
    return b.add(ops.Gather(x=a["self"], axis=1, indices=shuffled(b.shape(a["self"])[1], a["groups"])))
