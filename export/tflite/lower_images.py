"""TFLite for what makes images larger or smaller, and for picking."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecnn.export.images import mirrored, repeated
from edgecnn.export.tflite.write import NHWC, TfliteWriter
from edgecnn.graph import ops
from edgecnn.graph.graph import Node


def lower_gather(w: TfliteWriter, node: Node, op: ops.Gather) -> None:
    """GATHER along the axis where it is stored; channels of few runs are STRIDED_SLICE and CONCATENATION."""
    axes = w.layout(op.x)
    inputs = [w.read(op.x, axes, node), w.integers(op.indices)]
    w.emit("GATHER", node, inputs, axes, ("GatherOptions", {"axis": axes.index(op.axis)}))


def lower_gather_image(w: TfliteWriter, node: Node, op: ops.GatherImage) -> None:
    """RESIZE_NEAREST_NEIGHBOR where pixels are repeated, MIRROR_PAD where they are reflected, else two GATHER."""
    height, width = w.graph.shapes[op.x][2:]
    factors = [repeated(indices, n) for indices, n in ((op.rows, height), (op.columns, width))]
    pads = [mirrored(indices, n, "reflect") for indices, n in ((op.rows, height), (op.columns, width))]
    x = w.read(op.x, NHWC, node)
    if all(factors):
        options = {"alignCorners": False, "halfPixelCenters": False}
        size = w.integers([len(op.rows), len(op.columns)])
        w.emit("RESIZE_NEAREST_NEIGHBOR", node, [x, size], NHWC, ("ResizeNearestNeighborOptions", options))
    elif pads[0] is not None and pads[1] is not None:
        amounts = w.integers(np.array([(0, 0), *pads, (0, 0)]))
        mode = {"mode": schema.MirrorPadMode.REFLECT}
        w.emit("MIRROR_PAD", node, [x, amounts], NHWC, ("MirrorPadOptions", mode))
    else:
        rows = w.emit_gather(node, x, op.rows, (len(op.rows), width))
        w.emit("GATHER", node, [rows, w.integers(op.columns)], NHWC, ("GatherOptions", {"axis": 2}))


def lower_depth_to_space(w: TfliteWriter, node: Node, op: ops.DepthToSpace) -> None:
    """DEPTH_TO_SPACE; torch's order of channels is settled by legalization."""
    w.emit("DEPTH_TO_SPACE", node, [w.read(op.x, NHWC, node)], NHWC, ("DepthToSpaceOptions", {"blockSize": op.block}))


def lower_space_to_depth(w: TfliteWriter, node: Node, op: ops.SpaceToDepth) -> None:
    """SPACE_TO_DEPTH."""
    w.emit("SPACE_TO_DEPTH", node, [w.read(op.x, NHWC, node)], NHWC, ("SpaceToDepthOptions", {"blockSize": op.block}))


def lower_resize_bilinear(w: TfliteWriter, node: Node, op: ops.ResizeBilinear) -> None:
    """RESIZE_BILINEAR; factors that are not those of the sizes are GATHER, MUL and ADD."""
    options = {"alignCorners": op.align_corners, "halfPixelCenters": not op.align_corners}
    inputs = [w.read(op.x, NHWC, node), w.integers(op.to)]
    w.emit("RESIZE_BILINEAR", node, inputs, NHWC, ("ResizeBilinearOptions", options), version=3)
