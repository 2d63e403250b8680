"""What `edgecnn check` does, in Python: what artifacts say is judged, and what their files hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgecnn.parity import check
from edgecnn.parity.judge import NO_LIMITS

if TYPE_CHECKING:
    from edgecnn.bundle import Bundle
    from edgecnn.data.dataset import Dataset
    from edgecnn.parity.baseline import Baseline
    from edgecnn.parity.limits import Limits
    from edgecnn.parity.sample_sets import Reference
    from edgecnn.parity.verdict import CheckReport
    from edgecnn.targets.target import Target
    from edgecnn.types import Progress


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
) -> CheckReport:
    """Run every artifact on its golden inputs, and on a data set if there is one, against the reference.

    An artifact that is not the file its export wrote is compared with its program, too. All else is as
    `edgecnn.parity.check.check_bundle` says, which has the arguments and errors.
    """
    from edgecnn.locate.file_differences import file_differences

    return check.check_bundle(
        bundle,
        targets=targets,
        data=data,
        reference=reference,
        time_limit=time_limit,
        progress=progress,
        limits=limits,
        baseline=baseline,
        inspect=file_differences(bundle),
    )
