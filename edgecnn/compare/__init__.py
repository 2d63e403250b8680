"""Two artifacts of any origin, fed with the same samples, and what they say to them side by side."""

from edgecnn.compare.reconcile import Options
from edgecnn.compare.report import CompareReport, Comparison
from edgecnn.compare.run import compare_files

__all__ = ["CompareReport", "Comparison", "Options", "compare_files"]
