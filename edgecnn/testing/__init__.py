"""Assertions for the tests of your own project: exported artifacts compute what the module computes.

    from edgecnn.testing import assert_parity

    def test_export():
        assert_parity(Net(), "build/net", inputs)

With pytest the fixture ``edgecnn_parity`` exports the module first; see `edgecnn.testing.pytest_plugin`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.bundle import Bundle, load_bundle
from edgecnn.checking.check import check_inputs
from edgecnn.parity.limits import Limits
from edgecnn.parity.verdict import CheckReport, Unjudged, Verdict
from edgecnn.types import Array

if TYPE_CHECKING:
    import torch

_SHOWN = 3


def assert_parity(
    module: torch.nn.Module | torch.export.ExportedProgram,
    bundle: Bundle | str | Path,
    inputs: Any = None,
    *,
    labels: Any = None,
    limits: Limits | Mapping[str, Any] | None = None,
    targets: Sequence[str] | None = None,
    time_limit: float | None = None,
) -> CheckReport:
    """Assert that every artifact of a bundle computes what the module computes, by the rules of `edgecnn check`.

    Args:
        module: The reference, run in eval mode.
        bundle: A bundle, or its folder.
        inputs: A tensor or array (samples, ...), or one for each input of the model, as the module takes them. By
            default the bundle's golden inputs, on which int8 artifacts are also compared with exact integers.
        labels: The true classes of the inputs, (samples,), to judge accuracy.
        limits: Limits that replace the defaults or add to them: ``{"relative_error": 1e-4, "int8": {"lsb_max": 1}}``.
        targets: Where to run; by default the runtimes installed here.
        time_limit: Seconds for one answer of a runtime.

    Returns:
        The measurements.

    Raises:
        AssertionError: names the artifact that is wrong, the target, the error, the samples, and the layer and likely
            cause if they can be located.
        EdgecnnError: if the check cannot run: no such bundle, inputs that do not fit, a limit of an unknown name.
    """
    __tracebackhide__ = True
    from edgecnn.capture.reference import torch_reference

    loaded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    report = check_inputs(
        loaded,
        None if inputs is None else _arrays(inputs),
        torch_reference(module, batch_resizable=loaded.manifest.batch_resizable),
        labels=None if labels is None else _array(labels).astype(np.int64),
        targets=targets,
        limits=limits if isinstance(limits, Limits) else Limits.of(limits or {}, where="limits"),
        time_limit=time_limit,
    )
    if not report.passed:
        raise AssertionError(explain(report, loaded.manifest.name))
    return report


def explain(report: CheckReport, name: str) -> str:
    """The text of a failed assertion: what failed and why, then what passed."""
    failed = [v for v in report.verdicts if not v.passed]
    head = f"{name}: {len(failed)} of {len(report.verdicts)} verdicts failed"
    if report.unjudged:
        head += f", {len(report.unjudged)} could not be judged"
    blocks = [head, *map(_failure, failed), *map(_not_judged, report.unjudged)]
    passed = [f"  passed  {_artifact_and_target(v)}: {v.metric} {v.value:.3g}" for v in report.verdicts if v.passed]
    return "\n".join([*blocks, *passed])


def _failure(v: Verdict) -> str:
    share = f"{v.relative_error:.2g} of the range"
    lines = [
        f"  FAILED  {_artifact_and_target(v)}, {v.samples_from}, output {v.output}",
        *(f"          {reason}" for reason in v.reason.split("; ")),
        f"          max error {v.max_abs_error:.3g} ({share}), RMSE {v.rmse:.3g}, cosine {v.cosine:.6f}",
        *([f"          first wrong layer: {v.layer}"] if v.layer else []),
        *([f"          likely cause: {v.cause}"] if v.cause else []),
    ]
    worst = [
        f"no. {w.sample}" + (f" (error {w.error:.2g})" if w.got is None else f" (class {w.got}, expected {w.expected})")
        for w in v.worst_samples[:_SHOWN]
    ]
    return "\n".join([*lines, *([f"          worst samples: {', '.join(worst)}"] if worst else [])])


def _not_judged(u: Unjudged) -> str:
    what = f"{u.artifact} on {u.target}" if u.artifact else u.target
    lines = [u.error.message, *u.error.lines()]
    return "\n".join([f"  NOT JUDGED  {what}".rstrip(), *(f"          {line}" for line in lines)])


def _artifact_and_target(v: Verdict) -> str:
    return f"{v.artifact} on {v.target} ({v.runtime} {v.runtime_version})"


def _arrays(inputs: Any) -> list[Array]:
    several = isinstance(inputs, list | tuple)
    return [_array(a) for a in inputs] if several else [_array(inputs)]


def _array(value: Any) -> Array:
    """A tensor or array, floats as float32."""
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    return array.astype(np.float32) if array.dtype.kind == "f" else array
