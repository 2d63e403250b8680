"""Writing recipes as TOML files that :func:`~edgecnn.quantize.recipe.load_recipe` reads."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgecnn.errors import UsageError
from edgecnn.quantize.recipe import ENDING, INT8, Override, Recipe


def recipe_text(recipe: Recipe, *, comments: Sequence[str] = ()) -> str:
    """A recipe in TOML: settings that differ from ``int8``, then the overrides in order.

    Args:
        recipe: The recipe.
        comments: Comment lines at the top.
    """
    lines = [f"# {line}" for line in comments]
    lines.append(f"base = {_value(INT8.name)}")
    for key in Recipe.__struct_fields__:
        value = getattr(recipe, key)
        if key not in ("name", "overrides") and value != getattr(INT8, key):
            lines.append(f"{key} = {_value(value)}")
    for override in recipe.overrides:
        lines += ["", f"[layers.{_value(override.layers)}]"]
        lines += [f"{key} = {_value(value)}" for key, value in _given(override).items()]
    return "\n".join(lines) + "\n"


def check_recipe_path(path: Path) -> None:
    """Refuse a path that cannot be a recipe file.

    Raises:
        UsageError: if it does not end in ``.toml``, or is a folder.
    """
    if path.suffix != ENDING:
        raise UsageError("a recipe is a TOML file", where=str(path), hint=path.with_suffix(ENDING).name)
    if path.is_dir():
        raise UsageError("this is a folder", where=str(path), hint=f"{path}/recipe{ENDING}")


def write_recipe(recipe: Recipe, path: Path, *, comments: Sequence[str] = ()) -> None:
    """Write a recipe atomically: an existing file is replaced by the complete new one.

    Raises:
        UsageError: if the path cannot be a recipe file, or cannot be written.
    """
    check_recipe_path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(recipe_text(recipe, comments=comments), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UsageError("the recipe cannot be written", where=str(path), why=error.strerror or str(error)) from error
    finally:
        with suppress(OSError):  # it was renamed already, or its folder was never made
            temporary.unlink()


def _given(override: Override) -> dict[str, str | bool]:
    fields = [f for f in Override.__struct_fields__ if f != "layers"]
    return {f: value for f in fields if (value := getattr(override, f)) is not None}


def _value(value: str | bool | int) -> str:
    """A TOML value; strings, booleans and integers are as in JSON, except that TOML requires DEL to be escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
