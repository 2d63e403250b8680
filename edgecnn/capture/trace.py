"""Tracing by torch.export, with readable errors."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
import logging
import re
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from edgecnn.errors import CaptureError, ModelError


def trace_module(module: torch.nn.Module, example_inputs: Sequence[torch.Tensor]) -> torch.export.ExportedProgram:
    """Trace a module in eval mode, and restore its training flags.

    Args:
        module: The module.
        example_inputs: One tensor per argument of ``forward``, (1, ...).

    Raises:
        ModelError: if the module does not run on these inputs.
        CaptureError: if it runs, but ``torch.export`` cannot trace it.
    """
    said = io.StringIO()  # torch prints its whole graph when it fails; --verbose shows it
    with eval_mode(module), quiet_torch():
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                return _export(module, tuple(example_inputs))
        except Exception as err:
            _raise_if_it_does_not_run(module, example_inputs)
            raise CaptureError(
                f"torch.export cannot trace {type(module).__name__}: {_reason(err)}",
                where=user_line(err),
                why="the model runs, but its Python branches on tensor values, or does what no graph can express",
                hint="rewrite that line without Python control flow over tensor values; --verbose shows all of it",
                detail=said.getvalue() + "".join(traceback.format_exception(err)),
            ) from err


def _export(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram:
    """Call ``torch.export.export``; on demand, register the dataclasses in the module's result first."""
    try:
        return torch.export.export(module, inputs)
    except RuntimeError as err:
        if "not a known type" not in str(err) or not _register_dataclasses(module(*inputs)):
            raise
    return torch.export.export(module, inputs)


def _register_dataclasses(result: Any) -> bool:
    """Register the dataclasses in a result with torch; whether it contained any."""
    found = False
    for leaf in pytree.tree_leaves(result):
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            torch.export.register_dataclass(type(leaf))
            _register_dataclasses([getattr(leaf, f.name) for f in dataclasses.fields(leaf)])
            found = True
    return found


def _reason(err: Exception) -> str:
    """Torch's reason for a failure, in short."""
    if "data-dependent" in str(err):
        return "its Python branches on the value of a tensor"
    return first_lines(err)


@contextlib.contextmanager
def eval_mode(module: torch.nn.Module) -> Iterator[list[str]]:
    """Put a module into eval mode for a block; yields the paths of the modules that were in train mode."""
    training = [(path, m) for path, m in module.named_modules() if m.training]
    module.eval()
    try:
        yield [path for path, _ in training]
    finally:
        for _, m in training:
            m.training = True


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """Run a block without gradients, warnings, logging (torch raises its errors as well) and garbage collection.

    Tracing makes many objects that stay alive; collecting garbage meanwhile costs up to a fifth of its time.
    """
    enabled, logs = gc.isenabled(), logging.root.manager.disable
    gc.disable()
    logging.disable(logging.CRITICAL)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logs)
        if enabled:
            gc.enable()


def _raise_if_it_does_not_run(module: torch.nn.Module, example_inputs: Sequence[torch.Tensor]) -> None:
    try:
        module(*example_inputs)
    except Exception as err:
        shapes = ", ".join("x".join(map(str, t.shape)) for t in example_inputs)
        raise ModelError(
            f"{type(module).__name__} does not run on an input of {shapes}: {first_lines(err)}",
            where=user_line(err),
            hint="give the input's shape without the batch, as --input-shape 3x32x32, or correct the model",
            detail="".join(traceback.format_exception(err)),
        ) from err


def first_lines(err: BaseException, limit: int = 300) -> str:
    """An error's message on one line, cut off at ``limit`` characters."""
    text = re.sub(r"\s+", " ", str(err)).strip() or type(err).__name__
    return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " ..."


def user_line(err: BaseException) -> str:
    """``file:line`` of the innermost frame outside torch and this package, or an empty string."""
    frames = [f for f in traceback.extract_tb(err.__traceback__) if is_user_file(f.filename)]
    return f"{short_path(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""


def source_line(stack_trace: str | None) -> str:
    """``file:line`` of the innermost user frame in a trace that ``torch.export`` recorded, or an empty string."""
    found = [(f, n) for f, n in _FRAME.findall(stack_trace or "") if is_user_file(f)]
    return f"{short_path(found[-1][0])}:{found[-1][1]}" if found else ""


_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_TORCH = str(torch.__path__[0])
_CAPTURE = __file__.rsplit("/", 1)[0]


def is_user_file(path: str) -> bool:
    """Whether a source file belongs neither to torch nor to this subpackage."""
    return not path.startswith((_TORCH, _CAPTURE, "<"))


def short_path(path: str) -> str:
    """A path, relative to the current folder if it lies below that."""
    from pathlib import Path

    with contextlib.suppress(ValueError, OSError):
        return str(Path(path).relative_to(Path.cwd()))
    return path
