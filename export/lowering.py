"""The walk over a graph that every format's table of lowerings is used in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from edgecnn.errors import LoweringError
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Op


class GivesUp(Protocol):
    """A writer that can go on after a value that it cannot write."""

    def give_up(self, node: Node) -> None:
        """Stand in for a value that cannot be written, so that problems of later nodes are found too."""


Writer = TypeVar("Writer", bound=GivesUp)


def lower_all(
    graph: Graph, writer: Writer, table: Mapping[type[Op], Callable[[Writer, Node, Any], None]], format_name: str
) -> None:
    """Lower every node; what a format cannot express is reported for all nodes at once.

    Raises:
        LoweringError: listing each node, where it comes from, the reason and what to try.
    """
    problems: list[LoweringError] = []
    for node in graph.nodes:
        try:
            table[type(node.op)](writer, node, node.op)
        except LoweringError as err:
            err.where = err.where or ", ".join(p for p in (node.describe(), node.origin.source) if p)
            problems.append(err)
            writer.give_up(node)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = [f"  - {p.where}: {p.message}" + (f"; try {p.hint}" if p.hint else "") for p in problems]
        raise LoweringError(f"{format_name} cannot express {len(problems)} operators:\n" + "\n".join(lines))
