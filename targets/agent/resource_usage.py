"""Memory of this process and frequency of the processor, as Linux reports them."""

from __future__ import annotations

import os


def processor_khz() -> int:
    """Return the highest frequency of all processors at this moment; 0 where Linux does not report it."""
    found = [_first_int(f"/sys/devices/system/cpu/cpu{i}/cpufreq/scaling_cur_freq") for i in range(os.cpu_count() or 1)]
    return max((khz for khz in found if khz is not None), default=0)


def memory_kb(what: str) -> int | None:
    """Return ``VmRSS`` (now) or ``VmHWM`` (the most so far) of this process in kB; None if Linux does not report it."""
    return _first_int("/proc/self/status", what + ":")


def forget_peak() -> None:
    """Reset ``VmHWM`` to the memory in use now, where the kernel allows it."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("5")
    except OSError:
        pass


def _first_int(path: str, label: str = "") -> int | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123
            for line in file:
                if line.startswith(label):
                    return int(line[len(label) :].split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return None
