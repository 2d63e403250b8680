"""Converters of convolutions, linear layers and matrix products."""

from __future__ import annotations

from edgecnn.capture.converters.base import Args, Builder, Unsupported, as_image, as_signal, batched
from edgecnn.graph import ops
from edgecnn.graph.ops import Pair, ValueName
from edgecnn.graph.shapes import Padding


def conv2d(b: Builder, a: Args) -> ValueName:
    """Convert conv2d whose padding is given in numbers."""
    ph, pw = a.pair("padding")
    return _convolve(b, a, Padding(ph, ph, pw, pw))


def conv2d_same(b: Builder, a: Args) -> ValueName:
    """Convert conv2d whose padding is ``same`` or ``valid``."""
    return _convolve(b, a, _padding_in_words(a["padding"], b.shape(a["weight"])[2:], a.pair("dilation")))


def conv1d(b: Builder, a: Args) -> ValueName:
    """Convert conv1d to a convolution of an image of height 1."""
    width = a.width("padding", height=0)[1]
    return _convolve_signal(b, a, Padding(0, 0, width, width))


def conv1d_same(b: Builder, a: Args) -> ValueName:
    """Convert conv1d whose padding is ``same`` or ``valid``."""
    kernel = (1, b.shape(a["weight"])[-1])
    return _convolve_signal(b, a, _padding_in_words(a["padding"], kernel, a.width("dilation")))


