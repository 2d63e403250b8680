"""Records of measurements with their conditions, as versioned JSON with raw samples.

Statistics are derived again whenever a record is read. Later versions and other machines read records, and a record may
come from anywhere, so all of it is checked.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgecnn.bench.percentiles import Process, Summary, summarize
from edgecnn.errors import DataError

SCHEMA = 1
MAX_BYTES = 1 << 29
_MAX_NAME = 4096
Option = bool | int | str


class HostFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts about a host, and its conditions before and after the measurement.

    Attributes:
        kind: ``local``, ``ssh``, ``emulated``.
        machine: Machine type, as from ``uname -m``.
        board: Model of the board or machine.
        cpu: Model of the processor.
        cores: Number of cores that the system reports.
        memory: Memory in bytes.
        features: Feature flags of the processor.
        os: Name and version of the operating system.
        kernel: Version of the kernel.
        libc: Version of the C library.
        python: Version of the Python interpreter.
        before: Conditions just before the measurement.
        after: Conditions just after the measurement.
    """

    kind: str
    machine: str
    board: str | None = None
    cpu: str | None = None
    cores: int | None = None
    memory: int | None = None
    features: tuple[str, ...] = ()
    os: str | None = None
    kernel: str | None = None
    libc: str | None = None
    python: str | None = None
    before: Conditions
    after: Conditions | None = None


class Conditions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Variable conditions of a host: governor, frequencies in MHz, temperature in Celsius, throttling, load, memory."""

    governor: str | None = None
    mhz: tuple[float, ...] = ()
    temperature: float | None = None
    throttled: tuple[str, ...] | None = None
    load: tuple[float, ...] | None = None
    memory_available: int | None = None
    swap: int | None = None


class ProcessFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts about one measured process; see `edgecnn.bench.sampling.ProcessTrace`.

    ``rounds`` has the number of samples of each round. ``debug`` and ``delegates`` are those of
    `edgecnn.targets.hosts.timing.BoundInfo`.
    """

    rounds: tuple[int, ...]
    load_ns: int
    first_ns: int
    overhead_ns: int
    warmup_calls: int
    steady: bool
    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    khz: tuple[int, ...]
    resident_kb: int | None = None
    peak_kb: int | None = None
    arena_bytes: int | None = None
    debug: bool = False
    delegates: int | None = None

    @property
    def peak_above_kb(self) -> int | None:
        """Peak memory that opening and running the artifact added to the process, in kB."""
        if self.peak_kb is None or self.resident_kb is None:
            return None
        return max(0, self.peak_kb - self.resident_kb)


