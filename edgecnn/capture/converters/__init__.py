"""Converters of ATen operators, a module for each subject; :mod:`edgecnn.capture.aten` has the table."""
