"""An ONNX file as onnx's own objects."""

from __future__ import annotations

import json
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from edgecnn.errors import BundleError
from edgecnn.export.onnx.write import DEFAULT_OPSET
from edgecnn.types import Array


def parsed(data: bytes) -> Any:
    """The file as a ModelProto.

    Raises:
        BundleError: if it is none.
    """
    try:
        model = onnx.load_from_string(data)
    except (DecodeError, ValueError) as err:
        raise BundleError(
            "the file is damaged: it is no ONNX model", why=str(err), hint="export the model again"
        ) from err
    if not model.graph.node:
        raise BundleError("the file is damaged: its ONNX graph has no operator", hint="export the model again")
    return model


def constants(data: bytes) -> dict[str, Array]:
    """The initializers, by name."""
    return {t.name: numpy_helper.to_array(t) for t in parsed(data).graph.initializer}


def opset_of(data: bytes) -> int:
    """The opset of the default domain; the exporter's default where the file states none."""
    return next((int(o.version) for o in parsed(data).opset_import if not o.domain), DEFAULT_OPSET)


def exact_float_tensors(data: bytes) -> tuple[tuple[str, ...], frozenset[str]]:
    """The layers of an int8 file that hold their integers in float on purpose, and their tensors."""
    from edgecnn.export.onnx.int8.exact import METADATA

    marked = next((entry.value for entry in parsed(data).metadata_props if entry.key == METADATA), None)
    found = {} if marked is None else json.loads(marked)
    return tuple(found.get("layers", ())), frozenset(found.get("tensors", ()))
