"""One check of a bundle: judge what artifacts compute, inspect their files, and locate failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgecnn.parity import bundle_check as parity
from edgecnn.parity.judge import NO_LIMITS

if TYPE_CHECKING:
    from edgecnn.bundle import Bundle
    from edgecnn.data.dataset import Dataset
    from edgecnn.parity.baseline import Baseline
    from edgecnn.parity.limits import Limits
    from edgecnn.parity.sample_sets import Reference
    from edgecnn.parity.verdict import CheckReport
    from edgecnn.targets.target import Target
    from edgecnn.types import Array, Progress


def check(
    bundle: Bundle,
    judge: Callable[[parity.Inspect], CheckReport],
    *,
    targets: Sequence[Target | str] | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
    locating: bool | None = None,
) -> CheckReport:
    """Judge a bundle, inspect its files, and locate what failed.

    Args:
        bundle: The bundle.
        judge: Makes the report, given a function that counts how an artifact's file differs from its program.
        targets: The targets that ``judge`` runs on; those that are objects are used again to locate failures.
        time_limit: Seconds for one answer of a runtime; None for 60, on emulated boards 600.
        progress: Receives what is being located.
        locating: What to locate: None for failures only, True for every artifact, False for nothing. Without
            failures, None takes no time.

    Raises:
        EdgecnnError: as ``judge`` does. What cannot be located is in the report's notes.
    """
    from edgecnn.locate.failures import locate_failures
    from edgecnn.locate.file_differences import file_differences

    report = judge(file_differences(bundle))
    if locating is False:
        return report
    known = [target for target in targets or () if not isinstance(target, str)]
    return locate_failures(
        bundle, report, everything=bool(locating), targets=known, time_limit=time_limit, progress=progress
    )


def check_bundle(
    bundle: Bundle,
    *,
    targets: Sequence[Target | str] | None = None,
    data: Dataset | None = None,
    reference: Reference | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
    limits: Limits = NO_LIMITS,
    baseline: Baseline | None = None,
    locating: bool | None = None,
) -> CheckReport:
    """Check a bundle as ``edgecnn check`` does: on its golden inputs, and on a data set if there is one.

    Args:
        bundle: The bundle.
        targets: Where to run: names such as ``litert@pi4``, or targets. None for the runtimes installed here.
        data: A data set that fits the model's one input.
        reference: The torch model, with which outputs on ``data`` are compared: one array per input in, one per output
            out. None for the bundle's own first fp32 artifact.
        time_limit: Seconds for one answer of a runtime; None for 60, on emulated boards 600.
        progress: Receives each batch, from several threads.
        limits: Limits that replace the defaults or add to them.
        baseline: An earlier check; whatever is worse now fails.
        locating: Find the layer and the likely cause: None of failures, True of every artifact, False of none.

    Returns:
        The verdicts, what could not be judged, and where failures come from.

    Raises:
        BundleError: if a file of the bundle has changed.
        DataError: if the data does not fit the model.
        UsageError: if a target's name is wrong, or the bundle has nothing for it, or for a limit or the baseline.
        TargetError: if no targets are given and no runtime here runs an artifact.
    """

    def judge(inspect: parity.Inspect) -> CheckReport:
        return parity.check_bundle(
            bundle,
            targets=targets,
            data=data,
            reference=reference,
            time_limit=time_limit,
            progress=progress,
            limits=limits,
            baseline=baseline,
            inspect=inspect,
        )

    return check(bundle, judge, targets=targets, time_limit=time_limit, progress=progress, locating=locating)


def check_inputs(
    bundle: Bundle,
    inputs: Sequence[Array] | None,
    reference: Reference,
    *,
    labels: Array | None = None,
    targets: Sequence[Target | str] | None = None,
    limits: Limits = NO_LIMITS,
    time_limit: float | None = None,
    locating: bool | None = None,
) -> CheckReport:
    """Check a bundle on arrays, or on its golden inputs, against a reference that runs now.

    Args:
        bundle: The bundle.
        inputs: One array (samples, ...) per input; None for the golden inputs.
        reference: One array per input in, one per output out.
        labels: The true classes, (samples,), if they are known.
        targets: As `check_bundle`.
        limits: As `check_bundle`.
        time_limit: As `check_bundle`.
        locating: As `check_bundle`.

    Raises:
        DataError: if the arrays do not fit the model.
        EdgecnnError: as `check_bundle`.
    """

    def judge(inspect: parity.Inspect) -> CheckReport:
        return parity.check_inputs(
            bundle,
            inputs,
            reference,
            labels=labels,
            targets=targets,
            limits=limits,
            time_limit=time_limit,
            inspect=inspect,
        )

    return check(bundle, judge, targets=targets, time_limit=time_limit, locating=locating)
