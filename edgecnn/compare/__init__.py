"""Compare the outputs of two artifacts of any origin on equal samples."""

from edgecnn.compare.comparison import CompareReport, Comparison
from edgecnn.compare.reconcile import Options
from edgecnn.compare.run_comparison import compare_files

__all__ = ["CompareReport", "Comparison", "Options", "compare_files"]
