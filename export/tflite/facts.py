"""What a TFLite file says about its inputs, outputs and operators."""

from __future__ import annotations

import struct
from typing import Any

from edgecnn.errors import BundleError
from edgecnn.export.file_facts import FileFacts, damaged_file

MAX_VISITS = 1_000_000
"""Most tables that are visited in one file: some seconds."""
_DAMAGE = (struct.error, IndexError, TypeError, ValueError, OverflowError, AttributeError, MemoryError)
# What reading beyond the buffer's end, or at a negative offset, can raise in flatbuffers' Python code.


def facts_of(data: bytes, where: str) -> FileFacts:
    """The custom operators of the file.

    Runtimes tell the quantization and the names of inputs and outputs, so that they are not read here.

    Raises:
        BundleError: if it is no TFLite file, an input or output is no tensor of numbers, or its
            signatures belong to several graphs.
    """
    try:
        reader = _Reader(data)
        reader.check_tensors(where)
        signatures = reader.signatures()
        custom = reader.custom()
        external = reader.model.ExternalBuffersLength()
    except _DAMAGE as err:
        raise damaged_file("TFLite", where, str(err) or type(err).__name__) from err
    if external:
        raise BundleError(
            f"{external:,} of its weights lie in other files",
            where=where,
            why="a file that names other files can name any; only self-contained ones are opened",
            hint="convert the model without external buffers",
        )
    if len({graph for _, graph in signatures}) > 1:
        names = ", ".join(repr(name) for name, _ in signatures)
        raise BundleError(
            f"the file holds {len(signatures)} signatures, each with a graph of its own: {names[:400]}",
            where=where,
            why="it is several models, and a runtime runs the first unless told otherwise",
            hint="convert the one that is meant into a file of its own",
        )
    return FileFacts(custom=custom)


class _Reader:
    """Reads the tables of a model; every length is checked against the file's before it is believed."""

    def __init__(self, data: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._size, self._left = len(data), MAX_VISITS
        self._types = {value: name.lower() for name, value in vars(schema.TensorType).items() if name.isupper()}
        self._custom = schema.BuiltinOperator.CUSTOM
        self.model: Any = schema.Model.GetRootAs(bytearray(data), 0)  # bytes would be copied at every access
        if not self._length(self.model.SubgraphsLength()):
            raise ValueError("it holds no graph")
        self._graph = self.model.Subgraphs(0)

    def check_tensors(self, where: str) -> None:
        """Refuse inputs and outputs that are texts, resources or complex numbers."""
        graph = self._graph
        count = self._length(graph.TensorsLength())
        edges = [graph.Inputs(i) for i in range(self._length(graph.InputsLength()))]
        edges += [graph.Outputs(i) for i in range(self._length(graph.OutputsLength()))]
        for index in edges:
            if not 0 <= index < count:
                raise ValueError(f"tensor {index} of {count} is an input or output")
            kind = self._types.get(graph.Tensors(index).Type(), "of an unknown type")
            if kind in ("string", "resource", "variant", "complex64", "complex128"):
                name = bytes(graph.Tensors(index).Name() or b"").decode("utf-8", "replace")
                raise BundleError(
                    f"{name[:80]!r} is {'a tensor of texts' if kind == 'string' else f'of the type {kind}'}",
                    where=where,
                    why="inputs and outputs that are tensors of real numbers can be compared",
                    hint="convert the model without it",
                )

    def signatures(self) -> list[tuple[str, int]]:
        """Each signature's name and the graph that it is for."""
        found = []
        for i in range(self._length(self.model.SignatureDefsLength())):
            signature = self.model.SignatureDefs(i)
            key = bytes(signature.SignatureKey() or b"").decode("utf-8", "replace")
            found.append((key, signature.SubgraphIndex()))
        return found

    def custom(self) -> tuple[str, ...]:
        """Names of the operators that are no part of the format."""
        names = set()
        for i in range(self._length(self.model.OperatorCodesLength())):
            code = self.model.OperatorCodes(i)
            if max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) == self._custom:
                names.add(bytes(code.CustomCode() or b"").decode("utf-8", "replace"))
        return tuple(sorted(names))

    def _length(self, length: int) -> int:
        """A vector's length, if the file can hold it and there is time for it."""
        self._left -= length
        if not 0 <= length <= self._size // 4 or self._left < 0:
            raise ValueError(f"a list of {length:,} items in {self._size:,} bytes")
        return length
