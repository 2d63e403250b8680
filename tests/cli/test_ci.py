"""``edgecnn ci`` from end to end, green and with faults planted; and what GitHub is told."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import torch
from support.junit import read_junit
from torch import nn

from edgecnn.data.sources import load_dataset
from edgecnn.loading import load_module
from edgecnn.report.schema import check_schema, ci_schema
from edgecnn.training.fit import save_weights

PROJECT = """
targets = ["litert", "onnxruntime"]
data = "digits"
baselines.check = "baselines"

[budget]
size_kb = 205

[model.conv_pool]
model = "conv_pool"
weights = "conv_pool.pt"
"""
SMALL = """
targets = ["litert"]
export.formats = ["tflite"]
[model.net]
model = "conv_pool"
weights = "conv_pool.pt"
"""


@dataclass
class Written:
    """What a run left in its files."""

    value: Any
    junit: ET.Element
    markdown: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Weights that know the digits (the last layer is a ridge regression), and others that have learned nothing."""
    folder = tmp_path_factory.mktemp("trained")
    module = load_module("conv_pool", seed=0).module
    train = load_dataset("digits", input_shape=(1, 28, 28), split="train")
    images, labels = next(train.take(train.spread(400)).batches(400))
    *body, last = module
    with torch.no_grad():
        features = nn.Sequential(*body)(torch.from_numpy(images)).double()
        features = torch.cat([features, torch.ones(len(features), 1)], 1)
        wanted = 10 * nn.functional.one_hot(torch.from_numpy(labels), 10).double()
        kernel = features @ features.T + 0.01 * torch.eye(len(features))
        found = features.T @ torch.linalg.solve(kernel, wanted)
        last.weight.copy_(found[:-1].T)
        last.bias.copy_(found[-1])
    save_weights(module, folder / "conv_pool.pt")
    save_weights(load_module("conv_pool", seed=1).module, folder / "other.pt")
    return folder


@pytest.fixture
def work(trained, tmp_path, monkeypatch) -> Path:
    """A project's folder; the command runs in one above, so that nothing depends on the current one."""
    folder = tmp_path / "project"
    shutil.copytree(trained, folder)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def ci(run, work):
    """Run a project with all reports; each is what its schema says."""

    def ci(text: str, *arguments: object, code: int = 0) -> Written:
        (work / "edgecnn.toml").write_text(text)
        files = [work.parent / "reports" / name for name in ("ci.json", "ci.xml", "ci.md")]
        options = ["--json", files[0], "--junit", files[1], "--markdown", files[2]]
        run("ci", "--config", "project/edgecnn.toml", *options, *arguments, code=code)
        value = json.loads(files[0].read_text())
        jsonschema.validate(value, ci_schema(), jsonschema.Draft202012Validator)
        assert value["passed"] is (code == 0)
        junit = read_junit(files[1].read_text())
        assert (int(junit.attrib["failures"]) > 0, code != 0) in ((True, True), (False, code == 2))
        return Written(value, junit, files[2].read_text())

    return ci


def bad(written: Written) -> list[tuple[str, str, str]]:
    """Artifact, metric and status of what is wrong."""
    wrong = [o for o in written.value["outcomes"] if o["status"] in ("failed", "error")]
    return [(o["artifact"], o["metric"], o["status"]) for o in wrong]


