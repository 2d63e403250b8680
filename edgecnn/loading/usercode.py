"""Run the user's code to build a module, and report its errors."""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import inspect
import sysconfig
import traceback
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.errors import EdgecnnError, ModelError, UsageError
from edgecnn.loading.hints import first_line, some
from edgecnn.loading.importing import import_file, import_module, on_path
from edgecnn.loading.user_files import require_file
from edgecnn.models import ZOO

if TYPE_CHECKING:
    from torch import nn

_EDGECNN = Path(__file__).parents[1]
"""The folder of edgecnn itself, whose lines are never shown as the user's."""


def build_from_code(spec: str, arguments: Mapping[str, object], start: Path = Path()) -> nn.Module:
    """The module that ``file.py:callable`` or ``package.module:callable`` builds.

    Args:
        spec: The name.
        arguments: Arguments of the class or function.
        start: Where relative paths start, and where packages are searched first.

    Raises:
        UsageError: if ``spec`` is neither, or names a module and there are arguments.
        ModelError: if the code is missing, fails, or returns anything but a module.
    """
    from torch import nn

    place, colon, attribute = spec.rpartition(":")
    if not colon or not place or not attribute:
        raise UsageError(f"{spec!r} is not a model", hint=_model_hint(spec, start))
    is_file = place.endswith(".py")
    if is_file:
        require_file(start / place)
    file = (start / place).resolve()
    folder = file.parent if is_file else start.resolve()
    with on_path(folder), _users_errors(spec):
        code = import_file(file) if is_file else import_module(place)
        made = _attribute(code, attribute, place)
        if not isinstance(made, nn.Module):
            made = _call(made, arguments, spec)
        elif arguments:
            raise UsageError(f"{spec} is a module already: it takes no --arg", hint="name its class instead")
    if not isinstance(made, nn.Module):
        raise ModelError(f"{spec} gave {type(made).__name__}, not an nn.Module", hint="return the model from it")
    return made


def _model_hint(spec: str, start: Path) -> str:
    if spec.endswith(".py"):
        names = _top_level_names(start / spec)
        return f"name what makes the model: {spec}:{names[0] if names else 'Net'}"
    if Path(spec).suffix in (".pt", ".pth", ".safetensors"):
        return f"these are weights: MODEL --weights {spec}, where MODEL is the code that they belong to"
    near = difflib.get_close_matches(spec, list(ZOO), n=1)
    return (f"{near[0]}? " if near else "") + (
        f"a zoo name ({', '.join(ZOO)}), file.py:callable, package.module:callable, or file.pt2"
    )


def _top_level_names(path: Path) -> list[str]:
    """The classes, then the functions, that a source file defines, read without running it."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    return [n.name for kind in (ast.ClassDef, ast.FunctionDef) for n in body if isinstance(n, kind)]


def _attribute(code: types.ModuleType, attribute: str, place: str) -> Any:
    try:
        return functools.reduce(getattr, attribute.split("."), code)
    except AttributeError as error:
        public = [n for n, v in vars(code).items() if callable(v) and getattr(v, "__module__", "") == code.__name__]
        near = difflib.get_close_matches(attribute, public, n=1)
        raise ModelError(
            f"there is no {attribute} in {place}",
            hint=(f"{near[0]}? " if near else "") + (f"it defines {some(public)}" if public else "it defines nothing"),
        ) from error


def _call(maker: Any, arguments: Mapping[str, object], spec: str) -> object:
    if not callable(maker):
        raise ModelError(f"{spec} is of type {type(maker).__name__}", hint="name a class, a function, or an nn.Module")
    try:
        signature = inspect.signature(maker)
    except ValueError:  # some classes written in C have none
        return maker(**arguments)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ModelError(
            f"{spec} cannot be called like this: {error}",
            why=f"it takes {signature}",
            hint="--arg name=value for each argument without a default",
        ) from error
    return maker(**arguments)


@contextlib.contextmanager
def _users_errors(spec: str) -> Iterator[None]:
    """Turn every error of the user's code into a ModelError at the user's own line."""
    try:
        yield
    except EdgecnnError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{spec} failed: {type(error).__name__}: {first_line(error)}",
            where=_users_line(error),
            hint=_hint_for(error),
            detail="".join(traceback.format_exception(error)),
        ) from error


def _users_line(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    paths = sysconfig.get_paths()
    others = (paths["stdlib"], paths["purelib"], paths["platlib"], str(_EDGECNN), "<frozen")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(others)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _hint_for(error: BaseException) -> str:
    match error:
        case ModuleNotFoundError():
            return f"install {error.name} in this environment, or do not import it in the file that defines the model"
        case SystemExit():
            return "move the code that runs the program under: if __name__ == '__main__':"
    return "fix that line, or the --arg values it gets; --verbose shows the whole traceback"
