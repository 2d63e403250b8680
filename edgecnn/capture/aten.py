"""The table of converters: for each ATen operator, the function that writes it as operators of the graph.

A converter takes the builder of the graph and the call's arguments under the names of the ATen schema. It returns the
value of the call's result (a tuple for several), or raises :class:`~edgecnn.capture.converters.base.Unsupported` with
the reason and what to try. Converters lie in :mod:`edgecnn.capture.converters`, by subject.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch

from edgecnn.capture.converters import activation, arithmetic, convolution, image, normalization, pooling, shape
from edgecnn.capture.converters.base import Args, Builder, Converter, Unsupported, same
from edgecnn.graph import ops

aten = torch.ops.aten


def _cast(b: Builder, a: Args) -> str:
    """The value itself: casts to float types change nothing, others are refused."""
    dtype = a.get("dtype")
    if dtype is not None and str(dtype) not in ("torch.float32", "torch.float64"):
        raise Unsupported(f"a cast to {dtype} is not supported", "float32 throughout")
    return same(b, a)


# In-place forms (aten.relu_.default) use the converter of the form without the underscore.
CONVOLUTIONS: Mapping[str, Converter] = {
    "aten.conv1d.default": convolution.conv1d,
    "aten.conv1d.padding": convolution.conv1d_same,
    "aten.conv2d.default": convolution.conv2d,
    "aten.conv2d.padding": convolution.conv2d_same,
    "aten.conv_transpose1d.default": convolution.conv_transpose1d,
    "aten.conv_transpose2d.input": convolution.conv_transpose2d,
    "aten.convolution.default": convolution.convolution,
    "aten.linear.default": convolution.linear,
    "aten.addmm.default": convolution.addmm,
    "aten.baddbmm.default": convolution.addmm,
    "aten.mm.default": convolution.matmul,
    "aten.bmm.default": convolution.matmul,
    "aten.matmul.default": convolution.matmul,
}
NORMALIZATIONS: Mapping[str, Converter] = {
    "aten.batch_norm.default": normalization.batch_norm,
    "aten._native_batch_norm_legit_no_training.default": normalization.batch_norm,
    "aten.instance_norm.default": normalization.instance_norm,
    "aten.group_norm.default": normalization.group_norm,
    "aten.layer_norm.default": normalization.layer_norm,
    "aten.rms_norm.default": normalization.rms_norm,
}
POOLINGS: Mapping[str, Converter] = {
    "aten.max_pool1d.default": pooling.max_pool1d,
    "aten.max_pool2d.default": pooling.max_pool2d,
    "aten.max_pool2d_with_indices.default": pooling.max_pool2d,
    "aten.avg_pool1d.default": pooling.avg_pool1d,
    "aten.avg_pool2d.default": pooling.avg_pool2d,
    "aten.adaptive_avg_pool1d.default": pooling.adaptive1d(pooling.average),
    "aten.adaptive_avg_pool2d.default": pooling.adaptive(pooling.average),
    "aten._adaptive_avg_pool2d.default": pooling.adaptive(pooling.average),
    "aten.adaptive_max_pool1d.default": pooling.adaptive1d(pooling.largest),
    "aten.adaptive_max_pool2d.default": pooling.adaptive(pooling.largest),
    "aten.mean.dim": pooling.reduction(ops.Mean),
    "aten.mean.default": pooling.reduction(ops.Mean),
    "aten.sum.dim_IntList": pooling.reduction(ops.Sum),
    "aten.sum.default": pooling.reduction(ops.Sum),
    "aten.amax.default": pooling.reduction(ops.Amax),
    "aten.max.default": pooling.reduction(ops.Amax),
    "aten.max.dim": pooling.extreme_of_axis(ops.Amax),
    "aten.amin.default": pooling.reduction(ops.Amin),
    "aten.min.default": pooling.reduction(ops.Amin),
    "aten.min.dim": pooling.extreme_of_axis(ops.Amin),
    "aten.argmax.default": pooling.argmax,
    "aten.var.correction": pooling.variance(root=False),
    "aten.var.dim": pooling.variance(root=False),
    "aten.std.correction": pooling.variance(root=True),
    "aten.std.dim": pooling.variance(root=True),
    "aten.linalg_vector_norm.default": pooling.vector_norm,
    "aten.linalg_norm.default": pooling.vector_norm,
    "aten.norm.ScalarOpt_dim": pooling.vector_norm,
}
ACTIVATIONS: Mapping[str, Converter] = {
    "aten.relu.default": activation.unary(ops.Relu),
    "aten.relu6.default": activation.bounded(0.0, 6.0),
    "aten.hardtanh.default": activation.clamp("min_val", "max_val"),
    "aten.clamp.default": activation.clamp("min", "max"),
    "aten.clip.default": activation.clamp("min", "max"),
    "aten.clamp_min.default": activation.clamp("min", "max"),
    "aten.clamp_max.default": activation.clamp("min", "max"),
    "aten.sigmoid.default": activation.unary(ops.Sigmoid),
    "aten.tanh.default": activation.unary(ops.Tanh),
    "aten.softmax.int": activation.softmax(ops.Softmax),
    "aten._softmax.default": activation.softmax(ops.Softmax),
    "aten.log_softmax.int": activation.softmax(ops.LogSoftmax),
    "aten._log_softmax.default": activation.softmax(ops.LogSoftmax),
    "aten.leaky_relu.default": activation.leaky_relu,
    "aten.rrelu.default": activation.rrelu,
    "aten.prelu.default": activation.prelu,
    "aten._prelu_kernel.default": activation.prelu,
    "aten.elu.default": activation.elu,
    "aten.selu.default": activation.selu,
    "aten.celu.default": activation.celu,
    "aten.gelu.default": activation.gelu,
    "aten.silu.default": activation.silu,
    "aten.mish.default": activation.mish,
    "aten.hardswish.default": activation.unary(ops.HardSwish),
    "aten.hardsigmoid.default": activation.hardsigmoid,
    "aten.softplus.default": activation.softplus,
    "aten.log_sigmoid.default": activation.log_sigmoid,
    "aten.softshrink.default": activation.softshrink,
    "aten.threshold.default": activation.threshold,
    "aten.glu.default": activation.glu,
    "aten.dropout.default": activation.dropout,
    "aten.feature_dropout.default": activation.dropout,
    "aten.alpha_dropout.default": activation.dropout,
    "aten.feature_alpha_dropout.default": activation.dropout,
}
ARITHMETIC: Mapping[str, Converter] = {
    "aten.add.Tensor": arithmetic.binary(ops.Add),
    "aten.add.Scalar": arithmetic.binary(ops.Add),
    "aten.sub.Tensor": arithmetic.binary(ops.Sub),
    "aten.sub.Scalar": arithmetic.binary(ops.Sub),
    "aten.rsub.Scalar": arithmetic.reversed_sub,
    "aten.rsub.Tensor": arithmetic.reversed_sub,
    "aten.mul.Tensor": arithmetic.binary(ops.Mul),
    "aten.mul.Scalar": arithmetic.binary(ops.Mul),
    "aten.div.Tensor": arithmetic.binary(ops.Div),
    "aten.div.Scalar": arithmetic.binary(ops.Div),
    "aten.div.Tensor_mode": arithmetic.binary(ops.Div),
    "aten.minimum.default": arithmetic.extreme(ops.Minimum),
    "aten.maximum.default": arithmetic.extreme(ops.Maximum),
    "aten.fmin.default": arithmetic.extreme(ops.Minimum),
    "aten.fmax.default": arithmetic.extreme(ops.Maximum),
    "aten.min.other": arithmetic.extreme(ops.Minimum),
    "aten.max.other": arithmetic.extreme(ops.Maximum),
    "aten.clamp.Tensor": arithmetic.clamp_tensor,
    "aten.clamp_min.Tensor": arithmetic.clamp_tensor,
    "aten.clamp_max.Tensor": arithmetic.clamp_tensor,
    "aten.neg.default": arithmetic.negative,
    "aten.abs.default": activation.unary(ops.Abs),
    "aten.sign.default": activation.unary(ops.Sign),
    "aten.sgn.default": activation.unary(ops.Sign),
    "aten.square.default": arithmetic.square,
    "aten.sqrt.default": activation.unary(ops.Sqrt),
    "aten.rsqrt.default": activation.unary(ops.Rsqrt),
    "aten.reciprocal.default": activation.reciprocal,
    "aten.exp.default": activation.exponential(math.e),
    "aten.exp2.default": activation.exponential(2.0),
    "aten.expm1.default": activation.exponential(math.e, -1.0),
    "aten.log.default": activation.logarithm(math.e),
    "aten.log1p.default": activation.logarithm(math.e, 1.0),
    "aten.log2.default": activation.logarithm(2.0),
    "aten.log10.default": activation.logarithm(10.0),
    "aten.erf.default": activation.unary(ops.Erf),
    "aten.pow.Tensor_Scalar": arithmetic.power,
    "aten.pow.Tensor_Tensor": arithmetic.power,
    "aten.pow.Scalar": arithmetic.power_of_number,
    "aten.addcmul.default": arithmetic.addcmul,
    "aten.lerp.Scalar": arithmetic.lerp,
    "aten.lerp.Tensor": arithmetic.lerp,
    "aten.full_like.default": arithmetic.filled,
    "aten.new_full.default": arithmetic.filled,
    "aten.ones_like.default": arithmetic.ones,
    "aten.new_ones.default": arithmetic.ones,
    "aten.zeros_like.default": arithmetic.zeros,
    "aten.new_zeros.default": arithmetic.zeros,
}
SHAPES: Mapping[str, Converter] = {
    "aten.cat.default": shape.cat,
    "aten.concat.default": shape.cat,
    "aten.hstack.default": shape.hstack,
    "aten.stack.default": shape.stack,
    **dict.fromkeys(
        (
            "aten.flatten.using_ints",
            "aten.view.default",
            "aten.view_as.default",
            "aten.reshape.default",
            "aten.reshape_as.default",
            "aten._unsafe_view.default",
            "aten.unflatten.int",
            "aten.ravel.default",
            "aten.squeeze.default",
            "aten.squeeze.dim",
            "aten.squeeze.dims",
            "aten.unsqueeze.default",
        ),
        shape.reshape,
    ),
    "aten.permute.default": shape.permute,
    "aten.transpose.int": shape.transpose("dim0", "dim1"),
    "aten.swapaxes.default": shape.transpose("axis0", "axis1"),
    "aten.swapdims.default": shape.transpose("dim0", "dim1"),
    "aten.t.default": shape.turn,
    "aten.mT.default": shape.turn,
    "aten.movedim.int": shape.movedim,
    "aten.movedim.intlist": shape.movedim,
    "aten.slice.Tensor": shape.slice_,
    "aten.narrow.default": shape.narrow,
    "aten.select.int": shape.select,
    "aten.unbind.int": shape.unbind,
    "aten.chunk.default": shape.pieces,
    "aten.split.Tensor": shape.pieces,
    "aten.split_with_sizes.default": shape.pieces,
    "aten.split.sizes": shape.pieces,
    "aten.tensor_split.sections": shape.pieces,
    "aten.tensor_split.indices": shape.pieces,
    "aten.unsafe_chunk.default": shape.pieces,
    "aten.expand.default": shape.pick(aten.expand.default, "size"),
    "aten.expand_as.default": shape.spread,
    "aten.repeat.default": shape.pick(aten.repeat.default, "repeats"),
    "aten.tile.default": shape.tile,
    "aten.repeat_interleave.self_int": shape.pick(aten.repeat_interleave.self_int, "repeats", "dim"),
    "aten.flip.default": shape.pick(aten.flip.default, "dims"),
    "aten.roll.default": shape.pick(aten.roll.default, "shifts", "dims"),
    "aten.index.Tensor": shape.index,
    "aten.index_select.default": shape.index_select,
}
IMAGES: Mapping[str, Converter] = {
    "aten.pad.default": image.pad,
    "aten.constant_pad_nd.default": image.constant_pad,
    "aten.reflection_pad1d.default": image.pad_with_image("reflect"),
    "aten.reflection_pad2d.default": image.pad_with_image("reflect"),
    "aten.replication_pad1d.default": image.pad_with_image("replicate"),
    "aten.replication_pad2d.default": image.pad_with_image("replicate"),
    "aten.upsample_nearest1d.vec": image.nearest("upsample_nearest1d.vec", 1),
    "aten.upsample_nearest1d.default": image.nearest("upsample_nearest1d.default", 1),
    "aten.upsample_nearest2d.vec": image.nearest("upsample_nearest2d.vec", 2),
    "aten.upsample_nearest2d.default": image.nearest("upsample_nearest2d.default", 2),
    "aten._upsample_nearest_exact1d.vec": image.nearest("_upsample_nearest_exact1d.vec", 1),
    "aten._upsample_nearest_exact1d.default": image.nearest("_upsample_nearest_exact1d.default", 1),
    "aten._upsample_nearest_exact2d.vec": image.nearest("_upsample_nearest_exact2d.vec", 2),
    "aten._upsample_nearest_exact2d.default": image.nearest("_upsample_nearest_exact2d.default", 2),
    "aten.upsample_linear1d.vec": image.linear,
    "aten.upsample_linear1d.default": image.linear,
    "aten.upsample_bilinear2d.vec": image.bilinear,
    "aten.upsample_bilinear2d.default": image.bilinear,
    "aten.pixel_shuffle.default": image.pixel_shuffle,
    "aten.pixel_unshuffle.default": image.pixel_unshuffle,
    "aten.channel_shuffle.default": image.channel_shuffle,
    "aten.native_channel_shuffle.default": image.channel_shuffle,
}
SAME: Mapping[str, Converter] = {
    "aten.clone.default": same,
    "aten.contiguous.default": same,
    "aten.detach.default": same,
    "aten.alias.default": same,
    "aten.lift_fresh_copy.default": same,
    "aten.to.dtype": _cast,
    "aten.to.dtype_layout": _cast,
    "aten.to.device": _cast,
    "aten.to.other": same,
    "aten.type_as.default": same,
    "aten._to_copy.default": _cast,
}
CONVERTERS: Mapping[str, Converter] = MappingProxyType(
    {**CONVOLUTIONS, **NORMALIZATIONS, **POOLINGS, **ACTIVATIONS, **ARITHMETIC, **SHAPES, **IMAGES, **SAME}
)

# What to try instead of operators that have no converter; the first prefix that matches counts.
HINTS: Mapping[str, str] = MappingProxyType(
    {
        "aten.conv3d": "Conv2d: volumes are outside what edgecnn does",
        "aten.avg_pool3d": "AvgPool2d; in LocalResponseNorm, BatchNorm2d instead of it",
        "aten.max_pool3d": "MaxPool2d: volumes are outside what edgecnn does",
        "aten.lstm": "a convolutional model: recurrent layers are outside what edgecnn does",
        "aten.gru": "a convolutional model: recurrent layers are outside what edgecnn does",
        "aten.scaled_dot_product_attention": "attention written out with matmul and softmax",
        "aten.embedding": "a convolutional model: embeddings are outside what edgecnn does",
        "aten.einsum": "matmul, or a product and a sum",
        "aten.argmin": "argmax of the negated scores",
        "aten.topk": "the scores as output, sorted on the device",
        "aten.sort": "the scores as output, sorted on the device",
        "aten.where": "relu or clamp, where one of them says the same",
        "aten.masked_fill": "relu or clamp, where one of them says the same",
        "aten.hardshrink": "softshrink",
        "aten.floor": "arithmetic without rounding",
        "aten.round": "arithmetic without rounding",
        "aten.remainder": "arithmetic without rounding",
        "aten.upsample_bicubic2d": "bilinear resizing",
        "aten._upsample_bilinear2d_aa": "bilinear resizing without antialias",
        "aten.im2col": "a convolution",
        "aten.unfold": "a convolution, or slices",
        "aten.cumsum": "a convolution or a linear layer with a triangular weight",
        "aten.cosine_similarity": "F.normalize of both, a product and a sum",
        "aten.rand": "a model whose output does not depend on chance",
        "aten.bernoulli": "a model whose output does not depend on chance",
    }
)
DEFAULT_HINT = (
    "convolution, pooling, linear, normalization, activations, + - * /, cat, reshape or permute (docs/operators.md)"
)


def hint_for(operator: str) -> str:
    """What to try instead of an operator that has no converter."""
    return next((hint for prefix, hint in HINTS.items() if operator.startswith(prefix)), DEFAULT_HINT)
