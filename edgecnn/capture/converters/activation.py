"""Activations: their own operator where both formats have one, else an exact composition."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgecnn.capture.converters.base import Args, Builder, Converter, Unsupported, axis_of, known, operand, plus, times
from edgecnn.graph import ops
from edgecnn.graph.ops import ValueName

SMALLEST_THRESHOLD = 15.0
"""From here on softplus is its argument to float32's precision, so that the threshold cannot be seen."""


def unary(op: Callable[..., ops.Unary]) -> Converter:
    """An operator of one value and no options."""
    return lambda b, a: b.add(op(x=a["self"]))


def bounded(low: float, high: float) -> Converter:
    """A clamp between fixed bounds."""
    return lambda b, a: b.add(ops.Clamp(x=a["self"], low=low, high=high))


def clamp(low: str, high: str) -> Converter:
    """A clamp between the bounds that the call names."""

    def convert(b: Builder, a: Args) -> ValueName:
        bounds = [default if a.get(k) is None else float(a[k]) for k, default in ((low, -math.inf), (high, math.inf))]
        low_bound = min(bounds)  # where they cross, torch lets the upper one win
        return b.add(ops.Clamp(x=a["self"], low=low_bound, high=bounds[1]))

    return convert


def softmax(op: type[ops.Softmax | ops.LogSoftmax]) -> Converter:
    """Along one axis."""
    return lambda b, a: b.add(op(x=a["self"], axis=axis_of(a["dim"], len(b.shape(a["self"])))))


def leaky_relu(b: Builder, a: Args) -> ValueName:
    """The slope as a number."""
    return b.add(ops.LeakyRelu(x=a["self"], slope=float(a["negative_slope"])))


def rrelu(b: Builder, a: Args) -> ValueName:
    """In eval mode the slope is the middle of its bounds."""
    if a["training"]:
        raise Unsupported("rrelu is active in eval mode, so the model's output is random", "nn.RReLU")
    return b.add(ops.LeakyRelu(x=a["self"], slope=(float(a["lower"]) + float(a["upper"])) / 2))


def prelu(b: Builder, a: Args) -> ValueName:
    """One slope is LeakyRelu, several are PRelu."""
    slope = known(b, a["weight"], "PReLU").reshape(-1)
    if len(slope) == 1:
        return b.add(ops.LeakyRelu(x=a["self"], slope=float(slope[0])))
    column = slope.reshape(-1, *(1,) * (len(b.shape(a["self"])) - 2))
    return b.add(ops.PRelu(x=a["self"], slope=b.constant(column, "slope")))


def elu(b: Builder, a: Args) -> ValueName:
    """In as few steps as alpha, scale and input_scale allow."""
    alpha, scale, inner = (float(a[k]) for k in ("alpha", "scale", "input_scale"))
    return _elu(b, a["self"], alpha * scale, scale, inner)


def selu(b: Builder, a: Args) -> ValueName:
    """Torch's numbers (``selu`` in ATen/native/Activation.cpp)."""
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return _elu(b, a["self"], alpha * scale, scale, 1.0)


def celu(b: Builder, a: Args) -> ValueName:
    """``alpha * elu(x / alpha)``."""
    alpha = float(a["alpha"])
    if alpha <= 0:
        raise Unsupported(f"celu with alpha={alpha:g} is not supported", "a positive alpha")
    return times(b, b.add(ops.Elu(x=times(b, a["self"], 1 / alpha, "scaled")), "elu" * (alpha != 1)), alpha)


def _elu(b: Builder, x: ValueName, below: float, above: float, inner: float) -> ValueName:
    if (below, above, inner) == (1, 1, 1):
        return b.add(ops.Elu(x=x))
    negative = times(b, b.add(ops.Clamp(x=x, high=0.0), "negative"), inner, "inner")
    curve = times(b, b.add(ops.Elu(x=negative), "elu"), below, "below")
    line = times(b, b.add(ops.Relu(x=x), "positive"), above, "above")
    return b.add(ops.Add(x=line, y=curve))


def gelu(b: Builder, a: Args) -> ValueName:
    """Both forms."""
    return b.add(ops.Gelu(x=a["self"], approximate=a["approximate"] == "tanh"))


