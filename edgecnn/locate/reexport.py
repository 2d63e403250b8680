"""What an artifact should be: its program exported again, with the tensors in which such a file holds each value."""

from __future__ import annotations

from dataclasses import dataclass

from edgecnn.bundle import Artifact, Program
from edgecnn.errors import EdgecnnError, UsageError
from edgecnn.export.format_descriptor import Format, WriteOptions
from edgecnn.export.formats import format_of
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.program.quantized16 import QuantizedGraph16


@dataclass(frozen=True, slots=True, kw_only=True)
class Reexport:
    """An artifact exported again from its bundle's program.

    Attributes:
        form: Its format.
        precision: Its precision.
        graph: The graph as the format has it: what the file computes, operator by operator.
        quantized: The int8 integers of that graph; None for other precisions.
        int16: The int16x8 integers of that graph; None for other precisions.
        written: The file as it should be.
    """

    form: str
    precision: str
    graph: Graph
    quantized: QuantizedGraph | None
    written: Written
    int16: QuantizedGraph16 | None = None

    @property
    def descriptor(self) -> Format:
        """The descriptor of its format."""
        return format_of(self.form)


def reexport_artifact(artifact: Artifact, program: Program, data: bytes, *, version: str) -> Reexport:
    """Export an artifact again.

    Args:
        artifact: The artifact.
        program: Its bundle's program.
        data: The artifact's bytes, which state options such as an ONNX file's opset.
        version: The edgecnn version that the bundle was exported by.

    Raises:
        EdgecnnError: if the bundle does not hold the program of this precision, the format does not offer the
            precision, or the program cannot be exported.
    """
    form, precision = artifact.format, artifact.precision
    try:
        row = format_of(form)
        row.check_offers(precision)
    except UsageError as err:
        raise EdgecnnError(f"layers of {precision} {form} files cannot be examined", why=err.message) from err
    spec = artifact.spec.quantization
    io = "float32" if spec is None else spec.io
    options = row.options_of(data, WriteOptions(version=version, io=io))
    legal = row.legalized(program, precision)
    return Reexport(
        form=form,
        precision=precision,
        graph=legal.graph,
        quantized=legal.quantized,
        int16=legal.int16,
        written=row.write(program, precision, options),
    )
