"""The manifest of a bundle: the model, its origin, and the files of the bundle.

Shapes and axes are the model's own (torch's NCHW, batch first and written as 1). An artifact may store a value with
its axes permuted; ``axes`` has the permutation for each format: stored axis ``i`` holds logical axis ``axes[i]``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Literal

import msgspec

from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import BundleError, EdgecnnError

SCHEMA = 1
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 16 << 20
MAX_FILE_BYTES = 2**31 - 1
"""Neither protobuf nor flatbuffers can address more."""

DTYPES = frozenset(("bool", "float16", "float32", "int8", "int16", "int32", "int64", "uint8"))
Argument = str | int | float | bool | None

_MAX_RANK = 8
_MAX_ELEMENTS = 2**31 - 1
_MAX_TEXT = 4096
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TAG = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
# Control characters, line separators, bidirectional overrides and lone surrogates, which can mislead in a terminal.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class _InvalidError(BundleError, ValueError):
    """A violated rule. It is also a ValueError, so that msgspec's decoder catches it and adds the JSON path."""


class WeightsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file that the weights were read from: its name without folders, and its SHA-256."""

    file: str
    sha256: str

    def __post_init__(self) -> None:
        _check_file_name(self.file)
        _check_sha256(self.sha256)


class ModelSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Origin of the model: what the user named (or the module's class), its weights and its arguments."""

    model: str
    weights: WeightsFile | None = None
    arguments: dict[str, Argument] = {}

    def __post_init__(self) -> None:
        check_text("source.model", self.model)
        for key, value in self.arguments.items():
            check_text("argument name", key)
            if isinstance(value, str):
                check_text(f"argument {key}", value, may_be_empty=True)
            _require(not isinstance(value, float) or math.isfinite(value), f"argument {key} is {value}, not finite")


class InputSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An input of the model.

    Attributes:
        name: Name of the input, in the model and in every artifact.
        shape: Logical shape, with a batch of 1 first.
        dtype: One of ``DTYPES``.
        axes: For each format, the stored order as a permutation of the logical axes.
        layouts: For each format, the stored order in letters ("NHWC"), or "" if the input is not an image.
        preprocessing: The preprocessing from raw data to the model's input.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    axes: dict[str, tuple[int, ...]]
    layouts: dict[str, str]
    preprocessing: Preprocessing | None = None

    def __post_init__(self) -> None:
        _check_value(self.name, self.shape, self.dtype, self.axes)
        _require(set(self.layouts) == set(self.axes), f"{self.name}: layouts and axes are of different formats")
        for form, layout in self.layouts.items():
            expected = layout_name(self.axes[form])
            _require(layout in ("", expected), f"{self.name}: layout {layout!r} for {form}, its axes say {expected!r}")
        if self.preprocessing is not None:
            _check_preprocessing(self.preprocessing, self.shape)


class OutputSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An output; see :class:`InputSpec`. ``class_labels`` is empty if the output is not a score per class."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    axes: dict[str, tuple[int, ...]]
    class_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_value(self.name, self.shape, self.dtype, self.axes)
        for label in self.class_labels:
            check_text("class label", label, may_be_empty=True)


