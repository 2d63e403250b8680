"""Measuring bundles here: records, comparison, gates, budgets, warnings, the command. No verdict hangs on real time."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from support.paths import ROOT

import edgecnn
from edgecnn.bench.budget import ITEMS, over_budget, over_project_budgets, parse_budget
from edgecnn.bench.compare import compare_records
from edgecnn.bench.hosts import peak_macs
from edgecnn.bench.macs import macs_of
from edgecnn.bench.profile import module_of, tflite_cuts
from edgecnn.bench.records import (
    Conditions,
    HostFacts,
    OperatorShare,
    ProcessFacts,
    Profile,
    Record,
    Result,
    decode_record,
    derived_record,
    encode_record,
    load_record,
    save_record,
)
from edgecnn.bench.run import bench_bundle
from edgecnn.bench.table import bar, columns_for, histogram, markdown, shape
from edgecnn.bench.warmup import Limits
from edgecnn.bench.warnings import warnings_of
from edgecnn.cli import cli
from edgecnn.errors import DataError, EdgecnnError, TargetError, UsageError
from edgecnn.project.reading import budgets_of
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.target import Target

QUICK = Limits(processes=2, seconds=0.1, warmup=0.05, samples=200)
ONCE = Limits(processes=1, seconds=0.1, warmup=0.05, samples=200)
FLAGS = ["--processes", "2", "--time", "0.1", "--warmup", "0.05"]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.down = torch.nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.down(torch.relu(self.conv(x))))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.manual_seed(0)
    images = np.random.default_rng(0).normal(size=(64, 1, 12, 12)).astype(np.float32)
    return edgecnn.export_model(
        Net().eval(),
        torch.zeros(1, 1, 12, 12),
        tmp_path_factory.mktemp("bench") / "net",
        name="net",
        precisions=["fp32", "int8"],
        calibration=images,
    )


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One file, where it does not matter which: each that is measured is a process or more."""
    folder = tmp_path_factory.mktemp("bench") / "single"
    return edgecnn.export_model(Net().eval(), torch.zeros(1, 1, 12, 12), folder, name="net", formats=["tflite"])


@pytest.fixture(scope="module")
def report(bundle):
    return bench_bundle(bundle, limits=QUICK, profile=True)


@pytest.fixture
def invoke(monkeypatch):
    def run(*args):
        result = CliRunner().invoke(cli, ["bench", *map(str, args)], standalone_mode=False)
        if isinstance(result.exception, EdgecnnError):
            return 2, str(result.exception)
        assert result.exception is None, result.exception
        return result.return_value, result.output

    return run


# --- measuring --------------------------------------------------------------------------------------------------------


def test_every_artifact_is_measured_in_every_process(report):
    assert report.complete
    assert {(r.format, r.precision, r.runtime) for r in report.results} == {
        (form, precision, runtime)
        for form, runtime in (("onnx", "onnxruntime"), ("tflite", "litert"))
        for precision in ("fp32", "int8")
    }
    for result in report.results:
        assert len(result.samples_ns) == len(result.processes) == 2
        assert result.statistics.samples == sum(map(len, result.samples_ns))
        assert all(p.load_ns > 0 and p.first_ns > 0 and p.peak_above_kb >= 0 for p in result.processes)
        assert result.macs == 12 * 12 * 9 * 4 + 6 * 6 * 9 * 4 * 8 + 8 * 3
        assert result.options["threads"] == 1
    assert [p.delegates for r in report.results if r.runtime == "litert" for p in r.processes] == [1] * 4


def test_the_host_is_described(report):
    (host,) = report.record.hosts.values()
    assert host.kind == "local"
    assert host.cores >= 1
    assert host.before.load is not None
    assert host.after is not None


