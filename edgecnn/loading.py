"""From what the user writes for MODEL and ``--weights`` to a module with its weights, in eval mode."""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import importlib
import importlib.util
import inspect
import keyword
import logging
import re
import sys
import sysconfig
import traceback
import types
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.errors import EdgecnnError, ModelError, UsageError
from edgecnn.models import ZOO, create_model

if TYPE_CHECKING:
    import torch
    from torch import nn

Shape = tuple[int, ...]

_LISTED = 8
"""How many wrong keys of a checkpoint are named before the rest is counted."""

_NESTED = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")

_REFUSED_CODE = re.compile("unsupported (global|class)|blocked|TorchScript", re.IGNORECASE)
"""What torch says of a file that it would have to run code for."""

_STAND_IN = "_edgecnn_"
"""Begins the name of the package that stands for a folder of the user's."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model, ready to be exported.

    Attributes:
        module: The module, in eval mode (the module of ``program``, where that is given).
        name: A name for files made from it: letters, digits, ``_``, ``-``.
        input_shapes: The shape of each input without the batch, where the model says so, else None.
        notes: What the user should hear.
        program: What a ``.pt2`` file held, else None.
    """

    module: nn.Module
    name: str
    input_shapes: tuple[Shape, ...] | None
    notes: list[str] = field(default_factory=list)
    program: torch.export.ExportedProgram | None = None