class TensorQuantization(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of an int8 or uint8 tensor: ``real = scale * (integer - zero_point)``, for the int8 integer."""

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        _require(math.isfinite(self.scale) and self.scale > 0, f"scale {self.scale} is not positive")
        _require(-(2**15) <= self.zero_point < 2**15, f"zero point {self.zero_point} is out of range")


class QuantizationSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an artifact was quantized.

    Attributes:
        recipe: Name of the recipe.
        calibration: The origin of the calibration samples, in words.
        samples: Number of calibration samples.
        inputs: Parameters of each input, by name.
        outputs: Parameters of each output, by name.
        exact: Whether all runtimes compute every operator identically, so that outputs equal the golden outputs.
        float_layers: Layers that the recipe left in float.
        io: Type of the artifact's inputs and outputs: float32, int8, or uint8 (the integers plus 128).
        raw_bytes: Whether the first input takes the raw bytes of an image, which the artifact preprocesses itself.
        saturating: Layers whose sums can saturate on x86 without VNNI (docs/targets.md), the most frequent first.
    """

    recipe: str
    calibration: str
    samples: int
    inputs: dict[str, TensorQuantization]
    outputs: dict[str, TensorQuantization]
    exact: bool
    float_layers: tuple[str, ...] = ()
    io: Literal["float32", "int8", "uint8"] = "float32"
    raw_bytes: bool = False
    saturating: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_text("recipe", self.recipe)
        check_text("calibration", self.calibration)
        _require(0 < self.samples <= _MAX_ELEMENTS, f"{self.samples} calibration samples")
        for layer in self.float_layers:
            check_text("float layer", layer)
        for layer in self.saturating:
            check_text("saturating layer", layer)


class ArtifactSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One exported file: format and precision, size in bytes, hash, operator counts, and notes for the user.

    ``session`` has what a program should set in sessions of its own, so that they compute what edgecnn's do: by
    runtime, the names and values of its settings. Bundles of earlier versions have none.
    """

    file: str
    format: str
    precision: str
    bytes: int
    sha256: str
    operators: dict[str, int]
    notes: tuple[str, ...] = ()
    quantization: QuantizationSpec | None = None
    session: dict[str, dict[str, str]] = {}

    def __post_init__(self) -> None:
        _check_file(self.file, self.bytes, self.sha256)
        check_tag("format", self.format)
        for runtime, settings in self.session.items():
            check_tag("runtime", runtime)
            for name, value in settings.items():
                check_text("session setting", name)
                check_text(f"session setting {name}", value)
        check_tag("precision", self.precision)
        for operator, count in self.operators.items():
            check_text("operator name", operator)
            _require(0 < count <= _MAX_ELEMENTS, f"{self.file}: {count} operators {operator}")
        for note in self.notes:
            check_text("note", note)


class GoldenSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of golden vectors: size in bytes, hash, number of samples, and origin of the inputs."""

    file: str
    bytes: int
    sha256: str
    samples: int
    origin: str

    def __post_init__(self) -> None:
        _check_file(self.file, self.bytes, self.sha256)
        _require(0 < self.samples <= _MAX_ELEMENTS, f"{self.samples} golden samples")
        check_text("golden.origin", self.origin)


class ProgramSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of the program: size in bytes, and hash."""

    file: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        _check_file(self.file, self.bytes, self.sha256)


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The complete description of a bundle. An invalid manifest cannot be constructed."""

    schema: int = SCHEMA
    name: str
    source: ModelSource
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    batch_resizable: bool
    artifacts: tuple[ArtifactSpec, ...]
    golden: GoldenSpec
    program: ProgramSpec
    versions: dict[str, str]

    def __post_init__(self) -> None:
        _require(self.schema == SCHEMA, f"schema {self.schema}, but this edgecnn writes {SCHEMA}")
        _check_file_name(self.name)
        for what, values in (("inputs", self.inputs), ("outputs", self.outputs), ("artifacts", self.artifacts)):
            _require(len(values) > 0, f"{what} are empty")
        _check_unique("input name", (value.name for value in self.inputs))
        _check_unique("output name", (value.name for value in self.outputs))
        _check_unique("artifact", (f"{artifact.format} {artifact.precision}" for artifact in self.artifacts))
        # Two names that differ only in case are the same file on macOS.
        _check_unique("file", (name.casefold() for name in (MANIFEST_FILE, *self.files())))
        both: tuple[InputSpec | OutputSpec, ...] = (*self.inputs, *self.outputs)
        for value in both:
            for artifact in self.artifacts:
                _require(artifact.format in value.axes, f"{value.name}: no axes for format {artifact.format}")
        for package, version in self.versions.items():
            check_text("package", package)
            check_text(f"version of {package}", version)

    def files(self) -> tuple[str, ...]:
        """Names of the files that the manifest lists: the artifacts, the golden vectors and the program."""
        return (*(artifact.file for artifact in self.artifacts), self.golden.file, self.program.file)


class _Head(msgspec.Struct, frozen=True):
    schema: int


def layout_name(axes: tuple[int, ...]) -> str:
    """The usual letters for a permutation of (N, C, H, W): "NHWC" for (0, 2, 3, 1); "" for any other rank."""
    return "".join("NCHW"[axis] for axis in axes) if len(axes) == 4 else ""


def encode_manifest(manifest: Manifest) -> bytes:
    """Encode a manifest as UTF-8 JSON, indented, with sorted keys and a final newline. It is reproducible.

    Raises:
        BundleError: if JSON cannot represent the type of a value, or the manifest is too large to be read again.
    """
    try:
        data = msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"
    except (TypeError, ValueError) as err:
        raise BundleError("the manifest cannot be written as JSON", why=str(err)) from err
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"the manifest would have {len(data):,} bytes", why=f"the limit is {MAX_MANIFEST_BYTES:,}")
    return data


