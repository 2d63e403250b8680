"""What becomes of ATen operators, one file per subject; the table of them is :mod:`edgecnn.capture.aten`."""
