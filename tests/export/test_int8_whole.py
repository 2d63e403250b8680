"""Whole int8 models: the same outputs on both runtimes, sizes, accuracy on real data, one output type after another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from int8_against_ort import MODELS
from support.int8 import quantized_network
from support.int8_files import data

import edgecnn
from edgecnn.data.calibration import of_samples
from edgecnn.data.sources import load_dataset
from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.models import create_model
from edgecnn.training.fit import train_model

SIZES = {"lenet5": (66_504, 73_678), "conv_pool": (55_592, 58_504), "resnet8": (93_136, 100_116)}
"""The smallest int8 TFLite and ONNX files of other tools for the same architectures."""
OTHER_SIZES = {"ds_cnn": (43_424, 53_393), "mobilenet_025": (299_072, 299_156)}


def _inputs(shape: tuple[int, ...], samples: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((samples, *shape), dtype=np.float32)


@pytest.mark.parametrize("name", SIZES)
def test_portable_models_say_the_same_on_both_runtimes(name: str, tmp_path, agent) -> None:
    torch.manual_seed(0)
    module = create_model(name).eval()
    x = _inputs(module.input_shape, 1000)
    bundle = edgecnn.export_model(
        module, torch.from_numpy(x[:1]), tmp_path / "q", precisions=["int8"], recipe="int8-portable",
        calibration=x[:128],
    )  # fmt: skip
    outputs = []
    for form, runtime in (("onnx", "onnxruntime"), ("tflite", "litert")):
        artifact = bundle.artifact(form, "int8")
        axes = bundle.manifest.inputs[0].axes[form]
        with agent.open(runtime, artifact.read(), artifact.path.name) as session:
            parts = [
                session.infer([np.ascontiguousarray(x[i : i + 100].transpose(axes))])[0] for i in range(0, 1000, 100)
            ]
        outputs.append(np.concatenate(parts))
    assert np.array_equal(*outputs)


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name: str, tmp_path) -> None:
    """By default, and with a scale per output of linear layers too where that leaves room."""
    module = create_model(name).eval()
    x = _inputs(module.input_shape, 64)
    forms, whole = ("onnx", "tflite"), {}
    for recipe in ("int8", "int8-portable", *(["int8-per-channel"] if name != "lenet5" else [])):
        bundle = edgecnn.export_model(
            module,
            torch.from_numpy(x[:1]),
            tmp_path / recipe,
            precisions=["int8"] if whole else ["fp32", "int8"],
            recipe=recipe,
            calibration=x,
        )
        whole = whole or {form: bundle.artifact(form, "fp32").bytes for form in forms}
        for form in forms:
            size = bundle.artifact(form, "int8").bytes
            assert size <= SIZES[name][form == "onnx"]
            assert size < 0.31 * whole[form]


def test_sizes_of_other_networks(tmp_path) -> None:
    """MLPerf Tiny's keyword spotter and person detector, as the benchmark against ONNX Runtime's quantizer has them."""
    for name, limits in OTHER_SIZES.items():
        build, shape = MODELS[name]
        bundle = edgecnn.export_model(
            build().eval(), torch.zeros(1, *shape), tmp_path / name, precisions=["int8"], calibration=_inputs(shape, 8)
        )
        for form, limit in zip(("tflite", "onnx"), limits, strict=True):
            assert bundle.artifact(form, "int8").bytes <= limit


def _written(kind: str, folder: Path) -> tuple[str, dict[str, float]]:
    """The digits, as shipped or in files of another form: the data set's name, and how it is to be scaled."""
    if kind == "digits":
        return "digits", {}
    digits = load_dataset("digits", input_shape=(1, 8, 8), split="all", scale=1.0)
    bytes_ = np.rint(digits.batch(np.arange(len(digits)))[:, 0] * 15).astype(np.uint8)
    labels = digits.labels
    if kind == "npz":
        np.savez(folder / "given.npz", x=bytes_, y=labels)
        return f"npz:{folder}/given.npz", {"scale": 1 / 240}
    for name, array in (("images", bytes_), ("labels", labels.astype(np.uint8))):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        (folder / name).write_bytes(header + array.tobytes())
    return f"idx:{folder}/images,{folder}/labels", {"scale": 1 / 240}


@pytest.fixture(scope="module")
def trained() -> torch.nn.Module:
    """lenet5, trained on the digits."""
    torch.manual_seed(0)
    module = create_model("lenet5")
    train, test = (load_dataset("digits", input_shape=(1, 28, 28), split=s) for s in ("train", "test"))
    train_model(module, train, test, epochs=5, seed=0)
    return module


@pytest.mark.parametrize("kind", ["digits", "npz", "idx"])
def test_accuracy(kind: str, trained: torch.nn.Module, tmp_path, here) -> None:
    """int8 within 0.3 points of float, and the same best class on 99 % of the held-out digits, however given."""
    spec, how = _written(kind, tmp_path)
    train, test = (load_dataset(spec, input_shape=(1, 28, 28), split=s, **how) for s in ("train", "test"))
    calibration = of_samples((train.batch(train.spread(256)),), "digits, training part")
    bundle = edgecnn.export_model(
        trained.eval(), torch.zeros(1, 1, 28, 28), tmp_path / "q", precisions=["fp32", "int8"], calibration=calibration
    )
    assert bundle.artifact("tflite", "int8").bytes <= SIZES["lenet5"][0]  # trained weights take one scale too
    report = edgecnn.check_bundle(bundle, targets=here, data=test)
    assert report.passed
    for v in report.verdicts:
        if v.precision == "int8" and v.accuracy is not None and v.samples == len(test):
            assert v.accuracy >= v.reference_accuracy - 0.003
            assert v.top1_agreement >= 0.99


# The smallest int8 files of other tools for the same architectures, in bytes.
TFLITE_LIMITS = {"lenet5": 66_504, "conv_pool": 55_592, "resnet8": 93_136}
ONNX_LIMITS = {"lenet5": 73_678, "conv_pool": 58_504, "resnet8": 100_116}


@pytest.mark.parametrize(("name", "limit"), TFLITE_LIMITS.items())
def test_tflite_is_at_most_the_smallest_of_other_tools(name: str, limit: int) -> None:
    assert len(data(name)) <= limit


@pytest.mark.parametrize(("name", "limit"), ONNX_LIMITS.items())
def test_onnx_is_at_most_the_smallest_of_other_tools(name: str, limit: int) -> None:
    assert len(export_onnx_int8(quantized_network(name), version="0").data) <= limit
