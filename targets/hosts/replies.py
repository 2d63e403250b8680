"""What an agent's replies say, checked field by field: a device's words are data, and may be wrong or hostile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from edgecnn.targets.agent import messages

Option = bool | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """The real value of a stored integer ``q`` is ``scale * (q - zero_point)``."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """An input or output of an opened artifact.

    Attributes:
        name: The signature's name in TFLite where there is one, else the tensor's own.
        shape: Sizes as the artifact states them; None may be any. The first axis is the batch.
        dtype: A numpy type's name.
        quantization: None for real values; ONNX files do not state it.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    quantization: Quantization | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentInfo:
    """What an agent says of itself: the versions and the machine's name there.

    Attributes:
        protocol: The protocol version.
        python: Python's version.
        platform: The operating system's name and version.
        machine: As ``uname -m`` has it.
        bits: 32 or 64, of the interpreter; a 64-bit kernel may run 32-bit programs.
        numpy: numpy's version.
        runtimes: Version by name for the runtimes that are installed; None where the package states no version.
    """

    protocol: int
    python: str
    platform: str
    machine: str
    numpy: str
    runtimes: Mapping[str, str | None]
    bits: int = 64

    @property
    def wheel_machine(self) -> str:
        """The machine as names of wheels have it: ``armv7l`` for 32-bit programs on a 64-bit ARM kernel."""
        if self.bits == 32:
            return {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}.get(self.machine, self.machine)
        return self.machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """A clock that some cores share; frequencies in kHz. None is what the machine does not tell."""

    cores: str | None
    governor: str | None
    now: int | None
    min: int | None
    max: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeInfo:
    """What a machine tells of itself. None, or an empty tuple, is what it does not tell.

    Attributes:
        board: The board's or the machine's model.
        cpu: The processor's model.
        cores: How many cores the system sees.
        features: The processor's features, as /proc/cpuinfo names them.
        memory: Bytes in all.
        memory_available: Bytes that programs could have now.
        swap: Bytes of swap space.
        clocks: One for each group of cores that share a clock.
        temperature: Of the hottest sensor, in degrees Celsius.
        throttled: What the firmware of a Raspberry Pi says about its power and heat; empty where all is well, None on
            other boards.
        os: The operating system's name and version.
        kernel: The kernel's name and version.
        python: The interpreter's name and version.
        libc: The C library's name and version, which decides what wheels fit.
        load: How many processes ran or waited, on average of 1, 5 and 15 minutes.
    """

    board: str | None = None
    cpu: str | None = None
    cores: int | None = None
    features: tuple[str, ...] = ()
    memory: int | None = None
    memory_available: int | None = None
    swap: int | None = None
    clocks: tuple[Clock, ...] = ()
    temperature: float | None = None
    throttled: tuple[str, ...] | None = None
    os: str | None = None
    kernel: str | None = None
    python: str | None = None
    libc: str | None = None
    load: tuple[float, ...] | None = None

    @property
    def governor(self) -> str | None:
        """The governors in force: one name where all clocks have the same."""
        return " ".join(sorted({clock.governor for clock in self.clocks if clock.governor})) or None


