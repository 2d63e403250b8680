"""Trace operators that a runtime does not support back to the user's model."""

from __future__ import annotations

from collections.abc import Mapping

from edgecnn.bundle import Bundle
from edgecnn.errors import EdgecnnError, TargetError
from edgecnn.graph.graph import Origin
from edgecnn.targets.runtimes.refusals import NotOfferedError, listed


def with_origins(bundle: Bundle, error: TargetError) -> TargetError:
    """Add modules and source lines from the bundle's program to an error about unsupported operators.

    Other errors are returned unchanged.

    Args:
        bundle: The bundle whose artifact was refused.
        error: The error that `edgecnn.targets.hosts.connection` raised.
    """
    if not isinstance(error, NotOfferedError):
        return error
    try:
        program = bundle.program()
    except EdgecnnError:  # the names in the file identify the operators, too
        return error
    graphs = [program.graph, *([] if program.quantized is None else [program.quantized.graph])]
    origins = {node.name: node.origin for graph in graphs for node in graph.nodes}
    places = dict.fromkeys(_place(o.value, origins) for o in error.operators)
    error.where = f"{listed(list(places))}, on {error.host}"
    return error


def _place(value: str, origins: Mapping[str, Origin]) -> str:
    """A value's name with its module and source line. Legalization appends to a node's name after a dot."""
    parts = value.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    origin = next((origins[name] for name in names if name in origins), Origin())
    module = origin.module if origin.module != value else ""
    details = [f"module {module}" if module else "", origin.source]
    return value + (f" ({', '.join(t for t in details if t)})" if any(details) else "")
