"""A board's own files, from which a program on it reads the cores, the memory and the board's name.

qemu-user redirects every absolute path that exists below its ``-L`` folder to there, including ``/proc`` and ``/sys``.
So a board is a folder that shares a userland by symbolic links and adds these files. Without a ``/proc/cpuinfo`` of a
real board the runtimes crash, and with that of other cores they run instructions that QEMU's cores do not have.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from edgecnn.targets.boards import X86, Arm, Board, Caches

SITES = "edgecnn"
"""The folder in the prefix with one link for each environment."""

_OWN = {"proc", "sys", "tmp", SITES}
_DEFAULT_SITE = "default"


def site_path(environment: str) -> str:
    """Return the folder in which a program on the board finds an environment's packages."""
    return f"/{SITES}/{environment or _DEFAULT_SITE}"


def make_prefix(board: Board, root: Path, sites: Mapping[str, Path], prefix: Path, final: Path) -> None:
    """Make a board's folder.

    Args:
        board: An emulated board.
        root: The userland.
        sites: Unpacked wheels by environment.
        prefix: The folder to make.
        final: The folder's final place, to which links are relative.
    """
    prefix.mkdir()
    for entry in sorted(root.iterdir()):
        if entry.name not in _OWN and not entry.name.startswith("."):
            (prefix / entry.name).symlink_to(os.path.relpath(entry, final))
    (prefix / SITES).mkdir()
    for name, site in sites.items():
        (prefix / site_path(name).lstrip("/")).symlink_to(os.path.relpath(site, final / SITES))
    for path, text in machine_files(board).items():
        (prefix / path).parent.mkdir(parents=True, exist_ok=True)
        (prefix / path).write_text(text)
    for path in ("sys/class/thermal", "sys/class/hwmon"):  # empty: the host's temperature is not the board's
        (prefix / path).mkdir(parents=True)


def machine_files(board: Board) -> dict[str, str]:
    """Return the contents of the files of ``/proc`` and ``/sys``, by path without the leading slash."""
    files = {"proc/cpuinfo": cpuinfo(board), "proc/meminfo": _meminfo(board)}
    if board.arm:
        files["proc/device-tree/model"] = f"{board.arm.model}\0"
    cpus, everyone = "sys/devices/system/cpu", f"0-{board.cores - 1}\n"
    files |= {f"{cpus}/{name}": everyone for name in ("possible", "present", "online")}
    files |= {f"{cpus}/kernel_max": "255\n", f"{cpus}/offline": "\n", f"{cpus}/isolated": "\n"}
    for core in range(board.cores):
        files |= {f"{cpus}/cpu{core}/{path}": f"{text}\n" for path, text in _core(board, core).items()}
    return files


def cpuinfo(board: Board) -> str:
    """Return ``/proc/cpuinfo``."""
    if board.x86:
        return "\n".join(_x86_core(board, board.x86, core) for core in range(board.cores))
    assert board.arm
    cores = "\n".join(_arm_core(board, board.arm, core) for core in range(board.cores))
    return (
        f"{cores}\nRevision\t: {board.arm.revision_code}\nSerial\t\t: 0000000000000000\nModel\t\t: {board.arm.model}\n"
    )


def midr(arm: Arm) -> int:
    """Return the core's identification register: implementer, variant, architecture, part, revision."""
    return 0x41 << 24 | arm.variant << 20 | 0xF << 16 | int(arm.part, 16) << 4 | arm.revision


def _arm_core(board: Board, arm: Arm, core: int) -> str:
    old = board.architecture == "armv7l"
    name = f"model name\t: ARMv7 Processor rev {arm.revision} (v7l)\n" if old else ""
    return (
        f"processor\t: {core}\n{name}BogoMIPS\t: {arm.bogomips}\nFeatures\t: {' '.join(board.features)} \n"
        f"CPU implementer\t: 0x41\nCPU architecture: {7 if old else 8}\nCPU variant\t: {arm.variant:#x}\n"
        f"CPU part\t: {arm.part}\nCPU revision\t: {arm.revision}\n"
    )


def _x86_core(board: Board, x86: X86, core: int) -> str:
    assert board.frequency_mhz
    assert board.caches
    rows = {
        "processor": core, "vendor_id": x86.vendor, "cpu family": x86.family, "model": x86.model,
        "model name": x86.model_name, "stepping": x86.stepping, "cpu MHz": f"{board.frequency_mhz.max}.000",
        "cache size": f"{board.caches.third or board.caches.second} KB", "physical id": 0, "siblings": board.cores,
        "core id": core, "cpu cores": board.cores, "apicid": core, "initial apicid": core, "fpu": "yes",
        "flags": " ".join(board.features), "address sizes": "40 bits physical, 48 bits virtual",
    }  # fmt: skip
    return "".join(f"{name:<15}\t: {value}\n" for name, value in rows.items())


def _meminfo(board: Board) -> str:
    kib = board.memory_mb * 1024
    return f"MemTotal:       {kib} kB\nMemFree:        {kib * 3 // 4} kB\nMemAvailable:   {kib * 7 // 8} kB\n"


def _core(board: Board, core: int) -> dict[str, object]:
    assert board.frequency_mhz
    assert board.caches
    everyone, slow, fast = f"0-{board.cores - 1}", board.frequency_mhz.min * 1000, board.frequency_mhz.max * 1000
    files: dict[str, object] = {
        "cpufreq/cpuinfo_min_freq": slow, "cpufreq/cpuinfo_max_freq": fast, "cpufreq/scaling_cur_freq": fast,
        "cpufreq/scaling_governor": "ondemand", "topology/physical_package_id": 0, "topology/core_id": core,
        "topology/cluster_id": 0, "topology/thread_siblings_list": core, "topology/core_cpus_list": core,
    }  # fmt: skip
    files |= dict.fromkeys(("topology/core_siblings_list", "topology/package_cpus_list"), everyone)
    files["topology/cluster_cpus_list"] = everyone
    if board.arm and board.architecture == "aarch64":
        files["regs/identification/midr_el1"] = f"{midr(board.arm):#018x}"
    return files | _caches(board.caches, core, everyone)


def _caches(caches: Caches, core: int, everyone: str) -> dict[str, object]:
    rows: list[tuple[int, str, int | None, object]] = [
        (1, "Data", caches.data, core),
        (1, "Instruction", caches.instructions, core),
        (2, "Unified", caches.second, everyone if caches.second_shared else core),
        (3, "Unified", caches.third, everyone),
    ]
    files: dict[str, object] = {}
    for index, (level, kind, size, shared) in enumerate(row for row in rows if row[2]):
        facts = {"level": level, "type": kind, "size": f"{size}K", "shared_cpu_list": shared}
        files |= {f"cache/index{index}/{name}": value for name, value in facts.items()}
    return files
