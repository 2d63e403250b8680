"""Import the user's modules as ``python folder/file.py`` would, without reusing those of an earlier call."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path

from edgecnn.errors import ModelError
from edgecnn.loading.user_files import file_name

_STAND_IN = "_edgecnn_"
"""Prefix of the package that represents a folder of the user's."""

_imported: set[str] = set()
"""Modules that the last call imported from the user's folder. The next call imports them again, so that two projects
with files of one name do not share them."""


@contextlib.contextmanager
def on_path(folder: Path) -> Iterator[None]:
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
        with contextlib.suppress(ValueError):  # the user's code may have removed it
            sys.path.remove(str(folder))
        _imported.update(name for name in set(sys.modules) - before if _lies_in(folder, name))


def _lies_in(folder: Path, name: str) -> bool:
    """Whether a module is from ``folder`` itself or a package in it, and not from an environment in that folder."""
    top = name.partition(".")[0]
    file = getattr(sys.modules[name], "__file__", None)
    if top == "edgecnn" or file is None:
        return top.startswith(_STAND_IN)
    return Path(file).parent == folder or folder / top in Path(file).parents


def import_file(path: Path) -> types.ModuleType:
    """Run a source file as a module of a package that represents its folder, so that ``from . import x`` works."""
    package = types.ModuleType(_STAND_IN + file_name(str(path.parent)))
    package.__path__ = [str(path.parent)]
    sys.modules[package.__name__] = package
    name = f"{package.__name__}.{file_name(path.stem)}"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module


def import_module(name: str) -> types.ModuleType:
    """Import a module by its dotted name.

    Raises:
        ModelError: if the module or one of its parents does not exist.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ModelError(
            f"there is no Python module {error.name}",
            hint=f"a file: {name.replace('.', '/')}.py:... ; or run from the folder that holds the package",
        ) from error
