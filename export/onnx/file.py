"""An ONNX file under construction: nodes, initializers, metadata, and the model that they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgecnn.errors import LoweringError
from edgecnn.export.written import Place, Written
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ArgMax, ValueName
from edgecnn.graph.verify import batch_is_free


def public_names(graph: Graph) -> Mapping[ValueName, str]:
    """Tensor names that differ from their value's: outputs, and values whose name an output has."""
    names: dict[ValueName, str] = {}
    for output in graph.outputs:
        if output.value in graph.producers and output.value not in names:
            names[output.value] = output.name
    return inner_names(graph, names) | names


def inner_names(graph: Graph, public: Collection[ValueName] = ()) -> dict[ValueName, str]:
    """Other names for values that are not outputs, or not as they are, but have the name of one."""
    taken = {o.name for o in graph.outputs}
    return {value: f"{value}:inner" for value in graph.shapes if value in taken and value not in public}


class OnnxFile:
    """Collects the nodes and initializers of one graph. Tensors have the names of values, which lead to modules.

    Attributes:
        graph: The graph that is written.
        opset: Opset of the default domain.
        names: Tensor names of values, where they differ from the value's name.
        batch_free: Whether the batch axis is symbolic.
        metadata: The model's metadata.
        notes: What the user should know.
    """

    def __init__(self, graph: Graph, opset: int, names: Mapping[ValueName, str]) -> None:
        self.graph = graph
        self.opset = opset
        self.names = names
        self.batch_free = batch_is_free(graph)
        self.metadata: dict[str, str] = {}
        self.notes: list[str] = []
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._taken = {*graph.shapes, *public_names(graph).values()}

    def name(self, value: ValueName) -> str:
        """The name of the tensor that holds a value."""
        return self.names.get(value, value)

    def real_places(self, value: ValueName) -> list[Place]:
        """The tensor that holds a value's real numbers."""
        return [Place(tensor=self.name(value), axes=self.axes(value))]

    def axes(self, value: ValueName) -> tuple[int, ...]:
        """A value's axes, in order."""
        return tuple(range(len(self.graph.shapes[value])))

    def initializer(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add an initializer, once per name."""
        if name not in self._initializers:
            dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
            data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
            self._initializers[name] = helper.make_tensor(name, dtype, array.shape, data, raw=True)
        return name

    def integers(self, values: Sequence[int]) -> str:
        """An initializer of int64 numbers, shared by all nodes that need these numbers."""
        return self.initializer("ints:" + ",".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """A float32 scalar initializer, shared by all nodes that need this number."""
        return self.initializer(f"float:{value!r}", np.array(value, np.float32))

    def floats(self, values: Sequence[float]) -> str:
        """An initializer of float32 numbers, shared by all nodes that need these numbers."""
        return self.initializer("floats:" + ",".join(map(repr, values)), np.array(values, np.float32))

    def node(
        self, operator: str, inputs: Sequence[str], result: str, *, name: str | None = None, **attributes: Any
    ) -> str:
        """Add an ONNX node, without attributes that are None; returns the name of its tensor.

        The node has that name too unless another is given; an empty one marks what ONNX Runtime folds at loading.
        """
        given = {k: v for k, v in attributes.items() if v is not None}
        self._nodes.append(
            helper.make_node(operator, list(inputs), [result], name=result if name is None else name, **given)
        )
        return result

    def transpose(self, x: str, name: str, order: Sequence[int]) -> str:
        """Add a Transpose."""
        return self.node("Transpose", [x], name, perm=list(order))

    def reshape(self, x: str, name: str, shape: Sequence[int]) -> str:
        """Add a Reshape."""
        return self.node("Reshape", [x, self.integers(shape)], name)

    def slice(self, x: str, name: str, bounds: Sequence[int]) -> str:
        """Add a Slice: ``bounds`` are its start, end, axis and, if given, step."""
        return self.node("Slice", [x, *(self.integers([n]) for n in bounds)], name)

    def step_name(self, wanted: str) -> str:
        """A name for an intermediate tensor that no value and no other intermediate tensor has."""
        name, number = wanted, 0
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def prune(self, read: Collection[str]) -> None:
        """Remove all nodes and initializers that none of these tensors is computed from."""
        needed, nodes = set(read), []
        for node in reversed(self._nodes):
            if node.output[0] in needed:
                nodes.append(node)
                needed.update(node.input)
        self._nodes = nodes[::-1]
        self._initializers = {name: made for name, made in self._initializers.items() if name in needed}

    def finish(
        self,
        places: Callable[[ValueName], Sequence[Place]],
        *,
        version: str,
        io_type: int = onnx.TensorProto.FLOAT,
    ) -> Written:
        """Serialize and check the model.

        Args:
            places: The tensors that may hold a value; those that no node gives are left out.
            version: The producer's version.
            io_type: Element type of inputs and outputs; an ArgMax gives int64.

        Raises:
            LoweringError: if ONNX's own checker refuses it.
        """
        model = helper.make_model(
            self._graph_proto(io_type),
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=helper.find_min_ir_version_for([helper.make_opsetid("", self.opset)]),
            producer_name="edgecnn",
            producer_version=version,
        )
        helper.set_model_props(model, self.metadata)
        _check(model)
        graph, made = self.graph, {name for node in self._nodes for name in node.output}
        values = [*(i.name for i in graph.inputs), *(n.name for n in graph.nodes)]
        return Written(
            data=model.SerializeToString(deterministic=True),
            operators=dict(sorted(Counter(n.op_type for n in self._nodes).items())),
            axes={v.name: tuple(range(len(v.shape))) for v in graph.inputs}
            | {o.name: tuple(range(len(graph.shapes[o.value]))) for o in graph.outputs},
            notes=tuple(self.notes),
            places={value: tuple(p for p in places(value) if p.tensor in made) for value in values},
        )

    def _graph_proto(self, io_type: int) -> onnx.GraphProto:
        outputs = []
        for output in self.graph.outputs:
            positions = isinstance(getattr(self.graph.producers.get(output.value), "op", None), ArgMax)
            kind = onnx.TensorProto.INT64 if positions else io_type
            outputs.append(self._info(output.name, self.graph.shapes[output.value], kind))
        inputs = [self._info(i.name, i.shape, io_type) for i in self.graph.inputs]
        return helper.make_graph(self._nodes, "edgecnn", inputs, outputs, list(self._initializers.values()))

    def _info(self, name: str, shape: Sequence[int], io_type: int) -> onnx.ValueInfoProto:
        dims: list[int | str] = list(shape)
        if self.batch_free:
            dims[0] = "batch"
        return helper.make_tensor_value_info(name, io_type, dims)


def _check(model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as err:
        raise LoweringError(
            f"ONNX's checker refuses the model: {str(err).splitlines()[0]}",
            hint="this is a fault of edgecnn: please report it with the model",
            detail=str(err),
        ) from err
