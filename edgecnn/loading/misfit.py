"""The error for weights that do not fit the model."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.errors import ModelError
from edgecnn.loading.hints import first_line, some

if TYPE_CHECKING:
    import torch


def misfit(
    state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], path: Path, error: Exception
) -> ModelError:
    """The error that names each key that is missing, unexpected or of another shape; ``error`` is torch's own."""
    missing = [k for k in wanted if k not in state]
    unexpected = [k for k in state if k not in wanted]
    shapes = [k for k in wanted if k in state and state[k].shape != wanted[k].shape]
    same_shape = {k: [other for other in unexpected if state[other].shape == wanted[k].shape] for k in missing}
    near = {k: difflib.get_close_matches(k, others, n=1) for k, others in same_shape.items()}
    lines = [
        f"missing: {some([f'{k} (near: {near[k][0]})' if near[k] else k for k in missing])}" if missing else "",
        f"unexpected: {some(unexpected)}" if unexpected else "",
        f"other shape: {some([f'{k} is {_by(state[k])}, the model has {_by(wanted[k])}' for k in shapes])}"
        if shapes
        else "",
    ]
    counts = ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
    summary = ", ".join(f"{len(keys)} {what}" for keys, what in counts if keys)
    return ModelError(
        f"the weights do not fit the model: {summary or 'torch refused them'}",
        where=str(path),
        why="\n".join(line for line in lines if line) or first_line(error),
        hint=_fitting_hint(near, bool(shapes)),
        detail=str(error),
    )


def _fitting_hint(near: Mapping[str, Sequence[str]], shapes: bool) -> str:
    renamed = next(((key, other[0]) for key, other in near.items() if other), None)
    if renamed:
        return f"rename {renamed[1]} to {renamed[0]}, and so on, if they belong to one layer"
    if shapes:
        return "build the model as it was trained, for example with --arg num_classes=..."
    return "are these the weights of this model?"


def _by(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"
