"""targets.toml, and the commands targets, predict and doctor as a user meets them."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from PIL import Image
from support.sshd import needs_sshd, sshd
from torch import nn

import edgecnn
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import TargetError, UsageError
from edgecnn.parity import jobs
from edgecnn.parity.rounding import rounding_of
from edgecnn.parity.saturation import explained, saturates
from edgecnn.targets import config, environments
from edgecnn.targets.boards import load_board
from edgecnn.targets.config import load_config
from edgecnn.targets.config_file import add_host
from edgecnn.targets.emulation import is_built
from edgecnn.targets.emulation.cache import cache_folder
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.parallel import at_once
from edgecnn.targets.target import Found, Target, TargetFailure, installed_targets

BOARDS = str(cache_folder().parent)
"""Where the boards are that were built before the tests began."""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Folders of the user's own, empty, and a project to stand in."""
    for name in ("CONFIG", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "edgecnn"))
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    return tmp_path


# --- targets.toml -----------------------------------------------------------------------------------------------------

GOOD = """# the kitchen
[hosts.kitchen]
ssh = "pi@raspberrypi.local"
python = "/home/pi/venv/bin/python"
port = 2222
cache = false

[hosts.kitchen.pythons]
tflite-runtime = "/home/pi/tfl/bin/python"

[hosts.kitchen.options.litert]
threads = 4

[hosts.old]
python = "venv/bin/python"

[hosts.mine]
board = "pi4"
"""


def test_hosts_of_a_project(home) -> None:
    (home / "project" / "targets.toml").write_text(GOOD)
    found = load_config()
    kitchen, old, mine = (found.hosts[name] for name in ("kitchen", "old", "mine"))
    assert (kitchen.kind, kitchen.place, kitchen.options["litert"]["threads"]) == ("ssh", "pi@raspberrypi.local", 4)
    host = kitchen.make()
    assert (host.name, host.environments) == ("kitchen", ("", "tflite-runtime"))
    assert (host.port, host.cache, host.python) == (2222, False, "/home/pi/venv/bin/python")
    assert old.make().python == str(home / "project" / "venv" / "bin" / "python")
    assert (mine.kind, mine.board) == ("emulated", "pi4")
    assert {"local", "pi4", "pi5"} <= set(found.hosts)


def test_the_projects_hosts_count_before_the_users(home) -> None:
    (home / "config" / "edgecnn").mkdir(parents=True)
    (home / "config" / "edgecnn" / "targets.toml").write_text('[hosts.a]\nssh = "user"\n[hosts.b]\nssh = "user"\n')
    (home / "project" / "targets.toml").write_text('[hosts.a]\nssh = "project"\n')
    found = load_config()
    assert (found.hosts["a"].place, found.hosts["b"].place) == ("project", "user")


def test_the_search_ends_at_the_repository(home) -> None:
    (home / "targets.toml").write_text('[hosts.outside]\nssh = "x"\n')
    assert "outside" not in load_config().hosts


WRONG = [
    ("[hosts.a", "", "is no TOML"),
    ("[host.a]\nssh='x'", "line 1", "no 'host'"),
    ("[hosts.a]\nssh='x'\nprot=22", "line 3", "port"),
    ("\n[hosts.a]\nssh=5", "line 3", "a text"),
    ("[hosts.a]\nssh='x'\nport='22'", "line 3", "a whole number"),
    ("[hosts.a]\nssh='x'\nport=99999", "line 3", "1 to 65535"),
    ("[hosts.a]\nssh='-oProxyCommand=x'", "line 2", "no destination"),
    ("[hosts.a]", "line 1", "nothing about where it is"),
    ("[hosts.a]\nssh='x'\nboard='pi4'", "line 1", "ssh and board"),
    ("[hosts.a]\npython='x'\nport=22", "line 3", "belongs to ssh"),
    ("[hosts.a]\nboard='pi44'", "line 2", "pi4"),
    ("[hosts.a]\nssh='x'\n[hosts.a.pythons]\ntflite='y'", "line 3", "tflite-"),
    ("[hosts.a]\nssh='x'\n[hosts.a.options.litert]\nthread=2", "line 4", "threads"),
    ("[hosts.a]\nssh='x'\n[hosts.a.options.litert]\nthreads=true", "line 4", "a number from 1"),
    ("[hosts.local]\nssh='x'", "line 1", "this interpreter"),
    ("[hosts.litert]\nssh='x'", "line 1", "is a runtime"),
    ("[hosts.\"a b\"]\nssh='x'", "line 1", "cannot name a host"),
    ("hosts=3", "targets.toml", "hosts are tables"),
]