def test_a_project_is_green_until_another_model_s_weights_come(ci, run, work, monkeypatch) -> None:
    first = ci(PROJECT, "--save-baselines")
    assert (work / "baselines" / "conv_pool.check.json").is_file()
    steps = [(o["step"], o["artifact"], o["target"]) for o in first.value["outcomes"]]
    names = ["conv_pool.fp32.onnx", "conv_pool.fp32.tflite"]
    assert [s[1] for s in steps if s[0] == "export"] == names
    assert {s[2] for s in steps if s[0] == "check"} == {"litert@local", "onnxruntime@local"}
    assert [s[1] for s in steps if s[0] == "bench"] == names
    assert len(first.value["verdicts"]) == 4
    assert {v["model"] for v in first.value["verdicts"]} == {"conv_pool"}
    assert all(not {"layer", "cause"} & set(v) for v in first.value["verdicts"])
    assert (work / "build" / "conv_pool" / "manifest.json").is_file()

    again = ci(PROJECT)
    assert again.value == first.value
    assert ET.tostring(again.junit) == ET.tostring(first.junit)
    assert again.markdown == first.markdown
    assert again.markdown.startswith("## edgecnn ci: passed: 8 of 8\n")

    (work / "other.pt").replace(work / "conv_pool.pt")
    summary = work / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(work.parent))
    result = run("ci", "--config", "project/edgecnn.toml", code=1)
    annotations = [line for line in result.stdout.splitlines() if line.startswith("::")]
    assert annotations[0].startswith("::error file=project/edgecnn.toml,line=9,title=edgecnn check%3A conv_pool.fp32.")
    assert "::32 golden inputs, output: accuracy is " in annotations[0]
    assert any("::digits (held-out 360 of 1,797), output: accuracy is " in line for line in annotations)
    assert "%25, in the baseline " in annotations[0]
    assert "FAILED" in result.stdout
    assert result.stdout.splitlines()[-len(annotations) - 1].startswith("ci: failed: ")
    assert not any(line.startswith("::") for line in result.stderr.splitlines())
    assert summary.read_text().startswith("## edgecnn ci: failed: ")
    assert "conv\\_pool.fp32.tflite on litert@local, digits" in summary.read_text()


