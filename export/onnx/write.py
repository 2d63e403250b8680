"""The ONNX file under construction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgecnn.errors import LoweringError
from edgecnn.export.written import Place, Written
from edgecnn.graph.graph import Graph, Node, Output
from edgecnn.graph.ops import Activation, ArgMax, ValueName
from edgecnn.graph.verify import batch_is_free

DEFAULT_OPSET = 17
OLDEST_OPSET = 13


def newest_opset() -> int:
    """The newest opset that the installed onnx package knows."""
    return int(onnx.defs.onnx_opset_version())


class OnnxWriter:
    """Collects nodes and initializers. Every tensor bears the name of its value, so names lead back to module paths."""

    in_integers = False
    """Whether operators take the forms that ONNX Runtime has integer kernels for."""

    io_type: int = onnx.TensorProto.FLOAT
    """The type of inputs and outputs."""

    def __init__(self, graph: Graph, opset: int) -> None:
        self.graph = graph
        self.opset = opset
        self.batch_free = batch_is_free(graph)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._notes: list[str] = []
        self.metadata: dict[str, str] = {}
        self._public = _public_names(graph)
        self._taken = {*graph.shapes, *self._public.values()}

    def tensor(self, value: ValueName) -> str:
        """The name of a value's tensor; a constant becomes an initializer at its first use."""
        name = self._public.get(value, value)
        if value in self.graph.constants:
            self.initializer(name, self.graph.constants[value])
        return name

    def weights(self, value: ValueName, *, transposed: bool = False) -> str:
        """The name of the tensor of a layer's weights."""
        return self.initializer(f"{value}.T", self.graph.constants[value].T) if transposed else self.tensor(value)

    def initializer(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add an initializer, once per name."""
        if name not in self._initializers:
            dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
            data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
            self._initializers[name] = helper.make_tensor(name, dtype, array.shape, data, raw=True)
        return name

    def integers(self, values: Sequence[int]) -> str:
        """An initializer of int64 numbers, shared by all who need the same ones."""
        return self.initializer("ints:" + ",".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """A float32 scalar initializer, shared by all who need the same one."""
        return self.initializer(f"float:{value!r}", np.array(value, np.float32))

    def floats(self, values: Sequence[float]) -> str:
        """An initializer of float32 numbers, shared by all who need the same ones."""
        return self.initializer("floats:" + ",".join(map(repr, values)), np.array(values, np.float32))

    def emit(self, operator: str, node: Node, inputs: Sequence[str], *, step: str = "", **attributes: Any) -> str:
        """Add an ONNX node for a graph node; gives the name of its tensor.

        The last step of a graph node bears its name and gives its value. Earlier ones are named by ``step``.
        """
        name = self._step_name(f"{node.name}.{step}") if step else node.name
        return self.node(operator, inputs, name if step else self.result(node), name=name, **attributes)

    def node(
        self, operator: str, inputs: Sequence[str], result: str, *, name: str | None = None, **attributes: Any
    ) -> str:
        """Add an ONNX node as it is, attributes that are None left out; gives the name of its tensor.

        The node bears that name too, if no other is given; an empty one is for what is folded at loading.
        """
        given = {k: v for k, v in attributes.items() if v is not None}
        self._nodes.append(
            helper.make_node(operator, list(inputs), [result], name=result if name is None else name, **given)
        )
        return result

    def flatten(self, node: Node, value: ValueName) -> str:
        """A value with all axes but the batch as one, on the way to a node that reads it so."""
        return self.emit("Flatten", node, [self.tensor(value)], step="flatten")

    def result(self, node: Node) -> str:
        """The name of the tensor that holds a node's value."""
        return self._public.get(node.name, node.name)

    def bias(self, node: Node, bias: ValueName | None) -> list[str]:  # noqa: ARG002  (int8 needs the node)
        """The tensor of a node's bias, if it has one."""
        return [] if bias is None else [self.tensor(bias)]

    def give_up(self, node: Node) -> None:
        """Stand in for a value that cannot be written: its name is all that readers need."""

    def _step_name(self, wanted: str) -> str:
        """The name of a step on the way to a value, other than every value's and every other step's."""
        name, number = wanted, 0
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def emit_activated(self, operator: str, node: Node, inputs: Sequence[str], **attributes: Any) -> None:
        """Add an ONNX node and what its graph node does to the result."""
        activation: Activation = getattr(node.op, "activation", Activation.NONE)
        if activation is Activation.NONE:
            self.emit(operator, node, inputs, **attributes)
            return
        before = self.emit(operator, node, inputs, step="linear", **attributes)
        self.clamp(node, before, *activation.bounds)

    def clamp(self, node: Node, x: str, low: float, high: float) -> None:
        """Add what clamps a tensor to give the node's value; bounds may be infinite."""
        if (low, high) == (0.0, np.inf):
            self.emit("Relu", node, [x])
        else:
            bounds = [self.scalar(b) if np.isfinite(b) else "" for b in (low, high)]
            self.emit("Clip", node, [x, *(bounds if bounds[1] else bounds[:1])])

    def finish(self, *, version: str) -> Written:
        """Serialize and check the model.

        Raises:
            LoweringError: if ONNX's own checker refuses it.
        """
        model = helper.make_model(
            self._graph_proto(),
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=helper.find_min_ir_version_for([helper.make_opsetid("", self.opset)]),
            producer_name="edgecnn",
            producer_version=version,
        )
        helper.set_model_props(model, self.metadata)
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as err:
            raise LoweringError(
                f"ONNX's checker refuses the model: {str(err).splitlines()[0]}",
                hint="this is a fault of edgecnn: please report it with the model",
                detail=str(err),
            ) from err
        return Written(
            data=model.SerializeToString(deterministic=True),
            operators=dict(sorted(Counter(n.op_type for n in self._nodes).items())),
            axes={v.name: tuple(range(len(v.shape))) for v in self.graph.inputs}
            | {o.name: tuple(range(len(self.graph.shapes[o.value]))) for o in self.graph.outputs},
            notes=tuple(self._notes),
            places=self._all_places(),
        )

    def places(self, value: ValueName) -> list[Place]:
        """The tensors that hold a value."""
        return [Place(tensor=self._public.get(value, value), axes=self._identity(value))]

    def _identity(self, value: ValueName) -> tuple[int, ...]:
        return tuple(range(len(self.graph.shapes[value])))

    def _all_places(self) -> dict[ValueName, tuple[Place, ...]]:
        made = {name for node in self._nodes for name in node.output}
        values = [*(i.name for i in self.graph.inputs), *(n.name for n in self.graph.nodes)]
        return {value: tuple(p for p in self.places(value) if p.tensor in made) for value in values}

    def _graph_proto(self) -> onnx.GraphProto:
        outputs = []
        for output in self.graph.outputs:
            self._place_output(output)
            positions = isinstance(getattr(self.graph.producers.get(output.value), "op", None), ArgMax)
            io_type = onnx.TensorProto.INT64 if positions else 0
            outputs.append(self._info(output.name, self.graph.shapes[output.value], io_type))
        inputs = [self._info(i.name, i.shape) for i in self.graph.inputs]
        return helper.make_graph(self._nodes, "edgecnn", inputs, outputs, list(self._initializers.values()))

    def _place_output(self, output: Output) -> None:
        """See that a tensor bears the output's name."""
        if self._public.get(output.value) != output.name:  # an input, a constant, or a value given out twice
            self.node("Identity", [self.tensor(output.value)], output.name)

    def _info(self, name: str, shape: Sequence[int], io_type: int = 0) -> onnx.ValueInfoProto:
        dims: list[int | str] = list(shape)
        if self.batch_free:
            dims[0] = "batch"
        return helper.make_tensor_value_info(name, io_type or self.io_type, dims)


def _public_names(graph: Graph) -> dict[ValueName, str]:
    """Tensor names that differ from their value's: outputs, and values whose name an output has."""
    names: dict[ValueName, str] = {}
    for output in graph.outputs:
        if output.value in graph.producers and output.value not in names:
            names[output.value] = output.name
    taken = {o.name for o in graph.outputs}
    for value in graph.shapes:
        if value in taken and value not in names:
            names[value] = f"{value}:inner"
    return names