def decode_manifest(data: bytes, *, where: str = "") -> Manifest:
    """Decode a manifest and check all of it.

    Args:
        data: The JSON text, UTF-8.
        where: The file's name, for messages.

    Raises:
        BundleError: if it is not JSON, has another schema, or violates a rule; the error names the JSON path.
    """
    again = "export the model again"
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"the manifest is larger than {MAX_MANIFEST_BYTES:,} bytes", where=where, hint=again)
    try:
        _check_schema(msgspec.json.decode(data, type=_Head).schema, where)
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise BundleError("the manifest cannot be read", where=where, why=str(err), hint=again) from err
    except BundleError:
        raise
    except EdgecnnError as err:
        raise BundleError("the manifest is invalid", where=where, why=str(err), hint=again) from err


def _check_schema(schema: int, where: str) -> None:
    if schema > SCHEMA:
        raise BundleError(
            "the bundle was made by a newer edgecnn",
            where=where,
            why=f"its schema is {schema}, but this edgecnn reads {SCHEMA}",
            hint="pip install --upgrade edgecnn",
        )
    if schema < 1:
        raise BundleError(f"schema {schema} never existed", where=where, hint="export the model again")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise _InvalidError(message)


def _check_file_name(name: str) -> None:
    check_text("file name", name)
    plain = PurePosixPath(name).name == name == PureWindowsPath(name).name and name != ".."
    _require(plain, f"{name!r} is not a plain file name")
    _require(len(name.encode()) <= 255, f"{name!r} is longer than 255 bytes")


def _check_file(name: str, size: int, sha256: str) -> None:
    _check_file_name(name)
    _require(0 <= size <= MAX_FILE_BYTES, f"{name}: {size} bytes, but at most {MAX_FILE_BYTES} are possible")
    _check_sha256(sha256)


def _check_sha256(text: str) -> None:
    _require(_SHA256.fullmatch(text) is not None, f"{text[:80]!r} is not a SHA-256 in lower-case hexadecimal")


def check_tag(what: str, text: str) -> None:
    """Raise BundleError unless a format or precision is a short lower-case word."""
    _require(_TAG.fullmatch(text) is not None, f"{what} {text[:80]!r} is not a short lower-case word")


def check_text(what: str, text: str, *, may_be_empty: bool = False) -> None:
    """Raise BundleError unless a text is of bounded length and safe to print."""
    _require(bool(text) or may_be_empty, f"{what} is empty")
    _require(len(text) <= _MAX_TEXT, f"{what} is longer than {_MAX_TEXT} characters")
    _require(_UNPRINTABLE.search(text) is None, f"{what} {text[:80]!r} holds a control character")


def _check_unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        _require(name not in seen, f"{what} {name!r} occurs twice")
        seen.add(name)


def _check_value(name: str, shape: tuple[int, ...], dtype: str, axes: Mapping[str, tuple[int, ...]]) -> None:
    check_text("name", name)
    _require(dtype in DTYPES, f"{name}: dtype {dtype[:80]!r} is none of {', '.join(sorted(DTYPES))}")
    _require(1 <= len(shape) <= _MAX_RANK, f"{name}: rank {len(shape)} is not within 1..{_MAX_RANK}")
    _require(min(shape) > 0 and math.prod(shape) <= _MAX_ELEMENTS, f"{name}: shape {shape} is not positive and bounded")
    _require(shape[0] == 1, f"{name}: shape {shape} does not start with a batch of 1")
    for form, order in axes.items():
        check_tag("format", form)
        _require(
            sorted(order) == list(range(len(shape))),
            f"{name}: axes {order} for {form} are not a permutation for {shape}",
        )


def _check_preprocessing(preprocessing: Preprocessing, shape: tuple[int, ...]) -> None:
    channels = shape[1] if len(shape) > 1 else 1
    for what, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
        _require(len(values) in (1, channels), f"{what} has {len(values)} values for {channels} channels")
    if preprocessing.resize is not None:
        size, source = preprocessing.resize.size, preprocessing.resize.source or (1, 1)
        _require(size == shape[2:], f"images are resized to {size}, but the shape is {shape}")
        _require(0 < min(source) <= max(source) <= _MAX_ELEMENTS, f"images are resized from {source}")
        check_text("resize.method", preprocessing.resize.method)
