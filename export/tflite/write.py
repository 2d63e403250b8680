"""The TFLite file under construction: tensors, layouts, operators, and the flatbuffer they become."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgecnn.export.tflite.reshaped_axes import NHWC, NLC, Axes, reshaped_axes
from edgecnn.export.tflite.share import SharingBuilder
from edgecnn.export.written import Place, Written
from edgecnn.graph.graph import Graph, Input, Node
from edgecnn.graph.ops import Reshape, Transpose, ValueName, inputs_of
from edgecnn.graph.shapes import Shape
from edgecnn.graph.traits import traits_of
from edgecnn.graph.verify import batch_is_free

__all__ = ["NHWC", "Arrange", "Axes", "StoredTensor", "TfliteWriter", "identity"]

Arrange = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
ALIGNMENT = 16
TENSOR_TYPES: Mapping[np.dtype[Any], int] = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int64): schema.TensorType.INT64,
}


def identity(rank: int) -> Axes:
    """The layout in which a tensor's axes are the value's own, in order."""
    return tuple(range(rank))


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of the file: its axis ``i`` holds axis ``axes[i]`` of the value."""

    index: int
    axes: Axes


class TfliteWriter:
    """Collects operators. A value may be stored in any order of its axes; readers ask for the order they need.

    Transposing a value costs nothing here: it is the same tensor under another order. Only where a reader needs an
    order that the tensor does not have is a TRANSPOSE written, once per value and order, and noted.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.batch_free = batch_is_free(graph)
        self._model_tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[tuple[str, int], int] = {}
        self._buffers: list[Any] = [aligned_buffer(None)]
        self._buffer_of: dict[bytes, int] = {}
        self._stored: dict[ValueName, list[StoredTensor]] = {}
        self._constants: dict[tuple[Any, ...], int] = {}
        self._notes: list[str] = []
        self._counts: Counter[str] = Counter()
        self._inputs = [self._place_input(value) for value in graph.inputs]

    # What lowerings use.

    def layout(self, value: ValueName) -> Axes:
        """The order in which a value is stored (a constant: its own)."""
        stored = self._stored.get(value)
        return stored[0].axes if stored else identity(len(self.graph.shapes[value]))

    def read(self, value: ValueName, axes: Axes, node: Node) -> int:
        """The tensor that holds a value in the given order, made by a TRANSPOSE or RESHAPE where there is none."""
        if value in self.graph.constants:
            return self.operand(value, lambda array: array.transpose(axes), key=(value, axes))
        stored = self._stored[value]
        match = next((t for t in stored if t.axes == axes), None)
        if match is None:
            match = self._reorder(value, stored[0], axes, node.name)
            stored.append(match)
        return match.index

    def read_as(self, value: ValueName, axes: Axes, node: Node) -> int:
        """The tensor that holds a value in the given order, with the quantization of the node's value if it has one."""
        return self.read(value, axes, node)

    def bound_matters(self, node: Node, operator: str, bound: float) -> bool:  # noqa: ARG002  (int8 needs the node)
        """Whether MAXIMUM or MINIMUM with that bound changes anything that the node's value can hold."""
        return math.isfinite(bound)

    def constant(
        self, name: str, array: npt.NDArray[Any], *, key: tuple[Any, ...] = (), quantization: Any = None
    ) -> int:
        """A constant tensor; the same key (default: the name) gives the same tensor, equal bytes share one buffer."""
        key = key or (name,)
        if key not in self._constants:
            data = np.ascontiguousarray(array)
            index = self._tensor(name, array.shape, data.dtype, self._shared_buffer(data))
            self._model_tensors[index].quantization = quantization
            self._constants[key] = index
        return self._constants[key]

    def weights(self, name: ValueName, arrange: Arrange, channel_axis: int, *, key: tuple[Any, ...]) -> int:  # noqa: ARG002
        """A layer's weights in the operator's arrangement, in which ``channel_axis`` holds the output channels."""
        return self.constant(name, arrange(self.graph.constants[name]), key=(name, *key))

    def bias(self, node: Node, bias: ValueName | None, channels: int) -> int:  # noqa: ARG002  (int8 needs the node)
        """The bias, or zeros: older kernels and delegates expect one."""
        if bias is not None:
            return self.constant(bias, self.graph.constants[bias])
        return self.constant(f"zeros:{channels}", np.zeros(channels, np.float32))

    def operand(self, name: ValueName, arrange: Arrange, *, key: tuple[Any, ...]) -> int:
        """A constant that an operator reads as a value."""
        return self.constant(name, arrange(self.graph.constants[name]), key=key)

    def number(self, node: Node, value: float, shape: tuple[int, ...]) -> int:  # noqa: ARG002  (int8 needs the node)
        """A constant number, of the type of the node's value."""
        return self.constant(f"float:{value!r}:{shape}", np.full(shape, value, np.float32))

    def integers(self, values: Sequence[int] | npt.NDArray[Any]) -> int:
        """An int32 constant (axes, shapes, paddings); equal constants share one tensor."""
        array = np.asarray(values, np.int32)
        return self.constant(f"int32:{','.join(map(str, array.ravel()))}", array, key=(array.shape, array.tobytes()))

    def emit(
        self,
        operator: str,
        node: Node,
        inputs: Sequence[int],
        axes: Axes,
        options: Any = None,
        *,
        version: int = 1,
        step: str = "",
    ) -> int:
        """Add an operator that gives the node's value in the order ``axes``, or with ``step`` one on the way to it."""
        name = f"{node.name}.{step}" if step else node.name
        public = not step and any(o.value == node.name for o in self.graph.outputs)
        tensor = self._value_tensor(name, node.shape, axes, public=public, value=node.name)
        if not step:
            self._stored[node.name] = [tensor]
        self._append(operator, inputs, tensor.index, self.adapt(operator, options), version)
        return tensor.index

    def emit_rows(self, operator: str, node: Node, inputs: Sequence[int], options: Any) -> None:
        """Add an operator that gives the node's value as rows, and a RESHAPE where that has more axes."""
        if len(node.shape) == 2:
            self.emit(operator, node, inputs, identity(2), options)
            return
        rows = (math.prod(node.shape[:-1]), node.shape[-1])
        tensor = self._value_tensor(f"{node.name}.rows", rows, identity(2), public=False, value=node.name)
        self._append(operator, inputs, tensor.index, self.adapt(operator, options), 1)
        self._emit_reshape(node, tensor.index, node.shape)

    def adapt(self, operator: str, options: Any) -> Any:  # noqa: ARG002  (some precisions need the operator)
        """An operator's options, with what the precision in use adds to them."""
        return options

    def place(self, node: Node, index: int, axes: Axes) -> None:
        """Let the node's value be a tensor that is there already."""
        self._stored[node.name] = [StoredTensor(index, axes)]

    def rename_axes(self, node: Node, value: ValueName, axes: Axes) -> None:
        """Let the node's value be a stored value's tensor under another order of axes: it needs no operator."""
        self._stored[node.name] = [StoredTensor(self._stored[value][0].index, axes)]

    def give_up(self, node: Node) -> None:
        """Stand in for a value that cannot be written, so that problems of later nodes are found too."""
        self._stored[node.name] = [StoredTensor(0, identity(len(node.shape)))]

    def emit_positions(self, node: Node, inputs: Sequence[int], axes: Axes, kept: Axes, options: Any) -> None:
        """Add an ARG_MAX, whose result is int64; where ``kept`` differs from ``axes``, a RESHAPE restores the axis."""
        if kept == axes:
            index = self.emit("ARG_MAX", node, inputs, axes, options)
        else:
            shape = [n for i, n in enumerate(node.shape) if n != 1 or i == 0]
            before = self._tensor(f"{node.name}.dropped", shape, np.int64, 0)
            self._append("ARG_MAX", inputs, before, options, 1)
            to = self._free_shape(node.shape, kept)
            index = self.emit("RESHAPE", node, [before, self.integers(to)], kept, _reshape_options(to))
        self._model_tensors[index].type = schema.TensorType.INT64
        self._model_tensors[index].quantization = None

    def emit_gather(self, node: Node, x: int, rows: Sequence[int], size: tuple[int, int]) -> int:
        """Add a GATHER of rows on the way to a node's value, an image of that size."""
        shape = (node.shape[0], node.shape[1], *size)
        tensor = self._value_tensor(f"{node.name}.rows", shape, NHWC, public=False, value=node.name)
        self._append("GATHER", [x, self.integers(rows)], tensor.index, ("GatherOptions", {"axis": 1}), 1)
        return tensor.index

    def reshape(self, node: Node, x: ValueName) -> None:
        """Add a RESHAPE that gives the node's value: of what is stored, where that will do, else in its own order."""
        shape = self.graph.shapes[x]
        for stored in self._stored[x]:
            axes = reshaped_axes(shape, stored.axes, node.shape)
            if axes is not None:
                to = self._free_shape(node.shape, axes)
                self.emit("RESHAPE", node, [stored.index, self.integers(to)], axes, _reshape_options(to))
                return
        source = next((t for t in self._stored[x] if _same_elements(shape, t.axes, identity(len(shape)))), None)
        index = source.index if source else self.read(x, identity(len(shape)), node)
        self._emit_reshape(node, index, node.shape)

    def _emit_reshape(self, node: Node, index: int, shape: Shape) -> None:
        to = self._free_shape(shape, identity(len(shape)))
        self.emit("RESHAPE", node, [index, self.integers(to)], identity(len(shape)), _reshape_options(to))

    # What the file needs.

    def finish(self, *, version: str) -> Written:
        """Serialize the model."""
        outputs = [self._output_tensor(o.value) for o in self.graph.outputs]
        inputs = self._inputs
        names_in, names_out = ([i.name for i in self.graph.inputs], [o.name for o in self.graph.outputs])
        subgraph = schema.SubGraphT(
            tensors=self._model_tensors,
            inputs=_int32([t.index for t in inputs]),
            outputs=_int32([t.index for t in outputs]),
            operators=self._operators,
            name="main",
        )
        signature = schema.SignatureDefT(
            inputs=[schema.TensorMapT(n, t.index) for n, t in zip(names_in, inputs, strict=True)],
            outputs=[schema.TensorMapT(n, t.index) for n, t in zip(names_out, outputs, strict=True)],
            signatureKey="serving_default",
        )
        model = schema.ModelT(
            version=SCHEMA_VERSION,
            operatorCodes=[_operator_code(name, v) for name, v in self._codes],
            subgraphs=[subgraph],
            description=f"edgecnn {version}",
            buffers=self._buffers,
            signatureDefs=[signature],
        )
        builder = SharingBuilder(4096 + sum(len(b.data) for b in self._buffers if b.data is not None))
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return Written(
            data=bytes(builder.Output()),
            operators=dict(sorted(self._counts.items())),
            axes={n: t.axes for n, t in zip([*names_in, *names_out], [*inputs, *outputs], strict=True)},
            notes=tuple(self._notes),
            places=self._all_places(),
        )

    def _all_places(self) -> dict[ValueName, tuple[Place, ...]]:
        free = {int(i) for op in self._operators for i in op.outputs}
        found: dict[ValueName, tuple[Place, ...]] = {}
        for value in (*(i.name for i in self.graph.inputs), *(n.name for n in self.graph.nodes)):
            own = [t for t in self.tensors_of(value) if t.index in free]
            free.difference_update(t.index for t in own)
            found[value] = tuple(self._place_of(t) for t in own)
        return found

    def tensors_of(self, value: ValueName) -> list[StoredTensor]:
        """The tensors that hold a value."""
        return self._stored.get(value, [])

    def _place_of(self, tensor: StoredTensor) -> Place:
        real = self._model_tensors[tensor.index].type == schema.TensorType.FLOAT32
        return Place(tensor=tensor.index, axes=tensor.axes, form="real" if real else "integers")

    def _place_input(self, value: Input) -> StoredTensor:
        """The tensor that an input arrives in."""
        axes = _input_layout(self.graph, value.name, len(value.shape))
        tensor = self._value_tensor(value.name, value.shape, axes, public=True, value=value.name)
        self._stored[value.name] = [tensor]
        return tensor

    def _output_tensor(self, value: ValueName) -> StoredTensor:
        """A tensor for an output: as stored where that is its own order or channels last, else in its own order."""
        shape = self.graph.shapes[value]
        given = next((t for t in self._stored[value] if t.axes in (identity(len(shape)), NHWC, NLC)), None)
        if given is None:
            given = self._reorder(value, self._stored[value][0], identity(len(shape)), "the output")
        if self.batch_free:
            self._model_tensors[given.index].shapeSignature = _int32(self._free_shape(shape, given.axes))
        if any(i.name == value for i in self.graph.inputs):  # runtimes want an output that something computes
            to = self._free_shape(shape, given.axes)
            copy = self._value_tensor(f"{value}:out", shape, given.axes, public=True, value=value)
            self._append("RESHAPE", [given.index, self.integers(to)], copy.index, _reshape_options(to), 1)
            return copy
        return given

    def _reorder(self, value: ValueName, stored: StoredTensor, axes: Axes, reader: str) -> StoredTensor:
        shape = self.graph.shapes[value]
        tensor = self._value_tensor(f"{value}:{''.join(map(str, axes))}", shape, axes, public=False, value=value)
        if _same_elements(shape, stored.axes, axes):
            to = self._free_shape(shape, axes)
            self._append("RESHAPE", [stored.index, self.integers(to)], tensor.index, _reshape_options(to), 1)
        else:
            order = self.integers([stored.axes.index(a) for a in axes])
            self._append("TRANSPOSE", [stored.index, order], tensor.index, ("TransposeOptions", {}), 1)
            self._notes.append(
                f"a TRANSPOSE of {value} {shape} was needed for {reader}, which takes its axes in the order {axes}"
            )
        return tensor

    def _free_shape(self, shape: Shape, axes: Axes) -> list[int]:
        """A stored shape, with -1 for the batch where that may have any length."""
        return [-1 if a == 0 and self.batch_free else shape[a] for a in axes]

    def _value_tensor(self, name: str, shape: Shape, axes: Axes, *, public: bool, value: ValueName) -> StoredTensor:
        index = self._tensor(name, [shape[a] for a in axes], np.dtype(np.float32), 0)
        self._type_value(index, value)
        if public and self.batch_free:
            self._model_tensors[index].shapeSignature = _int32(self._free_shape(shape, axes))
        return StoredTensor(index, axes)

    def _type_value(self, index: int, value: ValueName) -> None:
        """Give a computed tensor its type; float32 is what it has."""

    def _tensor(self, name: str, shape: Sequence[int], dtype: npt.DTypeLike, buffer: int) -> int:
        tensor = schema.TensorT(
            shape=_int32(shape), type=TENSOR_TYPES[np.dtype(dtype)], buffer=buffer, name=name, hasRank=True
        )
        self._model_tensors.append(tensor)
        return len(self._model_tensors) - 1

    def _shared_buffer(self, array: npt.NDArray[Any]) -> int:
        data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        if data not in self._buffer_of:
            self._buffer_of[data] = len(self._buffers)
            self._buffers.append(aligned_buffer(np.frombuffer(data, np.uint8)))
        return self._buffer_of[data]

    def version_of(self, operator: str) -> int:  # noqa: ARG002  (int8 kernels came with later versions)
        """The least version of an operator that knows the types in use."""
        return 1

    def _append(self, operator: str, inputs: Sequence[int], output: int, options: Any, version: int) -> None:
        version = max(version, self.version_of(operator))
        code = self._codes.setdefault((operator, version), len(self._codes))
        record = schema.OperatorT(opcodeIndex=code, inputs=_int32(inputs), outputs=_int32([output]))
        if options is not None:
            name, fields = options
            record.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            record.builtinOptions = getattr(schema, f"{name}T")(**fields)
        self._operators.append(record)
        self._counts[operator] += 1


