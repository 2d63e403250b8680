"""Converters of activations: one operator where the formats have it, else an exact composition."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgecnn.capture.converters.base import Args, Builder, Converter, Unsupported, axis_of, known, operand, plus, times
from edgecnn.graph import ops
from edgecnn.graph.ops import ValueName

SMALLEST_THRESHOLD = 15.0
"""From here on softplus equals its argument in float32, so a larger threshold changes nothing."""


def unary(op: Callable[..., ops.Unary]) -> Converter:
    """Make a converter to an operator of one value without options."""
    return lambda b, a: b.add(op(x=a["self"]))


def bounded(low: float, high: float) -> Converter:
    """Make a converter to a clamp between fixed bounds."""
    return lambda b, a: b.add(ops.Clamp(x=a["self"], low=low, high=high))


def clamp(low: str, high: str) -> Converter:
    """Make a converter to a clamp whose bounds are arguments of the call."""

    def convert(b: Builder, a: Args) -> ValueName:
        bounds = [default if a.get(k) is None else float(a[k]) for k, default in ((low, -math.inf), (high, math.inf))]
        low_bound = min(bounds)  # where they cross, the upper bound wins in torch
        return b.add(ops.Clamp(x=a["self"], low=low_bound, high=bounds[1]))

    return convert


def softmax(op: type[ops.Softmax | ops.LogSoftmax]) -> Converter:
    """Make a converter to softmax or log softmax along one axis."""
    return lambda b, a: b.add(op(x=a["self"], axis=axis_of(a["dim"], len(b.shape(a["self"])))))


def leaky_relu(b: Builder, a: Args) -> ValueName:
    """Convert leaky_relu to LeakyRelu."""
    return b.add(ops.LeakyRelu(x=a["self"], slope=float(a["negative_slope"])))


def rrelu(b: Builder, a: Args) -> ValueName:
    """Convert rrelu to LeakyRelu: in eval mode the slope is the mean of its bounds."""
    if a["training"]:
        raise Unsupported("rrelu is active in eval mode, so the model's output is random", "nn.RReLU")
    return b.add(ops.LeakyRelu(x=a["self"], slope=(float(a["lower"]) + float(a["upper"])) / 2))


def prelu(b: Builder, a: Args) -> ValueName:
    """Convert prelu with one slope to LeakyRelu, with several to PRelu."""
    slope = known(b, a["weight"], "PReLU").reshape(-1)
    if len(slope) == 1:
        return b.add(ops.LeakyRelu(x=a["self"], slope=float(slope[0])))
    column = slope.reshape(-1, *(1,) * (len(b.shape(a["self"])) - 2))
    return b.add(ops.PRelu(x=a["self"], slope=b.constant(column, "slope")))


def elu(b: Builder, a: Args) -> ValueName:
    """Convert elu, in as few steps as alpha, scale and input_scale permit."""
    alpha, scale, inner = (float(a[k]) for k in ("alpha", "scale", "input_scale"))
    return _elu(b, a["self"], alpha * scale, scale, inner)


def selu(b: Builder, a: Args) -> ValueName:
    """Convert selu, with torch's constants (``selu`` in ATen/native/Activation.cpp)."""
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return _elu(b, a["self"], alpha * scale, scale, 1.0)


def celu(b: Builder, a: Args) -> ValueName:
    """Convert celu to ``alpha * elu(x / alpha)``."""
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
    """Convert gelu, exact or approximated by tanh."""
    return b.add(ops.Gelu(x=a["self"], approximate=a["approximate"] == "tanh"))


def silu(b: Builder, a: Args) -> ValueName:
    """Convert silu to ``x * sigmoid(x)``."""
    return b.add(ops.Mul(x=a["self"], y=b.add(ops.Sigmoid(x=a["self"]), "sigmoid")))


