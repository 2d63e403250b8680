"""The pytest fixture ``edgecnn_parity``. Pytest loads it in any environment where edgecnn is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from edgecnn.parity.verdict import CheckReport


@pytest.fixture
def edgecnn_parity(tmp_path: Path) -> Callable[..., CheckReport]:
    """Export a module and assert that its artifacts compute what it computes: ``edgecnn_parity(module, inputs)``.

    ``inputs`` is a tensor (samples, ...), or a tuple with one for each argument of ``forward``. ``limits``, ``labels``
    and ``targets`` are those of `edgecnn.testing.assert_parity`; other arguments, such as
    ``precisions=["fp32", "int8"], calibration=images``, go to `edgecnn.export_model`.
    """

    def check(
        module: Any,
        inputs: Any,
        *,
        labels: Any = None,
        limits: Mapping[str, Any] | None = None,
        targets: list[str] | None = None,
        **export: Any,
    ) -> CheckReport:
        __tracebackhide__ = True
        from edgecnn import export_model
        from edgecnn.testing import assert_parity

        bundle = export_model(module, inputs, tmp_path / "bundle", force=True, **export)
        return assert_parity(module, bundle, inputs, labels=labels, limits=limits, targets=targets)

    return check
