"""Measuring elsewhere: over a real ssh line that is cut, and on emulated boards, without a latency."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from support.sshd import needs_sshd, sshd

import edgecnn
from edgecnn.bench.measure_bundle import bench_bundle
from edgecnn.bench.regression import compare_records
from edgecnn.bench.table import columns_for
from edgecnn.bench.warmup import BenchSettings
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation import is_built
from edgecnn.targets.target import Target

QUICK = BenchSettings(processes=2, seconds=0.1, warmup=0.05, samples=200)
needs_pi4 = pytest.mark.skipif(not is_built(load_board("pi4")), reason="needs a board: edgecnn targets emulate pi4")


def exported(folder, width):
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(1, width, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(width * 100, 10)]
    return edgecnn.export_model(
        torch.nn.Sequential(*layers).eval(),
        torch.zeros(1, 1, 12, 12),
        folder,
        name="net",
        formats=["tflite"],
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("targets") / "net", 8)


@pytest.fixture
def device():
    """A server on which nothing may run when the test is over."""
    with sshd() as server:
        yield server
        for _ in range(500):
            if not (left := there(server)):
                break
            time.sleep(0.02)
        assert left == []


def there(server):
    """The processes that run on the device: those whose home folder is the device's."""
    mark, found = f"HOME={server.home}".encode(), []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environ.read_bytes().split(b"\0"):
                found.append(environ.parent.name)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def kitchen(device):
    return [Target(runtime="litert", host=device.host(), name="litert@kitchen", time_limit=60)]


@needs_sshd
def test_a_device_behind_ssh(device, bundle):
    report = bench_bundle(bundle, targets=kitchen(device), limits=QUICK)
    (found,) = report.results
    assert report.complete
    assert (len(found.processes), found.host, found.notes) == (2, "kitchen", ())
    assert report.record.hosts["kitchen"].kind == "ssh"
    assert report.record.hosts["kitchen"].after is not None


@needs_sshd
def test_a_line_cut_once_is_resumed_and_said(device, bundle):
    cut = []

    def cutter(*_):
        if not cut:
            cut.append(1)
            device.cut()

    report = bench_bundle(bundle, targets=kitchen(device), limits=QUICK, progress=cutter)
    (found,) = report.results
    assert found.error is None
    assert len(found.processes) == 2
    assert found.notes[0].endswith("measured again in a new process")


@needs_sshd
def test_a_line_that_is_gone_is_reported_with_what_was_measured(device, bundle):
    def stopper(text, *_):
        if text.startswith("process 2"):
            device.stop()

    report = bench_bundle(bundle, targets=kitchen(device), limits=QUICK, progress=stopper)
    (found,) = report.results
    assert not report.complete
    assert len(found.processes) == 1
    assert found.error
    assert not found.valid


@needs_sshd
def test_an_interrupt_leaves_nothing_there(device, bundle):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench_bundle(bundle, targets=kitchen(device), limits=QUICK, progress=interrupt)


@needs_pi4
def test_emulated_boards_count_instructions_and_have_no_latency(bundle):
    report = bench_bundle(bundle, targets=["litert@pi4"], limits=QUICK)
    (found,) = report.results
    assert len(found.instructions) == 5
    assert found.samples_ns == ()
    assert found.statistics is None
    names = {column.name for column in columns_for([found])}
    assert "instructions_m" in names
    assert not names & {"p50_us", "p99_us", "first_ms", "load_ms", "per_second", "roof_share"}
    assert report.as_json()["results"][0]["statistics"] is None


@needs_pi4
def test_a_layer_widened_by_one_percent_is_caught_and_unchanged_runs_raise_no_alarm(tmp_path):
    records = {
        width: bench_bundle(exported(tmp_path / str(width), width), targets=["litert@pi4"]).record
        for width in (100, 101)
    }
    assert compare_records(records[100], records[101]).failed
    again = bench_bundle(edgecnn.load_bundle(tmp_path / "100"), targets=["litert@pi4"]).record
    assert not compare_records(records[100], again).failed
    assert again.results[0].instructions == records[100].results[0].instructions
