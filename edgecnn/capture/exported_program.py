"""Queries on exported programs: operators, modules, parameters, names of results, shared memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Node as FxNode
from torch.utils import _pytree as pytree

from edgecnn.errors import CaptureError

# Operators whose result shares memory with their input: writing in place to either changes both.
ALIASING = frozenset(
    [
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "permute",
        "transpose",
        "swapaxes",
        "swapdims",
        "movedim",
        "mT",
        "view_as",
        "expand_as",
        "tensor_split",
        "t",
        "squeeze",
        "unsqueeze",
        "slice",
        "select",
        "expand",
        "narrow",
        "chunk",
        "split",
        "split_with_sizes",
        "unbind",
        "detach",
        "alias",
        "contiguous",
        "to",
        "_unsafe_view",
    ]
)


# Operators that return their input tensor itself in eval mode.
SAME_TENSOR = frozenset(["dropout", "feature_dropout", "alpha_dropout"])


def writes_through_views(graph: torch.fx.Graph) -> bool:
    """Whether an in-place operator writes to memory that another value shares."""
    for node in graph.nodes:
        if writes_in_place(node):
            target = node.args[0]
            shared = [target, *(u for u in (*target.users, *node.users) if u is not node)]
            if any(base_name(n) in ALIASING for n in shared):
                return True
    return False


def base_name(node: FxNode) -> str:
    """``relu`` for ``aten.relu.default``; empty for nodes that are not calls."""
    return str(node.target).removeprefix("aten.").split(".")[0] if node.op == "call_function" else ""


def writes_in_place(node: FxNode) -> bool:
    """Whether an operator writes to its first argument."""
    base = base_name(node)
    return base.endswith("_") and not base.endswith("__") and not base.startswith("_")


def operator(node: FxNode) -> str:
    """The full name, such as ``aten.relu.default``, without the underscore of in-place forms."""
    if not isinstance(node.target, torch._ops.OpOverload):  # noqa: SLF001  (torch has no public name for it)
        return str(getattr(node.target, "__name__", node.target))
    text = str(node.target)
    return text.replace("_.", ".", 1) if writes_in_place(node) else text


def holds_tensors(value: Any) -> bool:
    """Whether the result of a call is a tensor or contains one."""
    return isinstance(value, torch.Tensor) or (isinstance(value, list | tuple) and any(map(holds_tensors, value)))


def program_batch(program: torch.export.ExportedProgram) -> int | None:
    """The length of the inputs' first axis; None if it is dynamic, 1 if inputs differ in it."""
    names = set(program.graph_signature.user_inputs)
    values = [n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    lengths = [v.shape[0] for v in values if isinstance(v, torch.Tensor) and v.dim()]
    if lengths and not any(isinstance(n, int) for n in lengths):
        return None
    return lengths[0] if len(set(map(str, lengths))) == 1 else 1


def lifted_tensors(program: torch.export.ExportedProgram) -> Mapping[str, tuple[str, torch.Tensor]]:
    """Parameters, buffers and constants by the name of their placeholder: the path in the module, and the tensor."""
    signature, state = program.graph_signature, program.state_dict
    found = {}
    for spec in signature.input_specs:
        if spec.target is not None and spec.arg is not None:
            tensor = state.get(spec.target, program.constants.get(spec.target))
            if isinstance(tensor, torch.Tensor):
                found[str(spec.arg.name)] = (spec.target, tensor.detach())
    return found


def module_of(node: FxNode) -> tuple[str, str]:
    """Path and type of the innermost module that a call was made in."""
    stack: Mapping[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    if not stack:
        return "", ""
    path, kind = list(stack.values())[-1]
    return path, kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"


def module_paths(graph: torch.fx.Graph) -> Mapping[str, set[str]]:
    """The operators that each module calls. The only operator of a module gets the name of the module."""
    paths: dict[str, set[str]] = defaultdict(set)
    for node in graph.nodes:
        if node.op == "call_function":
            paths[module_of(node)[0]].add(operator(node))
    return paths


def output_names(program: torch.export.ExportedProgram) -> list[str]:
    """``output``, or for several the keys and positions that lead to each, joined by underscores."""
    spec = program.call_spec.out_spec
    assert spec is not None
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    paths = [list(_path_parts(path)) for path, _ in pytree.tree_flatten_with_path(tree)[0]]
    if not paths:
        raise CaptureError("the model returns nothing", hint="a forward that returns what it computes")
    if len(paths) == 1 and not any(isinstance(p, str) for p in paths[0]):
        return ["output"]
    names = ["_".join(str(p) for p in path) for path in paths]
    return [f"output_{name}" if name[:1].isdigit() else name for name in names]


def _path_parts(path: Sequence[Any]) -> Iterator[str | int]:
    for key in path:
        for attribute in ("key", "idx", "name"):
            if hasattr(key, attribute):
                part = getattr(key, attribute)
                yield part if isinstance(part, int) else str(part)
                break
