"""Capture a model, and check that the captured graph computes what the model computes before any file is written."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.data.calibration import Samples
from edgecnn.errors import CaptureError, ModelError, UsageError
from edgecnn.graph.graph import Graph
from edgecnn.graph.verify import batch_is_free
from edgecnn.parity.metrics import relative_error

if TYPE_CHECKING:
    import torch

    from edgecnn.capture.reference import TorchReference

CAPTURE_LIMIT = 1e-5
"""Largest error of the graph in float32 against the module, as a share of the output's range."""
ROUNDING_FACTOR = 4.0
"""A larger error is accepted up to this multiple of the module's own float32 error, both measured against float64."""
ILL_CONDITIONED = 1e-3
"""If the module's own float32 error reaches this, it says nothing about the graph, and `CAPTURE_LIMIT` holds."""


def capture_model(
    module: torch.nn.Module | torch.export.ExportedProgram, example_inputs: Any
) -> tuple[Graph, TorchReference]:
    """The graph of a module or exported program, and the model itself as the reference.

    Raises:
        ModelError: if the module does not run on the inputs.
        CaptureError: if it cannot be traced, or uses unsupported operators.
    """
    import torch

    from edgecnn.capture.capture import capture, capture_program
    from edgecnn.capture.reference import torch_reference

    if isinstance(module, torch.export.ExportedProgram):
        graph = capture_program(module)
        return graph, torch_reference(module, batch_resizable=batch_is_free(graph))
    tensors = _example_tensors(example_inputs)
    if module.training:
        warnings.warn("the module is in train mode; it is exported in eval mode", UserWarning, stacklevel=3)
    graph = capture(module, tensors)
    return graph, torch_reference(module, batch_resizable=batch_is_free(graph))


def reference_outputs(graph: Graph, reference: TorchReference, samples: Samples) -> list[Any]:
    """The reference's outputs on the samples, after checking that the graph executed in float gives the same.

    If the outputs differ, capture is at fault and no file is written. A module that mixes the samples of a batch runs
    on one sample at a time.

    Raises:
        CaptureError: if the graph and the module differ, or the module gives NaN or infinities.
    """
    try:
        outputs = reference(samples.inputs)
        error = _graph_error(graph, samples, outputs)
    except ModelError:
        if reference.batch is not None:
            raise
        error = np.inf
    if not error <= CAPTURE_LIMIT and reference.batch is None:
        reference.batch = 1
        outputs = reference(samples.inputs)
        error = _graph_error(graph, samples, outputs)
    if not all(np.isfinite(o).all() for o in outputs):
        raise CaptureError(
            f"the model itself gives NaN or infinities on the golden inputs ({samples.origin})",
            hint="check its weights and the range of its inputs; --data gives inputs of the right range",
        )
    if not error <= CAPTURE_LIMIT and not _is_rounding_only(graph, reference, samples, outputs):
        raise CaptureError(
            f"the captured graph differs from the model by {error:.1e} of the output's range",
            why="the model is random, keeps state, mixes the samples of its batch, or edgecnn has a bug",
            hint="run it twice on one input of batch 1; if the outputs are equal, please report this",
        )
    return outputs


def _is_rounding_only(graph: Graph, reference: TorchReference, samples: Samples, outputs: Sequence[Any]) -> bool:
    """Whether rounding alone explains the error: the graph is about as close to float64 as the module in float32 is.

    A deep net whose values nearly cancel magnifies float32 rounding, so that two correct computations differ.
    """
    exact = reference.in_float64()
    if exact is None:
        return False
    try:
        truth = exact([a.astype(np.float64) for a in samples.inputs])
    except ModelError:  # a model that makes float32 tensors itself
        return False
    own = float(np.max([relative_error(o, t) for o, t in zip(outputs, truth, strict=True)]))
    error = _graph_error(graph, samples, truth)
    return bool(own < ILL_CONDITIONED and error <= ROUNDING_FACTOR * own)


def _graph_error(graph: Graph, samples: Samples, outputs: Sequence[Any]) -> float:
    """The largest error of the graph in float32 against given outputs, as a share of their range."""
    from edgecnn.golden.batches import execute_samples

    values = execute_samples(graph, samples.inputs)
    errors = [relative_error(values[o.value], ref) for o, ref in zip(graph.outputs, outputs, strict=True)]
    return float(np.max(errors))


def _example_tensors(example_inputs: Any) -> list[torch.Tensor]:
    import torch

    given = example_inputs if isinstance(example_inputs, tuple | list) else (example_inputs,)
    tensors = [t if isinstance(t, torch.Tensor) else torch.as_tensor(np.asarray(t)) for t in given]
    for i, t in enumerate(tensors):
        if t.dtype != torch.float32 or t.dim() == 0 or not len(t):
            raise UsageError(
                f"example input {i} is {str(t.dtype).removeprefix('torch.')} of shape {tuple(t.shape)}",
                hint="a float32 tensor with the batch as first axis, such as torch.randn(1, 3, 32, 32)",
            )
    return [t[:1].contiguous() for t in tensors]
