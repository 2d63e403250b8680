"""Cases quantized, or refused with the words that the user reads."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from cases import Case
from cases.base import captured
from support.int8 import CALIBRATION, EXPORTERS, quantized_graph

from edgecnn.errors import QuantizationError
from edgecnn.program.quantized import QuantizedGraph

SAMPLES = 3
REFUSED: Mapping[str, Mapping[str, tuple[type[Exception], str]]] = {
    "div": dict.fromkeys(EXPORTERS, (QuantizationError, r"div \(Div\): division by a computed value has no int8 form")),
}
"""Cases that have no int8 form, and the words that the user reads."""


def quantized_or_refused(case: Case, refused: Mapping[str, tuple[type[Exception], str]]) -> QuantizedGraph | None:
    graph, data = captured(case), case.inputs(CALIBRATION)
    if {kind for kind, _ in refused.values()} == {QuantizationError}:
        with pytest.raises(QuantizationError, match=refused["onnx"][1]):
            quantized_graph(graph, data)
        return None
    return quantized_graph(graph, data)