@pytest.mark.parametrize(("text", "line", "words"), WRONG, ids=lambda v: str(v)[:30])
def test_a_wrong_file_is_refused_with_its_line(home, text: str, line: str, words: str) -> None:
    path = home / "project" / "targets.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_config()
    assert str(path) in caught.value.where
    assert line in caught.value.where
    assert words in str(caught.value)


def test_a_host_is_added_and_what_is_there_stays(home) -> None:
    path = home / "project" / "targets.toml"
    path.write_text(GOOD)
    add_host(path, "new.host", ssh="ssh://pi@x:22", python='/a "b"')
    assert path.read_text().startswith(GOOD)
    assert load_config().hosts["new.host"].place == "ssh://pi@x:22"
    with pytest.raises(UsageError, match="already"):
        add_host(path, "kitchen", ssh="pi@other")
    add_host(path, "kitchen", ssh="pi@other", force=True)
    again = load_config().hosts
    assert again["kitchen"].place == "pi@other"
    assert set(again) >= {"old", "mine", "new.host"}
    assert "# the kitchen" in path.read_text()


def test_what_cannot_be_replaced_is_left_alone(home) -> None:
    path = home / "project" / "targets.toml"
    path.write_text('hosts = { a = { ssh = "x" } }\n')
    with pytest.raises(UsageError):
        add_host(path, "a", ssh="y", force=True)
    with pytest.raises(UsageError):
        add_host(path, "b", ssh="y")
    assert path.read_text() == 'hosts = { a = { ssh = "x" } }\n'


# --- edgecnn targets --------------------------------------------------------------------------------------------------


def test_list(run, home) -> None:
    (home / "project" / "targets.toml").write_text(
        f'[hosts.twin]\npython = "{sys.executable}"\n[hosts.no]\npython="/no"'
    )
    result = json.loads(run("targets", "--json", "-").stdout)
    rows = {row["name"]: row for row in result["hosts"]}
    assert rows["local"]["state"] == rows["twin"]["state"] == "ready"
    assert {"litert", "onnxruntime"} <= set(rows["twin"]["runtimes"])
    assert (rows["no"]["state"], rows["pi4"]["state"]) == ("not reached", "not built")
    told = run("targets")
    assert "not built" in told.stdout
    assert "no is not reached" in told.stderr


def test_probe(run) -> None:
    told = run("targets", "probe", "local").stdout
    assert "processor:" in told
    assert "litert" in told
    assert json.loads(run("targets", "probe", "litert@local", "--json", "-").stdout)["agent"]["python"]
    assert "edgecnn targets emulate pi4" in run("targets", "probe", "pi4", code=2).stderr
    assert "kitchen" in run("targets", "probe", "kitchen", code=2).stderr
    assert "after probe" in run("targets", "--json", "-", "probe", "local", code=2).stderr


def test_emulate_refuses_what_is_no_board(run) -> None:
    assert "pi4" in run("targets", "emulate", "pi44", code=2).stderr
    assert "no board is called like q*" in run("targets", "emulate", "q*", code=2).stderr
    assert "was not built" in run("targets", "emulate", "pi4", "--remove").stdout


def test_add_writes_nothing_for_a_host_that_does_not_answer(run, home) -> None:
    run("targets", "add", "kitchen", "ssh://nobody@127.0.0.1:1", "--time-limit", 20, code=2)
    run("targets", "add", "litert", "ssh://nobody@127.0.0.1:1", code=2)
    assert not (home / "project" / "targets.toml").exists()


def test_add_writes_after_a_probe(run, home, monkeypatch) -> None:
    here = load_config().hosts["local"]
    monkeypatch.setattr(config, "ssh_entry", lambda *_, **__: here)
    for arguments, path in (([], "project/targets.toml"), (["--user"], "config/edgecnn/targets.toml")):
        told = run("targets", "add", "kitchen", "ssh://pi@raspberrypi.local", *arguments).stdout
        assert "--target @kitchen" in told
        assert (home / path).read_text() == '[hosts.kitchen]\nssh = "ssh://pi@raspberrypi.local"\n'
    assert "--force" in run("targets", "add", "kitchen", "ssh://pi@other", code=2).stderr
    run("targets", "add", "kitchen", "ssh://pi@other", "--force")


