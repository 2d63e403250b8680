"""A small bundle that a test may damage."""

import json

import pytest
from support.bundle_parts import parts

from edgecnn.bundle import write_bundle


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "out", **parts())


@pytest.fixture
def manifest(bundle):
    return json.loads((bundle.directory / "manifest.json").read_text())
