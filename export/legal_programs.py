"""The programs of one model that files are written from, and each as a format's own graph has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from edgecnn.errors import EdgecnnError

if TYPE_CHECKING:
    from edgecnn.graph.graph import Graph
    from edgecnn.program.quantized import QuantizedGraph
    from edgecnn.program.quantized16 import QuantizedGraph16

SameStorage = Callable[[str, str], bool]
"""Whether two values of a graph are stored with the same type and the same parameters."""
Legalize = Callable[["Graph", SameStorage | None], "Graph"]
"""A format's rewrites of a graph; None where all values are stored the same way, as in float."""


class Programs(Protocol):
    """What a model's files are written from; the integer programs are None where there are none."""

    @property
    def graph(self) -> Graph:
        """The float graph."""
        ...

    @property
    def quantized(self) -> QuantizedGraph | None:
        """The int8 program."""
        ...

    @property
    def int16(self) -> QuantizedGraph16 | None:
        """The int16x8 program."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalProgram:
    """The program of one precision after a format's legalization: what a file computes, operator by operator.

    Attributes:
        graph: The graph as the format has it.
        quantized: Its int8 integers; None for other precisions.
        int16: Its int16x8 integers; None for other precisions.
    """

    graph: Graph
    quantized: QuantizedGraph | None = None
    int16: QuantizedGraph16 | None = None


def int8_program(programs: Programs) -> QuantizedGraph:
    """The int8 program.

    Raises:
        EdgecnnError: if there is none.
    """
    if programs.quantized is None:
        raise EdgecnnError("the bundle holds no int8 program", hint="export the model again")
    return programs.quantized


def int16_program(programs: Programs) -> QuantizedGraph16:
    """The int16x8 program.

    Raises:
        EdgecnnError: if there is none.
    """
    if programs.int16 is None:
        raise EdgecnnError(
            "the bundle holds no int16x8 program",
            why="it was exported before bundles held one",
            hint="export the model again",
        )
    return programs.int16


def _float(programs: Programs, legalize: Legalize) -> LegalProgram:
    return LegalProgram(graph=legalize(programs.graph, None))


def _fp16(programs: Programs, legalize: Legalize) -> LegalProgram:
    from edgecnn.program.half_weights import half_weights

    return LegalProgram(graph=legalize(half_weights(programs.graph), None))


def _int8(programs: Programs, legalize: Legalize) -> LegalProgram:
    from edgecnn.program.quantized import follow

    program = int8_program(programs)
    graph = legalize(program.graph, program.same_storage)
    return LegalProgram(graph=graph, quantized=follow(program, graph))


def _int16x8(programs: Programs, legalize: Legalize) -> LegalProgram:
    from edgecnn.program.quantized16 import follow_int16

    program = int16_program(programs)
    graph = legalize(program.graph, program.same_storage)
    return LegalProgram(graph=graph, int16=follow_int16(program, graph))


LEGALIZED: Mapping[str, Callable[[Programs, Legalize], LegalProgram]] = MappingProxyType(
    {"fp32": _float, "fp16": _fp16, "int8": _int8, "int8-dynamic": _float, "int16x8": _int16x8}
)
"""What files of each precision compute; int8-dynamic a float graph, since its kernels quantize inputs as they come."""
