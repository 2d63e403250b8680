"""The precisions that a model is exported in: what each needs, and how its plan is made.

How its files are written, or why a format does not offer it, stands with the formats: `edgecnn.export.formats`. What
its files compute after legalization is in `edgecnn.export.legal_programs`. Imports
no numpy at module level, so that ``--help`` stays light.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgecnn._version import __version__
from edgecnn.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgecnn.data.calibration import Calibration
    from edgecnn.data.preprocessing import Preprocessing
    from edgecnn.exporting.precision_plan import Plan, PlanInputs
    from edgecnn.graph.graph import Graph
    from edgecnn.quantize.calibrated import Observed
    from edgecnn.types import Progress

IO = ("float32", "int8", "uint8")
"""Types that inputs and outputs of files can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """A precision.

    Attributes:
        plan: Makes its program, and the outputs that files should give.
        calibrated: Whether its ranges are taken from calibration data.
        by_recipe: Whether a recipe says how it is made.
        io: Types that inputs and outputs of its files can have.
    """

    plan: Callable[[PlanInputs], Plan]
    calibrated: bool = False
    by_recipe: bool = False
    io: tuple[str, ...] = IO[:1]


def _plan_fp32(given: PlanInputs) -> Plan:
    from edgecnn.exporting.precision_plan import Plan

    return Plan(precision="fp32", options=given.options, graph=given.graph)


def _plan_fp16(given: PlanInputs) -> Plan:
    """Files hold rounded weights and compute in float32, so that the rounded graph in float32 says what they give."""
    from edgecnn.exporting.precision_plan import Plan
    from edgecnn.golden.batches import execute_samples
    from edgecnn.program.half_weights import half_weights

    values = execute_samples(half_weights(given.graph), given.golden_inputs)
    golden = {o.name: values[o.value] for o in given.graph.outputs}
    return Plan(precision="fp16", options=given.options, graph=given.graph, golden=golden)


def _plan_int8_dynamic(given: PlanInputs) -> Plan:
    """Kernels quantize a layer's inputs as they come, each by its own rule: there are no outputs to expect exactly."""
    from edgecnn.exporting.precision_plan import Plan

    return Plan(precision="int8-dynamic", options=given.options, graph=given.graph)


def _plan_int8(given: PlanInputs) -> Plan:
    from edgecnn.exporting.integer_plans import plan_int8

    return plan_int8(given)


def _plan_int16x8(given: PlanInputs) -> Plan:
    from edgecnn.exporting.integer_plans import plan_int16x8

    return plan_int16x8(given)


DESCRIPTORS: Mapping[str, Precision] = MappingProxyType(
    {
        "fp32": Precision(plan=_plan_fp32),
        "fp16": Precision(plan=_plan_fp16),
        "int8": Precision(plan=_plan_int8, calibrated=True, by_recipe=True, io=IO),
        "int8-dynamic": Precision(plan=_plan_int8_dynamic),
        "int16x8": Precision(plan=_plan_int16x8, calibrated=True),
    }
)
CALIBRATED = tuple(name for name, row in DESCRIPTORS.items() if row.calibrated)
"""Precisions whose ranges are taken from calibration data."""
BY_RECIPE = tuple(name for name, row in DESCRIPTORS.items() if row.by_recipe)
"""Precisions that a recipe says how to make."""
WITH_IO = tuple(name for name, row in DESCRIPTORS.items() if len(row.io) > 1)
"""Precisions whose files can have inputs and outputs of several types."""


def plan_precisions(
    graph: Graph,
    precisions: Sequence[str],
    data: Calibration | None,
    *,
    recipe: str,
    opset: int,
    golden_inputs: Sequence[npt.NDArray[np.float32]],
    io: str = "float32",
    preprocessing: Preprocessing | None = None,
    progress: Progress | None = None,
) -> list[Plan]:
    """A plan for each precision; the model is run over the calibration data once for all of them.

    Raises:
        UsageError: if a precision or the recipe is not known, or the recipe does not fit the model.
        DataError: if a value becomes NaN or infinite on the data.
        QuantizationError: if there is no data for a precision that needs it, or an operator, a weight or a bias has no
            such form.
    """
    from edgecnn.export.format_descriptor import WriteOptions
    from edgecnn.exporting.precision_plan import PlanInputs

    unknown = [p for p in precisions if p not in DESCRIPTORS]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is no precision", hint=f"one of: {', '.join(DESCRIPTORS)}")
    given = PlanInputs(
        graph=graph,
        options=WriteOptions(version=__version__, io=io, opset=opset),
        golden_inputs=golden_inputs,
        recipe=recipe,
        data=data,
        observed=_observed(graph, precisions, data, recipe, io, preprocessing, progress),
    )
    return [DESCRIPTORS[precision].plan(given) for precision in precisions]


def _observed(
    graph: Graph,
    precisions: Sequence[str],
    data: Calibration | None,
    recipe: str,
    io: str,
    preprocessing: Preprocessing | None,
    progress: Progress | None,
) -> Observed | None:
    """The ranges of the model's values, where a precision needs them and there is data."""
    calibrated = [p for p in precisions if p in CALIBRATED]
    if data is None or not calibrated:
        return None
    takes_bytes = preprocessing if io == "uint8" else None
    without = [p for p in calibrated if io not in DESCRIPTORS[p].io]
    if takes_bytes is not None and without:
        raise UsageError(f"{without[0]} takes no bytes", hint=f"--io float32, or {' or '.join(WITH_IO)} alone")
    from edgecnn.quantize.calibrated import observe_graph

    return observe_graph(graph, data, recipe, bytes_of=takes_bytes, progress=progress)
