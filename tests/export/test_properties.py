"""Random shapes, strides and paddings: what the table's rows may have missed."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.exporters import EXPORTERS, LIMIT, SEARCH
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.parity.metrics import relative_error

FEW = settings(max_examples=400 if SEARCH else 30, suppress_health_check=[HealthCheck.function_scoped_fixture])
pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


def _agree(module: nn.Module, shape: tuple[int, ...], infer) -> None:
    torch.manual_seed(0)
    graph = capture(module.eval(), [torch.zeros(1, *shape)])
    x = torch.randn(2, *shape) - 0.5
    with torch.no_grad():
        reference = module(x).numpy()
    for form, export in EXPORTERS.items():
        (output,) = infer(form, graph, export(graph, version="0"), [x.numpy()])
        assert relative_error(output, reference) <= LIMIT, form


@FEW
@given(
    kernel=pairs,
    stride=pairs,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    size=st.tuples(st.integers(3, 12), st.integers(3, 12)),
    groups=st.sampled_from([1, 2, 4]),
)
def test_convolution(kernel, stride, padding, dilation, size, groups, infer) -> None:
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    assume(all(n + 2 * p >= e for n, p, e in zip(size, padding, extents, strict=True)))
    torch.manual_seed(1)
    _agree(nn.Conv2d(4, 4, kernel, stride, padding, dilation, groups), (4, *size), infer)


@FEW
@given(
    kind=st.sampled_from(["max", "avg", "avg counted"]),
    kernel=pairs,
    stride=pairs,
    share=st.tuples(st.booleans(), st.booleans()),
    ceil=st.booleans(),
    size=st.tuples(st.integers(3, 12), st.integers(3, 12)),
)
def test_pooling(kind, kernel, stride, share, ceil, size, infer) -> None:
    padding = tuple(k // 2 if s else 0 for k, s in zip(kernel, share, strict=True))
    assume(all(n + 2 * p >= k for n, p, k in zip(size, padding, kernel, strict=True)))
    if kind == "max":
        pool: nn.Module = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
    else:
        pool = nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=kind == "avg counted")
    _agree(pool, (2, *size), infer)


@FEW
@given(
    kernel=pairs,
    stride=pairs,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    more=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    groups=st.sampled_from([1, 2, 4]),
)
def test_transposed_convolution(kernel, stride, padding, dilation, more, size, groups, infer) -> None:
    axes = list(zip(size, kernel, stride, padding, more, dilation, strict=True))
    assume(all(o < max(s, d) for _, _, s, _, o, d in axes))
    assume(all((n - 1) * s + (k - 1) * d + 1 - 2 * p + o > 0 for n, k, s, p, o, d in axes))
    torch.manual_seed(1)
    layer = nn.ConvTranspose2d(4, 4, kernel, stride, padding, more, groups, dilation=dilation)
    _agree(layer, (4, *size), infer)


@FEW
@given(
    mode=st.sampled_from(["nearest", "nearest-exact", "bilinear", "corners"]),
    factor=st.tuples(st.floats(0.4, 3.2), st.floats(0.4, 3.2)),
    by_size=st.booleans(),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_resizing(mode, factor, by_size, size, infer) -> None:
    to = tuple(int(n * f) for n, f in zip(size, factor, strict=True))
    assume(min(to) > 0)
    scale: dict[str, object] = {"size": to} if by_size else {"scale_factor": factor}
    if mode == "corners":
        mode, scale = "bilinear", {**scale, "align_corners": True}
    _agree(nn.Upsample(mode=mode, **scale), (2, *size), infer)


@FEW
@given(
    kind=st.sampled_from([nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d]),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    size=st.tuples(st.integers(4, 7), st.integers(4, 7)),
)
def test_padding(kind, pads, size, infer) -> None:
    _agree(kind(pads), (2, *size), infer)


@FEW
@given(
    kind=st.sampled_from([nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d]),
    out=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_adaptive_pooling(kind, out, size, infer) -> None:
    _agree(kind(out), (2, *size), infer)
