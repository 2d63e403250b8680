"""The parts of a small bundle, and ways to damage what was written."""

import json
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from edgecnn.bundle import Golden, InputSpec, ModelSource, NewArtifact, OutputSpec, Program, WeightsFile, layout_name
from edgecnn.data.preprocessing import Preprocessing, Resize
from edgecnn.graph.graph import GraphBuilder
from edgecnn.graph.ops import Linear

SHAPE = (1, 1, 4, 6)
AXES = {"onnx": (0, 1, 2, 3), "tflite": (0, 2, 3, 1)}
FLAT = {"onnx": (0, 1), "tflite": (0, 1)}


def make_golden(samples=3, **more):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, *SHAPE[1:])).astype(np.float32)
    y = rng.normal(size=(samples, 10)).astype(np.float32)
    return Golden(inputs={"x": x}, outputs={"fp32": {"y": y}}, labels=np.arange(samples), **more)


def make_input(**changes):
    fields = {
        "name": "x",
        "shape": SHAPE,
        "dtype": "float32",
        "axes": AXES,
        "layouts": {form: layout_name(axes) for form, axes in AXES.items()},
        "preprocessing": Preprocessing(scale=1 / 16, mean=(0.5,), resize=Resize(source=(8, 8), size=(4, 6))),
    }
    return InputSpec(**fields | changes)


def make_output(**changes):
    labels = tuple(str(digit) for digit in range(10))
    fields = {"name": "y", "shape": (1, 10), "dtype": "float32", "axes": FLAT, "class_labels": labels}
    return OutputSpec(**fields | changes)


def make_artifact(file, form="onnx", data=b"", operators=(), notes=()):
    return NewArtifact(file=file, format=form, precision="fp32", data=data, operators=dict(operators), notes=notes)


def make_program(outputs=10):
    builder = GraphBuilder()
    builder.input("x", SHAPE)
    weight = builder.constant("y.weight", np.ones((outputs, 24), np.float32))
    builder.output("y", builder.add(Linear(x="x", weight=weight, bias=None, flatten=True), "y"))
    return Program(graph=builder.build())


def parts(**changes):
    fields = {
        "name": "net",
        "source": ModelSource(
            model="net.py:Net", weights=WeightsFile(file="w.pt", sha256="0" * 64), arguments={"width": 8}
        ),
        "inputs": [make_input()],
        "outputs": [make_output()],
        "batch_resizable": True,
        "artifacts": [
            make_artifact("net.fp32.onnx", "onnx", b"\x08\x09" * 180, {"Gemm": 1, "Conv": 2}),
            make_artifact("net.fp32.tflite", "tflite", b"tflite" * 70, {"CONV_2D": 2}, ("no transposes",)),
        ],
        "golden": make_golden(),
        "golden_origin": "random, seed 0",
        "program": make_program(),
        "versions": {"edgecnn": "0.1.0"},
    }
    return fields | changes


def contents(directory):
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


def leftovers(directory):
    return [path.name for path in Path(directory).parent.iterdir() if ".edgecnn-" in path.name]


def write_manifest(bundle, manifest):
    """Put another manifest into a bundle, given as what JSON decodes to."""
    (bundle.directory / "manifest.json").write_text(json.dumps(manifest))


def damage(data, draw):
    """Flip, cut or insert a few bytes."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.integers(0, max(len(changed) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert", "delete"])):
            case "flip" if changed:
                changed[where] ^= draw(st.integers(1, 255))
            case "cut":
                del changed[where:]
            case "insert":
                changed[where:where] = draw(st.binary(max_size=8))
            case _:
                del changed[where : where + draw(st.integers(1, 40))]
    return bytes(changed)


def raising(error):
    def fail(*_args, **_kwargs):
        raise error

    return fail