class Invalidity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a result is invalid, and what to try."""

    kind: str
    reason: str
    hint: str


class OperatorShare(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of a profile.

    Attributes:
        name: The operator's name in the runtime or the file.
        module: The module of the model that it comes from, or the operator's name.
        operator: Kind of the operator.
        ns: Median time in ns.
        share: Share of the time of all operators.
        floats: Whether the operator computes in float.
    """

    name: str
    module: str
    operator: str
    ns: float
    share: float
    floats: bool = False


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The time of each operator, and the method of measuring it."""

    method: str
    operators: tuple[OperatorShare, ...]


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result of one artifact on one target.

    Attributes:
        artifact: File name of the artifact.
        format: Format of the artifact.
        precision: Precision of the artifact.
        bytes: Size of the file in bytes.
        sha256: SHA-256 of the file.
        target: The target's name.
        host: The host's name, a key of ``hosts`` of the record.
        runtime: The runtime's name.
        version: The runtime's version.
        options: All options of the runtime in force.
        threads: Number of threads.
        batch: Samples of the model in each call.
        samples_ns: Latencies of each process, in chronological order. Empty if instructions were counted.
        processes: Facts about each process.
        group: Results with the same number took turns, so that they can be compared round by round.
        instructions: Instructions of each counted inference. They are not a latency.
        kinds: Number of instructions of each kind in the median inference.
        macs: Multiply-accumulates of one call, if the file shows them.
        peak_macs: Peak multiply-accumulates per second of the board in this precision with this number of threads, if
            known.
        notes: Notes for the user, such as lost connections that were resumed.
        error: Why there is no result.
        profile: The time of each operator, if requested.
        valid: Derived: whether the result can be trusted.
        invalid_reasons: Derived: why it cannot be trusted.
        statistics: Derived: see `edgecnn.bench.percentiles.Summary`.
    """

    artifact: str
    format: str
    precision: str
    bytes: int
    sha256: str
    target: str
    host: str
    runtime: str
    version: str
    options: dict[str, Option] = {}
    threads: int = 1
    batch: int = 1
    samples_ns: tuple[tuple[int, ...], ...] = ()
    processes: tuple[ProcessFacts, ...] = ()
    group: int = 0
    instructions: tuple[int, ...] = ()
    kinds: dict[str, int] = {}
    macs: int | None = None
    peak_macs: float | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None
    profile: Profile | None = None
    valid: bool = True
    invalid_reasons: tuple[Invalidity, ...] = ()
    statistics: Summary | None = None

    def __post_init__(self) -> None:
        if len(self.samples_ns) != len(self.processes):
            raise ValueError(f"{len(self.samples_ns)} rows of samples and {len(self.processes)} processes")
        for samples, process in zip(self.samples_ns, self.processes, strict=True):
            if not samples or min(samples) < 0 or min(process.rounds, default=0) < 1:
                raise ValueError("a process has no samples, an empty round, or a negative time")
            lengths = {len(process.rounds), len(process.wall_ns), len(process.cpu_ns), len(process.khz)}
            if sum(process.rounds) != len(samples) or len(lengths) != 1:
                raise ValueError("the rounds of a process do not add up to its samples")
        for name in (self.artifact, self.target, self.host, self.runtime):
            if not name or len(name) > _MAX_NAME or not name.isprintable():
                raise ValueError(f"{name[:40]!r} is not a valid name")

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """Identifies a measurement across records: format, precision, target, threads, batch."""
        return (self.format, self.precision, self.target, self.threads, self.batch)

    @property
    def label(self) -> str:
        """The result's name in messages."""
        more = f", {self.threads} threads" if self.threads != 1 else ""
        more += f", batch {self.batch}" if self.batch != 1 else ""
        return f"{self.artifact} on {self.target}{more}"

    @property
    def rounds(self) -> list[Process]:
        """The samples of each process and round."""
        cuts = [np.cumsum(process.rounds)[:-1] for process in self.processes]
        return [np.split(np.array(s, np.int64), cut) for s, cut in zip(self.samples_ns, cuts, strict=True)]

    @property
    def instructions_median(self) -> int | None:
        """Median number of instructions of one inference; None if they were not counted."""
        return sorted(self.instructions)[(len(self.instructions) - 1) // 2] if self.instructions else None


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All results of one run.

    Attributes:
        schema: Schema number of the record.
        edgecnn: The version of edgecnn that wrote it.
        created: Date and time in UTC.
        model: Name of the bundle.
        options: Settings of the measurement.
        hosts: Facts about the hosts, by name.
        results: Results in the order of artifacts and targets.
    """

    schema: int = SCHEMA
    edgecnn: str
    created: str
    model: str
    options: dict[str, float | int] = {}
    hosts: dict[str, HostFacts]
    results: tuple[Result, ...]

    def __post_init__(self) -> None:
        missing = {r.host for r in self.results} - set(self.hosts)
        if missing:
            raise ValueError(f"there are no facts about the hosts {', '.join(sorted(missing))}")


def derived(result: Result, host: HostFacts, warmup: float = 0.0) -> Result:
    """Add to a result what is derived from its samples: statistics and validity."""
    from edgecnn.bench.validity import check_frequency, check_load, check_throttled, check_trace, check_warmup

    if not result.samples_ns:
        return msgspec.structs.replace(result, valid=result.error is None, invalid_reasons=(), statistics=None)
    rounds = result.rounds
    facts = result.processes
    found = [
        *check_warmup([p.steady for p in facts], warmup),
        *check_trace(rounds),
        *check_frequency([p.khz for p in facts]),
        *check_load([p.cpu_ns for p in facts], [p.wall_ns for p in facts], result.threads),
        *check_throttled(host.before.throttled, None if host.after is None else host.after.throttled),
    ]
    reasons = tuple(Invalidity(kind=f.kind, reason=f.reason, hint=f.hint) for f in found)
    return msgspec.structs.replace(
        result,
        valid=not reasons and result.error is None,
        invalid_reasons=reasons,
        statistics=summarize(rounds, batch=result.batch),
    )


def derived_record(record: Record) -> Record:
    """Add to all results of a record what is derived from their samples."""
    warmup = float(record.options.get("warmup", 0.0))
    results = tuple(derived(result, record.hosts[result.host], warmup) for result in record.results)
    return msgspec.structs.replace(record, results=results)


def encode_record(record: Record) -> bytes:
    """Encode a record as JSON. Infinities do not occur in records."""
    return msgspec.json.encode(record) + b"\n"


def plain(record: Record, *, samples: bool = True) -> Any:
    """Convert a record to dictionaries and lists, with or without raw samples."""
    value = msgspec.to_builtins(record)
    for result in value["results"] if not samples else ():
        del result["samples_ns"]
    return value


def decode_record(data: bytes, *, where: str = "") -> Record:
    """Decode a record and derive its statistics.

    Raises:
        DataError: The data is not a record, was written by a newer edgecnn, or contradicts itself.
    """
    again = "measure again: edgecnn bench BUNDLE --save FILE"
    try:
        schema = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
        if schema != SCHEMA:
            newer = type(schema) is int and schema > SCHEMA
            why = f"its schema is {schema}, this edgecnn reads {SCHEMA}"
            hint = "pip install --upgrade edgecnn" if newer else again
            raise DataError("the record cannot be read by this edgecnn", where=where, why=why, hint=hint)
        return derived_record(msgspec.json.decode(data, type=Record))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise DataError("the record cannot be read", where=where, why=str(error), hint=again) from error


def load_record(path: str | os.PathLike[str]) -> Record:
    """Read a record from a file.

    Raises:
        DataError: As `decode_record`, or the file cannot be read.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        hint = "edgecnn bench BUNDLE --save FILE writes one"
        raise DataError(f"cannot read {file}", why=error.strerror or str(error), hint=hint) from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{file} is larger than {MAX_BYTES:,} bytes", hint="fewer results in one record")
    return decode_record(data, where=str(file))


def save_record(record: Record, path: str | os.PathLike[str]) -> None:
    """Write a record completely or not at all.

    Raises:
        DataError: The file cannot be written.
    """
    file = Path(path)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        part.write_bytes(encode_record(record))
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"cannot write {file}", why=error.strerror or str(error), hint="another --save") from error
