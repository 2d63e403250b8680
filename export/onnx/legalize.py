"""Rewrites that bring a graph into what ONNX can say and ONNX Runtime gets right."""

from __future__ import annotations

from dataclasses import replace

from edgecnn.graph.decompositions import LOWEST, average_divisors, corrected_average, pad_image
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import AvgPool2d, ConvTranspose2d, MaxPool2d, Pad, ValueName
from edgecnn.graph.rewrite import Rewriter, Rule, rewrite
from edgecnn.graph.shapes import Padding
from edgecnn.graph.transposed_convolution import compose_transposed


def one_padding_before_pooling(graph: Graph) -> Graph:
    """Write a pooling's own padding as a Pad too (for maxima of the lowest value), where another Pad stands before it.

    The lowering can then tell ONNX Runtime not to fuse the two paddings into one. Does not apply to images that come
    from anything but a Pad.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case MaxPool2d(x=x, padding=padding) as pool if any(padding) and (before := r.producer(x)):
                if isinstance(before.op, Pad):
                    padded = pad_image(r, node, x, padding, LOWEST)
                    return r.emit(replace(pool, x=padded, padding=Padding()), node)
            case AvgPool2d(x=x, padding=padding) as pool if any(padding) and (before := r.producer(x)):
                if isinstance(before.op, Pad):
                    return corrected_average(r, node, pool)
        return None

    return rewrite(graph, step)


def long_output_padding(graph: Graph) -> Graph:
    """Write a transposed convolution whose output_padding reaches its stride as convolutions: ONNX Runtime refuses it.

    Does not apply to shorter ones; torch lets an output_padding reach as far as the dilation.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case ConvTranspose2d(output_padding=more, stride=stride) as op:
                return compose_transposed(r, node, op) if more[0] >= stride[0] or more[1] >= stride[1] else None
        return None

    return rewrite(graph, step)


RULES: tuple[Rule, ...] = (long_output_padding, average_divisors, one_padding_before_pooling)
