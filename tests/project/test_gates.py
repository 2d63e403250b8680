"""What a project's models may cost: budgets, baselines, and what was not measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgecnn.bench.measure_bundle import BenchReport
from edgecnn.bench.records import Conditions, HostFacts, ProcessFacts, Record, Result, derived_record, save_record
from edgecnn.errors import TargetError
from edgecnn.project.gates import measure
from edgecnn.project.reading import parse_project
from edgecnn.targets.target import TargetFailure

HEAD = "[model.net]\nmodel = 'lenet5'\n"
BUNDLE: Any = SimpleNamespace(
    artifacts=[
        SimpleNamespace(path=SimpleNamespace(name="net.fp32.onnx"), bytes=200_000),
        SimpleNamespace(path=SimpleNamespace(name="net.int8.tflite"), bytes=50_000),
    ]
)


def result(**what: Any) -> Result:
    given = {"artifact": "net.int8.tflite", "format": "tflite", "precision": "int8", "bytes": 50_000}
    given |= {"target": "litert@pi4", "host": "pi4", "runtime": "litert", "version": "2", "sha256": "0" * 64}
    return Result(**{**given, **what})


def counted(instructions: int, **what: Any) -> Result:
    return result(instructions=(instructions,) * 5, **what)


def timed(ns: int, *, steady: bool = True, **what: Any) -> Result:
    """Two processes of 20 rounds, with nothing odd about them."""
    samples = tuple(ns + i % 5 for i in range(200))
    process = ProcessFacts(
        rounds=(10,) * 20,
        load_ns=1_000_000,
        first_ns=100_000,
        overhead_ns=100,
        warmup_calls=10,
        steady=steady,
        wall_ns=(10 * ns,) * 20,
        cpu_ns=(10 * ns,) * 20,
        khz=(0,) * 20,
    )
    where = {"target": "litert@board", "host": "board"}
    return result(**{**where, "samples_ns": (samples,) * 5, "processes": (process,) * 5, **what})


def record(*results: Result, cores: int = 4) -> Record:
    hosts = {
        name: HostFacts(kind=kind, machine="aarch64", cores=cores, before=Conditions())
        for name, kind in (("pi4", "emulated"), ("board", "ssh"))
    }
    return derived_record(Record(edgecnn="0", created="", model="net", hosts=hosts, results=results))


@pytest.fixture
def held(tmp_path, monkeypatch):
    """Hold results to what a project says: outcomes as status, target, what and message, and the notes."""

    def held(text: str, *results: Result, failures: tuple[TargetFailure, ...] = (), **more: Any) -> Any:
        (plan,) = parse_project(tmp_path / "edgecnn.toml", HEAD + text).models
        report = BenchReport(record=record(*results), failures=failures)
        monkeypatch.setattr("edgecnn.bench.measure_bundle.bench_bundle", lambda *_, **__: report)
        return measure(plan, BUNDLE, more.pop("checked", None), save=more.pop("save", False), progress=None)

    return held


def brief(outcomes: Any) -> list[tuple[str, str, str]]:
    return [(o.status, o.name, o.message) for o in outcomes]


def checked(*pairs: tuple[str, str], unjudged: tuple[str, ...] = ()) -> Any:
    return SimpleNamespace(verdicts=[SimpleNamespace(artifact=a, target=t) for a, t in pairs], unjudged=unjudged)


def test_nothing_asked_is_nothing_done(held) -> None:
    assert held("", counted(1)) == ([], [])


def test_sizes_need_no_measuring(held, monkeypatch) -> None:
    ran = checked(("net.fp32.onnx", "onnxruntime@local"), ("net.int8.tflite", "litert@pi4"))
    outcomes, _ = held('budget.size_kb = 100\nbudget."*@pi4".size_kb = 50', checked=ran)
    assert brief(outcomes) == [
        ("failed", "net.fp32.onnx, size_kb", "over budget: size_kb is 200, 100.0% over 100"),
        ("passed", "net.int8.tflite, size_kb", ""),
        ("passed", "net.int8.tflite on litert@pi4, size_kb", ""),
    ]
    ((status, _, message),) = brief(held('budget."*@pi5".size_kb = 50', checked=ran)[0])
    assert (status, message) == ("error", 'the budget size_kb of "*@pi5" applies to nothing')
    # What was not reached is told by the check already.
    assert held('budget."*@pi5".size_kb = 50', checked=checked(unjudged=("pi5",)))[0] == []


def test_budgets_are_for_the_targets_that_they_name(held) -> None:
    text = 'budget."*@pi4".instructions_m = 2\nbudget."*@board".latency_p50_ms = 1\nbudget.latency_p99_ms = 9'
    outcomes, _ = held(text, counted(3_000_000), timed(500_000))
    assert brief(outcomes) == [
        ("failed", "net.int8.tflite on litert@pi4, instructions_m", "over budget: instructions_m is 3, 50.0% over 2"),
        ("passed", "net.int8.tflite on litert@board, latency_p50_ms", ""),
        ("passed", "net.int8.tflite on litert@board, latency_p99_ms", ""),
    ]


@pytest.mark.parametrize(
    ("budget", "why"),
    [
        ('budget."*@pi5".instructions_m = 2', "no target matches *@pi5"),
        ('budget."*@pi4".latency_p50_ms = 2', "nothing that was measured has latency_p50_ms"),
    ],
)
def test_a_budget_that_holds_nothing_is_an_error(held, budget, why) -> None:
    ((outcome,), _) = held(budget, counted(3))
    assert outcome.status == "error"
    assert f"why: {why}" in outcome.lines


def test_instructions_gate_tightly_and_time_by_its_interval(held, tmp_path) -> None:
    save_record(record(counted(1_000_000), timed(100_000)), tmp_path / "net.bench.json")
    text = 'baselines.bench = "."\n'
    passed, _ = held(text, counted(1_004_000), timed(104_000))
    assert [o.status for o in passed] == ["passed", "passed"]
    failed, _ = held(text, counted(1_010_000), timed(120_000))
    assert brief(failed) == [
        (
            "failed",
            "net.int8.tflite on litert@pi4, instructions against the baseline",
            "instructions is 1.010 times the baseline's, at least 1.010; limit 1.005",
        ),
        (
            "failed",
            "net.int8.tflite on litert@board, latency against the baseline",
            "latency is 1.200 times the baseline's, at least 1.200; limit 1.05",
        ),
    ]
    limits = "bench.max_instructions = 1.02\nbench.max_slowdown = 1.3"
    wider, _ = held(text + limits, counted(1_010_000), timed(120_000))
    assert [o.status for o in wider] == ["passed", "passed"]


def test_a_bad_day_of_the_machine_fails_nothing_unless_strict(held, tmp_path) -> None:
    save_record(record(timed(100_000)), tmp_path / "net.bench.json")
    outcomes, notes = held('baselines.bench = "."', timed(200_000, steady=False))
    assert [o.status for o in outcomes] == ["passed"]
    assert any("invalid" in note for note in notes)
    strict, _ = held("bench.strict = true", timed(200_000, steady=False))
    assert [o.status for o in strict] == ["failed"]
    assert strict[0].message.startswith("the result is invalid: ")


def test_a_baseline_that_fits_not(held, tmp_path) -> None:
    text = 'baselines.bench = "."'
    assert brief(held(text, counted(1))[0]) == [("error", "net", "there is no baseline yet")]
    save_record(record(counted(1), cores=8), tmp_path / "net.bench.json")
    assert brief(held(text, counted(1))[0]) == [("error", "net", "the two records were measured on different hosts")]
    assert [o.status for o in held(text + "\nbench.any_host = true", counted(1))[0]] == ["passed"]
    (tmp_path / "net.bench.json").write_text("{}")
    assert [o.status for o in held(text, counted(1))[0]] == ["error"]


def test_a_baseline_is_saved_and_not_compared_with(held, tmp_path) -> None:
    text = 'baselines.bench = "deep/er"'
    assert [o.status for o in held(text, counted(7), save=True)[0]] == ["passed"]
    assert (tmp_path / "deep" / "er" / "net.bench.json").is_file()
    assert brief(held(text, counted(8))[0])[0][0] == "failed"


def test_what_could_not_be_measured(held) -> None:
    lost = TargetFailure(target="@kitchen", error=TargetError("no answer", hint="is it on?"))
    broken = result(error="it crashed\n  why:   a reason")
    outcomes, _ = held("bench.processes = 2", counted(5), broken, failures=(lost,))
    assert brief(outcomes) == [
        ("error", "net on @kitchen", "no answer"),
        ("error", "net.int8.tflite on litert@pi4", "it crashed"),
    ]
    assert outcomes[1].lines == ("why: a reason",)


def test_what_is_measured_without_any_demand_is_told(held) -> None:
    outcomes, _ = held("bench.processes = 2", counted(5))
    assert brief(outcomes) == [("passed", "net.int8.tflite on litert@pi4, measured", "")]
