"""A description of the machine: board, processor, memory, clocks, temperature, throttling, system."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def probe() -> dict[str, Any]:
    """Return the value of every entry of `PROBES`; None for what the machine does not report."""
    return {name: _value_or_none(read) for name, read in PROBES.items()}


def _value_or_none(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception:  # noqa: BLE001 - files of /proc and /sys differ from kernel to kernel
        return None


def _read_text(*parts: str) -> str:
    with Path(*parts).open("rb") as file:
        return file.read(2**16).decode("utf-8", "replace").strip("\0\n ")


def _board() -> str | None:
    for path in ("/proc/device-tree/model", "/sys/class/dmi/id/product_name"):
        with contextlib.suppress(OSError):
            return _read_text(path)
    return None


def _cpuinfo(*keys: str) -> str | None:
    """Return the first value of the first key that /proc/cpuinfo has."""
    rows = [line.partition(":") for line in _read_text("/proc/cpuinfo").splitlines()]
    for key in keys:
        for name, _, value in rows:
            if name.strip() == key:
                return value.strip()
    return None


# ARM's own processors by their part number, for kernels that give no name.
_ARM_PARTS = {
    "0xb76": "ARM1176",
    "0xc07": "Cortex-A7",
    "0xc08": "Cortex-A8",
    "0xc09": "Cortex-A9",
    "0xc0f": "Cortex-A15",
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd41": "Cortex-A78",
}


def _cpu() -> str | None:
    part = _cpuinfo("CPU part")
    named = _ARM_PARTS.get(part) if part and _cpuinfo("CPU implementer") == "0x41" else None
    return named or _cpuinfo("model name", "Hardware")


def _cpu_features() -> list[str] | None:
    found = _cpuinfo("Features", "flags")
    return None if found is None else found.split()[:512]


def _meminfo(key: str) -> int | None:
    found = re.search(rf"^{key}:\s+(\d+) kB$", _read_text("/proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _number(*parts: str) -> int | None:
    try:
        return int(_read_text(*parts))
    except (OSError, ValueError):
        return None


def _word(*parts: str) -> str | None:
    try:
        return _read_text(*parts)[:80]
    except OSError:
        return None


def _clocks() -> list[dict[str, Any]]:
    """Return the clocks that cores share, one per cpufreq policy, in kHz."""
    base = Path("/sys/devices/system/cpu")
    policies = sorted(map(str, Path(base, "cpufreq").glob("policy*"))) or sorted(map(str, base.glob("cpu0/cpufreq")))
    return [
        {
            "cores": _word(policy, "affected_cpus"),
            "governor": _word(policy, "scaling_governor"),
            "now": _number(policy, "scaling_cur_freq"),
            "min": _number(policy, "scaling_min_freq"),
            "max": _number(policy, "scaling_max_freq"),
        }
        for policy in policies[:64]
    ]


def _temperature() -> float | None:
    """Return the highest temperature of all zones in degrees Celsius."""
    base = Path("/sys/class/thermal")
    numbers = [_number(str(path), "temp") for path in base.glob("thermal_zone*")]
    present = [value for value in numbers if value is not None]
    return max(present) / 1000 if present else None


def _throttled() -> int | None:
    """Return the bits that the firmware of a Raspberry Pi reports; None on other boards."""
    done = subprocess.run(
        ["/usr/bin/env", "vcgencmd", "get_throttled"],
        capture_output=True,
        text=True,
        timeout=2,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    found = re.fullmatch(r"throttled=0x([0-9a-fA-F]{1,8})\s*", done.stdout)
    return int(found[1], 16) if found else None


def _os_name() -> str | None:
    found = re.search(r"^PRETTY_NAME=\"?([^\"\n]*)\"?$", _read_text("/etc/os-release"), re.MULTILINE)
    return found[1] if found else None


PROBES: Mapping[str, Callable[[], Any]] = {
    "board": _board,
    "cpu": _cpu,
    "cores": os.cpu_count,
    "features": _cpu_features,
    "memory": lambda: _meminfo("MemTotal"),
    "memory_available": lambda: _meminfo("MemAvailable"),
    "swap": lambda: _meminfo("SwapTotal"),
    "clocks": _clocks,
    "temperature": _temperature,
    "throttled": _throttled,
    "os": _os_name,
    "kernel": lambda: f"{platform.system()} {platform.release()}",
    "python": lambda: f"{platform.python_implementation()} {platform.python_version()}",
    "libc": lambda: " ".join(platform.libc_ver()).strip() or None,
    "load": lambda: [float(value) for value in os.getloadavg()],
}