def test_profiles_lead_back_to_modules(report):
    for result in report.results:
        modules = {o.module for o in result.profile.operators}
        assert {"conv", "down", "head"} <= modules, modules
        assert sum(o.share for o in result.profile.operators) == pytest.approx(1)
        assert not any(o.floats for o in result.profile.operators)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("stack.conv", "stack.conv"),
        ("x.q", "x"),
        ("7.flatten.q", "7"),
        ("head.linear", "head.linear"),  # a module of the user's own
        ("classifier.1.linear", "classifier.1"),
        ("lone", "lone"),  # not what operators without a name are called
    ],
)
def test_names_lead_back_to_modules(name, module):
    known = {"stack.conv", "x", "x.q", "7", "7.flatten", "7.flatten.q", "head.linear", "classifier.1", ""}
    assert module_of(name, known) == module


def test_threads_and_batches_are_swept(single):
    found = bench_bundle(single, targets=["litert"], limits=ONCE, threads=(1, 2), batches=(1, 4))
    assert [(r.threads, r.batch) for r in found.results] == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert {r.macs // r.batch for r in found.results} == {found.results[0].macs}
    assert {c.name for c in columns_for(found.results)} >= {"threads", "batch"}


def test_a_host_that_is_not_reached_is_a_failure(bundle):
    found = bench_bundle(bundle, targets=["litert", "litert@ssh://nobody@host.invalid"], limits=ONCE)
    assert not found.complete
    assert [r.host for r in found.results] == ["local", "local"]
    assert "host.invalid" in found.failures[0].target


def test_an_artifact_that_does_not_open_is_reported_and_the_others_are_measured(bundle, monkeypatch):
    from edgecnn.bench.subject import Job

    original = Job.open

    def failing(self, **options):
        if self.artifact.precision == "int8":
            raise TargetError(f"{self.name}: no such operator")
        return original(self, **options)

    monkeypatch.setattr(Job, "open", failing)
    found = bench_bundle(bundle, targets=["litert"], limits=QUICK)
    assert [(r.precision, r.error is None, len(r.processes)) for r in found.results] == [
        ("fp32", True, 2),
        ("int8", False, 0),
    ]
    assert not found.complete


def test_cuts_of_a_tflite_file_run_and_end_with_the_whole(bundle, agent):
    artifact = bundle.artifact("tflite", "int8")
    inputs = [np.ones((1, 12, 12, 1), np.float32)]
    cuts = tflite_cuts(artifact.read())
    assert [c.operator for c in cuts] == [op for op in [c.operator for c in cuts] if op]
    assert sum(artifact.operators.values()) == len(cuts)
    outputs = []
    for data in (cuts[-1].data, artifact.read()):
        with agent.open("litert", data, "cut.tflite") as session:
            outputs.append(session.infer(inputs)[0])
    np.testing.assert_array_equal(*outputs)
    for cut in cuts:
        with agent.open("litert", cut.data, "cut.tflite") as session:
            assert session.infer(inputs)


@pytest.mark.parametrize("runtime", ["tflite-runtime", "tflite-micro"])
def test_runtimes_in_environments_of_their_own(bundle, runtime):
    variable = f"EDGECNN_{runtime.upper().replace('-', '_')}_PYTHON"
    beside = ROOT / f".venv-{runtime}" / "bin" / "python"
    python = os.environ.get(variable, str(beside))
    if not Path(python).exists():
        pytest.skip(f"needs {runtime} in an environment of its own: make runtimes, or {variable}")
    target = Target(runtime=runtime, host=LocalHost(python=python, label="other"), name=f"{runtime}@other")
    found = bench_bundle(bundle, targets=[target], limits=ONCE, batches=(1, 2), profile=True)
    assert found.complete
    assert {r.batch for r in found.results} == ({1} if runtime == "tflite-micro" else {1, 2})
    for measured in found.results:
        assert {o.module for o in measured.profile.operators} >= {"conv", "down", "head"}
        assert (measured.processes[0].arena_bytes is None) == (runtime == "tflite-runtime")


def test_slices_are_bounded_and_need_bound_inputs(bundle):
    with LocalHost().start() as connection:
        session = connection.open("litert", bundle.artifact("tflite", "fp32").read(), "net.tflite")
        with pytest.raises(TargetError, match="no inputs bound"):
            session.bench(1, 1.0)
        session.bind([np.zeros((1, 12, 12, 1), np.float32)])
        assert len(session.bench(7, 100.0).samples) == 7
        assert len(session.bench(1000, 0.0).samples) == 1
        for calls, seconds in ((0, 1.0), (10**7, 1.0), (1, -1.0), (1, 1e9)):
            with pytest.raises(TargetError, match=r"is .*, not from"):
                session.bench(calls, seconds, time_limit=60)
        with pytest.raises(TargetError, match="no profiler"):
            session.profile(1)


def test_binding_gives_what_inference_gives_and_leaves_it_as_it_was(bundle):
    for form, runtime, inputs in (
        ("onnx", "onnxruntime", np.ones((2, 1, 12, 12), np.float32)),
        ("tflite", "litert", np.ones((2, 12, 12, 1), np.float32)),
    ):
        with LocalHost().start() as connection:
            session = connection.open(runtime, bundle.artifact(form, "fp32").read(), "net")
            before = session.infer([inputs * 3])
            session.bind([inputs])
            session.bench(3, 1.0)
            np.testing.assert_array_equal(before[0], session.infer([inputs * 3])[0])


# --- records ----------------------------------------------------------------------------------------------------------


QUIET = Conditions(governor="performance")
HOST = HostFacts(kind="local", machine="aarch64", cpu="Cortex-A72", cores=4, before=QUIET, after=QUIET, memory=4 << 30)


def result(base=100_000, seed=0, **given):
    rng = np.random.default_rng(seed)
    samples = tuple(tuple((base * np.exp(rng.normal(0, 0.02, 200))).astype(int).tolist()) for _ in range(5))
    facts = ProcessFacts(
        rounds=(20,) * 10,
        load_ns=10**6,
        first_ns=10**6,
        overhead_ns=100,
        warmup_calls=10,
        steady=True,
        wall_ns=(100,) * 10,
        cpu_ns=(100,) * 10,
        khz=(1500_000,) * 10,
        resident_kb=1000,
        peak_kb=1500,
    )
    whole = {
        "artifact": "net.fp32.tflite",
        "format": "tflite",
        "precision": "fp32",
        "bytes": 1000,
        "sha256": "0" * 64,
        "target": "litert@local",
        "host": "local",
        "runtime": "litert",
        "version": "2.3.0",
        "samples_ns": samples,
        "processes": (facts,) * 5,
    }
    return Result(**{**whole, **given})


def counted(*instructions, **given):
    return result(samples_ns=(), processes=(), instructions=instructions, target="litert@pi4", **given)


def record(*results, **host):
    facts = msgspec.structs.replace(HOST, **host)
    return derived_record(
        Record(edgecnn="0", created="now", model="net", hosts={"local": facts}, results=results or (result(),))
    )


def test_records_come_back_as_they_were(report, tmp_path):
    save_record(report.record, tmp_path / "a.json")
    assert load_record(tmp_path / "a.json") == report.record
    plain = json.loads((tmp_path / "a.json").read_text())
    assert plain["schema"] == 1
    assert {"artifact", "target", "samples_ns", "valid", "statistics", "sha256"} <= set(plain["results"][0])
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_statistics_in_a_record_are_derived_anew():
    plain = json.loads(encode_record(record()))
    plain["results"][0]["statistics"]["p50"]["value"] = 1.0
    plain["results"][0]["valid"] = False
    assert decode_record(json.dumps(plain).encode()) == record()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(schema=2), "this edgecnn reads 1"),
        (lambda r: r.pop("schema"), "cannot be read"),
        (lambda r: r.update(more=1), "unknown field"),
        (lambda r: r.update(hosts={}), "nothing about the hosts local"),
        (lambda r: r["results"][0].update(samples_ns=[]), "0 rows of samples"),
        (lambda r: r["results"][0]["samples_ns"][0].append(5), "do not add up"),
        (lambda r: r["results"][0]["samples_ns"][0].__setitem__(0, -1), "negative time"),
        (lambda r: r["results"][0]["samples_ns"][0].__setitem__(0, 10**400), "cannot be read"),
        (lambda r: r["results"][0].update(target="\x1b[2J"), "is no name"),
        (lambda r: r["results"][0]["processes"][0].update(khz=[]), "do not add up"),
    ],
)
def test_records_that_are_none(change, words):
    plain = json.loads(encode_record(record()))
    change(plain)
    with pytest.raises(DataError, match=words):
        decode_record(json.dumps(plain).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"schema": 1}'])
