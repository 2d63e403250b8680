"""Options that name a file for a result, and writing results to it; ``-`` is standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgecnn.errors import UsageError

STDOUT = Path("-")


class ResultFile(click.ParamType[Path]):
    """A file to write a result to, or ``-``. Unsuitable values are refused before any work is done.

    An option without its value takes the next argument as its value. Therefore a folder, another option, and an
    existing file that is not such a result are refused.

    Args:
        begins: What an existing file must begin with to be replaced; empty for any file.
    """

    name = "file"

    def __init__(self, *begins: bytes) -> None:
        self._begins = begins

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Refuse a value that cannot be a file for a result."""
        from edgecnn.files import check_writable

        path = Path(value)
        option = param.opts[0] if param is not None else "the option"
        forgotten = f"{option} takes a FILE (- for standard output), and has taken {str(path)!r} for one"
        if path == STDOUT:
            return path
        if str(value).startswith("-"):
            self.fail(f"{forgotten}, which looks like an option", param, ctx)
        if not str(value):
            self.fail(f"{forgotten}, which is empty", param, ctx)
        if path.is_dir():
            self.fail(f"{forgotten}, which is a folder", param, ctx)
        if path.is_file() and self._begins and not self._is_result(path):
            self.fail(f"{forgotten}, which exists and is not such a result; it is not replaced", param, ctx)
        try:
            check_writable(path)
        except UsageError as error:
            self.fail(f"{error.message}: {error.why}", param, ctx)
        return path

    def _is_result(self, path: Path) -> bool:
        try:
            with path.open("rb") as file:
                return file.read(512).lstrip().startswith((*self._begins,)) or path.stat().st_size == 0
        except OSError:
            return True  # the check that follows says why


JSON = ResultFile(b"{", b"[")
XML = ResultFile(b"<?xml", b"<testsuite")
SVG = ResultFile(b"<svg")
TEXT = ResultFile()


def missing_argument(error: click.MissingParameter) -> str:
    """Which option may have taken the missing argument as its value, in words; empty if none can have."""
    params = error.ctx.params if error.ctx is not None else {}
    options = error.ctx.command.params if error.ctx is not None else []
    given = [(o.opts[0], params.get(o.name or "")) for o in options if isinstance(o.type, ResultFile)]
    said = "{} takes a FILE (- for standard output), and has taken {!r} for one"
    return "; ".join(said.format(option, str(path)) for option, path in given if path is not None)


def one_on_stdout(files: Mapping[str, Path | None]) -> bool:
    """Whether one of these options uses standard output, so that nothing else may be printed there.

    Raises:
        UsageError: if two options do.
    """
    there = [option for option, file in files.items() if file == STDOUT]
    if len(there) > 1:
        raise UsageError(f"{' and '.join(there)} exclude each other on standard output", hint="a FILE for one of them")
    return bool(there)


def put_text(file: Path | None, text: str) -> None:
    """Write a text to the file of an option, completely or not at all; nothing if the option was not given."""
    from edgecnn.files import write_whole

    if file == STDOUT:
        click.echo(text, nl=False)
    elif file is not None:
        write_whole(file, text.encode(errors="backslashreplace"))


def put_json(file: Path | None, value: Any) -> bool:
    """Write a value as indented JSON to the file of ``--json``. NaN and infinities, which JSON lacks, become strings.

    Returns:
        Whether the file is standard output, so that nothing else may be printed there.
    """
    if file is not None:
        put_text(file, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")
    return file == STDOUT


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value
