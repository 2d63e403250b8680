"""``edgecnn compare``: what it prints, and options that are wrong."""

from __future__ import annotations

import pytest
from support.command import invoke


def test_the_command(alone, tmp_path) -> None:
    args = [alone["onnx fp32"], alone["tflite int8"], "--samples", "4", "--range", "0,1"]
    code, output = invoke("compare", *args, "--limit", "snr_db=90")
    assert code == 1
    assert "fed with 4 random samples, seed 0: x even in 0 to 1" in output
    assert "failed: output output, litert@local against onnxruntime@local: snr_db is" in output
    assert output.splitlines()[-1] == "compare: 1 of 1 outputs failed"


def test_data_goes_through_both(small_bundle) -> None:
    paths = [str(small_bundle.artifact(form, "int8").path) for form in ("tflite", "onnx")]
    code, output = invoke("compare", *paths, "--data", "digits", "--limit", "max_abs_error=0")
    assert code == 0
    assert "fed with digits (held-out 360 of 1,797)" in output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data", "digits", "--samples", "3"], "--samples with --data has no effect"),
        (["--mean", "1"], "--mean without --data has no effect"),
        (["--shape", "x"], "--shape x is not NAME=VALUE"),
        (["--shape", "x=1x0x2"], "sizes are positive"),
        (["--shape", "x=1xa"], "--shape x=1xa"),
        (["--layout-a", "x=nwhc"], "is none of nchw, nhwc"),
        (["--range", "x=3,1"], "the smaller number comes first"),
        (["--quantization-b", "x=0,1"], "a scale is positive"),
        (["--quantization-b", "0.1,1"], "is not NAME=VALUE"),
        (["--limit", "speed=1"], "METRIC=VALUE"),
        (["--shape", "x=1x1", "--shape", "x=1x2"], "speaks of x twice"),
        (["--target", "litert"], "runs on none of litert"),
    ],
)
def test_options_that_are_wrong(alone, args, words) -> None:
    code, output = invoke("compare", alone["onnx fp32"], alone["onnx int8"], *args)
    assert code == 2
    assert words in output