def test_bytes_that_are_no_record(data):
    with pytest.raises(DataError):
        decode_record(data)


def test_a_record_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        load_record(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot write"):
        save_record(record(), tmp_path / "none" / "a.json")


# --- validity ---------------------------------------------------------------------------------------------------------


def test_what_surrounds_samples_can_make_them_invalid():
    facts = result().processes[0]
    spoilt = {
        "frequency": msgspec.structs.replace(facts, khz=(1500_000,) * 9 + (600_000,)),
        "load": msgspec.structs.replace(facts, cpu_ns=(50,) * 10),
        "warm-up": msgspec.structs.replace(facts, steady=False),
    }
    for kind, process in spoilt.items():
        (found,) = record(result(processes=(process,) * 5)).results
        assert ({i.kind for i in found.invalid_reasons}, found.valid) == ({kind}, False)
    (hot,) = record(before=Conditions(throttled=()), after=Conditions(throttled=("throttled now",))).results
    assert [i.kind for i in hot.invalid_reasons] == ["throttled"]
    assert record().results[0].valid


# --- comparison -------------------------------------------------------------------------------------------------------


def test_slower_fails_and_unchanged_does_not():
    old = record(result(seed=1))
    assert not compare_records(old, record(result(seed=2))).failed
    slower = compare_records(old, record(result(110_000, seed=2)))
    assert slower.failed
    assert slower.changes[0].judgement == "slower"
    assert not compare_records(old, record(result(110_000, seed=2)), max_slowdown=1.2).failed
    assert compare_records(record(result(110_000)), old).changes[0].judgement == "faster"


def test_a_slowdown_within_noise_does_not_fail():
    rng = np.random.default_rng(3)
    levels = [100_000, 100_000, 100_000, 100_000, 180_000]  # one process of five had a bad neighbour
    samples = tuple(tuple((level * np.exp(rng.normal(0, 0.02, 200))).astype(int).tolist()) for level in levels)
    found = compare_records(record(result(seed=1)), record(result(samples_ns=samples)))
    assert found.changes[0].low < 1.05 < found.changes[0].ratio
    assert not found.failed


def test_a_machine_that_had_a_bad_day_does_not_fail():
    busy = msgspec.structs.replace(result().processes[0], cpu_ns=(50,) * 10)
    found = compare_records(record(result(seed=1)), record(result(150_000, processes=(busy,) * 5)))
    assert found.changes[0].low > 1.05
    assert not found.failed
    assert found.changes[0].judgement == "invalid"
    assert "had a processor for 50%" in found.changes[0].doubts[0]


def test_instructions_have_a_limit_of_their_own():
    old = record(counted(2_000_000, 2_000_000))
    for same in (2_000_000, 2_000_400, 1_999_600, *range(2_000_000, 2_000_007)):  # ten runs, environments among them
        assert not compare_records(old, record(counted(same, same))).failed
    wider = compare_records(old, record(counted(2_020_000, 2_020_000)))  # a layer widened by 1 %
    assert wider.failed
    assert wider.changes[0].what == "instructions"
    assert not compare_records(old, record(counted(2_020_000)), max_instructions=1.02).failed


@pytest.mark.parametrize(
    "other",
    [{"cpu": "Cortex-A76"}, {"cores": 2}, {"machine": "x86_64"}, {"before": Conditions(governor="powersave")}],
)
def test_hosts_that_differ_are_refused_unless_told(other):
    with pytest.raises(UsageError, match="hosts that differ"):
        compare_records(record(), record(**other))
    found = compare_records(record(), record(**other), any_host=True)
    assert len(found.differences) == 1


def test_what_is_not_known_of_a_host_is_no_difference():
    assert compare_records(record(), record(cpu=None, before=Conditions())).differences == ()


def test_what_one_record_lacks_is_named():
    found = compare_records(record(result(), result(batch=8)), record(result(), result(threads=4)))
    assert (found.only_old, found.only_new) == (
        ("net.fp32.tflite on litert@local, batch 8",),
        ("net.fp32.tflite on litert@local, 4 threads",),
    )
    with pytest.raises(UsageError, match="nothing in common"):
        compare_records(record(result()), record(result(batch=8)))


def test_another_runtime_version_is_said():
    found = compare_records(record(), record(result(version="2.4.0")))
    assert "litert 2.3.0 before, 2.4.0 now" in found.changes[0].doubts


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_budgets_name_what_is_over_and_by_how_much():
    found = record(result(), counted(3_000_000)).results
    assert not list(over_budget(found, parse_budget("latency_p99_ms=5,size_kb=1,peak_kb=500,instructions_m=3")))
    over = [str(o) for o in over_budget(found, parse_budget("latency_p50_ms=0.05, instructions_m=2"))]
    assert len(over) == 2
    assert "latency_p50_ms is 0." in over[0]
    assert over[1].endswith("instructions_m is 3, 50.0% over 2")
    assert [o.value for o in over_budget(found, {"peak_kb": 499})] == [500]


@pytest.mark.parametrize(
    "text", ["", "speed=1", "size_kb", "size_kb=x", "size_kb=0", "size_kb=nan", "size_kb=1,size_kb=2"]
)
def test_budgets_that_mean_nothing(text):
    with pytest.raises(UsageError):
        parse_budget(text)


def test_a_budget_for_what_nobody_has():
    with pytest.raises(UsageError, match="arena_kb"):
        list(over_budget(record().results, {"arena_kb": 1}))


def test_budgets_of_a_project(tmp_path):
    (tmp_path / "edgecnn.toml").write_text('[budget]\nsize_kb = 0.5\n[budget."*@pi4"]\ninstructions_m = 2\n')
    (tmp_path / "deep").mkdir()
    budgets = budgets_of("net", tmp_path / "deep")
    found = record(result(), counted(3_000_000)).results
    assert [(o.subject, o.item) for o in over_project_budgets(found, budgets)] == [
        ("net.fp32.tflite on litert@local", "size_kb"),
        ("net.fp32.tflite on litert@pi4", "size_kb"),
        ("net.fp32.tflite on litert@pi4", "instructions_m"),
    ]
    text = '[budget]\nsize_kb = 0.5\n[model.net]\nmodel = "lenet5"\nbudget.size_kb = 9\nbudget."*@pi4".peak_kb = 7\n'
    (tmp_path / "edgecnn.toml").write_text(text)
    assert [(b.targets, b.item, b.limit) for b in budgets_of("net", tmp_path)] == [
        ("*", "size_kb", 9),
        ("*@pi4", "peak_kb", 7),
    ]
    assert [b.limit for b in budgets_of("other", tmp_path)] == [0.5]
    (tmp_path / "deep" / ".git").mkdir()
    assert budgets_of("net", tmp_path / "deep") == ()


@pytest.mark.parametrize(
    "text", ["budget = 3", "[budget]\nspeed = 1", "[budget]\nsize_kb = true", "[budget", "[budget.x]\ny=1"]
)
def test_budgets_of_a_project_that_mean_nothing(tmp_path, text):
    (tmp_path / "edgecnn.toml").write_text(text)
    with pytest.raises(UsageError):
        budgets_of("net", tmp_path)


def test_every_budget_item_is_named_in_the_help(invoke):
    _, text = invoke("-h")
    assert all(item in text for item in ITEMS)


# --- warnings ---------------------------------------------------------------------------------------------------------


def words(*results, **host):
    return [w.text for w in warnings_of(record(*results, **host))]


def profile(**ns):
    rows = [
        OperatorShare(name=n, module=n, operator="CONV_2D", ns=v, share=0.5, floats="float" in n) for n, v in ns.items()
    ]
    return Profile(method="", operators=tuple(rows))


def test_nothing_odd_gives_no_warning():
    assert words(result(), result(seed=1, precision="int8", base=50_000)) == []


def test_int8_slower_than_fp32_names_the_layer():
    fp32 = result(profile=profile(first=10_000.0, second=90_000.0))
    int8 = result(150_000, seed=1, precision="int8", profile=profile(first=110_000.0, second=40_000.0))
    (text,) = words(fp32, int8)
    assert "int8 takes 1.50 times as long as fp32, most of it in first (+100.0 us)" in text


def test_float_operators_in_an_int8_file():
    (text,) = words(result(precision="int8", profile=profile(conv=1.0, float_add=1.0)))
    assert "float_add (CONV_2D); 50% of the time" in text


def test_threads_that_do_not_help():
    (text,) = words(result(), result(130_000, seed=1, threads=4))
    assert text.startswith("1 thread is faster than 4: by 1.3")
    assert words(result(), result(50_000, seed=1, threads=4)) == []


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"before": Conditions(governor="ondemand")}, "governor is ondemand"),
        ({"before": Conditions(load=(3.0, 1.0, 1.0))}, "3.0 processes were running"),
        ({"before": Conditions(memory_available=100 << 20, swap=1 << 30)}, "swap space"),
    ],
)
def test_conditions_that_deserve_a_word(host, text):
    (found,) = words(**host)
    assert text in found


