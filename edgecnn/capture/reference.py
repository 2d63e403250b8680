"""The user's torch module as the reference: it takes and returns arrays."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils import _pytree as pytree

from edgecnn.capture.exported_program import program_batch
from edgecnn.capture.trace import eval_mode, first_lines, quiet_torch, user_line
from edgecnn.errors import ModelError

Arrays = list[npt.NDArray[np.float32]]


class TorchReference:
    """Runs a module, or an exported program, in eval mode on batches of any length.

    Args:
        model: The module or program.
        batch: Samples per call: 1 if the model does not keep them apart, the program's number if that is fixed, None
            for all samples at once.
    """

    def __init__(self, model: torch.nn.Module | torch.export.ExportedProgram, batch: int | None = None) -> None:
        self._program = isinstance(model, torch.export.ExportedProgram)
        self._module: torch.nn.Module = model.module() if isinstance(model, torch.export.ExportedProgram) else model
        self.batch = batch

    def __call__(self, inputs: Sequence[npt.NDArray[Any]]) -> Arrays:
        """The outputs for one array per input, each (samples, ...), in the order of the graph's outputs.

        Raises:
            ModelError: if an output does not have one row per sample.
        """
        samples, step = len(inputs[0]), self.batch or len(inputs[0])
        parts = [self._call([_rows(a, i, step) for a in inputs]) for i in range(0, samples, step)]
        for output in (o for part in parts for o in part):
            if output.shape[:1] != (step,):
                raise ModelError(
                    f"the model gives an output of shape {output.shape} for {step} samples",
                    hint="a model whose first output axis is the batch",
                )
        return [np.concatenate(columns)[:samples] for columns in zip(*parts, strict=True)]

    def in_float64(self) -> TorchReference | None:
        """The model in float64, to judge float32's rounding; None for a program, whose types are fixed."""
        if self._program:
            return None
        return TorchReference(copy.deepcopy(self._module).double(), self.batch)

    def _call(self, arrays: Sequence[npt.NDArray[Any]]) -> Arrays:
        tensors = [torch.from_numpy(np.array(a, order="C")) for a in arrays]  # copies: a model may write to its inputs
        try:
            with quiet_torch():
                result = self._run(tensors)
        except Exception as err:
            shapes = ", ".join("x".join(map(str, t.shape)) for t in tensors)
            raise ModelError(
                f"the torch model does not run on inputs of {shapes}: {first_lines(err)}",
                where=user_line(err),
                hint="a forward that takes tensors only, by position, for any batch",
                detail="".join(traceback.format_exception(err)),
            ) from err
        return [leaf.numpy() for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]

    def _run(self, tensors: Sequence[torch.Tensor]) -> Any:
        if self._program:  # its module refuses eval(); the mode was fixed at export
            return self._module(*tensors)
        with eval_mode(self._module):
            return self._module(*tensors)


def torch_reference(model: torch.nn.Module | torch.export.ExportedProgram, *, batch_resizable: bool) -> TorchReference:
    """A model as the reference, with the batch that it can run.

    Args:
        model: A module, or an exported program, which has a batch of its own.
        batch_resizable: Whether the model keeps the samples of a batch apart, as the manifest or the graph says.
    """
    if isinstance(model, torch.export.ExportedProgram):
        return TorchReference(model, program_batch(model))
    return TorchReference(model, None if batch_resizable else 1)


def _rows(array: npt.NDArray[Any], start: int, count: int) -> npt.NDArray[Any]:
    """Exactly ``count`` rows from ``start``; missing ones are copies of the last row."""
    rows = array[start : start + count]
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)]) if len(rows) < count else rows