def test_setup_is_whole_or_not_there(run, home, monkeypatch) -> None:
    """Without a network: pip is replaced, and fails or not."""

    def fake(command, _failed, _limit) -> None:
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir()
            (Path(command[-1]) / "bin" / "python").symlink_to(sys.executable)
        elif fails:
            raise TargetError("pip says no")

    proven: list[str] = []
    monkeypatch.setattr(environments, "_run", fake)
    monkeypatch.setattr(environments, "_prove", lambda runtime, _python: proven.append(runtime))
    fails = True
    assert "pip says no" in run("targets", "setup", "tflite-micro", code=2).stderr
    assert environments.find_environments() == {}
    assert list(environments.environments_folder().iterdir()) == []
    left = environments.environments_folder() / ".tflite-micro.new-killed"
    left.mkdir()
    os.utime(left, (0, 0))
    fails = False
    assert "--target tflite-micro" in run("targets", "setup", "tflite-micro").stdout
    assert proven == ["tflite-micro"]
    there = environments.find_environments()["tflite-micro"]
    assert there.current
    assert load_config().hosts["local"].make().environments == ("", "tflite-micro")
    fails = True
    run("targets", "setup", "tflite-micro", code=2)
    assert environments.find_environments()["tflite-micro"] == there
    assert "removed" in run("targets", "setup", "tflite-micro", "--remove").stdout
    assert list(environments.environments_folder().iterdir()) == []
    assert "tflite-runtime" in run("targets", "setup", "tflite-runtim", code=2).stderr


def test_setup_proves_with_a_real_model() -> None:
    environments._prove("litert", sys.executable)


def test_no_python_that_fits(monkeypatch) -> None:
    monkeypatch.setattr(environments.sys, "version_info", (3, 15, 0))
    monkeypatch.setattr(environments.shutil, "which", lambda _: None)
    with pytest.raises(TargetError) as caught:
        environments.find_python("tflite-runtime")
    assert "3.11, 3.10, 3.9" in caught.value.why


def test_doctor(run, monkeypatch) -> None:
    diagnosis = json.loads(run("doctor", "--json", "-").stdout)
    found = {f["subject"]: f for f in diagnosis["findings"]}
    assert diagnosis["healthy"]
    assert found["tflite-micro"]["hint"] == "edgecnn targets setup tflite-micro"
    assert all(f["hint"] for f in diagnosis["findings"] if f["state"] != "good")
    assert "what edgecnn needs is here" in run("doctor").stdout
    monkeypatch.setattr("edgecnn.doctor.OLDEST_PYTHON", (4, 0))
    assert "python: edgecnn cannot work like this" in run("doctor", code=1).stdout


# --- predict and check ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> edgecnn.Bundle:
    """A net that says whether the left or the right half of an image is brighter."""

    module = nn.Sequential(nn.Conv2d(1, 2, 8, bias=False), nn.Flatten()).eval()
    with torch.no_grad():
        module[0].weight.zero_()
        module[0].weight[0, 0, :, :4] = module[0].weight[1, 0, :, 4:] = 9 / 32
    return edgecnn.export_model(
        module,
        torch.zeros(1, 1, 8, 8),
        tmp_path_factory.mktemp("sides") / "b",
        name="sides",
        preprocessing=Preprocessing(scale=1 / 255),
        class_labels=("left", "right"),
    )