def test_processes_that_deserve_a_word():
    facts = result().processes[0]
    debug = result(processes=(msgspec.structs.replace(facts, debug=True),) * 5)
    bare = result(processes=(msgspec.structs.replace(facts, delegates=0),) * 5, options={"xnnpack": True})
    slow = result(processes=(msgspec.structs.replace(facts, overhead_ns=5000),) * 5)
    assert "debug build" in words(debug)[0]
    assert "XNNPACK did not start" in words(bare)[0]
    assert words(msgspec.structs.replace(bare, options={"xnnpack": False})) == []
    assert "timing itself costs 5,000 ns" in words(slow)[0]


# --- roofline and pictures --------------------------------------------------------------------------------------------


def test_the_share_of_a_boards_peak():
    facts = msgspec.structs.replace(HOST, kind="ssh", board="Raspberry Pi 4 Model B Rev 1.4")
    assert peak_macs(facts, "fp32", 1) == 1800e6 * 4 or peak_macs(facts, "fp32", 1) == 1500e6 * 4
    assert peak_macs(facts, "int8", 8) == 4 * 2 * peak_macs(facts, "fp32", 1)
    assert peak_macs(HOST, "fp32", 1) is None
    (row,) = record(result(macs=360_000, peak_macs=7.2e9)).results
    share = next(c for c in columns_for([row]) if c.name == "roof_share")
    assert share.text(row).startswith(("49.", "50."))


