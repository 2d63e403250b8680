"""ONNX for what makes images larger or smaller, and for picking."""

from __future__ import annotations

import math

import numpy as np

from edgecnn.export.images import mirrored, repeated
from edgecnn.export.onnx.write import OnnxWriter
from edgecnn.graph import ops
from edgecnn.graph.graph import Node


def lower_conv_transpose2d(w: OnnxWriter, node: Node, op: ops.ConvTranspose2d) -> None:
    """ConvTranspose. In integers, for which it has no kernel, it is a convolution and DepthToSpace."""
    bias = [] if op.bias is None else [w.tensor(op.bias)]
    (ph, pw) = op.padding
    w.emit_activated(
        "ConvTranspose",
        node,
        [w.tensor(op.x), w.weights(op.weight), *bias],
        kernel_shape=list(w.graph.shapes[op.weight][2:]),
        strides=list(op.stride),
        pads=[ph, pw, ph, pw] if any(op.padding) else None,
        output_padding=list(op.output_padding) if any(op.output_padding) else None,
        dilations=None if op.dilation == (1, 1) else list(op.dilation),
        group=None if op.groups == 1 else op.groups,
    )


def lower_gather(w: OnnxWriter, node: Node, op: ops.Gather) -> None:
    """Gather, with indices of four bytes."""
    name = "int32:" + ",".join(map(str, op.indices))
    w.emit("Gather", node, [w.tensor(op.x), w.initializer(name, np.array(op.indices, np.int32))], axis=op.axis)


def lower_gather_image(w: OnnxWriter, node: Node, op: ops.GatherImage) -> None:
    """Resize where pixels are repeated, Pad where they are reflected or the border goes on, else two Gather."""
    height, width = w.graph.shapes[op.x][2:]
    factors = [repeated(indices, n) for indices, n in ((op.rows, height), (op.columns, width))]
    if all(factors):
        scales = w.floats([1.0, 1.0, *(float(f or 1) for f in factors)])
        options = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        w.emit("Resize", node, [w.tensor(op.x), "", scales], **options)
        return
    for mode in ("reflect", "edge"):
        pads = [mirrored(indices, n, mode) for indices, n in ((op.rows, height), (op.columns, width))]
        if pads[0] is not None and pads[1] is not None:
            (top, bottom), (left, right) = pads[0], pads[1]
            w.emit("Pad", node, [w.tensor(op.x), w.integers([0, 0, top, left, 0, 0, bottom, right])], mode=mode)
            return
    rows = w.emit("Gather", node, [w.tensor(op.x), w.integers(op.rows)], step="rows", axis=2)
    w.emit("Gather", node, [rows, w.integers(op.columns)], axis=3)


def lower_depth_to_space(w: OnnxWriter, node: Node, op: ops.DepthToSpace) -> None:
    """DepthToSpace."""
    w.emit("DepthToSpace", node, [w.tensor(op.x)], blocksize=op.block, mode="CRD" if op.channels_first else None)


def lower_space_to_depth(w: OnnxWriter, node: Node, op: ops.SpaceToDepth) -> None:
    """SpaceToDepth."""
    w.emit("SpaceToDepth", node, [w.tensor(op.x)], blocksize=op.block)


def lower_resize_bilinear(w: OnnxWriter, node: Node, op: ops.ResizeBilinear) -> None:
    """Resize by factors: sizes would fix the batch."""
    image = w.graph.shapes[op.x][2:]
    given = op.factors or [_factor(n, to) for n, to in zip(image, op.to, strict=True)]
    mode = "align_corners" if op.align_corners else "half_pixel"
    inputs = [w.tensor(op.x), "", w.floats([1.0, 1.0, *given])]
    w.emit("Resize", node, inputs, mode="linear", coordinate_transformation_mode=mode)


def _factor(size: int, to: int) -> float:
    """The float32 nearest to ``to / size`` for which ``floor(size * factor)`` is right, in float32 and in float64."""
    factor = np.float32(to / size)
    while min(math.floor(np.float32(size) * factor), math.floor(size * float(factor))) < to:
        factor = np.nextafter(factor, np.float32(np.inf))
    return float(factor)
