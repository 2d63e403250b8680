"""Load the file of ``--weights`` into a module."""

from __future__ import annotations

import contextlib
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.errors import ModelError, UsageError
from edgecnn.loading.hints import some
from edgecnn.loading.misfit import misfit
from edgecnn.loading.user_files import require_file

if TYPE_CHECKING:
    import torch
    from torch import nn

_LONGEST = 200
"""Most characters of torch's own message that an error repeats."""

_NESTED = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")

_REFUSED_CODE = re.compile("unsupported (global|class)|blocked|TorchScript", re.IGNORECASE)
"""Matches torch's message for a file that it would have to run code for."""


def load_weights(module: nn.Module, path: Path) -> list[str]:
    """Load a state dict into ``module``.

    Args:
        module: The module whose parameters and buffers are replaced.
        path: ``.pt`` or ``.pth``, read with ``weights_only=True``, or ``.safetensors``. The state dict can be under
            ``state_dict``, ``model_state_dict`` or ``model`` of a checkpoint.

    Returns:
        Notes on changes to keys or values, for the user.

    Raises:
        UsageError: if the file has another ending.
        ModelError: if the file cannot be read, or its keys or shapes are not the module's.
    """
    require_file(path)
    notes: list[str] = []
    state = _tensors(_read_weights(path), path, notes)
    wanted = module.state_dict()
    state = _without_prefixes(state, wanted, notes)
    try:
        module.load_state_dict(state)
    except (RuntimeError, KeyError, AttributeError) as error:
        raise misfit(state, wanted, path, error) from error
    types_ = sorted({str(v.dtype) for k, v in state.items() if k in wanted and v.dtype != wanted[k].dtype})
    if types_:
        notes.append(f"weights stored as {', '.join(types_)} were converted to the model's own type")
    return notes


def _read_weights(path: Path) -> object:
    import torch

    match path.suffix:
        case ".safetensors":
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            with _unreadable(path, SafetensorError):
                return load_file(path)
        case ".pt" | ".pth":
            with _unreadable(path, Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a fault of the file becomes an error
                return torch.load(path, map_location="cpu", weights_only=True)
    raise UsageError(f"--weights does not read {path.suffix or path.name}", hint=".pt, .pth or .safetensors")


@contextlib.contextmanager
def _unreadable(path: Path, damage: type[Exception]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError("the weights cannot be read", where=str(path), why=error.strerror or str(error)) from error
    except damage as error:
        text = str(error)
        if _REFUSED_CODE.search(text):
            raise _holds_code(path, text) from error
        raise ModelError(
            "not a file of weights, or a damaged one",
            where=str(path),
            why=_reason(path, text) or type(error).__name__,
            hint="torch.save(model.state_dict(), 'weights.pt') where you trained, or copy it again",
            detail=traceback.format_exc(),
        ) from error


def _holds_code(path: Path, text: str) -> ModelError:
    found = re.search(r"GLOBAL ([\w.]+)", text)
    return ModelError(
        "the file holds Python objects, not only weights",
        where=str(path),
        why=f"loading {found[1] if found else 'them'} would run code from the file, so it is refused",
        hint="where you trained: torch.save(model.state_dict(), 'weights.pt')",
        detail=text,
    )


def _reason(path: Path, text: str) -> str:
    """The fault of the file in a few words, without the advice that torch adds."""
    if not path.stat().st_size:
        return "the file is empty"
    cause = re.search(r"WeightsUnpickler error:\s*(.+)", text)
    line = cause[1] if cause else next(iter(text.strip().splitlines()), "")
    if re.fullmatch(r"\d*", line):  # an invalid opcode
        return "its first bytes are not those of a file of torch.save"
    return line if len(line) <= _LONGEST else line[:_LONGEST].rsplit(" ", 1)[0] + " ..."


def _tensors(loaded: object, path: Path, notes: list[str]) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(loaded, Mapping) and loaded and all(isinstance(v, torch.Tensor) for v in loaded.values()):
        return {str(k): v for k, v in loaded.items()}
    holders = [k for k in _NESTED if isinstance(loaded, Mapping) and isinstance(loaded.get(k), Mapping)]
    if isinstance(loaded, Mapping) and len(holders) == 1:
        notes.append(f"weights read from {holders[0]!r} of the checkpoint")
        return _tensors(loaded[holders[0]], path, notes)
    keys = some([str(k) for k in loaded]) if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
    raise ModelError(
        "the file holds no state dict",
        where=str(path),
        why=f"it holds {keys or 'nothing'}",
        hint="torch.save(model.state_dict(), 'weights.pt')",
    )


def _without_prefixes(
    state: dict[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], notes: list[str]
) -> dict[str, torch.Tensor]:
    """Remove the prefix that DataParallel or torch.compile adds to every key, unless the model's keys have it too."""
    for prefix in _PREFIXES * 2:  # both compile(DataParallel(m)) and DataParallel(compile(m)) occur
        if all(k.startswith(prefix) for k in state) and not any(k.startswith(prefix) for k in wanted):
            state = {k.removeprefix(prefix): v for k, v in state.items()}
            notes.append(f"prefix {prefix!r} removed from {len(state)} keys")
    return state
