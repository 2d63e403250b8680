"""Faults that an exporter, a runtime or a user can make, planted in the artifacts of a good bundle.

A fault is a row: its name, the artifact it is planted in, and a function on the parsed file. What a function changes
goes into the manifest too, as if the export had written it so.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import helper, numpy_helper

from edgecnn.bundle import Bundle, encode_manifest, load_bundle
from edgecnn.locate import edit_tflite

Edit = Callable[[Any], Any]


def planted(bundle: Bundle, form: str, precision: str, edit: Callable[[bytes], bytes], folder: Path) -> Bundle:
    """A copy of the bundle with that one artifact, its bytes edited."""
    artifact = bundle.artifact(form, precision)
    data = edit(artifact.read())
    shutil.copytree(bundle.directory, folder)
    (folder / artifact.path.name).write_bytes(data)
    spec = msgspec.structs.replace(artifact.spec, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    manifest = msgspec.structs.replace(bundle.manifest, artifacts=(spec,))
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return load_bundle(folder)


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        name: What is wrong.
        form: The format it is in.
        precision: The precision.
        edit: Makes it: bytes to bytes.
        layer: The layer that is to be named.
        cause: Words that the cause is to have; empty where none can be known.
        model: The model it is in, a name of ``MODELS`` in test_faults.py.
    """

    name: str
    form: str
    precision: str
    edit: Callable[[bytes], bytes]
    layer: str
    cause: str = ""
    model: str = "net"

    @property
    def id(self) -> str:
        """For pytest."""
        return f"{self.name} ({self.precision} {self.form})".replace(" ", "-")


def in_onnx(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """A change of an ONNX ModelProto."""

    def edit(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        change(model)
        return bytes(model.SerializeToString())

    return edit


def in_tflite(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """A change of a TFLite ModelT."""

    def edit(data: bytes) -> bytes:
        model = edit_tflite.parsed(data)
        change(model)
        return edit_tflite.packed(model)

    return edit


def onnx_constant(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[bytes], bytes]:
    """A change of an initializer, in place or by what the function gives."""

    def edit(model: Any) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        array = numpy_helper.to_array(tensor).copy()
        changed = change(array)
        tensor.CopyFrom(numpy_helper.from_array(array if changed is None else changed, name))

    return in_onnx(edit)


def tflite_constant(name: str, dtype: str, change: Callable[[np.ndarray], Any]) -> Callable[[bytes], bytes]:
    """A change of a tensor's buffer, in place or by what the function gives."""

    def edit(model: Any) -> None:
        tensor = tflite_tensor(model, name)
        buffer = model.buffers[tensor.buffer]
        array = np.frombuffer(bytes(bytearray(buffer.data)), dtype).reshape(tensor.shape).copy()
        changed = change(array)
        buffer.data = np.frombuffer((array if changed is None else changed).tobytes(), np.uint8)

    return in_tflite(edit)


def tflite_tensor(model: Any, name: str) -> Any:
    """A tensor by its name."""
    return next(t for t in model.subgraphs[0].tensors if edit_tflite.name_of(t) == name)


def tflite_operator(model: Any, gives: str) -> Any:
    """The operator that gives a tensor."""
    graph = model.subgraphs[0]
    return next(op for op in graph.operators if edit_tflite.name_of(graph.tensors[op.outputs[0]]) == gives)


def onnx_node(model: Any, name: str) -> Any:
    """A node by its name."""
    return next(n for n in model.graph.node if n.name == name)


def tflite_parameters(name: str, *, scale: float = 1.0, zero_point: int = 0) -> Callable[[bytes], bytes]:
    """A tensor's scale times a factor, its zero point plus a number."""

    def edit(model: Any) -> None:
        q = tflite_tensor(model, name).quantization
        q.scale = np.asarray(q.scale, np.float32) * np.float32(scale)
        q.zeroPoint = np.asarray(q.zeroPoint, np.int64) + zero_point

    return in_tflite(edit)


def tflite_option(gives: str, **options: Any) -> Callable[[bytes], bytes]:
    """Options of an operator."""

    def edit(model: Any) -> None:
        given = tflite_operator(model, gives).builtinOptions
        for key, value in options.items():
            assert hasattr(given, key)
            setattr(given, key, value)

    return in_tflite(edit)


def onnx_attribute(node: str, **attributes: Any) -> Callable[[bytes], bytes]:
    """Attributes of a node."""

    def edit(model: Any) -> None:
        found = onnx_node(model, node)
        kept = [a for a in found.attribute if a.name not in attributes]
        del found.attribute[:]
        found.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in attributes.items())])

    return in_onnx(edit)


def add_one(array: np.ndarray) -> None:
    """One integer weight off by one, towards 0 where it is at its end."""
    flat = array.reshape(-1)
    flat[len(flat) // 2] += 1 if flat[len(flat) // 2] < 100 else -1


def add_tenth(array: np.ndarray) -> None:
    """One float weight off by a tenth of the largest."""
    flat = array.reshape(-1)
    flat[len(flat) // 2] += 0.1 * np.abs(flat).max()


def nan(array: np.ndarray) -> None:
    """One weight NaN."""
    array.reshape(-1)[0] = np.nan


def first_two(axis: int) -> Callable[[np.ndarray], np.ndarray]:
    """The first two channels swapped."""

    def swap(array: np.ndarray) -> np.ndarray:
        order = [1, 0, *range(2, array.shape[axis])]
        return np.ascontiguousarray(np.take(array, order, axis=axis))

    return swap


def doubled(array: np.ndarray) -> np.ndarray:
    """All of it times 2."""
    return array * np.asarray(2, array.dtype)


SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
RELU, RELU6 = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6
