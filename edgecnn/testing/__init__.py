"""For the tests of your own project: does what was exported still say what the module says?

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
from edgecnn.locate.file_differences import file_differences
from edgecnn.parity.check import CheckReport, Verdict, check_inputs
from edgecnn.parity.limits import Limits
from edgecnn.parity.verdict import Unjudged
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
    """Assert that every artifact of a bundle says what the module says, as `edgecnn check` judges that.

    Args:
        module: The reference, run in eval mode.
        bundle: A bundle, or its folder.
        inputs: A tensor or array (samples, ...), or one for each input of the model, as the module takes them. By
            default the bundle's golden inputs, to which int8 artifacts are compared exactly too.
        labels: The true classes of the inputs, (samples,), if accuracy is to be judged.
        limits: Limits besides the defaults or instead of them: ``{"relative_error": 1e-4, "int8": {"lsb_max": 1}}``.
        targets: Where to run; by default the runtimes installed beside edgecnn.
        time_limit: Seconds for one answer of a runtime.

    Returns:
        What was measured.

    Raises:
        AssertionError: saying which artifact is wrong, where, by how much, and on which samples.
        EdgecnnError: if it cannot be found out: no such bundle, inputs that do not fit, a limit of an unknown name.
    """
    __tracebackhide__ = True
    import torch

    from edgecnn.capture.exported_program import program_batch
    from edgecnn.capture.reference import TorchReference

    loaded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    if isinstance(module, torch.export.ExportedProgram):
        batch = program_batch(module)
    else:
        batch = None if loaded.manifest.batch_resizable else 1
    report = check_inputs(
        loaded,
        None if inputs is None else _arrays(inputs),
        TorchReference(module, batch),
        labels=None if labels is None else _array(labels).astype(np.int64),
        targets=targets,
        limits=limits if isinstance(limits, Limits) else Limits.of(limits or {}, where="limits"),
        time_limit=time_limit,
        inspect=file_differences(loaded),
    )
    if not report.passed:
        raise AssertionError(explain(report, loaded.manifest.name))
    return report


def explain(report: CheckReport, name: str) -> str:
    """A report that has not passed, for a person who reads a test's failure."""
    failed = [v for v in report.verdicts if not v.passed]
    head = f"{name}: {len(failed)} of {len(report.verdicts)} verdicts failed"
    if report.unjudged:
        head += f", {len(report.unjudged)} could not be judged"
    blocks = [head, *map(_failure, failed), *map(_loss, report.unjudged)]
    passed = [f"  passed  {_named(v)}: {v.metric} {v.value:.3g}" for v in report.verdicts if v.passed]
    return "\n".join([*blocks, *passed])


def _failure(v: Verdict) -> str:
    share = f"{v.relative_error:.2g} of the range"
    lines = [
        f"  FAILED  {_named(v)}, {v.samples_from}, output {v.output}",
        *(f"          {reason}" for reason in v.reason.split("; ")),
        f"          max error {v.max_abs_error:.3g} ({share}), RMSE {v.rmse:.3g}, cosine {v.cosine:.6f}",
    ]
    worst = [
        f"no. {w.sample}" + (f" (error {w.error:.2g})" if w.got is None else f" (class {w.got}, expected {w.expected})")
        for w in v.worst_samples[:_SHOWN]
    ]
    return "\n".join([*lines, *([f"          worst samples: {', '.join(worst)}"] if worst else [])])


def _loss(u: Unjudged) -> str:
    what = f"{u.artifact} on {u.target}" if u.artifact else u.target
    lines = [u.error.message, *u.error.lines()]
    return "\n".join([f"  NOT JUDGED  {what}".rstrip(), *(f"          {line}" for line in lines)])


def _named(v: Verdict) -> str:
    return f"{v.artifact} on {v.target} ({v.runtime} {v.runtime_version})"


def _arrays(inputs: Any) -> list[Array]:
    several = isinstance(inputs, list | tuple)
    return [_array(a) for a in inputs] if several else [_array(inputs)]


def _array(value: Any) -> Array:
    """A tensor or array, floats as float32."""
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    return array.astype(np.float32) if array.dtype.kind == "f" else array
