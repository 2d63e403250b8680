"""Recognition of operators that models write out: activations as formulas, shuffles as reshapes and permutations."""

from __future__ import annotations

import math

import numpy as np

from edgecnn.graph.fold_channel_order import shuffled
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import (
    Abs,
    Activation,
    Add,
    Clamp,
    DepthToSpace,
    Div,
    Erf,
    Exp,
    Gather,
    Gelu,
    HardSwish,
    Log,
    Mul,
    Op,
    Relu,
    Reshape,
    Sigmoid,
    Sign,
    Softplus,
    SpaceToDepth,
    Sub,
    Tanh,
    Transpose,
    ValueName,
)
from edgecnn.graph.rewrite import Rewriter, rewrite
from edgecnn.graph.shapes import Shape

Product = tuple[float, list[ValueName]]


def recognise_shuffles(graph: Graph) -> Graph:
    """Replace a reshape, a permutation and a reshape by one operator that shuffles channels, or pixels and channels.

    Does not apply to other permutations, nor where the first reshape does not split channels into groups.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        if not isinstance(node.op, Reshape):
            return None
        middle = r.producer(node.op.x)
        if middle is None or not isinstance(middle.op, Transpose):
            return None
        first = r.producer(middle.op.x)
        if first is None or not isinstance(first.op, Reshape):
            return None
        x = first.op.x
        return _shuffle(r, node, x, r.shape(x), first.shape, middle.op.order)

    return rewrite(graph, step)


def _shuffle(
    r: Rewriter, node: Node, x: ValueName, image: Shape, parts: Shape, order: tuple[int, ...]
) -> ValueName | None:
    to = node.shape
    swapped = (0, 2, 1, *range(3, len(parts)))
    if to == image and order == swapped and parts == (*image[:1], *parts[1:3], *image[2:]):
        return r.emit(Gather(x=x, axis=1, indices=shuffled(image[1], parts[1])), node)
    if len(image) != 4 or len(parts) != 6 or len(to) != 4:
        return None
    n, channels, height, width = image
    block = to[2] // height if to[2] > height else height // to[2]
    fewer = channels // block**2
    pixels: dict[tuple[Shape, Shape], bool] = {
        ((n, fewer, block, block, height, width), (0, 1, 4, 2, 5, 3)): True,
        ((n, block, block, fewer, height, width), (0, 3, 4, 1, 5, 2)): False,
    }
    if (parts, order) in pixels and to == (n, fewer, height * block, width * block):
        return r.emit(DepthToSpace(x=x, block=block, channels_first=pixels[parts, order]), node)
    squares = (n, channels, height // block, block, width // block, block)
    if parts != squares or to != (n, channels * block**2, height // block, width // block):
        return None
    if order == (0, 3, 5, 1, 2, 4):
        return r.emit(SpaceToDepth(x=x, block=block), node)
    if order == (0, 1, 3, 5, 2, 4):
        moved = r.emit(SpaceToDepth(x=x, block=block), node, "squares")
        return r.emit(Gather(x=moved, axis=1, indices=shuffled(to[1], block**2)), node)
    return None


def recognise_activations(graph: Graph) -> Graph:
    """Recognise the formulas of sigmoid, softplus, hard swish and GELU, and of a sign times a magnitude.

    Does not apply to formulas with other numbers, nor where something else reads an intermediate value.
    """

    def step(r: Rewriter, node: Node) -> ValueName | None:
        match node.op:
            case Div(x=x, y=y, activation=Activation.NONE) if (found := _exp_plus_one(r, y)) is not None:
                return _sigmoid(r, node, x, found)
            case Log(x=x) if (found := _exp_plus_one(r, x)) is not None:
                return r.emit(Softplus(x=found), node)
            case Relu(x=x) if _is(r, x, Abs):
                return x
            case Mul(x=x, y=y, activation=Activation.NONE) if (found := _signed_magnitude(r, x, y)) is not None:
                return found
            case Mul() | Div():
                return _gated(r, node)
        return None

    return rewrite(graph, step)


def _is(r: Rewriter, value: ValueName, kind: type[Op]) -> bool:
    node = r.producer(value)
    return node is not None and isinstance(node.op, kind)


def _exp_plus_one(r: Rewriter, value: ValueName) -> ValueName | None:
    """``x`` if a value is ``1 + exp(x)``, else None."""
    found = _plus(r, value)
    if found is None or found[1] != 1:
        return None
    node = r.producer(found[0])
    return node.op.x if node is not None and isinstance(node.op, Exp) else None


def _plus(r: Rewriter, value: ValueName) -> tuple[ValueName, float] | None:
    """``(x, number)`` if a value is ``x + number``, else None."""
    node = r.producer(value)
    match None if node is None else node.op:
        case Add(x=x, y=y, activation=Activation.NONE):
            if (c := _number(r, y)) is not None:
                return x, c
            return None if (c := _number(r, x)) is None else (y, c)
        case Sub(x=x, y=y, activation=Activation.NONE) if (c := _number(r, y)) is not None:
            return x, -c
    return None


def _number(r: Rewriter, value: ValueName) -> float | None:
    """The number that a constant of one element holds, else None."""
    elements = r.constant(value)
    return float(elements.reshape(-1)[0]) if elements is not None and elements.size == 1 else None


def _sigmoid(r: Rewriter, node: Node, x: ValueName, exponent: ValueName) -> ValueName:
    """Write ``x / (1 + exp(exponent))`` by a sigmoid."""
    factor, values = _product(r, exponent)
    if factor == -1 and len(values) == 1:
        argument = values[0]
    else:
        minus = r.add_constant(f"{node.name}.minus", np.array(-1.0))
        argument = r.emit(Mul(x=exponent, y=minus), node, "negated")
    if _number(r, x) == 1:
        return r.emit(Sigmoid(x=argument), node)
    return r.emit(Mul(x=x, y=r.emit(Sigmoid(x=argument), node, "sigmoid")), node)


def _signed_magnitude(r: Rewriter, x: ValueName, y: ValueName) -> ValueName | None:
    """``v`` where a product is ``sign(v) * |v|``, as in torch's Lp pooling, else None."""
    for a, b in ((x, y), (y, x)):
        sign, magnitude = r.producer(a), r.producer(b)
        if sign is None or magnitude is None:
            continue
        if isinstance(sign.op, Sign) and isinstance(magnitude.op, Abs) and sign.op.x == magnitude.op.x:
            return sign.op.x
    return None


