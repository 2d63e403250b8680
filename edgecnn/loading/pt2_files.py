"""Load ``.pt2`` files: traced programs with their weights."""

from __future__ import annotations

import contextlib
import logging
import traceback
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.errors import ModelError, UsageError
from edgecnn.loading.arguments import Shape
from edgecnn.loading.hints import first_line
from edgecnn.loading.user_files import require_file

if TYPE_CHECKING:
    import torch


def load_program(path: Path, arguments: Mapping[str, object], weights: Path | None) -> torch.export.ExportedProgram:
    """Read a file of ``torch.export.save``, which accepts no arguments and no other weights.

    Raises:
        UsageError: if arguments or weights are given.
        ModelError: if there is no such file, or torch cannot read it.
    """
    import torch

    taken = "weights" if weights else "arg" if arguments else ""
    if taken:
        raise UsageError(
            f"--{taken} cannot be combined with a .pt2 file",
            where=str(path),
            why="it holds a traced program with its weights",
            hint="give the model's code (file.py:Class) and --weights, or the .pt2 alone",
        )
    require_file(path)
    try:
        with _silent("torch.export"):
            return torch.export.load(path)
    except Exception as error:
        wrong = "not a .pt2 file of torch.export.save" if not zipfile.is_zipfile(path) else "torch cannot read it"
        raise ModelError(
            wrong,
            where=str(path),
            why=first_line(error),
            hint="torch.export.save(torch.export.export(model, inputs), path), with the torch installed here",
            detail=traceback.format_exc(),
        ) from error


def program_shapes(program: torch.export.ExportedProgram) -> tuple[Shape, ...] | None:
    """The shape of each input without the batch, if all are known and fixed, else None."""
    inputs = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    shapes = [tuple(node.meta["val"].shape)[1:] for node in inputs if "val" in node.meta]
    if len(shapes) < len(inputs) or not all(type(n) is int for shape in shapes for n in shape):
        return None
    return tuple(shapes)


@contextlib.contextmanager
def _silent(logger: str) -> Iterator[None]:
    log = logging.getLogger(logger)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
