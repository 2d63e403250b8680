"""Descriptions of a device: the replies to ``hello`` and ``probe``, checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from edgecnn.targets.agent import messages
from edgecnn.targets.hosts.reply_fields import (
    check_number,
    read_field,
    read_line,
    read_list,
    read_natural,
    read_numbers,
    read_texts,
)
from edgecnn.targets.printable import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentInfo:
    """Versions and the name of the machine, as an agent reports them.

    Attributes:
        protocol: The protocol version.
        python: Python's version.
        platform: The operating system's name and version.
        machine: The output of ``uname -m``.
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
        """The machine's name in names of wheels: ``armv7l`` for 32-bit programs on a 64-bit ARM kernel."""
        if self.bits == 32:
            return {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}.get(self.machine, self.machine)
        return self.machine


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuClock:
    """A clock that some cores share; frequencies in kHz. None stands for what the machine does not report."""

    cores: str | None
    governor: str | None
    now: int | None
    min: int | None
    max: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeInfo:
    """A description of a machine. None, or an empty tuple, stands for what it does not report.

    Attributes:
        board: The board's or the machine's model.
        cpu: The processor's model.
        cores: How many cores the system sees.
        features: The processor's features, as /proc/cpuinfo names them.
        memory: Total bytes.
        memory_available: Bytes that programs can still get.
        swap: Bytes of swap space.
        clocks: One for each group of cores that share a clock.
        temperature: Degrees Celsius at the hottest sensor.
        throttled: Problems of power and heat that the firmware of a Raspberry Pi reports; None on other boards.
        os: The operating system's name and version.
        kernel: The kernel's name and version.
        python: The interpreter's name and version.
        libc: The C library's name and version, which decides which wheels fit.
        load: Average number of processes that ran or waited, over 1, 5 and 15 minutes.
    """

    board: str | None = None
    cpu: str | None = None
    cores: int | None = None
    features: tuple[str, ...] = ()
    memory: int | None = None
    memory_available: int | None = None
    swap: int | None = None
    clocks: tuple[CpuClock, ...] = ()
    temperature: float | None = None
    throttled: tuple[str, ...] | None = None
    os: str | None = None
    kernel: str | None = None
    python: str | None = None
    libc: str | None = None
    load: tuple[float, ...] | None = None

    @property
    def governor(self) -> str | None:
        """The names of all governors in force, once each."""
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


def parse_hello(message: messages.Message) -> AgentInfo:
    """Read the reply to ``hello``.

    Raises:
        ProtocolError: A field is missing or has the wrong type.
    """
    fields = message.fields
    runtimes = read_field(fields, "runtimes", dict)
    if not all(version is None or isinstance(version, str) for version in runtimes.values()):
        raise messages.ProtocolError("a runtime's version is not a string")
    texts = {name: printable(read_field(fields, name, str)) for name in ("python", "platform", "machine", "numpy")}
    versions = {printable(name): version and printable(version) for name, version in runtimes.items()}
    bits = 64 if "bits" not in fields else read_natural(fields, "bits")
    return AgentInfo(
        protocol=read_field(fields, "protocol", int), runtimes=MappingProxyType(versions), bits=bits or 64, **texts
    )


def parse_probe(message: messages.Message) -> ProbeInfo:
    """Read the reply to ``probe``. Texts are cut to `LONGEST_LINE` characters and lists to a size no machine needs.

    Raises:
        ProtocolError: A field has the wrong type.
    """
    fields = message.fields
    throttled = read_natural(fields, "throttled")
    load = read_numbers(fields, "load")
    temperature = fields.get("temperature")
    texts: dict[str, Any] = {
        name: read_line(fields, name) for name in ("board", "cpu", "os", "kernel", "python", "libc")
    }
    numbers: dict[str, Any] = {
        name: read_natural(fields, name) for name in ("cores", "memory", "memory_available", "swap")
    }
    return ProbeInfo(
        **texts,
        **numbers,
        features=tuple(printable(item)[:40] for item in read_texts(fields, "features")),
        clocks=tuple(_clock(item) for item in read_list(fields, "clocks")[:64]),
        temperature=None if temperature is None else float(check_number(temperature, "temperature")),
        throttled=None if throttled is None else tuple(what for bit, what in THROTTLED.items() if throttled >> bit & 1),
        load=None if load is None else load[:3],
    )


def _clock(item: Any) -> CpuClock:
    if not isinstance(item, dict):
        raise messages.ProtocolError("a clock's description is not an object")
    return CpuClock(
        cores=read_line(item, "cores"),
        governor=read_line(item, "governor"),
        now=read_natural(item, "now"),
        min=read_natural(item, "min"),
        max=read_natural(item, "max"),
    )