def _padding_in_words(padding: str, kernel: tuple[int, ...], dilation: Pair) -> Padding:
    if padding == "valid":
        return Padding()
    if padding != "same":
        raise Unsupported(f"padding {padding!r} is not known")
    totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    (top, bottom), (left, right) = ((t // 2, t - t // 2) for t in totals)
    return Padding(top, bottom, left, right)


def _convolve(b: Builder, a: Args, padding: Padding) -> ValueName:
    op = ops.Conv2d(
        x=batched(b, a["input"], 4, "Conv2d"),
        weight=_weight(b, a["weight"], "conv2d"),
        bias=_bias(b, a["bias"]),
        stride=a.pair("stride"),
        padding=padding,
        dilation=a.pair("dilation"),
        groups=a["groups"],
    )
    return b.add(op)


def _convolve_signal(b: Builder, a: Args, padding: Padding) -> ValueName:
    op = ops.Conv2d(
        x=as_image(b, a["input"], "Conv1d"),
        weight=_flat_kernel(b, a["weight"], "conv1d"),
        bias=_bias(b, a["bias"]),
        stride=a.width("stride"),
        padding=padding,
        dilation=a.width("dilation"),
        groups=a["groups"],
    )
    return as_signal(b, b.add(op, "convolved"))


def _flat_kernel(b: Builder, weight: ValueName, what: str) -> ValueName:
    """The weight of a Conv1d as that of a Conv2d of height 1."""
    elements = b.elements(_weight(b, weight, what))
    assert elements is not None
    return b.constant(elements[:, :, None, :], "weight")


def conv_transpose2d(b: Builder, a: Args) -> ValueName:
    """Convert conv_transpose2d."""
    op = ops.ConvTranspose2d(
        x=batched(b, a["input"], 4, "ConvTranspose2d"),
        weight=_weight(b, a["weight"], "conv_transpose2d"),
        bias=_bias(b, a["bias"]),
        stride=a.pair("stride"),
        padding=a.pair("padding"),
        output_padding=a.pair("output_padding"),
        dilation=a.pair("dilation"),
        groups=a["groups"],
    )
    return b.add(op)


def conv_transpose1d(b: Builder, a: Args) -> ValueName:
    """Convert conv_transpose1d to a transposed convolution of an image of height 1."""
    op = ops.ConvTranspose2d(
        x=as_image(b, a["input"], "ConvTranspose1d"),
        weight=_flat_kernel(b, a["weight"], "conv_transpose1d"),
        bias=_bias(b, a["bias"]),
        stride=a.width("stride"),
        padding=a.width("padding", height=0),
        output_padding=a.width("output_padding", height=0),
        dilation=a.width("dilation"),
        groups=a["groups"],
    )
    return as_signal(b, b.add(op, "convolved"))


def convolution(b: Builder, a: Args) -> ValueName:
    """Convert convolution, to which torch's decompositions reduce all convolutions."""
    rank = len(b.shape(a["weight"]))
    if rank not in (3, 4):
        raise Unsupported(f"convolution in {rank - 2} dimensions is not supported", "Conv2d or Conv1d")
    if a["transposed"]:
        return (conv_transpose1d if rank == 3 else conv_transpose2d)(b, a)
    return (conv1d if rank == 3 else conv2d)(b, a)


def _weight(b: Builder, weight: ValueName, what: str) -> ValueName:
    if b.elements(weight) is None:
        raise Unsupported(
            f"the weight of {what} is computed from the input",
            "weights that are parameters, buffers, or computed from these alone",
        )
    return weight


def _bias(b: Builder, bias: ValueName | None) -> ValueName | None:
    if bias is not None and b.elements(bias) is None:
        raise Unsupported("the bias is computed from the input", "an addition after the layer")
    return bias


def linear(b: Builder, a: Args) -> ValueName:
    """Convert linear to a linear layer over the last axis, or to a matrix product if its weight is computed."""
    if b.elements(a["weight"]) is None:
        turned = b.add(ops.Transpose(x=a["weight"], order=(1, 0)), "turned")
        product = _product(b, a["input"], turned, "product" if a["bias"] is not None else "")
        return product if a["bias"] is None else b.add(ops.Add(x=product, y=a["bias"]))
    return b.add(ops.Linear(x=a["input"], weight=a["weight"], bias=_bias(b, a["bias"])))


def addmm(b: Builder, a: Args) -> ValueName:
    """Convert addmm and baddbmm, ``beta * self + alpha * (x @ y)``, with alpha and beta 1."""
    x, y = (a["mat1"], a["mat2"]) if "mat1" in a else (a["batch1"], a["batch2"])
    weight, bias = b.elements(y), b.elements(a["self"])
    plain = (a["beta"], a["alpha"]) == (1, 1)
    if plain and weight is not None and weight.ndim == 2 and bias is not None and bias.shape == weight.shape[1:]:
        return b.add(ops.Linear(x=x, weight=b.constant(weight.T, "weight"), bias=a["self"]))
    if not plain:
        raise Unsupported("a matrix product with alpha or beta is not supported", "a separate multiplication")
    return b.add(ops.Add(x=_product(b, x, y, "product"), y=a["self"]))


def matmul(b: Builder, a: Args) -> ValueName:
    """Convert a matrix product; one with a constant matrix on the right becomes a linear layer."""
    left, right = (a["self"], a["other"] if "other" in a else a["mat2"])
    return _product(b, left, right)


def _product(b: Builder, left: ValueName, right: ValueName, suffix: str = "") -> ValueName:
    weight = b.elements(right)
    if weight is not None and weight.ndim == 2 and b.elements(left) is None:
        return b.add(ops.Linear(x=left, weight=b.constant(weight.T, "weight"), bias=None), suffix)
    ranks = [len(b.shape(v)) for v in (left, right)]
    if min(ranks) < 2:
        raise Unsupported("a product with a vector is not supported", "x.unsqueeze(-1) before it, squeeze(-1) after it")
    x, y = (_raised(b, v, max(ranks), name) for v, name in ((left, "left"), (right, "right")))
    return b.add(ops.MatMul(x=x, y=y), suffix)


def _raised(b: Builder, value: ValueName, rank: int, name: str) -> ValueName:
    """A value of a higher rank, by axes of length 1 before its own."""
    shape = b.shape(value)
    if len(shape) == rank:
        return value
    to = (1,) * (rank - len(shape)) + shape
    elements = b.elements(value)
    return b.add(ops.Reshape(x=value, to=to), name) if elements is None else b.constant(elements.reshape(to), name)
