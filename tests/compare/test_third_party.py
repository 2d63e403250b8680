"""Files that others made: those that come with the installed onnx and onnxruntime, for these packages' own tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper
from support.hostile import Reused

from edgecnn.compare import Options, compare_files
from edgecnn.errors import EdgecnnError
from edgecnn.targets.target import Target


def folder_of(package: str, inside: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / inside


DATA = folder_of("onnx", "backend/test/data")
DATASETS = folder_of("onnxruntime", "datasets")
pytestmark = pytest.mark.skipif(not DATA.is_dir() or not DATASETS.is_dir(), reason="onnx comes without its test data")


@pytest.fixture(scope="module")
def targets():
    host = Reused()
    yield [Target(runtime="onnxruntime", host=host, name="onnxruntime@local")]
    host.end()


RUN = {
    DATASETS / "mul_1.onnx": "X (the same file): 3x2 in both; float32 in both",
    DATASETS / "sigmoid.onnx": "x (the same file): 3x4x5 in both; float32 in both",
    DATA / "simple/test_single_relu_model/model.onnx": "x (the same file): 1x2 in both; float32 in both",
    DATA / "simple/test_sequence_model1/model.onnx": "X (the same file): 2x3x4 in both; float32 in both",
    DATA / "simple/test_sequence_model7/model.onnx": "X (the same file): 2x3x4 in both; float64 in both",
    DATA / "pytorch-converted/test_Conv2d_groups/model.onnx": "0 (the same file): 2x4x6x5 in both; float32 in both",
    DATA / "pytorch-converted/test_MaxPool2d/model.onnx": "0 (the same file): 1x3x7x7 in both; float32 in both",
    DATA / "pytorch-operator/test_operator_pad/model.onnx": "0 (the same file): 1x1x2x4 in both; float32 in both",
    DATA / "light/light_squeezenet.onnx": "data_0 (the same file): 1x3x224x224 in both; float32 in both",
}
"""Files that run, and how their first input is described."""
REFUSED = {
    DATASETS / "logreg_iris.onnx": "'probabilities' is a sequence",
    DATA / "simple/test_strnorm_model_monday_empty_output/model.onnx": "'x' is a tensor of texts",
    DATA / "simple/test_expand_shape_model1/model.onnx": "--range shape=0,9",
    DATA / "simple/test_gradient_of_add/model.onnx": "operators of its own: ai.onnx.preview.training.Gradient",
}
"""Files that do not, and what is said of them."""


def label(path: Path) -> str:
    return path.parent.name if path.name == "model.onnx" else path.name


@pytest.mark.parametrize("path", RUN, ids=label)
def test_it_runs_and_equals_itself(path, targets) -> None:
    report = compare_files(path, path, options=Options(samples=2, limits={"max_abs_error": 0.0}), targets=targets)
    assert report.reconciled[0] == f"input {RUN[path]}"
    assert report.passed


@pytest.mark.parametrize("path", REFUSED, ids=label)
def test_it_is_refused_in_words_that_help(path, targets) -> None:
    with pytest.raises(EdgecnnError) as caught:
        compare_files(path, path, targets=targets)
    assert REFUSED[path] in str(caught.value)


def test_a_file_answers_as_its_makers_say(targets, tmp_path) -> None:
    """The inputs and outputs beside a model are its makers' own: what runs here is what they meant."""
    folder = DATA / "pytorch-converted/test_Conv2d_groups"
    x, y = (
        numpy_helper.to_array(TensorProto.FromString((folder / f"test_data_set_0/{name}_0.pb").read_bytes()))
        for name in ("input", "output")
    )
    with targets[0].open((folder / "model.onnx").read_bytes(), "model.onnx") as session:
        found = session.infer([x])[0]
    assert np.abs(found - y).max() < 1e-5
