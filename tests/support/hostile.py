"""Mutations of good files, seeded, and what becomes of each: a clear error, or a verdict; never anything else."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from support.hostile_mutations import bad_manifest, bad_npz, mutated
from support.paths import ROOT

import edgecnn
from edgecnn.compare import Options, compare_files
from edgecnn.errors import EdgecnnError
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.target import installed_targets

TIME_LIMIT = 10.0
"""Seconds for one answer of a runtime."""
LONGEST = TIME_LIMIT + 20.0
"""Seconds that any one case may take: two answers at most run into their limit, and then a new agent starts."""
MEMORY = 3 * 2**30
"""Bytes that this process may have resident at its peak, with what tests have loaded before."""
OPENED = 150
"""Artifacts that one agent opens before the next one starts."""
SUBJECTS = ("onnx", "tflite", "onnx in a bundle", "tflite in a bundle", "manifest", "golden")


OWN = (
    sys.prefix,
    sys.base_prefix,
    str(ROOT),
    "/proc/",
    "/sys/",
    "/dev/null",
    "/usr/",
)
"""Where Python, its packages and the system lie: modules that are imported late are read from there."""


class Openings:
    """The paths that this process opens, as Python's own audit tells."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str | bytes | Path) and str(args[0])[:1] == "/":
            self.paths.add(os.fsdecode(args[0]))


@functools.cache
def openings() -> Openings:
    """The audit hook of this process, which cannot be removed again."""
    return Openings()


class Reused:
    """This machine with one agent for all, started again where it has ended; it is `Host` and `Connection` in one."""

    name, kind, environments = "local", "shared", ("",)

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._opened = 0
        self.starts = 0

    def start(self, environment: str = "", *, time_limit: float = TIME_LIMIT) -> Any:
        if self._connection is None or not self._connection.alive:
            self._connection = LocalHost().start(time_limit=time_limit)
            self._opened = 0
            self.starts += 1
        return self

    def open(self, runtime: str, artifact: bytes, label: str, **options: Any) -> Any:
        assert self._connection is not None
        self._opened += 1
        return self._connection.open(runtime, artifact, label, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Keep the agent for the next."""

    def renew(self) -> None:
        """End an agent that has opened much; between cases only, since one case may have two artifacts open."""
        if self._opened >= OPENED:
            self.end()

    def end(self) -> None:
        if self._connection is not None:
            self._connection.close()


def sort_of(error: EdgecnnError) -> str:
    """What an error that a user is meant to see says."""
    assert error.message
    assert error.exit_code == 2
    for words, sort in ((" crashed with ", "crashed"), ("no answer", "no answer"), (" on ", "refused by the runtime")):
        if words in error.message:
            return sort
    return "refused"


@dataclass
class Tally:
    """What became of the cases, by subject and outcome, and the errors' first words."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0


class Lab:
    """Good files, and a place to try bad ones in.

    Args:
        good: A bundle of fp32 and int8 in both formats.
        folder: An empty folder for the bad ones.
    """

    def __init__(self, good: edgecnn.Bundle, folder: Path) -> None:
        self.good, self.folder, self.host = good, folder, Reused()
        self.targets = [replace(t, host=self.host) for t in installed_targets()]  # type: ignore[arg-type]

    def try_one(self, subject: str, random: Random, tally: Tally) -> None:
        """One mutation of one subject.

        Raises:
            Exception: Whatever is no error that a user is meant to see.
        """
        self.host.renew()
        begun = time.monotonic()
        openings().paths.clear()
        try:
            outcome = self._run(subject, random)
        except EdgecnnError as err:
            outcome = sort_of(err)
            tally.messages[f"{subject}: {err.message.splitlines()[0][:90]}"] += 1
        tally.outcomes[subject, outcome] += 1
        taken = time.monotonic() - begun
        assert taken < LONGEST, f"{taken:.0f} s"
        allowed = (str(self.folder), str(self.good.directory), *OWN)
        outside = {path for path in openings().paths if not path.startswith(allowed)}
        assert not outside, f"opened {outside}"
        tally.longest = max(tally.longest, taken)

    def _run(self, subject: str, random: Random) -> str:
        form = subject.split(maxsplit=1)[0]
        artifacts = [a for a in self.good.artifacts if a.format == form]
        if subject in ("onnx", "tflite"):
            good = random.choice(artifacts).path
            bad = self.folder / f"bad.{form}"
            bad.write_bytes(mutated(good.read_bytes(), random, form))
            report = compare_files(good, bad, options=Options(samples=2), targets=self.targets)
            return "compared" if report.exit_code == 0 else "found different"
        with self._bundle() as folder:
            if form == "manifest":
                path = folder / "manifest.json"
                path.write_bytes(bad_manifest(path.read_bytes(), random))
            else:
                name = "golden.npz" if form == "golden" else random.choice(artifacts).path.name
                data = (folder / name).read_bytes()
                rewrite(folder, name, bad_npz(data, random) if form == "golden" else mutated(data, random, form))
            bundle = edgecnn.load_bundle(folder)
            report = edgecnn.check_bundle(bundle, targets=self.targets, time_limit=TIME_LIMIT)
        if report.unjudged:
            crashed = any(" crashed with " in u.error.message for u in report.unjudged)
            return "crashed" if crashed else "refused by the runtime"
        return "passed" if report.passed else "found wrong"

    @contextmanager
    def _bundle(self) -> Iterator[Path]:
        folder = self.folder / "bundle"
        shutil.copytree(self.good.directory, folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Put other bytes in a bundle's file, and let the manifest vouch for them."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    for entry in (*manifest["artifacts"], manifest["golden"]):
        if entry["file"] == name:
            entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(manifest))
    (folder / name).write_bytes(data)


def peak() -> int:
    """Bytes that this process has had resident at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def good_bundle(folder: Path) -> edgecnn.Bundle:
    """A small net in fp32 and int8, in both formats."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
            self.scores = nn.Linear(4 * 4 * 4, 7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.scores(self.features(x).flatten(1))

    torch.manual_seed(0)
    data = torch.rand(64, 3, 8, 8).numpy()
    return edgecnn.export_model(
        Net().eval(), torch.zeros(1, 3, 8, 8), folder, name="net", precisions=["fp32", "int8"], calibration=data
    )
