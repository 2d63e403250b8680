"""What the agent tells of its machine, and how that is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgecnn.targets.agent import machine, messages
from edgecnn.targets.hosts import machine_info


def files(monkeypatch, contents):
    """Let these files be all there is in /proc and /sys."""

    def read(*parts):
        path = str(Path(*parts))
        if path not in contents:
            raise FileNotFoundError(path)
        return contents[path].strip("\0\n ")

    class Folder(type(Path())):
        def glob(self, pattern):
            folders = {parent for path in contents for parent in Path(path).parents}
            return [folder for folder in folders if folder.match(str(self / pattern))]

    monkeypatch.setattr(machine, "_read_text", read)
    monkeypatch.setattr(machine, "Path", Folder)


CPUFREQ = "/sys/devices/system/cpu/cpufreq/policy0"
PI = {
    "/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "/proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd crc32\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
    "/proc/meminfo": "MemTotal:        3884360 kB\nMemAvailable:    3000000 kB\nSwapTotal:        102396 kB\n",
    "/etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    f"{CPUFREQ}/affected_cpus": "0 1 2 3",
    f"{CPUFREQ}/scaling_governor": "ondemand\n",
    f"{CPUFREQ}/scaling_cur_freq": "600000",
    f"{CPUFREQ}/scaling_max_freq": "1800000",
    "/sys/class/thermal/thermal_zone0/temp": "48312\n",
    "/sys/class/thermal/thermal_zone1/temp": "not a number",
}


def probed():
    return machine_info.parse_probe(messages.Message("probe", machine.probe(), ()))


def test_a_raspberry_pi(monkeypatch, tmp_path):
    files(monkeypatch, PI)
    tool = tmp_path / "vcgencmd"
    tool.write_text("#!/bin/sh\necho throttled=0x50005\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    info = probed()
    assert (info.board, info.cpu) == ("Raspberry Pi 4 Model B Rev 1.4", "Cortex-A72")
    assert info.features == ("fp", "asimd", "crc32")
    assert (info.memory, info.memory_available, info.swap) == (3884360 * 1024, 3000000 * 1024, 102396 * 1024)
    assert info.os == "Debian GNU/Linux 12 (bookworm)"
    clock = machine_info.CpuClock(cores="0 1 2 3", governor="ondemand", now=600000, min=None, max=1800000)
    assert (info.clocks, info.governor) == ((clock,), "ondemand")
    assert info.temperature == 48.312
    assert info.throttled == ("under-voltage now", "throttled now", "under-voltage since boot", "throttled since boot")


def test_clocks_of_a_kernel_without_policies(monkeypatch):
    base = "/sys/devices/system/cpu/cpu0/cpufreq"
    files(monkeypatch, {f"{base}/scaling_governor": "performance", f"{base}/scaling_cur_freq": "x"})
    clock = machine_info.CpuClock(cores=None, governor="performance", now=None, min=None, max=None)
    assert probed().clocks == (clock,)


def test_a_machine_that_tells_nothing(monkeypatch):
    files(monkeypatch, {})
    monkeypatch.setattr(machine, "_read_text", lambda *parts: 1 / 0)
    monkeypatch.setattr(machine.subprocess, "run", lambda *a, **k: 1 / 0)
    monkeypatch.delattr(os, "getloadavg")
    info = probed()
    assert (info.board, info.cpu, info.features, info.memory, info.os, info.clocks) == (None, None, (), None, None, ())
    assert (info.temperature, info.throttled, info.load, info.governor) == (None, None, None, None)


@pytest.mark.parametrize("told", ["sleep 1000", "echo no such thing", "exit 1", "echo throttled=0x0; exit 1"])
def test_a_vcgencmd_that_fails(monkeypatch, tmp_path, told):
    tool = tmp_path / "vcgencmd"
    tool.write_text(f"#!/bin/sh\n{told.replace('sleep', 'exec sleep')}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert probed().throttled is None


def test_long_texts_are_cut():
    fields = {"board": "a\nb " * 10_000, "features": ["x" * 1000] * 5000, "clocks": [{}] * 1000, "load": [1] * 1000}
    info = machine_info.parse_probe(messages.Message("probe", fields, ()))
    assert len(info.board) <= 300
    assert "\n" not in info.board
    assert (len(info.features), len(info.features[0]), len(info.clocks), len(info.load)) == (512, 40, 64, 3)


@pytest.mark.parametrize(
    "fields",
    [{"cores": -1}, {"cores": True}, {"cores": 1.0}, {"features": [1]}, {"load": ["1"]}, {"temperature": "hot"},
     {"clocks": [1]}, {"clocks": [{"now": "1"}]}, {"board": 1}, {"throttled": "0x0"}, {"features": "fp"}],
)  # fmt: skip
def test_wrong_types_are_refused(fields):
    with pytest.raises(messages.ProtocolError):
        machine_info.parse_probe(messages.Message("probe", fields, ()))
