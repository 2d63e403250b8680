"""An .onnx or .tflite file of any origin: its bytes, and what is known of it before a runtime opens it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import BundleError, EdgecnnError
from edgecnn.targets.agent.messages import MAX_PAYLOAD

MAX_BYTES = MAX_PAYLOAD
"""The largest file that is read: what an agent takes at once, 1 GiB."""
_TFLITE, _ORT = b"TFL3", b"ORTM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """The real value of a stored integer ``q`` is ``scale * (q - zero_point)``."""

    scale: float
    zero_point: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the file itself, or the manifest of its bundle, says about it.

    Attributes:
        quantization: Parameters of integer inputs and outputs, by name; None where there are none that hold for all.
        layouts: ``nchw`` or ``nhwc`` of inputs and outputs, where that is known, by name.
        custom: Operators that are no part of the format.
        preprocessing: What made the image that the first input is, where a manifest says.
        notes: Where these came from, when it is not the file.
    """

    quantization: Mapping[str, Affine | None] = field(default_factory=lambda: MappingProxyType({}))
    layouts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    custom: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An artifact that is to be compared."""

    path: Path
    format: str
    data: bytes = field(repr=False)
    facts: Facts

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.path.name


def read_source(given: str | os.PathLike[str]) -> Source:
    """Read a file, find out its format by its content, and refuse what cannot be run as it is.

    Beside a manifest that vouches for this very file, the manifest's layouts and parameters are taken.

    Raises:
        EdgecnnError: if it cannot be read, is of another format, has weights in other files, or inputs and outputs that
            are no tensors of numbers.
    """
    from edgecnn.compare import bundled, onnx_file, tflite_file

    path = Path(given)
    data = _read(path)
    form = _format(path, data)
    facts = onnx_file.facts_of(data, str(path)) if form == "onnx" else tflite_file.facts_of(data, str(path))
    facts = bundled.with_manifest(path, hashlib.sha256(data).hexdigest(), form, facts)
    return Source(path=path, format=form, data=data, facts=facts)


def damaged(what: str, where: str, why: str) -> EdgecnnError:
    """The error for a file that cannot be what it should be."""
    return BundleError(
        f"this is no {what} file, or a damaged one", where=where, why=why, hint="copy or export the file again"
    )


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise BundleError(
                f"{path} is a folder", why="two files are compared", hint="one of its .onnx or .tflite files"
            )
        if path.exists() and not path.is_file():
            raise BundleError(f"{path} is not an ordinary file", hint="an .onnx or .tflite file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = b"" if size > MAX_BYTES else file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as err:
        why = getattr(err, "strerror", None) or str(err)
        raise BundleError(f"cannot read {path.name}", where=str(path), why=why, hint="check the path") from err
    if max(size, len(data)) > MAX_BYTES:
        raise BundleError(f"{path.name} is larger than {MAX_BYTES:,} bytes", where=str(path), hint="a smaller model")
    return data


def _format(path: Path, data: bytes) -> str:
    """The format by the content; the name decides only between nothing and ONNX, which has no mark."""
    if data[4:8] == _TFLITE:
        return "tflite"
    if data[4:8] == _ORT:
        raise BundleError(
            f"{path.name} is in ONNX Runtime's own format", where=str(path), hint="the .onnx file it was made from"
        )
    if path.suffix.lower() == ".tflite":
        why = f"it begins with {data[:8]!r}; bytes 4 to 8 of one are {_TFLITE!r}"
        raise damaged("TFLite", str(path), why)
    if path.suffix.lower() == ".onnx":
        return "onnx"
    raise BundleError(
        f"{path.name} is neither TFLite nor named .onnx",
        where=str(path),
        why=f"it begins with {data[:8]!r}",
        hint="a .tflite or .onnx file",
    )
