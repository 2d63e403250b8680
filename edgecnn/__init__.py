"""Export small torch CNNs to ONNX and TFLite, and prove the files right on the runtimes they will run on.

The public names are imported when they are first used, so that ``import edgecnn`` loads no torch, onnx or runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecnn.bench.measure_bundle import BenchReport, bench_bundle
    from edgecnn.bundle import Bundle, load_bundle
    from edgecnn.checking.check import check_bundle
    from edgecnn.compare import CompareReport, compare_files
    from edgecnn.data.calibration import Calibration
    from edgecnn.data.preprocessing import Preprocessing
    from edgecnn.errors import EdgecnnError
    from edgecnn.exporting.export_model import export_model
    from edgecnn.parity.limits import Limits
    from edgecnn.parity.verdict import CheckReport

from edgecnn._version import __version__

__all__ = [
    "BenchReport",
    "Bundle",
    "Calibration",
    "CheckReport",
    "CompareReport",
    "EdgecnnError",
    "Limits",
    "Preprocessing",
    "__version__",
    "bench_bundle",
    "check_bundle",
    "compare_files",
    "export_model",
    "load_bundle",
]

_HOMES = {
    "BenchReport": "edgecnn.bench.measure_bundle",
    "Bundle": "edgecnn.bundle",
    "Calibration": "edgecnn.data.calibration",
    "CheckReport": "edgecnn.parity.verdict",
    "CompareReport": "edgecnn.compare",
    "EdgecnnError": "edgecnn.errors",
    "Limits": "edgecnn.parity.limits",
    "Preprocessing": "edgecnn.data.preprocessing",
    "bench_bundle": "edgecnn.bench.measure_bundle",
    "check_bundle": "edgecnn.checking.check",
    "compare_files": "edgecnn.compare",
    "export_model": "edgecnn.exporting.export_model",
    "load_bundle": "edgecnn.bundle",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edgecnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