def hardsigmoid(b: Builder, a: Args) -> ValueName:
    """Convert hardsigmoid to ``relu6(x + 3) / 6``."""
    shifted = plus(b, a["self"], 3.0, "shifted")
    return times(b, b.add(ops.Clamp(x=shifted, low=0.0, high=6.0), "relu6"), 1 / 6)


def softplus(b: Builder, a: Args) -> ValueName:
    """Convert softplus, ``log(1 + exp(beta * x)) / beta``."""
    beta, threshold = float(a["beta"]), float(a["threshold"])
    if threshold < SMALLEST_THRESHOLD:
        raise Unsupported(f"softplus with threshold={threshold:g} is not supported", "the default of 20, or more")
    soft = ops.Softplus(x=times(b, a["self"], beta, "scaled"))
    return b.add(soft) if beta == 1 else times(b, b.add(soft, "softplus"), 1 / beta)


def mish(b: Builder, a: Args) -> ValueName:
    """Convert mish to ``x * tanh(softplus(x))``."""
    soft = b.add(ops.Softplus(x=a["self"]), "softplus")
    return b.add(ops.Mul(x=a["self"], y=b.add(ops.Tanh(x=soft), "tanh")))


def log_sigmoid(b: Builder, a: Args) -> ValueName:
    """Convert log_sigmoid to ``-softplus(-x)``."""
    return times(b, b.add(ops.Softplus(x=times(b, a["self"], -1, "negated")), "softplus"), -1)


def softshrink(b: Builder, a: Args) -> ValueName:
    """Convert softshrink to ``x - clamp(x, -lambda, lambda)``."""
    edge = float(a["lambd"])
    return b.add(ops.Sub(x=a["self"], y=b.add(ops.Clamp(x=a["self"], low=-edge, high=edge), "core")))


def threshold(b: Builder, a: Args) -> ValueName:
    """Convert a threshold that is a clamp: values up to the threshold become the threshold."""
    if float(a["threshold"]) != float(a["value"]):
        raise Unsupported("a threshold that jumps is not supported", "clamp, or a threshold equal to its value")
    return b.add(ops.Clamp(x=a["self"], low=float(a["threshold"])))


def glu(b: Builder, a: Args) -> ValueName:
    """Convert glu to the first half times the sigmoid of the second."""
    shape = b.shape(a["self"])
    axis = axis_of(a["dim"], len(shape))
    half = shape[axis] // 2
    first = b.add(ops.Slice(x=a["self"], axis=axis, start=0, stop=half), "value")
    second = b.add(ops.Slice(x=a["self"], axis=axis, start=half, stop=2 * half), "gate")
    return b.add(ops.Mul(x=first, y=b.add(ops.Sigmoid(x=second), "sigmoid")))


def dropout(b: Builder, a: Args) -> ValueName:  # noqa: ARG001  (a converter's signature)
    """Convert dropout to its input, which it returns in eval mode."""
    if a["train"] and a["p"] > 0:
        raise Unsupported(
            "dropout is active in eval mode, so the model's output is random",
            "nn.Dropout, or F.dropout(x, training=self.training)",
        )
    return a.tensor()


def reciprocal(b: Builder, a: Args) -> ValueName:
    """Convert reciprocal to ``1 / x``."""
    return b.add(ops.Div(x=operand(b, 1.0, "one"), y=a["self"]))


def exponential(base: float, summand: float = 0.0) -> Converter:
    """Make a converter to ``base^x + summand``."""

    def convert(b: Builder, a: Args) -> ValueName:
        power = b.add(ops.Exp(x=times(b, a["self"], float(np.log(base)), "scaled")), "exp" * bool(summand))
        return plus(b, power, summand)

    return convert


def logarithm(base: float, summand: float = 0.0) -> Converter:
    """Make a converter to ``log(x + summand)`` to a base."""

    def convert(b: Builder, a: Args) -> ValueName:
        natural = ops.Log(x=plus(b, a["self"], summand, "shifted"))
        factor = float(1 / np.log(base))
        return b.add(natural) if base == math.e else times(b, b.add(natural, "log"), factor)

    return convert
