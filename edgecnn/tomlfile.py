"""Reading and checking TOML files that users write; errors name the line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from edgecnn.errors import UsageError, near

MAX_BYTES = 1 << 20
T = TypeVar("T")
_CLOSES = re.compile(r"[\]}]|\"\"\"|'''")


def nearest(name: str, folder: Path | None = None) -> Path | None:
    """Find a file in a folder or its nearest parent, up to a folder with ``.git``; None if there is none."""
    here = (folder or Path.cwd()).resolve()
    for place in (here, *here.parents):
        if (place / name).is_file():
            return place / name
        if (place / ".git").exists():
            break
    return None


def read_text(path: Path) -> str:
    """The text of a TOML file.

    Raises:
        UsageError: The file cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"{path.name} is larger than {MAX_BYTES:,} bytes", where=str(path))
        return data.decode()
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read", where=str(path), why=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path.name} is not UTF-8", where=str(path), why=str(error)) from error


def parse(path: Path, text: str) -> dict[str, Any]:
    """The parsed text as a dictionary.

    Raises:
        UsageError: The text is not valid TOML; the reason names the line.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = f"{path.name} is not valid TOML"
        raise UsageError(message, where=str(path), why=str(error), hint="https://toml.io") from error


class Lines:
    """Finds the line of a table or key in a valid TOML text, for messages."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text = path, text
        self._known: dict[tuple[str, ...], int] | None = None

    def number(self, *names: str) -> int | None:
        """The line of a table or key, or of the nearest enclosing table that has a line; None if there is none."""
        if self._known is None:
            self._known = dict(_places(self._text))
        for length in range(len(names), 0, -1):
            if names[:length] in self._known:
                return self._known[names[:length]]
        return None

    def where(self, *names: str) -> str:
        """The file and line of a table or key, as text for messages."""
        number = self.number(*names)
        return str(self._path) if number is None else f"{self._path}, line {number}"


def _places(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Each table and key with its line number. A table's own header takes precedence over headers of its subtables."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, statement in _statements(text):
        paths = list(_paths(tomllib.loads(statement)))
        header = statement.lstrip().startswith("[")
        table = paths[-1] if header else table
        for path in paths:
            whole = path if header else (*table, *path)
            if (header and whole == table) or whole not in found:
                found[whole] = number
    yield from found.items()


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Table headers and assignments, each with the number of its first line."""
    began, gathered = 1, ""
    for number, line in enumerate(text.splitlines(), 1):
        if not gathered:
            began = number
        gathered += line + "\n"
        if began != number and not _CLOSES.search(line):
            continue  # inside a multi-line value: only a line with a closing bracket or quotes can end it
        try:
            says = tomllib.loads(gathered)
        except tomllib.TOMLDecodeError:
            continue
        if says:
            yield began, gathered
        gathered = ""


def _paths(table: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        yield (key,)
        inner = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else value
        if isinstance(inner, dict):
            yield from ((key, *path) for path in _paths(inner))


def check_keys(at: tuple[str, ...], what: str, table: Mapping[str, Any], known: Iterable[str], lines: Lines) -> None:
    """Refuse unknown keys.

    Raises:
        UsageError: A key is unknown; the error names its line and the most similar known key.
    """
    for key in table:
        if key not in known:
            raise UsageError(f"{what} has no key {key!r}", where=lines.where(*at, key), hint=near(key, known))


def read_table(at: tuple[str, ...], what: str, table: Any, kind: type[T], lines: Lines) -> T:
    """Convert a table to a struct.

    Args:
        at: The path of keys to the table.
        what: The table's name in messages.
        table: The parsed table.
        kind: A `msgspec.Struct`.
        lines: The line finder of the file.

    Raises:
        UsageError: The value is not a table, has an unknown key, or holds a value of the wrong type. The error names
            the line.
    """
    if not isinstance(table, dict):
        raise UsageError(f"{what} is not a table", where=lines.where(*at), hint=f"[{'.'.join(at)}]")
    known = [f.encode_name for f in msgspec.structs.fields(kind)]  # type: ignore[arg-type]
    check_keys(at, what, table, known, lines)
    try:
        return msgspec.convert(table, kind, strict=True)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at ")
        key = re.match(r"`\$\.(\w+)", place)
        where = lines.where(*at, key[1]) if key else lines.where(*at)
        hint = _choices(kind, key[1]) if key else ""
        raise UsageError(f"{what}: {key[1] + ': ' if key else ''}{_plain(said)}", where=where, hint=hint) from error


def _choices(kind: type[Any], key: str) -> str:
    """A hint with the allowed values of a key, where these are a fixed set of words."""
    words = [w for part in get_args(get_type_hints(kind)[key]) for w in get_args(part) if isinstance(w, str)]
    return f"one of {', '.join(words)}" if words else ""


def _plain(said: str) -> str:
    """Reword a message of msgspec in the terms of TOML."""
    words = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"}
    words |= {"array": "a list", "object": "a table", "null": "nothing"}

    def kinds(match: re.Match[str]) -> str:
        options = [o.strip() for o in match[1].split("|")]
        return " or ".join(words.get(o, o) for o in options if o != "null")

    return re.sub(r"`([a-z| ]+)`", kinds, said).replace("Invalid enum value", "there is no")


def toml_value(value: Any) -> str:
    """Format a text, number, boolean or list of these as a TOML value.

    Raises:
        UsageError: A text holds a control character.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    text = str(value)
    if not text.isprintable():
        raise UsageError(f"{text!r} holds a control character")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def toml_key(name: str) -> str:
    """Format a key for TOML, with quotes where they are needed."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)