THROTTLED: Mapping[int, str] = MappingProxyType(
    {
        0: "under-voltage now",
        1: "frequency capped now",
        2: "throttled now",
        3: "soft temperature limit now",
        16: "under-voltage since boot",
        17: "frequency capped since boot",
        18: "throttled since boot",
        19: "soft temperature limit since boot",
    }
)
"""What the bits of ``vcgencmd get_throttled`` mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The reply to ``open``: the session's number, the runtime's version, all options in force, inputs and outputs.

    Attributes:
        arena_bytes: Memory for tensors, where the runtime tells: TFLite Micro does.
        load_ns: What opening took, the runtime's module being imported already; 0 where the agent does not tell.
        resident_kb: Memory of the process just before that, where it is known.
        not_kept: Why the device could not keep the artifact for the next time; None where it did or was not asked to.
    """

    session: int
    version: str
    options: Mapping[str, Option]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    arena_bytes: int | None = None
    load_ns: int = 0
    resident_kb: int | None = None
    not_kept: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An ``error`` reply; see the agent for the kinds."""

    kind: str
    message: str
    traceback: str


def parse_hello(message: messages.Message) -> AgentInfo:
    """Read the reply to ``hello``.

    Raises:
        ProtocolError: A field is missing or of another type.
    """
    fields = message.fields
    runtimes = _field(fields, "runtimes", dict)
    if not all(version is None or isinstance(version, str) for version in runtimes.values()):
        raise messages.ProtocolError("a runtime's version is not a string")
    texts = {name: printable(_field(fields, name, str)) for name in ("python", "platform", "machine", "numpy")}
    versions = {printable(name): version and printable(version) for name, version in runtimes.items()}
    bits = 64 if "bits" not in fields else _natural(fields, "bits")
    return AgentInfo(
        protocol=_field(fields, "protocol", int), runtimes=MappingProxyType(versions), bits=bits or 64, **texts
    )


def parse_probe(message: messages.Message) -> ProbeInfo:
    """Read the reply to ``probe``. Texts are cut to `_LONGEST` characters and lists to a size no machine needs.

    Raises:
        ProtocolError: A field is of another type than it should be.
    """
    fields = message.fields
    throttled = _natural(fields, "throttled")
    load = _numbers(fields, "load")
    temperature = fields.get("temperature")
    texts: dict[str, Any] = {name: _line(fields, name) for name in ("board", "cpu", "os", "kernel", "python", "libc")}
    numbers: dict[str, Any] = {name: _natural(fields, name) for name in ("cores", "memory", "memory_available", "swap")}
    return ProbeInfo(
        **texts,
        **numbers,
        features=tuple(printable(item)[:40] for item in _texts(fields, "features")),
        clocks=tuple(_clock(item) for item in _items(fields, "clocks")[:64]),
        temperature=None if temperature is None else float(_number(temperature, "temperature")),
        throttled=None if throttled is None else tuple(what for bit, what in THROTTLED.items() if throttled >> bit & 1),
        load=None if load is None else load[:3],
    )


def parse_opened(message: messages.Message) -> Opened:
    """Read the reply to ``open``.

    Raises:
        ProtocolError: A field is missing or of another type.
    """
    fields = message.fields
    options = _field(fields, "options", dict)
    if not all(isinstance(value, Option) for value in options.values()):
        raise messages.ProtocolError("an option is not a boolean, an integer or a string")
    return Opened(
        session=_field(fields, "session", int),
        version=printable(_field(fields, "version", str)),
        options=MappingProxyType(options),
        inputs=tuple(_tensor(item) for item in _field(fields, "inputs", list)),
        outputs=tuple(_tensor(item) for item in _field(fields, "outputs", list)),
        arena_bytes=_natural(fields, "arena_bytes"),
        load_ns=_natural(fields, "load_ns") or 0,
        resident_kb=_natural(fields, "resident_kb"),
        not_kept=_line(fields, "not_kept"),
    )


def parse_outputs(message: messages.Message, outputs: Sequence[TensorInfo]) -> list[NDArray[Any]]:
    """Read the reply to ``infer``.

    Raises:
        ProtocolError: The arrays are not of the number and types that the artifact was said to have.
    """
    got = [array.dtype.name for array in message.arrays]
    expected = [output.dtype for output in outputs]
    if got != expected:
        raise messages.ProtocolError(f"the outputs are of the types {got}, announced were {expected}")
    return list(message.arrays)


def parse_nothing(_: messages.Message) -> None:
    """Read a reply that says no more than that the request was served."""


def parse_refused(message: messages.Message) -> Refused:
    """Read an ``error`` reply.

    Raises:
        ProtocolError: It is another reply, or a field is missing or of another type.
    """
    if message.kind != "error":
        raise messages.ProtocolError(f"a reply to another request came: {message.kind[:40]!r}")
    names = ("kind", "message", "traceback")
    return Refused(**{name: printable(_field(message.fields, name, str)) for name in names})


def printable(text: str) -> str:
    """Return `text` without what could move a terminal's cursor or fail to encode; lines and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _field(fields: Mapping[str, Any], name: str, expected: type) -> Any:
    value = fields.get(name)
    if type(value) is not expected:  # and not isinstance: True is no session number
        raise messages.ProtocolError(f"the field {name} is missing or not of type {expected.__name__}")
    return value


_LONGEST = 300  # characters of a text that stands on one line


def _line(fields: Mapping[str, Any], name: str) -> str | None:
    """A short text, made one line, or None."""
    if fields.get(name) is None:
        return None
    return printable(" ".join(_field(fields, name, str)[: 4 * _LONGEST].split()))[:_LONGEST]


def _natural(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is not None and (type(value) is not int or value < 0):
        raise messages.ProtocolError(f"the field {name} is not a natural number")
    return value


def _number(value: Any, name: str) -> int | float:
    if type(value) is not int and type(value) is not float:
        raise messages.ProtocolError(f"the field {name} is not a number")
    return value


def _items(fields: Mapping[str, Any], name: str) -> list[Any]:
    return [] if fields.get(name) is None else list(_field(fields, name, list))


def _texts(fields: Mapping[str, Any], name: str) -> list[str]:
    items = _items(fields, name)
    if not all(isinstance(item, str) for item in items):
        raise messages.ProtocolError(f"the field {name} is not a list of strings")
    return items[:512]


def _numbers(fields: Mapping[str, Any], name: str) -> tuple[float, ...] | None:
    if fields.get(name) is None:
        return None
    return tuple(float(_number(item, name)) for item in _items(fields, name))


def _clock(item: Any) -> Clock:
    if not isinstance(item, dict):
        raise messages.ProtocolError("a clock's description is not an object")
    return Clock(
        cores=_line(item, "cores"),
        governor=_line(item, "governor"),
        now=_natural(item, "now"),
        min=_natural(item, "min"),
        max=_natural(item, "max"),
    )


def _tensor(item: Any) -> TensorInfo:
    if not isinstance(item, dict):
        raise messages.ProtocolError("a tensor's description is not an object")
    shape = _field(item, "shape", list)
    if not all(size is None or (type(size) is int and size >= 0) for size in shape):
        raise messages.ProtocolError("a tensor's shape has a size that is not a natural number")
    dtype = _field(item, "dtype", str)
    if dtype not in messages.DTYPES:
        raise messages.ProtocolError("a tensor's type is not one of numpy's that can be sent")
    quantization = item.get("quantization")
    return TensorInfo(
        name=_field(item, "name", str),
        shape=tuple(shape),
        dtype=dtype,
        quantization=None if quantization is None else _quantization(quantization),
    )


def _quantization(item: Any) -> Quantization:
    if not isinstance(item, dict):
        raise messages.ProtocolError("a tensor's quantization is not an object")
    return Quantization(scale=_field(item, "scale", float), zero_point=_field(item, "zero_point", int))
