"""Hosts in a check: one that crashes or is not reached does not lose the others."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import pytest

import edgecnn
from edgecnn.errors import TargetError
from edgecnn.parity import check_jobs as jobs
from edgecnn.targets.target import Found, Target, TargetFailure, installed_targets

pytestmark = pytest.mark.usefixtures("home")


@dataclass(frozen=True)
class Crashing:
    """A host whose agent dies as soon as it is asked for anything."""

    name: str = "crashing"
    kind: str = "ssh"
    environments: tuple[str, ...] = field(default=("",))

    def start(self, environment: str = "", *, time_limit: float = 60):
        from edgecnn.targets.hosts.connection import Connection

        program = "import os, signal; os.read(0, 1); os.kill(os.getpid(), signal.SIGSEGV)"
        return Connection([sys.executable, "-c", program], name=self.name, time_limit=time_limit)


def test_a_host_that_crashes_does_not_lose_the_others(sides) -> None:
    dead = Target(runtime="litert", host=Crashing(), name="litert@crashing")
    report = edgecnn.check_bundle(sides, targets=[dead, *installed_targets()])
    assert (report.passed, report.exit_code) == (False, 2)
    assert {v.target for v in report.verdicts} == {"onnxruntime@local", "litert@local"}
    assert [(u.target, u.artifact) for u in report.unjudged] == [("litert@crashing", "sides.fp32.tflite")]
    assert "SIGSEGV" in report.unjudged[0].error.message


def test_hosts_that_are_not_reached_are_in_the_report(sides, monkeypatch) -> None:
    lost = TargetFailure(target="down", error=TargetError("down: no answer"))
    found = Found(targets=tuple(installed_targets()), failures=(lost,))
    monkeypatch.setattr(jobs, "find_targets", lambda *_, **__: found)
    report = edgecnn.check_bundle(sides, targets=["@local", "@down"])
    assert len(report.verdicts) == 2
    assert report.as_json()["unjudged"][0]["message"] == "down: no answer"
