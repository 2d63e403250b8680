"""``edgecnn targets`` and ``edgecnn doctor`` as a user meets them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from edgecnn.errors import TargetError
from edgecnn.targets import config, environments
from edgecnn.targets.config import load_config

pytestmark = pytest.mark.usefixtures("home")


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
    assert "no board matches q*" in run("targets", "emulate", "q*", code=2).stderr
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


def test_doctor(run, monkeypatch) -> None:
    diagnosis = json.loads(run("doctor", "--json", "-").stdout)
    found = {f["subject"]: f for f in diagnosis["findings"]}
    assert diagnosis["healthy"]
    assert found["tflite-micro"]["hint"] == "edgecnn targets setup tflite-micro"
    assert all(f["hint"] for f in diagnosis["findings"] if f["state"] != "good")
    assert "what edgecnn needs is here" in run("doctor").stdout
    monkeypatch.setattr("edgecnn.doctor.OLDEST_PYTHON", (4, 0))
    assert "python: edgecnn cannot work like this" in run("doctor", code=1).stdout