def load_module(
    spec: str, *, arguments: Mapping[str, object] | None = None, weights: Path | None = None, seed: int = 0
) -> LoadedModel:
    """Build the model that ``spec`` names. Code and ``.pt2`` files are run: load only what you trust.

    Args:
        spec: A zoo name; ``path/to/file.py:callable`` or ``package.module:callable``, where callable is a class or
            function that gives an ``nn.Module``, or a module itself; or a ``.pt2`` file of ``torch.export.save``.
        arguments: Passed to the class or function.
        weights: A state dict: ``.pt`` or ``.pth`` (read with ``weights_only=True``), or ``.safetensors``.
        seed: Of torch's generator while the model is built. The global state is left as it was.

    Raises:
        UsageError: if ``spec`` is none of these, or is combined with what it cannot take.
        ModelError: if the user's code fails, or the weights cannot be read or do not fit.
    """
    import torch

    arguments = arguments or {}
    if spec.endswith(".pt2"):
        return _load_program(Path(spec), arguments, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = create_model(spec, **arguments) if spec in ZOO else _build_from_code(spec, arguments)
    notes = load_weights(module, weights) if weights else [_unweighted(spec, seed)]
    name = spec if spec in ZOO else _file_name(spec.rpartition(":")[2])
    return LoadedModel(module=module.eval(), name=name, input_shapes=_declared_shapes(module), notes=notes)


def parse_argument(text: str) -> tuple[str, object]:
    """Split ``key=value``; the value is a Python literal where it reads as one, else text.

    Raises:
        UsageError: if there is no key, or the value is ``true`` or ``false``, which as text would both count as true.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier() or keyword.iskeyword(key):
        raise UsageError(f"--arg {text!r} is not key=value", hint="--arg num_classes=10")
    if value in ("true", "false"):
        raise UsageError(f"--arg {text}: that would be text", hint=f"--arg {key}={value.capitalize()}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            return key, ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return key, value


def parse_shape(text: str) -> Shape:
    """The numbers of ``1x28x28``: the shape of one input, without the batch.

    Raises:
        UsageError: if it is not one to three whole numbers of 1 or more, joined by ``x``.
    """
    if not re.fullmatch(r"[0-9]{1,9}(x[0-9]{1,9})*", text, re.ASCII):
        raise UsageError(f"{text!r} is not a shape", hint="1x28x28: channels, height, width; the batch is left out")
    shape = tuple(map(int, text.split("x")))
    if 0 in shape:
        raise UsageError(f"the shape {text} has a 0 in it", hint="1x28x28: every number is 1 or more")
    if len(shape) > 3:
        raise UsageError(
            f"the shape {text} has {len(shape)} numbers",
            why="an image is channels x height x width; the batch is left out",
            hint="x".join(map(str, shape[-3:])),
        )
    return shape


def _unweighted(spec: str, seed: int) -> str:
    if spec in ZOO:
        return f"no --weights: random weights, seed {seed}"
    return f"no --weights: the weights are as {spec.rpartition(':')[2]} makes them, seed {seed}"


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-") or "model"


def _declared_shapes(module: Any) -> tuple[Shape, ...] | None:
    """What ``input_shapes`` or ``input_shape`` of the module says, when that can be shapes without a batch."""
    shapes: Any = getattr(module, "input_shapes", None)
    with contextlib.suppress(TypeError, AttributeError):  # an attribute of that name may be anything
        found = tuple(tuple(shape) for shape in (shapes if shapes is not None else [module.input_shape]))
        if found and all(1 <= len(shape) <= 3 and all(type(n) is int and n > 0 for n in shape) for shape in found):
            return found
    return None


# --- .pt2 files


def _load_program(path: Path, arguments: Mapping[str, object], weights: Path | None) -> LoadedModel:
    import torch

    taken = "weights" if weights else "arg" if arguments else ""
    if taken:
        raise UsageError(
            f"--{taken} cannot be combined with a .pt2 file",
            where=str(path),
            why="it holds a traced program with its weights",
            hint="give the model's code (file.py:Class) and --weights, or the .pt2 alone",
        )
    _require_file(path)
    try:
        with _silent("torch.export"):
            program = torch.export.load(path)
    except Exception as error:
        wrong = "not a .pt2 file of torch.export.save" if not zipfile.is_zipfile(path) else "torch cannot read it"
        raise ModelError(
            wrong,
            where=str(path),
            why=_first_line(error),
            hint="torch.export.save(torch.export.export(model, inputs), path), with the torch installed here",
            detail=traceback.format_exc(),
        ) from error
    return LoadedModel(
        module=program.module(), name=_file_name(path.stem), input_shapes=_program_shapes(program), program=program
    )


def _program_shapes(program: torch.export.ExportedProgram) -> tuple[Shape, ...] | None:
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


# --- the user's code


def _build_from_code(spec: str, arguments: Mapping[str, object]) -> nn.Module:
    from torch import nn

    place, colon, attribute = spec.rpartition(":")
    if not colon or not place or not attribute:
        raise UsageError(f"{spec!r} is not a model", hint=_what_models_are(spec))
    is_file = place.endswith(".py")
    if is_file:
        _require_file(Path(place))
    folder = Path(place).resolve().parent if is_file else Path.cwd()
    with _on_path(folder), _users_errors(spec):
        code = _import_file(Path(place).resolve()) if is_file else _import_module(place)
        made = _attribute(code, attribute, place)
        if not isinstance(made, nn.Module):
            made = _call(made, arguments, spec)
        elif arguments:
            raise UsageError(f"{spec} is a module already: it takes no --arg", hint="name its class instead")
    if not isinstance(made, nn.Module):
        raise ModelError(f"{spec} gave {type(made).__name__}, not an nn.Module", hint="return the model from it")
    return made


def _what_models_are(spec: str) -> str:
    if spec.endswith(".py"):
        names = _top_level_names(Path(spec))
        return f"name what makes the model: {spec}:{names[0] if names else 'Net'}"
    if Path(spec).suffix in (".pt", ".pth", ".safetensors"):
        return f"these are weights: MODEL --weights {spec}, where MODEL is the code that they belong to"
    near = difflib.get_close_matches(spec, list(ZOO), n=1)
    return (f"{near[0]}? " if near else "") + (
        f"a zoo name ({', '.join(ZOO)}), file.py:callable, package.module:callable, or file.pt2"
    )


def _top_level_names(path: Path) -> list[str]:
    """Classes, then functions, that a source file defines; found without running it."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    return [n.name for kind in (ast.ClassDef, ast.FunctionDef) for n in body if isinstance(n, kind)]


_imported: set[str] = set()
"""Modules that the last call imported from the user's folder: the next one reads them afresh, so that two projects with
a file of the same name do not get each other's."""


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """Import from ``folder`` first, as ``python folder/file.py`` would."""
    for name in _imported:
        sys.modules.pop(name, None)
    _imported.clear()
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's code may have taken it away
            sys.path.remove(str(folder))
        _imported.update(name for name in set(sys.modules) - before if _lies_in(folder, name))


def _lies_in(folder: Path, name: str) -> bool:
    """Whether a module came from ``folder`` itself or a package in it, and not from an environment that lies there."""
    top = name.partition(".")[0]
    file = getattr(sys.modules[name], "__file__", None)
    if top == "edgecnn" or file is None:
        return top.startswith(_STAND_IN)
    return Path(file).parent == folder or folder / top in Path(file).parents


def _import_file(path: Path) -> types.ModuleType:
    """Run a source file as a module of a package that stands for its folder, so that ``from . import x`` works."""
    package = types.ModuleType(_STAND_IN + _file_name(str(path.parent)))
    package.__path__ = [str(path.parent)]
    sys.modules[package.__name__] = package
    name = f"{package.__name__}.{_file_name(path.stem)}"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module


def _import_module(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ModelError(
            f"there is no Python module {error.name}",
            hint=f"a file: {name.replace('.', '/')}.py:... ; or run from the folder that holds the package",
        ) from error


def _attribute(code: types.ModuleType, attribute: str, place: str) -> Any:
    try:
        return functools.reduce(getattr, attribute.split("."), code)
    except AttributeError as error:
        public = [n for n, v in vars(code).items() if callable(v) and getattr(v, "__module__", "") == code.__name__]
        near = difflib.get_close_matches(attribute, public, n=1)
        raise ModelError(
            f"there is no {attribute} in {place}",
            hint=(f"{near[0]}? " if near else "") + (f"it defines {_some(public)}" if public else "it defines nothing"),
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
    """Turn whatever the user's code raises into a ModelError at the user's own line."""
    try:
        yield
    except EdgecnnError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{spec} failed: {type(error).__name__}: {_first_line(error)}",
            where=_users_line(error),
            hint=_after(error),
            detail="".join(traceback.format_exception(error)),
        ) from error


def _users_line(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    paths = sysconfig.get_paths()
    others = (paths["stdlib"], paths["purelib"], paths["platlib"], str(Path(__file__).parent), "<frozen")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(others)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _after(error: BaseException) -> str:
    match error:
        case ModuleNotFoundError():
            return f"install {error.name} beside edgecnn, or keep it out of the file that defines the model"
        case SystemExit():
            return "keep what runs the program under: if __name__ == '__main__':"
    return "run the file with python to see the same error; --verbose shows all of it"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise ModelError("this is a folder, not a file", where=str(path))
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1)
        raise ModelError("no such file", where=str(path), hint=f"{path.with_name(near[0])}?" if near else "")


# --- weights


def load_weights(module: nn.Module, path: Path) -> list[str]:
    """Load a state dict into ``module``.

    Args:
        module: Whose parameters and buffers are replaced.
        path: ``.pt`` or ``.pth``, read with ``weights_only=True``, or ``.safetensors``. A checkpoint that holds the
            state dict under ``state_dict``, ``model_state_dict`` or ``model`` will do.

    Returns:
        What was done to the keys or values, for the user.

    Raises:
        UsageError: if the ending is another one.
        ModelError: if the file cannot be read, or its keys or shapes are not the module's.
    """
    _require_file(path)
    notes: list[str] = []
    state = _tensors(_read_weights(path), path, notes)
    wanted = module.state_dict()
    state = _without_prefixes(state, wanted, notes)
    try:
        module.load_state_dict(state)
    except (RuntimeError, KeyError, AttributeError) as error:
        raise _misfit(state, wanted, path, error) from error
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
            with _unreadable(path, Exception):
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
            why=_last_line(text) or type(error).__name__,
            hint="copy or save it again",
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


def _last_line(text: str) -> str:
    """The first line that says something: torch wraps what went wrong in advice."""
    said = re.search(r"WeightsUnpickler error:\s*(.+)", text)
    return said[1] if said else next(iter(text.strip().splitlines()), "")


def _tensors(loaded: object, path: Path, notes: list[str]) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(loaded, Mapping) and loaded and all(isinstance(v, torch.Tensor) for v in loaded.values()):
        return {str(k): v for k, v in loaded.items()}
    holders = [k for k in _NESTED if isinstance(loaded, Mapping) and isinstance(loaded.get(k), Mapping)]
    if isinstance(loaded, Mapping) and len(holders) == 1:
        notes.append(f"weights taken from {holders[0]!r} of the checkpoint")
        return _tensors(loaded[holders[0]], path, notes)
    keys = _some([str(k) for k in loaded]) if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
    raise ModelError(
        "the file holds no state dict",
        where=str(path),
        why=f"it holds {keys or 'nothing'}",
        hint="torch.save(model.state_dict(), 'weights.pt')",
    )


def _without_prefixes(
    state: dict[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], notes: list[str]
) -> dict[str, torch.Tensor]:
    """Take off what DataParallel and torch.compile put before every key, unless the model's keys have it too."""
    for prefix in _PREFIXES * 2:  # compile(DataParallel(m)) and DataParallel(compile(m)) are both seen
        if all(k.startswith(prefix) for k in state) and not any(k.startswith(prefix) for k in wanted):
            state = {k.removeprefix(prefix): v for k, v in state.items()}
            notes.append(f"prefix {prefix!r} taken off {len(state)} keys")
    return state


def _misfit(
    state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], path: Path, error: Exception
) -> ModelError:
    missing = [k for k in wanted if k not in state]
    unexpected = [k for k in state if k not in wanted]
    shapes = [k for k in wanted if k in state and state[k].shape != wanted[k].shape]
    alike = {k: [other for other in unexpected if state[other].shape == wanted[k].shape] for k in missing}
    near = {k: difflib.get_close_matches(k, others, n=1) for k, others in alike.items()}
    lines = [
        f"missing: {_some([f'{k} (near: {near[k][0]})' if near[k] else k for k in missing])}" if missing else "",
        f"unexpected: {_some(unexpected)}" if unexpected else "",
        f"other shape: {_some([f'{k} is {_by(state[k])}, the model has {_by(wanted[k])}' for k in shapes])}"
        if shapes
        else "",
    ]
    counts = ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
    said = ", ".join(f"{len(keys)} {what}" for keys, what in counts if keys)
    return ModelError(
        f"the weights do not fit the model: {said or 'torch refused them'}",
        where=str(path),
        why="\n".join(line for line in lines if line) or _first_line(error),
        hint=_fitting_hint(near, bool(shapes)),
        detail=str(error),
    )


def _fitting_hint(near: Mapping[str, Sequence[str]], shapes: bool) -> str:
    renamed = next(((key, other[0]) for key, other in near.items() if other), None)
    if renamed:
        return f"rename {renamed[1]} to {renamed[0]}, and so on, if they are the same layer"
    if shapes:
        return "build the model as it was trained: --arg num_classes=... or alike"
    return "are these the weights of this model?"


def _by(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
