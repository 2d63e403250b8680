"""The rules that every graph obeys. They are checked after every rewrite, so that a faulty rewrite is named."""

from __future__ import annotations

from edgecnn.errors import GraphError
from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ValueName
from edgecnn.graph.shapes import Shape
from edgecnn.graph.traits import traits_of


def verify(graph: Graph, *, after: str = "") -> Graph:
    """Check a graph and return it.

    The rules: every name means one value; a node reads only values computed before it; its shape is the one that its
    operator infers; outputs exist and have different names; there is an input and an output.

    Args:
        graph: The graph.
        after: The rewrite that made it, for the message.

    Raises:
        GraphError: if a rule is broken; it names the node. The fault lies in this package, not in the user's model.
    """
    problems = _problems(graph)
    if problems:
        raise GraphError(
            f"the graph is not valid{f' after {after}' if after else ''}: {problems[0]}",
            hint="this is a fault of edgecnn: please report it with the model",
        )
    return graph


def _problems(graph: Graph) -> list[str]:
    problems: list[str] = []
    shapes: dict[ValueName, Shape] = {}
    for name, shape in [
        *((i.name, i.shape) for i in graph.inputs),
        *((k, v.shape) for k, v in graph.constants.items()),
    ]:
        if name in shapes:
            problems.append(f"two values are named {name}")
        shapes[name] = shape
    if problems:
        return problems
    for node in graph.nodes:
        missing = [i for i in node.inputs if i not in shapes]
        if missing:
            problems.append(f"{node.describe()} reads {missing[0]} before it is given")
        elif node.name in shapes:
            problems.append(f"two values are named {node.name}")
        elif (shape := node.op.shape(*(shapes[i] for i in node.inputs))) != node.shape:
            problems.append(f"{node.describe()} says its shape is {node.shape}, but it is {shape}")
        shapes[node.name] = node.shape
    problems += [f"output {o.name} is {o.value}, which nothing gives" for o in graph.outputs if o.value not in shapes]
    if len({o.name for o in graph.outputs}) != len(graph.outputs):
        problems.append("two outputs have one name")
    if not graph.inputs or not graph.outputs:
        problems.append("it has no input or no output")
    return problems


def batch_is_free(graph: Graph) -> bool:
    """Whether every operator keeps the samples of a batch apart, so that axis 0 may have any length.

    Raises:
        GraphError: if an operator has no row in :data:`edgecnn.graph.traits.TRAITS`.
    """
    dependent = {i.name for i in graph.inputs}
    if any(i.shape[:1] != (1,) for i in graph.inputs):
        return False
    for node in graph.nodes:
        reads = [(graph.shapes[i], i in dependent) for i in node.inputs]
        if any(depends for _, depends in reads):
            dependent.add(node.name)
            keeps_batch = traits_of(node.op).keeps_batch
            if node.shape[:1] != (1,) or not keeps_batch(node.op, reads, len(node.shape)):
                return False
    return all(o.value in dependent for o in graph.outputs)
