"""Environments of runtimes: proven with a real model, and refused where no Python fits."""

from __future__ import annotations

import sys

import pytest

from edgecnn.errors import TargetError
from edgecnn.targets import environments

pytestmark = pytest.mark.usefixtures("home")


def test_setup_proves_with_a_real_model() -> None:
    environments._prove("litert", sys.executable)


def test_no_python_that_fits(monkeypatch) -> None:
    monkeypatch.setattr(environments.sys, "version_info", (3, 15, 0))
    monkeypatch.setattr(environments.shutil, "which", lambda _: None)
    with pytest.raises(TargetError) as caught:
        environments.find_python("tflite-runtime")
    assert "3.11, 3.10, 3.9" in caught.value.why
