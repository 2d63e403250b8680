"""A project: read ``edgecnn.toml``, and export, check and measure its models."""
