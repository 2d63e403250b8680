"""The user's own torch module as the reference: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils import _pytree as pytree

from edgecnn.capture.trace import eval_mode, quiet_torch
from edgecnn.errors import ModelError

Arrays = list[npt.NDArray[np.float32]]


class TorchReference:
    """Runs a module, or an exported program, in eval mode on batches of any length.

    Args:
        model: The module or program.
        batch: Samples per call: 1 where the model does not keep them apart, a program's own number where that is fixed,
            None for as many as come.
    """

    def __init__(self, model: torch.nn.Module | torch.export.ExportedProgram, batch: int | None = None) -> None:
        self._program = isinstance(model, torch.export.ExportedProgram)
        self._module: torch.nn.Module = model.module() if isinstance(model, torch.export.ExportedProgram) else model
        self.batch = batch

    def __call__(self, inputs: Sequence[npt.NDArray[Any]]) -> Arrays:
        """The outputs for one array per input, each (samples, ...), in the order of the graph's outputs.

        Raises:
            ModelError: if the model gives anything but one row per sample.
        """
        samples, step = len(inputs[0]), self.batch or len(inputs[0])
        parts = [self._call([_rows(a, i, step) for a in inputs]) for i in range(0, samples, step)]
        outputs = [np.concatenate(columns)[:samples] for columns in zip(*parts, strict=True)]
        if any(len(o) != samples for o in outputs):
            raise ModelError(
                f"the model gives outputs of {[len(o) for o in outputs]} rows for {samples} samples",
                hint="a model whose first output axis is the batch",
            )
        return outputs

    def _call(self, arrays: Sequence[npt.NDArray[Any]]) -> Arrays:
        tensors = [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]
        with quiet_torch():
            if self._program:  # its module refuses eval(); it was exported in its mode
                result = self._module(*tensors)
            else:
                with eval_mode(self._module):
                    result = self._module(*tensors)
        return [leaf.numpy() for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def _rows(array: npt.NDArray[Any], start: int, count: int) -> npt.NDArray[Any]:
    """Exactly ``count`` rows from ``start``: where they run out, the last is repeated."""
    rows = array[start : start + count]
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)]) if len(rows) < count else rows
