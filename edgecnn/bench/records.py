"""Records: what was measured, where and how, as versioned JSON. Raw samples are kept; what is derived is derived anew.

A record is read by later versions and other machines, and comes from anywhere: all of it is checked.
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
    """What a host told of itself before the measurement, and what can change, before and after it.

    Attributes:
        kind: ``local``, ``ssh``, ``emulated``.
        machine: As ``uname -m`` has it.
        board: The board's or machine's model.
        cpu: The processor's model.
        cores: How many the system sees.
        memory: Bytes.
        features: The processor's.
        os: The system's name and version.
        kernel: The kernel's.
        libc: The C library's.
        python: The interpreter's.
        before: Just before.
        after: Just after.
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
    """What changes on a host: governor, frequencies in MHz, degrees Celsius, throttling, load, bytes of memory."""

    governor: str | None = None
    mhz: tuple[float, ...] = ()
    temperature: float | None = None
    throttled: tuple[str, ...] | None = None
    load: tuple[float, ...] | None = None
    memory_available: int | None = None
    swap: int | None = None


class ProcessFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One process; see `edgecnn.bench.sampling.ProcessTrace`. ``rounds`` says how many samples each round has.

    ``debug`` and ``delegates`` are those of `edgecnn.targets.hosts.timing.BoundInfo`.
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
        """The most memory that opening and running the artifact added to the process."""
        if self.peak_kb is None or self.resident_kb is None:
            return None
        return max(0, self.peak_kb - self.resident_kb)


class Invalidity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a result is not to be trusted, and what to do."""

    kind: str
    reason: str
    hint: str


class OperatorShare(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of a profile.

    Attributes:
        name: As the runtime or the file names the operator.
        module: The module in the model that it comes from, or the name itself.
        operator: Its kind.
        ns: Median of its time.
        share: Of all operators' time.
        floats: Whether it computes in float.
    """

    name: str
    module: str
    operator: str
    ns: float
    share: float
    floats: bool = False


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the time goes, and how that was found out."""

    method: str
    operators: tuple[OperatorShare, ...]


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An artifact on a target.

    Attributes:
        artifact: The file's name.
        format: Its format.
        precision: Its precision.
        bytes: Its size.
        sha256: Of the file.
        target: The target's name.
        host: The host's name, which ``hosts`` of the record explains.
        runtime: The runtime's name.
        version: The runtime's version.
        options: Of the runtime, all in force.
        threads: How many.
        batch: Samples of the model in each call.
        samples_ns: Latencies of each process, in the order of time. Empty where instructions were counted.
        processes: What surrounds them.
        group: Results with the same number took turns, so that they can be compared round by round.
        instructions: Of each counted inference. They are no latency.
        kinds: Of the median one, how many instructions were of a kind.
        macs: Multiply-accumulates of one call, where the file tells.
        peak_macs: What the board can do in a second at best, in this precision and with so many threads, where known.
        notes: What the user should know: connections that were cut and resumed, for example.
        error: Why there is no result.
        profile: Where the time goes, if that was asked for.
        valid: Derived: whether it can be trusted.
        invalid_reasons: Derived: why not.
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
                raise ValueError(f"{name[:40]!r} is no name")

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """What makes it the same measurement in two records: format, precision, target, threads, batch."""
        return (self.format, self.precision, self.target, self.threads, self.batch)

    @property
    def label(self) -> str:
        """The same in words."""
        more = f", {self.threads} threads" if self.threads != 1 else ""
        more += f", batch {self.batch}" if self.batch != 1 else ""
        return f"{self.artifact} on {self.target}{more}"

    @property
    def rounds(self) -> list[Process]:
        """The samples, by process and round."""
        cuts = [np.cumsum(process.rounds)[:-1] for process in self.processes]
        return [np.split(np.array(s, np.int64), cut) for s, cut in zip(self.samples_ns, cuts, strict=True)]

    @property
    def instructions_median(self) -> int | None:
        """Instructions of one inference."""
        return sorted(self.instructions)[(len(self.instructions) - 1) // 2] if self.instructions else None


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of a run.

    Attributes:
        schema: Of the record.
        edgecnn: The version that made it.
        created: When, in UTC.
        model: The bundle's name.
        options: How it was measured.
        hosts: By name.
        results: In the order of artifacts and targets.
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
            raise ValueError(f"there is nothing about the hosts {', '.join(sorted(missing))}")


def derived(result: Result, host: HostFacts, warmup: float = 0.0) -> Result:
    """The result with all that is derived from its samples: statistics and validity."""
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
    """The record with all that is derived."""
    warmup = float(record.options.get("warmup", 0.0))
    results = tuple(derived(result, record.hosts[result.host], warmup) for result in record.results)
    return msgspec.structs.replace(record, results=results)


def encode_record(record: Record) -> bytes:
    """The record as JSON; infinities do not occur."""
    return msgspec.json.encode(record) + b"\n"


def plain(record: Record, *, samples: bool = True) -> Any:
    """The record as dictionaries and lists, with or without raw samples."""
    value = msgspec.to_builtins(record)
    for result in value["results"] if not samples else ():
        del result["samples_ns"]
    return value


def decode_record(data: bytes, *, where: str = "") -> Record:
    """Read a record and derive its statistics anew.

    Raises:
        DataError: It is no record, of a newer edgecnn, or contradicts itself.
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
    """Write a record, whole or not at all.

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