@pytest.fixture
def right(home) -> Path:
    """A colour image of another size whose right half is bright."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 20:] = 255
    Image.fromarray(pixels).save(home / "right.png")
    return home / "right.png"


def test_predict(run, bundle, right) -> None:
    told = run("predict", bundle.directory, right)
    assert "right" in told.stdout
    assert "softmax" in told.stdout
    assert "resized from 20x40 to 8x8" in told.stderr
    np.save(right.with_suffix(".npy"), np.pad(np.full((8, 4), 255, np.uint8), ((0, 0), (4, 0))))
    np.savez(right.with_suffix(".npz"), x=np.zeros((2, 8, 8), np.uint8))
    images = [right, right.with_suffix(".npy"), right.with_suffix(".npz")]
    said = run("predict", bundle.directory, *images, "--target", "litert", "--json", "-").stdout
    result = json.loads(said)["results"][0]
    assert result["target"] == "litert@local"
    best = [p["best"][0] for p in result["predictions"]]
    assert [b["label"] for b in best[:2]] == ["right", "right"]
    assert [b["score"] for b in best[2:]] == [0.5, 0.5]
    assert best[0]["score"] == pytest.approx(1 / (1 + np.exp(-9)), abs=1e-3)


def test_predict_refuses(run, bundle, right, home) -> None:
    for arguments, words in (
        ([home / "no.png"], "there is no file"),
        ([home], "is a folder"),
        ([right, "--precision", "int8"], "no int8 artifact"),
        ([right, "--target", "onnxruntime@pi4"], "edgecnn targets emulate pi4"),
        ([right, "--target", "tflite-micro"], "edgecnn targets setup tflite-micro"),
    ):
        assert words in run("predict", bundle.directory, *arguments, code=2).stderr


def test_probabilities_are_left_as_they_are(run, tmp_path, right) -> None:
    class Sure(nn.Module):
        def forward(self, x):
            return torch.softmax(x.mean((2, 3)) * torch.tensor([1.0, 2.0, 0.5]), 1)

    made = edgecnn.export_model(Sure().eval(), torch.zeros(1, 1, 8, 8), tmp_path / "b", name="sure")
    told = run("predict", made.directory, right)
    assert "which are probabilities" in told.stdout
    assert "class 1" in told.stdout
    assert "does not say how its inputs are made" in told.stderr


def test_check_on_targets(run, bundle) -> None:
    report = json.loads(run("check", bundle.directory, "--target", "litert[xnnpack=off]", "--json", "-").stdout)
    assert [(v["target"], v["options"]["xnnpack"]) for v in report["verdicts"]] == [
        ("litert[xnnpack=off]@local", False)
    ]
    told = run("check", bundle.directory, "--target", "@local", "--target", "litert@pi4", code=2)
    assert "onnxruntime@local" in told.stdout
    assert "2 of 2 verdicts passed; 1 could not be judged" in told.stdout
    assert "edgecnn targets emulate pi4" in told.stderr


def test_check_refuses_a_target_with_nothing_to_run(run, tmp_path) -> None:
    made = edgecnn.export_model(nn.ReLU().eval(), torch.zeros(1, 1, 4, 4), tmp_path / "b", formats=["onnx"], name="r")
    assert "r.fp32.onnx" in run("check", made.directory, "--target", "litert", code=2).stderr
    run("check", made.directory, "--target", "@local")


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


def test_a_host_that_crashes_does_not_lose_the_others(bundle) -> None:
    dead = Target(runtime="litert", host=Crashing(), name="litert@crashing")
    report = edgecnn.check_bundle(bundle, targets=[dead, *installed_targets()])
    assert (report.passed, report.exit_code) == (False, 2)
    assert {v.target for v in report.verdicts} == {"onnxruntime@local", "litert@local"}
    assert [(u.target, u.artifact) for u in report.unjudged] == [("litert@crashing", "sides.fp32.tflite")]
    assert "SIGSEGV" in report.unjudged[0].error.message


def test_hosts_that_are_not_reached_are_in_the_report(bundle, monkeypatch) -> None:
    lost = TargetFailure(target="down", error=TargetError("down: no answer"))
    found = Found(targets=tuple(installed_targets()), failures=(lost,))
    monkeypatch.setattr(jobs, "find_targets", lambda *_, **__: found)
    report = edgecnn.check_bundle(bundle, targets=["@local", "@down"])
    assert len(report.verdicts) == 2
    assert report.as_json()["unjudged"][0]["message"] == "down: no answer"


def test_all_hosts_are_asked_at_once() -> None:
    import threading

    barrier = threading.Barrier(5, timeout=20)

    def meet(number: int) -> int:
        barrier.wait()
        return number

    assert at_once(meet, range(5)) == list(range(5))
    with pytest.raises(ValueError, match="2"):
        at_once(lambda n: (_ for _ in ()).throw(ValueError(n)) if n > 1 else n, range(5))


@needs_sshd
def test_the_same_over_ssh(run, bundle, right, home) -> None:
    with sshd() as server:
        (home / "project" / "targets.toml").write_text(
            f'[hosts.kitchen]\nssh = "device"\nconfig = "{server.config}"\npython = "{sys.executable}"\n'
        )
        assert json.loads(run("targets", "probe", "kitchen", "--json", "-").stdout)["kind"] == "ssh"
        told = run("check", bundle.directory, "--target", "@kitchen", "--target", "litert").stdout
        assert "onnxruntime@kitchen" in told
        assert "passed, 3 of 3 verdicts" in told
        told = run("predict", bundle.directory, right, "--target", "litert@kitchen").stdout
        assert "litert@kitchen" in told
        assert "right" in told
        assert "tflite-micro" in run("check", bundle.directory, "--target", "tflite-micro@kitchen", code=2).stderr
        server.stop()
        told = run("check", bundle.directory, "--target", "@kitchen", "--target", "litert", code=2)
        assert "1 of 1 verdicts passed; 1 could not be judged" in told.stdout
        assert "kitchen could not be judged" in told.stderr


@pytest.mark.skipif(not is_built(load_board("pi4")), reason="make boards, or edgecnn targets emulate pi4")
def test_the_same_on_an_emulated_board(run, bundle, right, monkeypatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", BOARDS)
    told = run("check", bundle.directory, "--target", "@pi4").stdout
    assert "litert@pi4" in told
    assert "onnxruntime@pi4" in told
    assert "right" in run("predict", bundle.directory, right, "--target", "litert@pi4").stdout


# --- what verdicts rest on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runtime", "options", "rule", "exact"),
    [
        ("onnxruntime", {}, "half_even_fp32", True),
        ("onnxruntime", {"graph_optimization": "basic"}, "half_even_fp32", False),
        ("litert", {"xnnpack": True}, "xnnpack", True),
        ("litert", {"xnnpack": False, "reference_kernels": True}, "litert_reference", True),
        ("litert", {"xnnpack": False}, "tflite_runtime_reference", False),
        ("tflite-runtime", {"xnnpack": True}, "tflite_runtime_reference", False),
        ("tflite-micro", {}, "gemmlowp", True),
    ],
)
def test_rounding(runtime, options, rule, exact) -> None:
    rounding = rounding_of(runtime, options)
    assert (rounding.rule, rounding.exact) == (rule, exact)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory) -> edgecnn.Bundle:
    """Large weights and bright inputs, so that pairs of products leave int16."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    data = np.random.default_rng(0).random((64, 1, 8, 8), dtype=np.float32)
    return edgecnn.export_model(
        module,
        torch.zeros(1, 1, 8, 8),
        tmp_path_factory.mktemp("int8") / "q",
        name="q",
        precisions=["int8"],
        calibration=data,
    )


