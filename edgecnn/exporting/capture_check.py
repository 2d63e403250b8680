"""Capture with a second witness: the graph must say what the module says before anything is written."""

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

WITNESS_LIMIT = 1e-5
"""How far the graph in float32 may stray from the module, as a share of the output's range."""
STRAY_FACTOR = 4.0
"""How many times as far as the module in float32 the graph may stray from the module in float64, where that is more."""
ILL_CONDITIONED = 1e-3
"""Where the module itself strays this far from float64, nothing can be told from it, and the limit stands."""


def capture_model(
    module: torch.nn.Module | torch.export.ExportedProgram, example_inputs: Any
) -> tuple[Graph, TorchReference]:
    """The graph of a module or exported program, and the thing itself as the reference.

    Raises:
        ModelError: if the module does not run on the inputs.
        CaptureError: if it cannot be traced, or uses unsupported operators.
    """
    import torch

    from edgecnn.capture.capture import capture, capture_program
    from edgecnn.capture.exported_program import program_batch
    from edgecnn.capture.reference import TorchReference

    if isinstance(module, torch.export.ExportedProgram):
        return capture_program(module), TorchReference(module, program_batch(module))
    tensors = _example_tensors(example_inputs)
    if module.training:
        warnings.warn("the module is in train mode; it is exported in eval mode", UserWarning, stacklevel=3)
    graph = capture(module, tensors)
    return graph, TorchReference(module, None if batch_is_free(graph) else 1)


def reference_outputs(graph: Graph, reference: TorchReference, samples: Samples) -> list[Any]:
    """What the reference says to the samples, once the graph itself has said the same.

    The graph executed in float is the second witness: where it differs from the module, capture is at fault and no file
    is written. A module that mixes the samples of a batch is asked one sample at a time.

    Raises:
        CaptureError: if the graph and the module disagree, or the module gives NaN or infinities.
    """
    try:
        outputs = reference(samples.inputs)
        error = _witness(graph, samples, outputs)
    except ModelError:
        if reference.batch is not None:
            raise
        error = np.inf
    if not error <= WITNESS_LIMIT and reference.batch is None:
        reference.batch = 1
        outputs = reference(samples.inputs)
        error = _witness(graph, samples, outputs)
    if not all(np.isfinite(o).all() for o in outputs):
        raise CaptureError(
            f"the model itself gives NaN or infinities on the golden inputs ({samples.origin})",
            hint="look at its weights and at the range of its inputs; --data gives it inputs of the right range",
        )
    if not error <= WITNESS_LIMIT and not _strays_alike(graph, reference, samples, outputs):
        raise CaptureError(
            f"the captured graph differs from the model by {error:.1e} of the output's range",
            why="the model is random, keeps state, mixes the samples of its batch, or meets a fault of edgecnn",
            hint="run it twice on one input of batch 1; if it says the same both times, please report this",
        )
    return outputs


def _strays_alike(graph: Graph, reference: TorchReference, samples: Samples, outputs: Sequence[Any]) -> bool:
    """Whether the graph is as near to the module in float64 as the module in float32 is.

    A deep net whose values nearly cancel magnifies the rounding of float32, and two right ways to compute it differ.
    """
    exact = reference.in_float64()
    if exact is None:
        return False
    try:
        truth = exact([a.astype(np.float64) for a in samples.inputs])
    except ModelError:  # a model that makes float32 tensors itself
        return False
    own = float(np.max([relative_error(o, t) for o, t in zip(outputs, truth, strict=True)]))
    error = _witness(graph, samples, truth)
    return bool(own < ILL_CONDITIONED and error <= STRAY_FACTOR * own)


def _witness(graph: Graph, samples: Samples, outputs: Sequence[Any]) -> float:
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
