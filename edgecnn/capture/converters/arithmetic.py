"""Converters of arithmetic on two values, or on a value and a number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgecnn.capture.converters.base import Args, Builder, Converter, Unsupported, operand, times
from edgecnn.graph import ops
from edgecnn.graph.ops import ValueName

LARGEST_REPEATED = 4
"""Powers up to this exponent become multiplications."""


def binary(op: type[ops.Binary]) -> Converter:
    """Make a converter of two tensors or numbers, the second one multiplied by ``alpha``."""

    def convert(b: Builder, a: Args) -> ValueName:
        x, y = (operand(b, a[k], k) for k in ("self", "other"))
        if a.get("rounding_mode") is not None:
            raise Unsupported(f"division with rounding_mode={a['rounding_mode']!r} is not supported")
        x, y = _of_one_rank(b, x, _scaled(b, y, a.get("alpha", 1)))
        return b.add(op(x=x, y=y))

    return convert


def _of_one_rank(b: Builder, x: ValueName, y: ValueName) -> tuple[ValueName, ValueName]:
    """Two values with equal ranks: axes of length 1 are added before those of a computed value of lower rank."""
    rank = max(len(b.shape(x)), len(b.shape(y)))
    return _raised(b, x, rank), _raised(b, y, rank)


def _raised(b: Builder, value: ValueName, rank: int) -> ValueName:
    shape = b.shape(value)
    if len(shape) == rank or b.elements(value) is not None:
        return value
    return b.add(ops.Reshape(x=value, to=(1,) * (rank - len(shape)) + shape), "raised")


def _scaled(b: Builder, y: ValueName, alpha: Any) -> ValueName:
    if alpha == 1:
        return y
    known, factor = b.elements(y), np.array(alpha, np.float64)
    if known is not None:
        return b.constant(known * factor, "scaled")
    return b.add(ops.Mul(x=y, y=b.constant(factor, "alpha")), "scaled")


def reversed_sub(b: Builder, a: Args) -> ValueName:
    """Convert rsub to ``other - alpha * self``."""
    return b.add(ops.Sub(x=operand(b, a["other"], "other"), y=_scaled(b, a["self"], a["alpha"])))


def extreme(op: type[ops.Extreme]) -> Converter:
    """Make a converter to the smaller or larger of two values."""

    def convert(b: Builder, a: Args) -> ValueName:
        x, y = _of_one_rank(b, operand(b, a["self"], "self"), operand(b, a["other"], "other"))
        return b.add(op(x=x, y=y))

    return convert


def clamp_tensor(b: Builder, a: Args) -> ValueName:
    """Convert a clamp between tensors to a maximum and a minimum."""
    x = a["self"]
    low, high = (a.get("min"), a.get("max"))
    if low is not None:
        x = b.add(ops.Maximum(x=x, y=low), "low" * (high is not None))
    return x if high is None else b.add(ops.Minimum(x=x, y=high))


def negative(b: Builder, a: Args) -> ValueName:
    """Convert neg to a multiplication by -1: no format has an integer negation."""
    return times(b, a["self"], -1.0)


def square(b: Builder, a: Args) -> ValueName:
    """Convert square to ``x * x``."""
    return b.add(ops.Mul(x=a["self"], y=a["self"]))


def power(b: Builder, a: Args) -> ValueName:
    """Convert pow with a constant exponent to multiplications, a root or a reciprocal where it is one."""
    x, given = a["self"], a["exponent"]
    known = b.elements(given) if isinstance(given, str) else np.array(float(given))
    if known is None or known.size != 1:
        raise Unsupported("a power with a computed exponent is not supported", "a constant exponent")
    exponent = float(known.reshape(-1)[0])
    if exponent == round(exponent) and 1 <= exponent <= LARGEST_REPEATED:
        return _repeated(b, x, int(exponent))
    match exponent:
        case 0.5:
            return b.add(ops.Sqrt(x=x))
        case -0.5:
            return b.add(ops.Rsqrt(x=x))
        case -1.0:
            return b.add(ops.Div(x=operand(b, 1.0, "one"), y=x))
        case 0.0:
            raise Unsupported("a power of 0 is 1 whatever the input", "leave it out")
    return b.add(ops.Pow(x=x, exponent=exponent))


def _repeated(b: Builder, x: ValueName, exponent: int) -> ValueName:
    if exponent == 1:
        return x
    squared = b.add(ops.Mul(x=x, y=x), "square" * (exponent > 2))
    if exponent == 2:
        return squared
    return b.add(ops.Mul(x=squared, y=x if exponent == 3 else squared))


def power_of_number(b: Builder, a: Args) -> ValueName:
    """Convert a positive number to a computed power, by Exp."""
    base = float(a["self"])
    if base <= 0:
        raise Unsupported(f"powers of {base:g} are not supported", "a positive base")
    return b.add(ops.Exp(x=times(b, a["exponent"], math.log(base), "scaled")))


def addcmul(b: Builder, a: Args) -> ValueName:
    """Convert addcmul to ``x + value * y * z``."""
    product = b.add(ops.Mul(x=a["tensor1"], y=a["tensor2"]), "product")
    return b.add(ops.Add(x=a["self"], y=_scaled(b, product, a["value"])))


def lerp(b: Builder, a: Args) -> ValueName:
    """Convert lerp to ``x + weight * (end - x)``."""
    step = b.add(ops.Sub(x=a["end"], y=a["self"]), "step")
    weighted = b.add(ops.Mul(x=step, y=operand(b, a["weight"], "weight")), "weighted")
    return b.add(ops.Add(x=a["self"], y=weighted))


def filled(b: Builder, a: Args) -> ValueName:
    """Convert full_like and new_full to a constant of the result's shape."""
    return b.constant(np.full(b.result_shape, float(a["fill_value"])), "filled")


def ones(b: Builder, a: Args) -> ValueName:  # noqa: ARG001  (a converter's signature)
    """Convert ones_like and new_ones to a constant."""
    return b.constant(np.ones(b.result_shape), "ones")


def zeros(b: Builder, a: Args) -> ValueName:  # noqa: ARG001  (a converter's signature)
    """Convert zeros_like and new_zeros to a constant."""
    return b.constant(np.zeros(b.result_shape), "zeros")