@pytest.mark.parametrize("model", ["conv", "depthwise", "linear"])
def test_macs_are_those_of_the_graph(model, tmp_path):
    layers = {
        "conv": torch.nn.Conv2d(4, 6, 3, groups=2),
        "depthwise": torch.nn.Conv2d(4, 8, 3, groups=4),
        "linear": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 64, 5)),
    }
    wanted = {"conv": 36 * 6 * 2 * 9, "depthwise": 36 * 8 * 9, "linear": 256 * 5}
    found = edgecnn.export_model(layers[model].eval(), torch.zeros(1, 4, 8, 8), tmp_path / "net", name="net")
    for artifact in found.artifacts:
        assert macs_of(artifact.format, artifact.read()) == wanted[model], artifact.format


def test_a_table_leaves_out_columns_where_a_terminal_is_narrow(capsys):
    from edgecnn.cli.bench_output import _fitting

    rows = list(record().results)
    whole = columns_for(rows)
    assert _fitting(whole, rows, 1000) == whole
    narrow = [c.name for c in _fitting(whole, rows, 90)]
    assert {"artifact", "target", "p50_us", "p50_half_interval", "p99_us", "verdict"} <= set(narrow)
    assert "mad_us" not in narrow
    assert "mean dev" in capsys.readouterr().err