def silu(b: Builder, a: Args) -> ValueName:
    """``x * sigmoid(x)``."""
    return b.add(ops.Mul(x=a["self"], y=b.add(ops.Sigmoid(x=a["self"]), "sigmoid")))


def hardsigmoid(b: Builder, a: Args) -> ValueName:
    """``relu6(x + 3) / 6``."""
    shifted = plus(b, a["self"], 3.0, "shifted")
    return times(b, b.add(ops.Clamp(x=shifted, low=0.0, high=6.0), "relu6"), 1 / 6)


def softplus(b: Builder, a: Args) -> ValueName:
    """``log(1 + exp(beta * x)) / beta``."""
    beta, threshold = float(a["beta"]), float(a["threshold"])
    if threshold < SMALLEST_THRESHOLD:
        raise Unsupported(f"softplus with threshold={threshold:g} is not supported", "the default of 20, or more")
    soft = ops.Softplus(x=times(b, a["self"], beta, "scaled"))
    return b.add(soft) if beta == 1 else times(b, b.add(soft, "softplus"), 1 / beta)


def mish(b: Builder, a: Args) -> ValueName:
    """``x * tanh(softplus(x))``."""
    soft = b.add(ops.Softplus(x=a["self"]), "softplus")
    return b.add(ops.Mul(x=a["self"], y=b.add(ops.Tanh(x=soft), "tanh")))


def log_sigmoid(b: Builder, a: Args) -> ValueName:
    """``-softplus(-x)``."""
    return times(b, b.add(ops.Softplus(x=times(b, a["self"], -1, "negated")), "softplus"), -1)


def softshrink(b: Builder, a: Args) -> ValueName:
    """``x - clamp(x, -lambda, lambda)``."""
    edge = float(a["lambd"])
    return b.add(ops.Sub(x=a["self"], y=b.add(ops.Clamp(x=a["self"], low=-edge, high=edge), "core")))


def threshold(b: Builder, a: Args) -> ValueName:
    """What is a clamp: values up to the threshold become the threshold."""
    if float(a["threshold"]) != float(a["value"]):
        raise Unsupported("a threshold that jumps is not supported", "clamp, or a threshold equal to its value")
    return b.add(ops.Clamp(x=a["self"], low=float(a["threshold"])))


def glu(b: Builder, a: Args) -> ValueName:
    """The first half times the sigmoid of the second."""
    shape = b.shape(a["self"])
    axis = axis_of(a["dim"], len(shape))
    half = shape[axis] // 2
    first = b.add(ops.Slice(x=a["self"], axis=axis, start=0, stop=half), "value")
    second = b.add(ops.Slice(x=a["self"], axis=axis, start=half, stop=2 * half), "gate")
    return b.add(ops.Mul(x=first, y=b.add(ops.Sigmoid(x=second), "sigmoid")))


def dropout(b: Builder, a: Args) -> ValueName:  # noqa: ARG001  (a converter's signature)
    """Nothing, in eval mode."""
    if a["train"] and a["p"] > 0:
        raise Unsupported(
            "dropout is active in eval mode, so the model's output is random",
            "nn.Dropout, or F.dropout(x, training=self.training)",
        )
    return a.tensor()


def reciprocal(b: Builder, a: Args) -> ValueName:
    """``1 / x``."""
    return b.add(ops.Div(x=operand(b, 1.0, "one"), y=a["self"]))


def exponential(base: float, summand: float = 0.0) -> Converter:
    """``base^x + summand``."""

    def convert(b: Builder, a: Args) -> ValueName:
        power = b.add(ops.Exp(x=times(b, a["self"], float(np.log(base)), "scaled")), "exp" * bool(summand))
        return plus(b, power, summand)

    return convert


def logarithm(base: float, summand: float = 0.0) -> Converter:
    """``log(x + summand)`` to a base."""

    def convert(b: Builder, a: Args) -> ValueName:
        natural = ops.Log(x=plus(b, a["self"], summand, "shifted"))
        factor = float(1 / np.log(base))
        return b.add(natural) if base == math.e else times(b, b.add(natural, "log"), factor)

    return convert
