"""Compare the outputs of artifacts with those of a reference, and judge the differences."""
