"""The version of the package: what ``edgecnn --version`` says and manifests note."""

__version__ = "0.1.0"