FAULTS = {
    "a limit too tight": ("limits.relative_error = 1e-12", 1, [("net.fp32.tflite", "relative_error", "failed")]),
    "a budget exceeded": ("budget.size_kb = 100", 1, [("net.fp32.tflite", "size_kb", "failed")]),
    "a target not reached": ('targets = ["litert", "@gone"]', 2, [("", "", "error")]),
    "a budget of no target": ('budget."*@pi9".size_kb = 500', 2, [("", "", "error")]),
    "a limit that nothing is held to": ("limits.accuracy_drop = 0.5", 2, [("", "", "error")]),
    "a limit on a precision that is not there": ("limits.int8.lsb_max = 1", 2, [("", "", "error")]),
    "a baseline that is not there": ('baselines.check = "none"', 2, [("", "", "error")]),
    "weights that are not there": ('weights = "gone.pt"', 2, [("", "", "error")]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault(ci, work, name) -> None:
    line, code, wrong = FAULTS[name]
    (work / "targets.toml").write_text(f'[hosts.gone]\npython = "{work}/no/python"\n')
    text = SMALL.replace('weights = "conv_pool.pt"\n', "") if line.startswith("weights") else SMALL
    written = ci(f"{text}{line}\n", code=code)
    assert bad(written) == wrong
    (message,) = [o["message"] for o in written.value["outcomes"] if o["status"] in ("failed", "error")]
    tag = "failure" if code == 1 else "error"
    (told,) = written.junit.findall(f".//{tag}")
    assert told.attrib["message"] == message
    assert written.markdown.startswith(
        "## edgecnn ci: failed: 1 of" if code == 1 else "## edgecnn ci: incomplete: 1 could"
    )
    assert "file: 202,320 bytes" in written.markdown if wrong[0][1] == "relative_error" else True


def test_a_limit_for_all_models_is_held_to_by_one_of_them(ci) -> None:
    """A limit may be of no use to some models, but not to all: there it would stay green for ever."""
    good = ci(f"limits.relative_error = 0.5\n{SMALL}")
    assert bad(good) == []
    idle = ci(f"limits.fp16.rmse = 1\nlimits.accuracy_drop = 0.5\n{SMALL}", code=2)
    assert bad(idle) == [("", "", "error"), ("", "", "error")]
    messages = [o["message"] for o in idle.value["outcomes"] if o["status"] == "error"]
    assert messages == [f"the limit {name} matches no artifact" for name in ("fp16:rmse", "accuracy_drop")]
    assert {o["model"] for o in idle.value["outcomes"] if o["status"] == "error"} == {"edgecnn.toml"}


def test_what_fails_keeps_nothing_from_running(ci, work) -> None:
    text = """
targets = ["litert"]
export.formats = ["tflite"]
budget.size_kb = 100
[model.first]
model = "conv_pool"
weights = "gone.pt"
[model.second]
model = "conv_pool"
limits.relative_error = 1e-12
"""
    written = ci(text, code=1)
    assert [(o["model"], o["step"], o["status"]) for o in written.value["outcomes"]] == [
        ("first", "export", "error"),
        ("first", "check", "skipped"),
        ("first", "bench", "skipped"),
        ("second", "export", "passed"),
        ("second", "check", "failed"),
        ("second", "bench", "failed"),
    ]
    assert [s.attrib["name"] for s in written.junit] == [
        "first export", "first check", "first bench", "second export", "second check", "second bench",
    ]  # fmt: skip


def test_a_report_of_yesterday_is_not_taken_for_today_s(ci, run, work, monkeypatch) -> None:
    written = ci("targts = []\n" + SMALL, code=2)
    assert written.value["outcomes"][0]["message"] == "edgecnn.toml has no key 'targts'"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    said = run("ci", "--config", "project/edgecnn.toml", code=2).stdout
    assert said.startswith("::error file=project/edgecnn.toml,line=1,title=edgecnn read%3A edgecnn.toml could not be")
    files = [work / "check.json", work / "check.xml"]
    files[0].write_text('{"passed": true}')
    result = run("check", work / "none", "--json", files[0], "--junit", files[1], code=2)
    value = json.loads(files[0].read_text())
    jsonschema.validate(value, check_schema(), jsonschema.Draft202012Validator)
    assert (value["passed"], value["verdicts"], len(value["unjudged"])) == (False, [], 1)
    assert read_junit(files[1].read_text()).attrib["errors"] == "1"
    assert result.stdout.startswith("::error title=edgecnn check%3A none could not be judged::")
    assert "error: " in result.stderr


def test_check_writes_reports_and_keeps_standard_output_clean(ci, run, work, monkeypatch) -> None:
    ci(SMALL)
    bundle = work / "build" / "net"
    result = run("check", bundle, "--target", "litert", "--limit", "relative_error=1e-12", "--json", "-", code=1)
    jsonschema.validate(result.json, check_schema(), jsonschema.Draft202012Validator)
    assert set(result.json["verdicts"][0]) >= {"artifact", "target", "metric", "value", "limit", "passed"}
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    limits = ("--limit", "relative_error=1e-12")
    again = run("check", bundle, "--target", "litert", *limits, "--json", "-", code=1)
    assert again.stdout == result.stdout
    assert [line for line in again.stderr.splitlines() if line.startswith("::error title=edgecnn check%3A net.fp32")]
    printed = run("check", bundle, "--target", "litert", "--junit", "-")
    assert read_junit(printed.stdout).attrib["failures"] == "0"
    assert "exclude each other" in run("check", bundle, "--json", "-", "--markdown", "-", code=2).stderr


def test_one_report_that_cannot_be_written_costs_no_other(run, work, monkeypatch) -> None:
    (work / "edgecnn.toml").write_text("[model.x]\nmodel = 'lenet5'\nweights = 'gone.pt'\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(work))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = run("ci", "--config", work / "edgecnn.toml", "--junit", work / "ci.xml", "--json", "-", code=2)
    assert result.json["outcomes"][0]["message"] == "no such file"
    assert "::error file=" in result.stderr
    assert "the job's summary" in result.stderr
    assert read_junit((work / "ci.xml").read_text()).attrib["errors"] == "1"


def test_what_is_measured_is_held_to_budgets(ci, work) -> None:
    """Every limit is far from what any machine needs."""
    bench = "[bench]\nprocesses = 2\ntime = 0.1\nwarmup = 0.1\n[baselines]\nbench = 'base'\n"
    budget = "[budget]\nlatency_p50_ms = 60000\nload_ms = 0.000001\n"
    written = ci(SMALL + bench + budget, "--save-baselines", code=1)
    assert bad(written) == [("net.fp32.tflite", "load_ms", "failed")]
    assert "over budget: load\\_ms is" in written.markdown
    assert json.loads((work / "base" / "net.bench.json").read_text())["model"] == "net"
    passed = [o["metric"] for o in written.value["outcomes"] if o["step"] == "bench" and o["status"] == "passed"]
    assert passed == ["latency_p50_ms"]
