"""The int8 TFLite file of a model as C source, with the arena that TFLite Micro reports."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.bundle import NewArtifact
from edgecnn.export.carray import carray, identifier, tensors_of
from edgecnn.exporting.export_options import C_ARRAY_SOURCE
from edgecnn.targets.hosts.local import LocalHost

MICRO = "tflite-micro"
C_FORMATS = ("c-header", "c-source")
"""The formats of the two files in manifests; no runtime opens them."""


def c_artifacts(data: bytes, name: str, labels: Sequence[str]) -> list[NewArtifact]:
    """``NAME.h`` and ``NAME.cc`` for an int8 TFLite file, NAME being a C identifier made from the model's name.

    TFLite Micro measures the arena size if it is installed in this environment; otherwise the header gives no size and
    says how to get it.

    Raises:
        TargetError: if TFLite Micro is installed and refuses the file.
    """
    inputs, outputs = tensors_of(data)
    arena = _arena(data, name)
    header, source = carray(data, name, arena_bytes=arena, inputs=inputs, outputs=outputs, labels=labels)
    notes = () if arena else (f"the arena size is not known: {MICRO} is not installed here",)
    files = zip(C_FORMATS, (f"{identifier(name)}.h", f"{identifier(name)}.cc"), (header, source), strict=True)
    return [
        NewArtifact(file=file, format=form, precision=C_ARRAY_SOURCE[1], data=text.encode(), operators={}, notes=notes)
        for form, file, text in files
    ]


def _arena(data: bytes, name: str) -> int | None:
    with LocalHost().start() as connection:
        if MICRO not in connection.hello().runtimes:
            return None
        with connection.open(MICRO, data, f"{name}.int8.tflite") as session:
            return session.arena_bytes