def test_pictures():
    assert shape([]) == ""
    assert shape([1000] * 50, 4) == "█   "
    assert bar(0.5, 4) == "██"
    assert bar(2.0, 2) == "██"
    assert len(histogram(result())) == 17
    assert markdown(["a", "b"], [["x|y", "1"]], [True, False]).splitlines()[-1] == "| x\\|y | 1 |"


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_saves_and_compares(invoke, single, tmp_path):
    saved = tmp_path / "a.json"
    code, text = invoke(single.directory, *FLAGS, "--target", "litert", "--save", saved, "--histogram", "--sort", "p50")
    assert code == 0
    assert "p50 us" in text
    code, _ = invoke("compare", saved, saved)
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
    code, text = invoke("compare", old, slow)
    assert code == 1
    assert "slower: net.fp32.tflite on litert@local: latency 2.000 times as much" in text
    assert invoke("compare", old, slow, "--max-slowdown", "2.1")[0] == 0
    code, text = invoke("compare", old, slow, "--json", "-")
    assert json.loads(text)["changes"][0]["ratio"] == pytest.approx(2)
    files = [tmp_path / "c.json", tmp_path / "c.csv", tmp_path / "c.md"]
    flags = [str(f) for option in zip(("--json", "--csv", "--markdown"), files, strict=True) for f in option]
    assert "slower: net.fp32.tflite" in invoke("compare", old, slow, *flags)[1]
    assert json.loads(files[0].read_text()) == json.loads(text)
    assert list(csv.reader(io.StringIO(files[1].read_text())))[1][3] == "2.000"
    assert files[2].read_text().startswith("| result | before |")
    code, text = invoke("compare", old, slow, "--csv", "-")
    assert list(csv.reader(io.StringIO(text)))[1][3] == "2.000"


