"""A bundle whose golden vectors do not say what its artifacts say."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from edgecnn.bundle import Bundle, encode_golden, encode_manifest, load_bundle


def with_golden_inputs(bundle: Bundle, folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Bundle:
    """A copy whose golden inputs are others, the outputs staying what they were."""
    shutil.copytree(bundle.directory, folder)
    golden = bundle.golden()
    inputs = {name: np.ascontiguousarray(change(array)) for name, array in golden.inputs.items()}
    data = encode_golden(replace(golden, inputs=inputs))
    (folder / "golden.npz").write_bytes(data)
    spec = msgspec.structs.replace(bundle.manifest.golden, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    (folder / "manifest.json").write_bytes(encode_manifest(msgspec.structs.replace(bundle.manifest, golden=spec)))
    return load_bundle(folder)
