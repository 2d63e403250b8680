"""Which wheel of a runtime fits a machine and its Python, and what to say where none does."""

from __future__ import annotations

import pytest

from edgecnn.targets import wheels
from edgecnn.targets.agent import messages
from edgecnn.targets.hosts import machine_info
from edgecnn.targets.runtimes import RUNTIMES

ADVICE = [
    ("litert", "aarch64", "3.11.2", "python3 -m pip install ai-edge-litert"),
    ("litert", "x86_64", "3.9.2", "python3 -m pip install ai-edge-litert"),
    ("onnxruntime", "aarch64", "3.14.0rc1", "python3 -m pip install onnxruntime"),
    ("tflite-runtime", "armv7l", "3.11.2", "python3 -m pip install tflite-runtime numpy==1.26.4"),
    ("tflite-runtime", "armv7l", "3.13.5", "on armv7l, tflite-runtime has wheels for Python 3.9 to 3.11, not 3.13.5"),
    (
        "onnxruntime",
        "armv7l",
        "3.11.2",
        "there is no wheel of onnxruntime for armv7l, only for aarch64 and x86_64; what fits there is tflite-runtime",
    ),
    (
        "litert",
        "armv7l",
        "3.11.2",
        (
            "there is no wheel of litert for armv7l, only for aarch64 and x86_64;"
            " tflite-runtime would run the same files there"
        ),
    ),
    ("onnxruntime", "riscv64", "3.12.0", "there is no wheel of onnxruntime for riscv64, only for aarch64 and x86_64"),
    ("fastest", "x86_64", "3.12.0", "one of onnxruntime, litert, tflite-runtime, tflite-micro, openvino"),
]


@pytest.mark.parametrize(("runtime", "machine", "python", "words"), ADVICE)
def test_advice(runtime, machine, python, words):
    assert wheels.advice(runtime, machine, python) == words


def test_every_runtime_has_wheels_in_order():
    for runtime in RUNTIMES.values():
        assert runtime.wheels
        for row in runtime.wheels:
            assert row.pythons[0] <= row.pythons[1]
            assert row.machines
    assert wheels.fitting("litert", "x86_64", "3.9.1").release == "2.1.0"
    assert wheels.fitting("litert", "x86_64", "three") is None


@pytest.mark.parametrize(
    ("machine", "bits", "wheel"),
    [("aarch64", 64, "aarch64"), ("aarch64", 32, "armv7l"), ("armv7l", 32, "armv7l"), ("x86_64", 32, "i686")],
)
def test_32_bit_programs_on_a_64_bit_kernel(machine, bits, wheel):
    fields = {"protocol": 1, "python": "3", "platform": "L", "machine": machine, "numpy": "2", "runtimes": {}}
    info = machine_info.parse_hello(messages.Message("hello", {**fields, "bits": bits}, ()))
    assert info.wheel_machine == wheel