def test_formats_budgets_and_exit_codes(invoke, single):
    flags = ["--processes", "1", *FLAGS[2:], "--target", "litert"]
    code, text = invoke(single.directory, *flags, "--budget", "size_kb=0.001", "--json", "-")
    assert code == 1
    found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert found["schema"] == 1
    assert found["over_budget"][0]["item"] == "size_kb"
    assert found["results"][0]["samples_ns"]
    code, text = invoke(single.directory, *flags, "--csv", "-", "--budget", "size_kb=100")
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
def test_wrong_usage_is_said_before_anything_is_measured(invoke, bundle, flags, message, monkeypatch):
    monkeypatch.setattr("edgecnn.bench.run.bench_bundle", None)
    code, text = invoke(bundle.directory, *flags)
    assert code == 2
    assert message in text


def test_strict_fails_on_invalid_results(invoke, bundle, monkeypatch):
    bad = record(result(processes=(msgspec.structs.replace(result().processes[0], steady=False),) * 5))
    monkeypatch.setattr(
        "edgecnn.bench.run.bench_bundle", lambda *_, **__: edgecnn.BenchReport(record=bad, warnings=(), notes=("x",))
    )
    assert invoke(bundle.directory)[0] == 0
    code, text = invoke(bundle.directory, "--strict")
    assert code == 1
    assert "INVALID: warm-up" in text
    assert "try:   a longer --warmup" in text


def test_what_a_record_says_cannot_move_the_cursor(invoke, tmp_path):
    save_record(record(), tmp_path / "a.json")
    save_record(record(result(version="\x1b[2J")), tmp_path / "b.json")
    code, text = invoke("compare", tmp_path / "a.json", tmp_path / "b.json")
    assert code == 0
    assert "\x1b" not in text


def test_names_from_a_record_are_no_formulas():
    from edgecnn.bench.table import as_csv

    assert "'=cmd" in as_csv([result(artifact="=cmd")])
