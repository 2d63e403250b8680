"""Capture of a module or an exported program as a graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.fx import Node as FxNode
from torch.utils import _pytree as pytree

from edgecnn.capture.aten import CONVERTERS, hint_for
from edgecnn.capture.converters.base import Args, Unsupported
from edgecnn.capture.exported_program import (
    SAME_TENSOR,
    base_name,
    holds_tensors,
    lifted_tensors,
    module_of,
    module_paths,
    operator,
    output_names,
    program_batch,
    writes_in_place,
    writes_through_views,
)
from edgecnn.capture.simplify import simplify
from edgecnn.capture.trace import quiet_torch, source_line, trace_module
from edgecnn.errors import CaptureError, GraphError
from edgecnn.graph.graph import Graph, GraphBuilder, Origin
from edgecnn.graph.ops import ArgMax, Op, ValueName
from edgecnn.graph.shapes import Shape
from edgecnn.graph.verify import verify


def capture(module: torch.nn.Module, example_inputs: Sequence[torch.Tensor]) -> Graph:
    """Trace a module, and simplify it to the graph that all formats are written from.

    Args:
        module: Any ``nn.Module`` of supported operators. It is traced in eval mode; its modes are restored.
        example_inputs: One float32 tensor per argument of ``forward``, (1, ...).

    Raises:
        ModelError: if the module does not run on these inputs.
        CaptureError: if it cannot be traced, or uses unsupported operators (all of them are listed).
    """
    return capture_program(trace_module(module, example_inputs))


def capture_program(program: torch.export.ExportedProgram) -> Graph:
    """The graph of an exported program, simplified.

    The length of the inputs' first axis is the batch, static or dynamic; in the graph it is 1.

    Raises:
        CaptureError: if the program uses unsupported operators (all of them are listed).
    """
    with quiet_torch():
        if writes_through_views(program.graph):
            program = program.run_decompositions({})
        graph = _Capture(program).run()
    return simplify(verify(graph, after="capture"))


NO_CONVERTER = "edgecnn has no such operator"


class _Size:
    """A number computed from the length of the batch. Converters take shapes from results and may not use it."""

    def __float__(self) -> float:
        raise Unsupported("it computes with the length of the batch", "a program exported with a batch of 1")

    def __index__(self) -> int:
        raise Unsupported("it computes with the length of the batch", "a program exported with a batch of 1")


class _Capture:
    """One pass over a program. It implements the :class:`~edgecnn.capture.converters.base.Builder` of converters."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self._program = program
        self._builder = GraphBuilder()
        self._values: dict[FxNode, ValueName] = {}
        self._tensors: dict[FxNode, torch.Tensor] = {}
        self._names: dict[FxNode, str] = {}
        self._roots: dict[FxNode, FxNode] = {}
        self._written: dict[FxNode, list[FxNode]] = defaultdict(list)
        self._positions: set[ValueName] = set()  # int64, from ArgMax
        self._problems: list[str] = []
        self._unknown: set[FxNode] = set()  # calls that cannot be converted, and all that depends on them
        self._batch = program_batch(program)
        self._paths = module_paths(program.graph)
        self._node: FxNode
        self._name = ""

    # The interface of converters.

    @property
    def result_shape(self) -> Shape:
        return self._shape_of(self._node)

    @property
    def result_shapes(self) -> tuple[Shape, ...]:
        return tuple(self._trimmed(self._node, value.shape) for value in self._node.meta["val"])

    def add(self, op: Op, suffix: str = "") -> ValueName:
        name = self._builder.add(op, f"{self._name}.{suffix}" if suffix else self._name, self._origin())
        if isinstance(op, ArgMax):
            self._positions.add(name)
        return name

    def constant(self, array: npt.NDArray[Any], suffix: str) -> ValueName:
        return self._builder.constant(f"{self._name}.{suffix}", array)

    def shape(self, value: ValueName) -> Shape:
        return self._builder.shapes[value]

    def elements(self, value: ValueName | None) -> npt.NDArray[np.float32] | None:
        return None if value is None else self._builder.constants.get(value)

    # The pass.

    def run(self) -> Graph:
        self._place_inputs()
        for node in self._program.graph.nodes:
            if node.op == "call_function" and (node.users or writes_in_place(node)):
                self._call(node)
        output = next(n for n in self._program.graph.nodes if n.op == "output")
        for target in self._program.graph_signature.buffers_to_mutate.values():
            self._refuse_state(output, target)
        for leaf in pytree.tree_leaves(output.args[0]):
            if isinstance(leaf, FxNode) and leaf in self._values and leaf not in self._unknown:
                self._check_result(leaf)
        self._refuse_problems()
        self._place_outputs(output)
        return self._builder.build()

    def _check_result(self, node: FxNode) -> None:
        dtype = node.meta["val"].dtype
        if dtype != (torch.int64 if self._values[node] in self._positions else torch.float32):
            self._problem(node, f"it gives {str(dtype).removeprefix('torch.')}", "float32 results, by .float()")

    def _refuse_state(self, node: FxNode, name: str) -> None:
        self._problem(node, f"the model writes to its own {name}", "a model without state")

    def _place_inputs(self) -> None:
        tensors = lifted_tensors(self._program)
        for node in self._program.graph.nodes:
            if node.op != "placeholder":
                continue
            if node.name in tensors:
                target, self._tensors[node] = tensors[node.name]
                self._names[node] = target
            elif not isinstance(node.meta.get("val"), torch.Tensor):
                self._unknown.add(node)
                self._problem(node, f"the argument {node.name} is not a tensor", "a forward that takes tensors only")
            elif node.meta["val"].dtype != torch.float32:
                dtype = str(node.meta["val"].dtype).removeprefix("torch.")
                self._unknown.add(node)
                self._problem(node, f"the input {node.name} is {dtype}", "float32 inputs")
            else:
                self._values[node] = self._builder.input(node.name, self._shape_of(node))

    def _call(self, node: FxNode) -> None:
        self._node, self._name = node, self._name_of(node)
        inputs = node.all_input_nodes
        if node in self._values or node in self._tensors or not holds_tensors(node.meta.get("val")):
            return  # a size or an assertion: shapes are static, nothing to compute
        if any(i in self._unknown for i in inputs):
            self._unknown.add(node)
            if operator(node) not in CONVERTERS and operator(node) != "getitem":
                self._problem(node, NO_CONVERTER, hint_for(operator(node)))
            return
        if all(i in self._tensors for i in inputs) and not self._writes_to_state(node):
            self._fold(node)
            return
        try:
            convert = CONVERTERS.get(operator(node))
            if convert is None:
                raise Unsupported(NO_CONVERTER, hint_for(operator(node)))
            _check_dtype(node)
            given = convert(self, self._bind(node))
            values = given if isinstance(given, tuple) else (given,)
            self._check_shapes(values)
        except Unsupported as problem:
            self._problem(node, problem.reason, problem.hint)
            self._unknown.add(node)
            return
        except GraphError as err:
            self._problem(node, err.message, err.hint)
            self._unknown.add(node)
            return
        self._give(node, values)
        if base_name(node) in SAME_TENSOR:
            root = self._root(node.all_input_nodes[0])
            self._roots[node] = root
            self._written[root].append(node)
        if writes_in_place(node):
            self._write(node, values[0])

    def _check_shapes(self, values: Sequence[ValueName]) -> None:
        given = tuple(self._builder.shapes[v] for v in values)
        wanted = self.result_shapes if len(values) > 1 else (self.result_shape,)
        if given != wanted[: len(given)]:
            raise GraphError(f"gives {given} where torch gives {wanted}")

    def _give(self, node: FxNode, values: Sequence[ValueName]) -> None:
        """Store a call's values. Of several results, some converters give the first only."""
        self._values[node] = values[0]
        if (known := self._builder.constants.get(values[0])) is not None:  # what is computed from it can be folded
            self._tensors[node], self._names[node] = torch.from_numpy(np.array(known)), values[0]
        if isinstance(node.meta["val"], list | tuple):
            for user in node.users:
                position: Any = user.args[1]
                if position < len(values):
                    self._values[user] = values[position]
                elif user.users:
                    self._problem(
                        user, f"result {user.args[1]} of {operator(node)} is not supported", "the first result"
                    )
                    self._unknown.add(user)

    def _write(self, node: FxNode, value: ValueName) -> None:
        """After an in-place operator, make every node of the written value, aliases included, stand for the result."""
        root = self._root(node.all_input_nodes[0])
        if root.op == "placeholder" and root in self._tensors:
            self._refuse_state(node, self._names.get(root, root.name))
        self._roots[node] = root
        self._written[root].append(node)
        for other in (root, *self._written[root]):
            self._values[other] = value
            self._tensors.pop(other, None)

    def _writes_to_state(self, node: FxNode) -> bool:
        return writes_in_place(node) and self._root(node.all_input_nodes[0]).op == "placeholder"

    def _root(self, node: FxNode) -> FxNode:
        return self._roots.get(node, node)

    def _fold(self, node: FxNode) -> None:
        """Compute a call that depends on parameters alone once, by torch."""
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: self._tensors[n])
        with torch.no_grad():
            result = node.target(*args, **kwargs)  # type: ignore[operator]
        if isinstance(result, torch.Tensor):
            self._tensors[node] = result
            self._names[node] = self._name
            return
        for user in node.users:  # getitem of a tuple
            if operator(user) == "getitem":
                self._tensors[user] = result[user.args[1]]
                self._names[user] = self._name

    def _bind(self, node: FxNode) -> Args:
        schema = node.target._schema  # type: ignore[union-attr]  # noqa: SLF001  (the public way to an overload's signature)
        values = {}
        for i, argument in enumerate(schema.arguments):
            default = argument.default_value if argument.has_default_value() else None
            given = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name, default)
            values[argument.name] = torch.fx.node.map_arg(given, self._value)
        return Args(values)

    def _value(self, node: FxNode) -> Any:
        if node in self._values:
            if self._values[node] in self._positions:
                raise Unsupported(
                    "it computes with the result of argmax", "argmax as an output, the rest on the device"
                )
            return self._values[node]
        if node in self._tensors:
            tensor, name = self._tensors[node], self._names[node]
            if not (tensor.is_floating_point() or tensor.dtype in (torch.int64, torch.int32, torch.bool)):
                raise Unsupported(f"the constant {name} is {tensor.dtype}", "float32")
            self._values[node] = self._builder.constant(name, tensor.detach().cpu().double().numpy())
            return self._values[node]
        return _Size()

    def _place_outputs(self, output: FxNode) -> None:
        names = output_names(self._program)
        taken = {i.name for i in self._builder.inputs}
        for i in range(len(names)):  # names must differ from each other and from every input
            names[i] = names[i] or "output"
            while names[i] in taken:
                names[i] += "_out"
            taken.add(names[i])
        leaves = pytree.tree_leaves(output.args[0])[-len(names) :]
        if all(leaf is None for leaf in leaves):
            raise CaptureError("the model returns None", hint="a forward that returns what it computes")
        for name, node in zip(names, leaves, strict=True):
            if node is None:  # a result that the model leaves out
                continue
            value = self._values.get(node) if isinstance(node, FxNode) else None
            if value is None or value in self._builder.constants:
                raise CaptureError(
                    f"the result {name} does not depend on the input",
                    hint="leave constants out of what forward returns",
                )
            self._builder.output(name, value)

    def _problem(self, node: FxNode, reason: str, hint: str = "") -> None:
        place = ", ".join(p for p in (module_of(node)[0] or node.name, source_line(node.meta.get("stack_trace"))) if p)
        text = f"{place} ({operator(node)}): {reason}" + (f"; try {hint}" if hint else "")
        if text not in self._problems:
            self._problems.append(text)

    def _refuse_problems(self) -> None:
        if self._problems:
            count = len(self._problems)
            raise CaptureError(
                f"{count} operation{'s' * (count != 1)} of this model cannot be exported:\n"
                + "\n".join(f"  - {p}" for p in self._problems)
            )

    def _origin(self) -> Origin:
        node = self._node
        return Origin(module_of(node)[0], source_line(node.meta.get("stack_trace")), operator(node))

    def _name_of(self, node: FxNode) -> str:
        path, kind = module_of(node)
        base = base_name(node).strip("_")
        if path and kind.startswith("torch.nn.") and len(self._paths[path]) == 1:
            return path
        return f"{path}.{base}" if path else base

    def _shape_of(self, node: FxNode) -> Shape:
        value = node.meta["val"]
        return self._trimmed(node, (value[0] if isinstance(value, list | tuple) else value).shape)

    def _trimmed(self, node: FxNode, shape: Sequence[Any]) -> Shape:
        return tuple(self._length(node, i, n) for i, n in enumerate(shape))

    def _length(self, node: FxNode, axis: int, length: Any) -> int:
        if axis == 0 and (self._batch is None or length == self._batch):
            return 1
        if not isinstance(length, int):
            raise CaptureError(
                f"axis {axis} of {node.name} has no fixed length ({length})",
                why="only the batch, the first axis, may be dynamic",
                hint="export the program with fixed height, width and channels",
            )
        return length


def _check_dtype(node: FxNode) -> None:
    value = node.meta["val"]
    tensor = value[0] if isinstance(value, list | tuple) else value
    known = (torch.float32, torch.float64)  # float64 constants give float64 results; the graph computes in float32
    if tensor.dtype not in known and base_name(node) != "argmax":
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise Unsupported(f"it gives {dtype}", "float32 throughout; comparisons and indices outside the model")
