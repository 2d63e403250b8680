"""Compare the outputs of two artifacts of any origin on equal samples."""

from edgecnn.compare.reconcile import Options
from edgecnn.compare.report import CompareReport, Comparison
from edgecnn.compare.run import compare_files

__all__ = ["CompareReport", "Comparison", "Options", "compare_files"]
