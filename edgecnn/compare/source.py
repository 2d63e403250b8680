"""A file of any origin that is to be compared: its bytes, and what is known of it before a runtime opens it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from edgecnn.compare.artifact_facts import Facts
from edgecnn.compare.bundled import with_manifest
from edgecnn.errors import BundleError
from edgecnn.export.file_facts import damaged_file
from edgecnn.export.format_descriptor import Format
from edgecnn.export.formats import FORMATS, REGISTRY
from edgecnn.targets.agent.messages import MAX_PAYLOAD

MAX_BYTES = MAX_PAYLOAD
"""The largest file that is read: what an agent takes at once, 1 GiB."""
_ORT = b"ORTM"
_FILES = " or ".join(f".{name}" for name in FORMATS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """An artifact that is to be compared."""

    path: Path
    format: str
    data: bytes = field(repr=False)
    facts: Facts

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.path.name


def read_source(given: str | os.PathLike[str]) -> SourceFile:
    """Read a file, find out its format by its content, and refuse what cannot be run as it is.

    Where the file's folder holds a manifest with the digest of this very file, the manifest's layouts and parameters
    are taken.

    Raises:
        EdgecnnError: if it cannot be read, is of another format, has weights in other files, or inputs and outputs that
            are no tensors of numbers.
    """
    path = Path(given)
    data = _read(path)
    row = _format(path, data)
    own = row.facts(data, str(path))
    facts = Facts(quantization=own.quantization, custom=own.custom)
    facts = with_manifest(path, hashlib.sha256(data).hexdigest(), row.name, facts)
    return SourceFile(path=path, format=row.name, data=data, facts=facts)


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise BundleError(f"{path} is a folder", why="two files are compared", hint=f"one of its {_FILES} files")
        if path.exists() and not path.is_file():
            raise BundleError(f"{path} is not an ordinary file", hint=f"a file named {_FILES}")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = b"" if size > MAX_BYTES else file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as err:
        why = getattr(err, "strerror", None) or str(err)
        raise BundleError(f"cannot read {path.name}", where=str(path), why=why, hint="check the path") from err
    if max(size, len(data)) > MAX_BYTES:
        raise BundleError(f"{path.name} is larger than {MAX_BYTES:,} bytes", where=str(path), hint="a smaller model")
    return data


def _format(path: Path, data: bytes) -> Format:
    """The format by the content; for formats without a mark, such as ONNX, by the file's name."""
    mark = data[4:8]
    by_mark = next((row for row in REGISTRY.values() if row.mark and row.mark == mark), None)
    if by_mark is not None:
        return by_mark
    if mark == _ORT:
        raise BundleError(
            f"{path.name} is in ONNX Runtime's own format", where=str(path), hint="the .onnx file it was made from"
        )
    by_name = REGISTRY.get(path.suffix.lower().removeprefix("."))
    if by_name is None:
        raise BundleError(
            f"{path.name} is of no known format, neither by its content nor by its name",
            where=str(path),
            why=f"it begins with {data[:8]!r}",
            hint=f"a file named {_FILES}",
        )
    if by_name.mark:
        why = f"it begins with {data[:8]!r}; bytes 4 to 8 of one are {by_name.mark!r}"
        raise damaged_file(by_name.title, str(path), why)
    return by_name
