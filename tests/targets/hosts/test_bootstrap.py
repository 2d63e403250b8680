"""How the agent starts on a device: its login shell, its Python, and what the device lacks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.ssh_device import X, artifact, program, refusal
from support.sshd import needs_sshd, sshd

from edgecnn.errors import TargetError
from edgecnn.targets.hosts import bootstrap
from edgecnn.targets.hosts.channel import LostError

pytestmark = needs_sshd


def test_the_environment_there(device, note):
    seen = "open({!r}, 'w').write(repr(dict(os.environ)))".format(str(note) + ".env")
    with device.host().start() as connection:
        connection.open("tflite-runtime", artifact(note, seen), "net").infer([X])
    told = Path(str(note) + ".env").read_text()
    assert "'PYTHONHASHSEED': '0'" in told
    assert "'ORT_DISABLE_TELEMETRY': '1'" in told


def test_files_of_the_home_folder_shadow_nothing(packages):
    with sshd(variables={"PYTHONPATH": packages}) as server:
        for name in ("json", "numpy", "onnxruntime", "base64", "re", "struct", "linecache", "threading", "select"):
            (server.home / f"{name}.py").write_text("raise SystemExit('shadowed')")
        (server.home / "openvino").mkdir()  # a package without a file, to Python
        with server.host().start() as connection:
            found = connection.hello()
    assert found.numpy == np.__version__
    assert set(found.runtimes) >= {"onnxruntime", "litert"}
    assert "openvino" not in found.runtimes


SHELLS = [name for name in ("sh", "bash", "dash", "zsh", "fish", "tcsh", "csh", "ksh") if shutil.which(name)]


@pytest.mark.parametrize("shell", SHELLS)
def test_login_shells(shell):
    with sshd(shell=shutil.which(shell)) as server:
        (server.home / "venv").symlink_to(Path(sys.executable).parent)
        with server.host(python="~/venv/python").start() as connection:
            assert connection.hello().python


NOISES = {
    "bash": ("bash", ".bashrc", "echo 'Welcome to Raspbian'; printf 'no end of line'; echo to stderr >&2"),
    "much": ("bash", ".bashrc", "head -c 20000 /dev/zero | tr '\\0' '.'"),
}


@pytest.mark.parametrize("noise", NOISES)
def test_shells_that_print(noise):
    shell, file, statements = NOISES[noise]
    with sshd(shell=shell) as server:
        (server.home / file).write_text(statements)
        with server.host().start() as connection:
            assert connection.hello()
        ssh = ["ssh", "-F", str(server.config), "device", "true"]
        heard = subprocess.run(ssh, capture_output=True, check=True).stdout
    assert heard  # else nothing was proven


def test_a_shell_that_prints_without_end():
    with sshd("yes | head -c 10000000 ;") as server:
        with pytest.raises(TargetError, match="kitchen: its start-up files print without end") as caught:
            server.host().start()
        assert "y\ny\n" in caught.value.why


def test_no_python(device):
    error = refusal(device, python="python3.99")
    assert error.message == "kitchen: there is no python3.99"
    assert "sudo apt install python3 python3-numpy" in error.hint


def test_a_python_that_cannot_be_executed(device, tmp_path):
    path = program(tmp_path, "python", "", 0o644)
    assert refusal(device, python=path).message == f"kitchen: {path} cannot be executed"


def test_a_python_that_is_something_else(device, tmp_path):
    error = refusal(device, python=program(tmp_path, "python", "#!/bin/sh\necho I am no snake\nexit 3\n"))
    assert "the agent did not start: the login ended with exit code 3" in error.message
    assert "I am no snake" in error.why


def test_a_python_that_hangs(device, tmp_path, note):
    path = program(tmp_path, "python", f"#!/bin/sh\necho $$ > {note}\nexec cat > /dev/null\n")
    with pytest.raises(TargetError, match=r"did not start within 1 s"):
        device.host(python=path).start(time_limit=1)


def test_an_old_python(device, tmp_path):
    """The bootstrap's first line is written as such a Python would write it."""
    path = program(tmp_path, "python", '#!/bin/sh\necho; echo "$3 3.5.3"\n')
    error = refusal(device, python=path)
    assert error.message == f"kitchen: {path} is Python 3.5.3; the agent needs 3.9 or newer"


OLD = [path for path in map(shutil.which, ("python2", "python2.7", "python3.6", "python3.7", "python3.8")) if path]


@pytest.mark.parametrize("python", OLD or [pytest.param("", marks=pytest.mark.skip(reason="no old Python here"))])
def test_old_pythons_that_are_here(device, python):
    if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} does not run")
    assert "; the agent needs 3.9 or newer" in refusal(device, python=python).message


def test_no_numpy(packages, tmp_path):
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError(\"No module named 'numpy'\")")
    with sshd(variables={"PYTHONPATH": tmp_path}) as server:
        there = server.host().start()
        with there, pytest.raises(TargetError) as caught:
            there.hello()
    assert caught.value.message == "the agent on kitchen: numpy is not installed there"
    assert caught.value.hint == f"ssh device {sys.executable} -m pip install numpy"
    assert not isinstance(caught.value, LostError)


def test_no_runtime(device):
    with device.host().start() as connection, pytest.raises(TargetError) as caught:
        connection.open("tflite-micro", b"1", "net.tflite")
    assert caught.value.message.startswith("net.tflite on tflite-micro: tflite-micro is not installed")
    assert caught.value.hint == f"ssh device {sys.executable} -m pip install tflite-micro"


def test_interpreters_with_odd_paths(device, tmp_path):
    folder = tmp_path / 'a b;$(c) "d" & \'e'[:-3]
    folder.mkdir(parents=True)
    path = program(folder, "python*", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    with device.host(python=path).start() as connection:
        assert connection.hello()


def test_reports_are_read_among_other_words():
    marker = "edgecnn00"
    words, report = bootstrap.split_report(f"one\ntwo\n{marker} signal 11\n", marker)
    assert (words, report) == ("one\ntwo", bootstrap.Report(11, None))
    assert bootstrap.split_report("none", marker) == ("none", None)
    assert bootstrap.split_start(b"Hi" + f"\n{marker} 3.11.2\n".encode(), marker) == (b"Hi", (3, 11, 2))
    assert bootstrap.split_start(f"{marker} 3.11".encode(), marker) is None