def symmetric(scales: npt.NDArray[np.float32], axis: int) -> Any:
    """The table of a tensor whose zero points are 0: a scale for each of an axis's channels, or one for all of it."""
    zeros = np.zeros(len(scales), np.int64)
    return schema.QuantizationParametersT(
        scale=np.asarray(scales, np.float32), zeroPoint=zeros, quantizedDimension=axis
    )


def _int32(values: Sequence[int]) -> npt.NDArray[np.int32]:
    return np.asarray(values, np.int32)


def _reshape_options(to: Sequence[int]) -> tuple[str, dict[str, Any]]:
    return "ReshapeOptions", {"newShape": _int32(to)}


def _same_elements(shape: Shape, a: Axes, b: Axes) -> bool:
    """Whether two orders store the elements in the same sequence: only axes of length 1 move, and never the batch."""
    long = [i for i, n in enumerate(shape) if n != 1 or i == 0]
    return [i for i in a if i in long] == [i for i in b if i in long]


def _input_layout(graph: Graph, value: ValueName, rank: int) -> Axes:
    """Channels last for an image, and for a signal that is made an image of height 1.

    The model's own order for the rest, and where it expects channels last itself and transposes first.
    """
    if rank == 3:
        return NLC if _becomes_image(graph, value) else identity(rank)
    own = [isinstance(n.op, Transpose) and n.op.order == (0, 3, 1, 2) for n in graph.nodes if value in inputs_of(n.op)]
    return identity(rank) if rank != 4 or (own and all(own)) else NHWC


def _becomes_image(graph: Graph, value: ValueName) -> bool:
    """Whether a signal (N, C, L), or what operators of any layout make of it, is read as an image of height 1."""
    signals = {value}
    for node in graph.nodes:
        if not signals.intersection(node.inputs):
            continue
        if isinstance(node.op, Reshape):
            n, c, length = graph.shapes[node.op.x]
            if node.shape == (n, c, 1, length):
                return True
        elif traits_of(node.op).any_layout and len(node.shape) == 3:
            signals.add(node.name)
    return False


def _operator_code(name: str, version: int) -> Any:
    code = getattr(schema.BuiltinOperator, name)
    return schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version)


class _AlignedBufferT(schema.BufferT):  # type: ignore[misc]
    """A buffer whose data lies on a multiple of 16 bytes, as the schema demands; the generated writer ignores that."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802  (the generated code's name)
        data = None
        if self.data is not None:
            builder.Prep(ALIGNMENT, len(self.data))
            data = builder.CreateNumpyVector(self.data)
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def aligned_buffer(data: npt.NDArray[np.uint8] | None) -> Any:
    """A buffer of a file, empty where there is no data; packed, its data is aligned."""
    buffer = _AlignedBufferT()
    buffer.data = data
    return buffer
