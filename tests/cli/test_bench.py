"""``edgecnn bench``: what it saves, compares and refuses, and its exit codes."""

from __future__ import annotations

import csv
import io
import json

import msgspec
import pytest
from support.bench_records import record, result
from support.command import invoke

import edgecnn
from edgecnn.bench.records import save_record

FLAGS = ["--processes", "2", "--time", "0.1", "--warmup", "0.05"]


def test_the_command_saves_and_compares(single, tmp_path):
    saved = tmp_path / "a.json"
    code, text = invoke(
        "bench", single.directory, *FLAGS, "--target", "litert", "--save", saved, "--histogram", "--sort", "p50"
    )
    assert code == 0
    assert "p50 us" in text
    code, _ = invoke("bench", "compare", saved, saved)
    assert code == 0
    plain = json.loads(saved.read_text())
    for row in plain["results"]:
        row["samples_ns"] = [[100_000 + i % 7 for i, _ in enumerate(s)] for s in row["samples_ns"]]
        for process in row["processes"]:  # whatever this machine was busy with
            process.update(steady=True, cpu_ns=process["wall_ns"], khz=[0 for _ in process["khz"]])
    old, slow = tmp_path / "old.json", tmp_path / "slow.json"
    old.write_text(json.dumps(plain))
    for row in plain["results"]:
        row["samples_ns"] = [[2 * n for n in samples] for samples in row["samples_ns"]]
    slow.write_text(json.dumps(plain))
    code, text = invoke("bench", "compare", old, slow)
    assert code == 1
    assert "slower: net.fp32.tflite on litert@local: latency 2.000 times as much" in text
    assert invoke("bench", "compare", old, slow, "--max-slowdown", "2.1")[0] == 0
    code, text = invoke("bench", "compare", old, slow, "--json", "-")
    assert json.loads(text)["changes"][0]["ratio"] == pytest.approx(2)
    files = [tmp_path / "c.json", tmp_path / "c.csv", tmp_path / "c.md"]
    flags = [str(f) for option in zip(("--json", "--csv", "--markdown"), files, strict=True) for f in option]
    assert "slower: net.fp32.tflite" in invoke("bench", "compare", old, slow, *flags)[1]
    assert json.loads(files[0].read_text()) == json.loads(text)
    assert list(csv.reader(io.StringIO(files[1].read_text())))[1][3] == "2.000"
    assert files[2].read_text().startswith("| result | before |")
    code, text = invoke("bench", "compare", old, slow, "--csv", "-")
    assert list(csv.reader(io.StringIO(text)))[1][3] == "2.000"


def test_formats_budgets_and_exit_codes(single):
    flags = ["--processes", "1", *FLAGS[2:], "--target", "litert"]
    code, text = invoke("bench", single.directory, *flags, "--budget", "size_kb=0.001", "--json", "-")
    assert code == 1
    found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert found["schema"] == 1
    assert found["over_budget"][0]["item"] == "size_kb"
    assert found["results"][0]["samples_ns"]
    code, text = invoke("bench", single.directory, *flags, "--csv", "-", "--budget", "size_kb=100")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(text[: text.index("note:")] if "note:" in text else text)))
    assert float(rows[0]["p50_us"]) > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--json", "-", "--csv", "-"], "exclude each other"),
        (["--max-slowdown", "1.1"], "have no effect without --baseline"),
        (["--any-host"], "have no effect without --baseline"),
        (["--baseline", "none.json"], "cannot read none.json"),
        (["--budget", "speed=3"], "no item 'speed'"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_measured(small_bundle, flags, message, monkeypatch):
    monkeypatch.setattr("edgecnn.bench.measure_bundle.bench_bundle", None)
    code, text = invoke("bench", small_bundle.directory, *flags)
    assert code == 2
    assert message in text


def test_strict_fails_on_invalid_results(small_bundle, monkeypatch):
    bad = record(result(processes=(msgspec.structs.replace(result().processes[0], steady=False),) * 5))
    monkeypatch.setattr(
        "edgecnn.bench.measure_bundle.bench_bundle",
        lambda *_, **__: edgecnn.BenchReport(record=bad, warnings=(), notes=("x",)),
    )
    assert invoke("bench", small_bundle.directory)[0] == 0
    code, text = invoke("bench", small_bundle.directory, "--strict")
    assert code == 1
    assert "INVALID: warm-up" in text
    assert "try:   a longer --warmup" in text


def test_what_a_record_says_cannot_move_the_cursor(tmp_path):
    save_record(record(), tmp_path / "a.json")
    save_record(record(result(version="\x1b[2J")), tmp_path / "b.json")
    code, text = invoke("bench", "compare", tmp_path / "a.json", tmp_path / "b.json")
    assert code == 0
    assert "\x1b" not in text
