"""A TFLite file as the schema's own objects, and back."""

from __future__ import annotations

import struct
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecnn.errors import BundleError
from edgecnn.export.tflite.write import FILE_IDENTIFIER, aligned_buffer

_KINDS = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}


def parsed(data: bytes) -> Any:
    """The file as a ModelT of one graph.

    Raises:
        BundleError: if it is none.
    """
    if data[4:8] != FILE_IDENTIFIER:
        raise BundleError("the file is damaged: it is no TFLite model", hint="export the model again")
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
    except (struct.error, IndexError, ValueError, TypeError, UnicodeDecodeError, MemoryError) as err:
        raise BundleError("the file is damaged: its tables cannot be read", why=str(err), hint="export again") from err
    if not model.subgraphs or len(model.subgraphs) != 1 or not model.subgraphs[0].operators:
        raise BundleError("a TFLite file of several graphs or none is not looked into", hint="export it with edgecnn")
    return model


def packed(model: Any) -> bytes:
    """A model as a file."""
    model.buffers = [aligned_buffer(None if b.data is None else np.asarray(b.data, np.uint8)) for b in model.buffers]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def kind_of(model: Any, operator: Any) -> str:
    """An operator's kind, as the schema spells it."""
    code = model.operatorCodes[operator.opcodeIndex]
    return str(_KINDS.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM"))


def name_of(tensor: Any) -> str:
    """A tensor's name."""
    return bytes(tensor.name or b"").decode("utf-8", "replace") if not isinstance(tensor.name, str) else tensor.name