def _product(r: Rewriter, value: ValueName, depth: int = 0) -> Product:
    """A value as a number times values, across products that nothing else reads."""
    node = r.producer(value)
    if node is None or depth > 4 or not (depth == 0 or r.sole_use(value)):
        return 1.0, [value]
    match node.op:
        case Mul(x=x, y=y, activation=Activation.NONE):
            return _times(r, x, y, depth)
        case Div(x=x, y=y, activation=Activation.NONE) if c := _number(r, y):
            factor, values = _product(r, x, depth + 1)
            return factor / c, values
    return 1.0, [value]


def _times(r: Rewriter, x: ValueName, y: ValueName, depth: int) -> Product:
    total = 1.0
    values: list[ValueName] = []
    for side in (x, y):
        if (c := _number(r, side)) is not None:
            total *= c
        else:
            factor, more = _product(r, side, depth + 1)
            total, values = total * factor, values + more
    return total, values


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-5)


def _gated(r: Rewriter, node: Node) -> ValueName | None:
    """Replace a product that is hard swish or GELU, in any order of its factors."""
    match node.op:
        case Mul(x=x, y=y, activation=Activation.NONE):
            factor, values = _times(r, x, y, 0)
        case Div(x=x, y=y, activation=Activation.NONE) if c := _number(r, y):
            factor, values = _product(r, x, 1)
            factor /= c
        case _:
            return None
    if len(values) != 2:
        return None
    for x, gate in (values, values[::-1]):
        if _is_hard_gate(r, x, gate, factor):
            return r.emit(HardSwish(x=x), node)
        if _close(factor, 0.5) and (inner := _plus(r, gate)) is not None and inner[1] == 1:
            if _is_erf_of(r, x, inner[0]):
                return r.emit(Gelu(x=x), node)
            if _is_tanh_of(r, x, inner[0]):
                return r.emit(Gelu(x=x, approximate=True), node)
    return None


def _is_hard_gate(r: Rewriter, x: ValueName, gate: ValueName, factor: float) -> bool:
    """Whether ``factor * gate`` is ``relu6(x + 3) / 6``, however it is scaled."""
    node = r.producer(gate)
    if node is None or not isinstance(node.op, Clamp) or node.op.low != 0 or not math.isfinite(node.op.high):
        return False
    inner, shift = _plus(r, node.op.x) or (node.op.x, 0.0)
    slope, values = (1.0, [inner]) if inner == x else _product(r, inner, 1)
    return (
        values == [x]
        and slope > 0
        and _close(node.op.high / slope, 6)
        and _close(shift / slope, 3)
        and _close(factor * slope, 1 / 6)
    )


def _is_erf_of(r: Rewriter, x: ValueName, value: ValueName) -> bool:
    node = r.producer(value)
    if node is None or not isinstance(node.op, Erf):
        return False
    factor, values = _product(r, node.op.x, 1)
    return values == [x] and _close(factor, math.sqrt(0.5))


def _is_tanh_of(r: Rewriter, x: ValueName, value: ValueName) -> bool:
    """Whether a value is ``tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))``, with x factored out or not."""
    node = r.producer(value)
    if node is None or not isinstance(node.op, Tanh):
        return False
    factor, values = _product(r, node.op.x, 1)
    if not _close(factor, math.sqrt(2 / math.pi)):
        return False
    if len(values) == 1 and (sum_ := r.producer(values[0])) is not None and isinstance(sum_.op, Add):
        return any(
            a == x and _cube(_product(r, b, 1), x, 3) for a, b in ((sum_.op.x, sum_.op.y), (sum_.op.y, sum_.op.x))
        )
    for a, b in (values, values[::-1]) if len(values) == 2 else ():
        inner = _plus(r, b)
        if a == x and inner is not None and inner[1] == 1:
            return _cube(_product(r, inner[0], 1), x, 2)
    return False


def _cube(product: Product, x: ValueName, times: int) -> bool:
    return _close(product[0], 0.044715) and product[1] == [x] * times
