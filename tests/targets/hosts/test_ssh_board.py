"""A whole emulated Raspberry Pi 4 behind a real OpenSSH server: its shell, its Python and its runtimes run under QEMU.

proot gives the board's userland as ``/``, where plain ``qemu-aarch64 -L`` could start no second program.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import torch
from support.sshd import needs_sshd, sshd
from torch import nn

import edgecnn
from edgecnn.errors import TargetError
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation import build_board
from edgecnn.targets.hosts.reconnect import open_reconnecting

SLOW = 300.0  # seconds: emulated, and on a busy machine
SHELL = ("dash", "coreutils")
"""What a login needs beside Python: a shell, and ``env``."""

pytestmark = [
    needs_sshd,
    pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="needs QEMU: apt install qemu-user"),
    pytest.mark.skipif(shutil.which("proot") is None, reason="needs proot: apt install proot"),
]


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """The server, and the home folder of its board."""
    board = load_board("pi4")
    recipe = msgspec.structs.replace(board.emulation, packages=(*board.emulation.packages, *SHELL))
    built = build_board(msgspec.structs.replace(board, emulation=recipe))
    folder = tmp_path_factory.mktemp("board")
    root, home = folder / "root", folder / "home"
    home.mkdir()
    # A copy with every mount point in it: proot makes those that are missing in the root itself, and takes them away
    # again when it ends, from under another login too.
    shutil.copytree(built.root, root, symlinks=True)
    for point in ("dev", "proc", "sys", "opt/site", "home/pi", "host-rootfs"):
        (root / point).mkdir(parents=True, exist_ok=True)
    binds = {
        "/dev": "/dev",
        "/proc": "/proc",
        "/sys": "/sys",
        **{
            built.prefix / part: f"/{part}"
            for part in ("proc/cpuinfo", "proc/device-tree", "proc/meminfo", "sys/devices/system/cpu")
        },
        built.sites[""]: "/opt/site",
        home: "/home/pi",
    }
    mounts = " ".join(f"-b {there}:{here}" for there, here in binds.items())
    prefix = f"proot -q 'qemu-aarch64 -cpu {board.cpu}' -r {root} -w / {mounts}"
    variables = {
        "HOME": "/home/pi",
        "XDG_CACHE_HOME": "/home/pi/.cache",
        "PYTHONPATH": "/opt/site",
        "PATH": "/usr/bin:/bin",
        "OPENBLAS_NUM_THREADS": "1",  # numpy's own threads have no work here, and QEMU has the less to emulate
    }
    with sshd(prefix, shell="/bin/dash", variables=variables) as server:
        yield server


def kitchen(device, **kwargs):
    return device.host(python="python3.11", connect_timeout=60, **kwargs)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 4))
    images = np.random.default_rng(0).normal(size=(64, 1, 8, 8)).astype(np.float32)
    folder = tmp_path_factory.mktemp("bundle") / "b"
    return edgecnn.export_model(
        module.eval(), torch.zeros(1, 1, 8, 8), folder, name="net", precisions=["int8"], calibration=images
    )


def test_the_board_says_what_it_is(probed) -> None:
    agent, machine = probed["agent"], probed["machine"]
    assert {"onnxruntime", "litert"} <= set(agent["runtimes"])
    assert (probed["kind"], agent["machine"], probed["notes"]) == ("ssh", "aarch64", [])
    assert machine["board"] == load_board("pi4").arm.model
    assert machine["cores"] == load_board("pi4").cores


def test_commands_end_to_end(probed, bundle, run_in) -> None:
    report = json.loads(run_in("check", bundle.directory, "--target", "@kitchen", "--time-limit", SLOW, "--json", "-"))
    assert report["passed"]
    assert {v["target"] for v in report["verdicts"]} == {"onnxruntime@kitchen", "litert@kitchen"}
    exact = [v["value"] for v in report["verdicts"] if v["metric"] == "lsb_max"]
    assert exact == [0.0, 0.0]
    np.save(run_in.folder / "x.npy", np.full((8, 8), 200, np.uint8))
    told = run_in("predict", bundle.directory, run_in.folder / "x.npy", "--target", "litert@kitchen")
    assert "litert@kitchen" in told


def test_a_line_that_is_cut_is_mended(device, bundle) -> None:
    data = bundle.artifact("tflite", "int8").path.read_bytes()
    host = kitchen(device)
    with open_reconnecting(host, "", "litert", data, "net.int8.tflite", time_limit=SLOW) as session:
        x = np.zeros((1, *session.inputs[0].shape[1:]), session.inputs[0].dtype)
        before = session.infer([x])
        device.cut()
        np.testing.assert_array_equal(session.infer([x])[0], before[0])


def test_what_is_no_model_is_refused_and_the_board_goes_on(device, bundle) -> None:
    with kitchen(device).start(time_limit=SLOW) as connection:
        with pytest.raises(TargetError, match="junk"):
            connection.open("onnxruntime", b"no model at all", "junk.onnx")
        connection.open("onnxruntime", bundle.artifact("onnx", "int8").path.read_bytes(), "net.onnx")


@pytest.fixture(scope="module")
def run_in(device, tmp_path_factory):
    """Run a command in a project folder that names the board; its standard output, once it has ended well."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "targets.toml").write_text(
        f'[hosts.kitchen]\nssh = "device"\nconfig = "{device.config}"\npython = "python3.11"\nconnect_timeout = 60\n'
    )
    own = {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_DATA_HOME": str(folder / "data")}

    def run(*arguments):
        command = [sys.executable, "-c", "from edgecnn.cli import main; main()", *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, env=os.environ | own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.folder = folder
    return run


@pytest.fixture(scope="module")
def probed(run_in):
    """What the command says of the board: an agent in each environment, and one that looks at the machine."""
    return json.loads(run_in("targets", "probe", "kitchen", "--time-limit", SLOW, "--json", "-"))
