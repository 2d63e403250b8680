"""What exporting a model in one precision comes to, and what such a plan is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecnn.bundle import QuantizationSpec
from edgecnn.data.calibration import Calibration
from edgecnn.errors import QuantizationError
from edgecnn.export.format_descriptor import WriteOptions
from edgecnn.export.formats import format_of
from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph

if TYPE_CHECKING:
    from edgecnn.program.quantized import QuantizedGraph
    from edgecnn.program.quantized16 import QuantizedGraph16
    from edgecnn.quantize.calibrated import Observed


@dataclass(frozen=True, kw_only=True)
class PlanInputs:
    """What plans are made from: one model, its calibration, and how its files are to be written.

    Attributes:
        graph: The captured model.
        options: How files are written.
        golden_inputs: One float32 array (samples, ...) per input.
        recipe: The name or path of the int8 recipe.
        data: The calibration data, where there is some.
        observed: The ranges of the model's values on that data, where a precision needs them.
    """

    graph: Graph
    options: WriteOptions
    golden_inputs: Sequence[npt.NDArray[np.float32]]
    recipe: str
    data: Calibration | None = None
    observed: Observed | None = None

    def calibrated(self) -> tuple[Observed, Calibration]:
        """The ranges and the data they were taken from.

        Raises:
            QuantizationError: if there is no calibration data.
        """
        if self.observed is None or self.data is None:
            raise QuantizationError("there is no calibration data to take ranges from")
        return self.observed, self.data


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One precision of one model.

    Attributes:
        precision: Its name.
        options: How its files are written.
        graph: The captured model.
        quantized: The int8 program that its files hold; None for other precisions.
        int16: The int16x8 program that its file holds; None for other precisions.
        golden: The outputs that its files should give for the golden inputs, by name, where they are known exactly.
        other_golden: These outputs for runtimes that round by other rules, by the rule's name.
        spec: How it was quantized, for the manifest.
        format_specs: The same for formats whose files differ in it.
        notes: What the user should know of all its files.
        format_notes: What the user should know of the files of one format.
    """

    precision: str
    options: WriteOptions
    graph: Graph
    quantized: QuantizedGraph | None = None
    int16: QuantizedGraph16 | None = None
    golden: Mapping[str, npt.NDArray[Any]] | None = None
    other_golden: Mapping[str, Mapping[str, npt.NDArray[Any]]] = field(default_factory=dict)
    spec: QuantizationSpec | None = None
    format_specs: Mapping[str, QuantizationSpec] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    format_notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def write(self, form: str) -> Written:
        """Write the file of a format.

        Raises:
            UsageError: if there is no such format, or it does not offer the precision.
            LoweringError: if the format cannot express the model.
            QuantizationError: if weights do not fit the precision.
        """
        return format_of(form).write(self, self.precision, self.options)
