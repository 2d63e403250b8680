"""A bundle: the folder with a model's artifacts, manifest, program and golden vectors."""

from __future__ import annotations

import builtins
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgecnn.bundle.golden import GOLDEN_FILE, Golden, decode_golden, encode_golden
from edgecnn.bundle.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    ArtifactSpec,
    GoldenSpec,
    InputSpec,
    Manifest,
    ModelSource,
    OutputSpec,
    ProgramSpec,
    QuantizationSpec,
    decode_manifest,
    encode_manifest,
)
from edgecnn.bundle.program import PROGRAM_FILE, Program, decode_program, encode_program
from edgecnn.bundle.whole_folder import check_replaceable, interrupted, replace_folder
from edgecnn.errors import BundleError
from edgecnn.export.formats import REGISTRY

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class NewArtifact:
    """An artifact to write: its file name, description and bytes. ``session`` is that of `ArtifactSpec`."""

    file: str
    format: str
    precision: str
    data: bytes
    operators: Mapping[str, int]
    notes: tuple[str, ...] = ()
    quantization: QuantizationSpec | None = None
    session: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def spec(self) -> ArtifactSpec:
        """The artifact's entry in the manifest."""
        return ArtifactSpec(
            file=self.file,
            format=self.format,
            precision=self.precision,
            bytes=len(self.data),
            sha256=_sha256(self.data),
            operators=dict(sorted(self.operators.items())),
            notes=self.notes,
            quantization=self.quantization,
            session={runtime: dict(settings) for runtime, settings in self.session.items()},
        )


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact of a bundle: its path, and its entry in the manifest."""

    path: Path
    spec: ArtifactSpec

    @property
    def format(self) -> str:
        """Its format: "onnx", "tflite"."""
        return self.spec.format

    @property
    def precision(self) -> str:
        """Its precision: "fp32", "int8"."""
        return self.spec.precision

    @property
    def bytes(self) -> int:
        """Size of the file in bytes."""
        return self.spec.bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return self.spec.sha256

    @property
    def operators(self) -> Mapping[str, int]:
        """Number of occurrences of each operator."""
        return self.spec.operators

    def read(self) -> builtins.bytes:
        """The file's bytes.

        Raises:
            BundleError: if the file cannot be read, has changed since the export, or has weights in other files.
        """
        data = _read_verified(self.path, self.spec.bytes, self.spec.sha256)
        known = REGISTRY.get(self.format)  # C source is an artifact that no runtime opens, and has no descriptor
        if known is not None and known.check_self_contained is not None:
            known.check_self_contained(data, str(self.path))
        return data


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk. The manifest has been read and checked; files are verified when they are read."""

    directory: Path
    manifest: Manifest

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All artifacts, in the manifest's order."""
        return tuple(Artifact(self.directory / spec.file, spec) for spec in self.manifest.artifacts)

    def artifact(self, form: str, precision: str) -> Artifact:
        """The artifact of a format and precision.

        Raises:
            BundleError: if there is none.
        """
        for artifact in self.artifacts:
            if (artifact.format, artifact.precision) == (form, precision):
                return artifact
        present = ", ".join(f"{artifact.format} {artifact.precision}" for artifact in self.artifacts)
        raise BundleError(
            f"the bundle has no {form} artifact of precision {precision}",
            where=str(self.directory),
            why=f"it has: {present}",
            hint=f"export the model with --formats {form} --precisions {precision}",
        )

    def golden(self) -> Golden:
        """The golden vectors, verified against the manifest.

        Raises:
            BundleError: if the file is damaged, changed, or does not fit the manifest's inputs and outputs.
        """
        spec = self.manifest.golden
        path = self.directory / spec.file
        golden = decode_golden(_read_verified(path, spec.bytes, spec.sha256), where=str(path))
        _check_golden(golden, self.manifest)
        return golden

    def program(self) -> Program:
        """The program that the artifacts were written from, verified against the manifest. Reading it needs no torch.

        Raises:
            BundleError: if the file is damaged, changed, or does not fit the manifest's inputs and outputs.
        """
        spec = self.manifest.program
        path = self.directory / spec.file
        program = decode_program(_read_verified(path, spec.bytes, spec.sha256), where=str(path))
        _check_program(program, self.manifest)
        return program