def test_reference_kernels_are_held_to_their_own_rounding(quantized) -> None:
    report = edgecnn.check_bundle(
        quantized, targets=["litert[reference_kernels=on,xnnpack=off]", "litert[xnnpack=off]"]
    )
    assert report.passed
    assert [(v.metric, v.limit) for v in report.verdicts] == [("lsb_max", 0), ("lsb_mean", 1)]


def test_saturation_is_named_with_its_cure(quantized, monkeypatch) -> None:
    from edgecnn.parity import saturation
    from edgecnn.parity.judge import Place, judge
    from edgecnn.parity.measured import Measured

    artifact = quantized.artifact("onnx", "int8")
    layers = artifact.spec.quantization.saturating
    assert layers
    found = Measured(scores=True)
    found.difference.add(np.ones((1, 3)), np.zeros((1, 3)))
    found.add_integers(np.array([[9, 0, 0]]), np.array([[0, 0, 9]]))
    place = Place(
        target="onnxruntime@old",
        runtime="onnxruntime",
        version="1",
        options={},
        rounding=rounding_of("onnxruntime", {}),
    )
    verdict = judge(artifact, place, samples_from="x", reference="torch", output="output", found=found)
    assert not verdict.passed
    options = MappingProxyType({"precision": False})
    target = Target(runtime="onnxruntime", host=LocalHost(), name="onnxruntime@old", options=options)
    exact = Target(runtime="onnxruntime", host=LocalHost(), name="onnxruntime@old")
    for features, named in (
        (("sse2", "avx2"), True),
        (("sse2",), False),
        (("avx2", "avx512_vnni"), False),
        (("asimd",), False),
        ((), False),
    ):
        monkeypatch.setattr(saturation, "_features", lambda _, features=features: features)
        reason = saturation.saturation_reason(verdict, artifact, target).reason
        assert (explained(layers, "onnxruntime") in reason) is named is saturates(features, "onnxruntime")
        assert saturation.saturation_reason(verdict, artifact, exact) == verdict
    assert "--recipe int8-7bit" in explained(layers, "onnxruntime")
    assert layers[0] in explained(layers, "onnxruntime")


def test_another_best_class_fails_where_rounding_differs(quantized) -> None:
    from edgecnn.parity.judge import Place, judge
    from edgecnn.parity.measured import Measured

    artifact = quantized.artifact("tflite", "int8")
    place = Place(
        target="tflite-runtime@x",
        runtime="tflite-runtime",
        version="1",
        options={},
        rounding=rounding_of("tflite-runtime", {}),
    )
    for own, passed in (([[10, 9, 0]], True), ([[12, 9, 0]], False)):
        found = Measured(scores=True)
        found.difference.add(np.array([[0.0, 1, 0]]), np.zeros((1, 3)))
        found.add_integers(np.array([[10, 11, 0]]), np.array(own))
        verdict = judge(artifact, place, samples_from="x", reference="torch", output="output", found=found)
        assert verdict.passed is passed
        assert verdict.metric == ("lsb_mean" if passed else "top1_flips")
