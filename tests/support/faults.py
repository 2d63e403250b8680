"""Faults planted into valid bundles: an artifact is edited, and the manifest vouches for the edited file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgecnn.bundle import Bundle, load_bundle
from edgecnn.export.tflite import parse


def planted(bundle: Bundle, folder: Path, form: str, precision: str, edit: Callable[[bytes], bytes]) -> Bundle:
    """A copy of a bundle in which one artifact was edited, and no other is left.

    Args:
        bundle: The valid bundle.
        folder: Where the copy goes.
        form: The artifact's format.
        precision: Its precision.
        edit: Makes the faulty file of the file.
    """
    shutil.copytree(bundle.directory, folder)
    path = bundle.artifact(form, precision).path
    data = edit(path.read_bytes())
    assert data != path.read_bytes(), "the edit changes nothing"
    (folder / path.name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["artifacts"] = [a for a in manifest["artifacts"] if a["file"] == path.name]
    manifest["artifacts"][0] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return load_bundle(folder)


def edited_onnx(change: Callable[[onnx.ModelProto], None]) -> Callable[[bytes], bytes]:
    """An edit of an ONNX file's model."""

    def edit(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        change(model)
        return model.SerializeToString(deterministic=True)

    return edit


def edited_tflite(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """An edit of a TFLite file's model, a ``ModelT`` of one graph."""

    def edit(data: bytes) -> bytes:
        model = parse.parsed(data)
        change(model)
        return parse.packed(model)

    return edit


def onnx_constant(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[bytes], bytes]:
    """An edit of one initializer."""

    def edit(model: onnx.ModelProto) -> None:
        (tensor,) = [t for t in model.graph.initializer if t.name == name]
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(change(array.copy()), array.dtype), name))

    return edited_onnx(edit)


def tflite_constant(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[bytes], bytes]:
    """An edit of one constant tensor, which gets a buffer of its own."""

    def edit(model: Any) -> None:
        (tensor,) = [t for t in model.subgraphs[0].tensors if parse.name_of(t) == name]
        dtype = {0: np.float32, 2: np.int32, 4: np.int64, 9: np.int8, 1: np.float16}[tensor.type]
        array = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(dtype).reshape(tensor.shape)
        changed = np.ascontiguousarray(change(array.copy()), dtype)
        buffer = type(model.buffers[tensor.buffer])()
        buffer.data = np.frombuffer(changed.tobytes(), np.uint8)
        tensor.buffer = len(model.buffers)
        model.buffers.append(buffer)

    return edited_tflite(edit)


def tflite_operator(result: str, change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """An edit of the options of the operator that gives a tensor."""

    def edit(model: Any) -> None:
        tensors = model.subgraphs[0].tensors
        (op,) = [o for o in model.subgraphs[0].operators if parse.name_of(tensors[int(o.outputs[0])]) == result]
        change(op.builtinOptions)

    return edited_tflite(edit)


def tflite_zero_point(name: str, by: int) -> Callable[[bytes], bytes]:
    """An edit of a tensor's zero point."""

    def edit(model: Any) -> None:
        (tensor,) = [t for t in model.subgraphs[0].tensors if parse.name_of(t) == name]
        tensor.quantization.zeroPoint = np.asarray(tensor.quantization.zeroPoint) + by

    return edited_tflite(edit)