def load_bundle(directory: str | os.PathLike[str]) -> Bundle:
    """Read and check a bundle's manifest, and check that its files exist.

    Raises:
        BundleError: if there is no bundle, its manifest is damaged or from a newer edgecnn, or a file is missing.
    """
    folder = Path(directory)
    try:
        if not folder.is_dir():
            raise _no_folder(folder)
        bundle = Bundle(folder, _read_manifest(folder))
        missing = [name for name in bundle.manifest.files() if not (folder / name).is_file()]
    except OSError as err:
        raise BundleError(f"cannot read {folder}", why=err.strerror or str(err), hint="check its permissions") from err
    if missing:
        raise BundleError(
            f"the bundle lacks {', '.join(missing)}",
            where=str(folder),
            why="the manifest lists files that do not exist",
            hint="copy the whole folder, or export the model again",
        )
    return bundle


def check_destination(directory: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raise early the error that :func:`write_bundle` would raise for the destination.

    Raises:
        BundleError: if the destination is not a folder, is protected or not writable, or (unless ``force``) holds
            anything except a bundle.
    """
    check_replaceable(Path(directory), _anything if force else _only_bundles)


def write_bundle(
    directory: str | os.PathLike[str],
    *,
    name: str,
    source: ModelSource,
    inputs: Sequence[InputSpec],
    outputs: Sequence[OutputSpec],
    batch_resizable: bool,
    artifacts: Sequence[NewArtifact],
    golden: Golden,
    golden_origin: str,
    program: Program,
    versions: Mapping[str, str],
    force: bool = False,
) -> Bundle:
    """Write a bundle completely or not at all. Equal arguments give equal bytes.

    Args:
        directory: The destination; an empty folder or a bundle there is replaced.
        name: The model's name.
        source: Where the model came from.
        inputs: The model's inputs.
        outputs: The model's outputs.
        batch_resizable: Whether the artifacts accept batches other than 1.
        artifacts: The exported artifacts.
        golden: Golden inputs and outputs, which fit ``inputs`` and ``outputs``.
        golden_origin: The origin of the golden inputs, in words.
        program: The program that the artifacts were written from.
        versions: Versions of the packages used, by name.
        force: Also replace a folder that holds other files, unless it is protected.

    Raises:
        BundleError: if the parts do not fit together, or the destination is refused or cannot be written.
    """
    vectors, graphs = encode_golden(golden), encode_program(program)
    manifest = Manifest(
        name=name,
        source=source,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        batch_resizable=batch_resizable,
        artifacts=tuple(artifact.spec() for artifact in artifacts),
        golden=GoldenSpec(
            file=GOLDEN_FILE,
            bytes=len(vectors),
            sha256=_sha256(vectors),
            samples=golden.samples,
            origin=golden_origin,
        ),
        program=ProgramSpec(file=PROGRAM_FILE, bytes=len(graphs), sha256=_sha256(graphs)),
        versions=dict(versions),
    )
    _check_golden(golden, manifest)
    _check_program(program, manifest)
    files = {artifact.file: artifact.data for artifact in artifacts}
    files |= {GOLDEN_FILE: vectors, PROGRAM_FILE: graphs, MANIFEST_FILE: encode_manifest(manifest)}
    replace_folder(
        Path(directory),
        lambda folder: _write_files(folder, files),
        may_replace=_anything if force else _only_bundles,
        needed=sum(map(len, files.values())),
    )
    return Bundle(Path(directory), manifest)


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _anything(folder: Path) -> None:
    """Allow replacing any folder: the user passed ``force``."""


def _only_bundles(folder: Path) -> None:
    found = sorted(path.name for path in folder.iterdir())
    if not found:
        return
    hint = "another folder, or --force to delete its contents"
    if MANIFEST_FILE not in found:
        raise BundleError(f"{folder} is not a bundle", why=f"it holds {_some(found)}", hint=hint)
    try:
        ours = {MANIFEST_FILE, *_read_manifest(folder).files()}
    except BundleError as err:
        raise BundleError(f"{folder} holds a bundle that this edgecnn cannot read", why=str(err), hint=hint) from err
    foreign = [name for name in found if name not in ours or not _is_plain_file(folder / name)]
    if foreign:
        raise BundleError(
            f"{folder} is a bundle, but also holds other files", why=f"it holds {_some(foreign)}", hint=hint
        )


def _is_plain_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _no_folder(folder: Path) -> BundleError:
    if folder.is_file():
        return BundleError(f"{folder} is a file", why="a bundle is a folder", hint=f"the folder: {folder.parent}")
    if interrupted(folder):
        return BundleError(
            f"{folder} is being replaced, or the run that replaced it was killed", hint="export the model again"
        )
    return BundleError(f"there is no folder {folder}", hint="edgecnn export MODEL -o DIR makes a bundle")


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_FILE
    if not path.exists():
        raise BundleError(
            f"{folder} is not a bundle", why=f"it has no {MANIFEST_FILE}", hint="edgecnn export MODEL -o DIR makes one"
        )
    return decode_manifest(_read(path, MAX_MANIFEST_BYTES), where=str(path))


def _read_verified(path: Path, size: int, sha256: str) -> bytes:
    data = _read(path, size)
    if len(data) == size and _sha256(data) == sha256:
        return data
    found = path.stat().st_size
    raise BundleError(
        f"{path.name} has changed since it was exported",
        where=str(path),
        why=f"it has {found:,} bytes instead of {size:,}" if found != size else "its SHA-256 differs",
        hint="copy the bundle again, or export the model again",
    )


def _read(path: Path, limit: int) -> bytes:
    """Read at most ``limit`` + 1 bytes of a file; the extra byte tells the caller that it is larger."""
    try:
        if path.exists() and not path.is_file():
            raise OSError(f"{path.name} is not a file")
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as err:
        why = err.strerror or str(err)
        raise BundleError(f"cannot read {path.name}", where=str(path), why=why, hint="export the model again") from err


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check_golden(golden: Golden, manifest: Manifest) -> None:
    shapes = {name: array.shape for name, array in golden.inputs.items()}
    _check_shapes("inputs", shapes, manifest.inputs, golden.samples)
    for precision, group in golden.outputs.items():
        shapes = {name: array.shape for name, array in group.items()}
        _check_shapes(f"{precision} outputs", shapes, manifest.outputs, golden.samples)
    if golden.samples != manifest.golden.samples:
        raise BundleError(f"there are {golden.samples} golden samples, but the manifest says {manifest.golden.samples}")


def _check_program(program: Program, manifest: Manifest) -> None:
    for graph in [program.graph] + ([] if program.quantized is None else [program.quantized.graph]):
        found = [(i.name, i.shape) for i in graph.inputs], [(o.name, graph.shapes[o.value]) for o in graph.outputs]
        expected = [(i.name, i.shape) for i in manifest.inputs], [(o.name, o.shape) for o in manifest.outputs]
        if found != expected:
            raise BundleError("the program does not fit the model", why=f"{found} instead of {expected}")


def _check_shapes(
    what: str, found: Mapping[str, tuple[int, ...]], specs: Sequence[InputSpec | OutputSpec], samples: int
) -> None:
    expected = {spec.name: (samples, *spec.shape[1:]) for spec in specs}
    if found != expected:
        raise BundleError(f"the golden {what} do not fit the model", why=f"{found} instead of {expected}")
