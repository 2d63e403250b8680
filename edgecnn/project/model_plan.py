"""The contents of ``edgecnn.toml`` as plans: which models to export, check and measure, how, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecnn.bench.budget import ProjectBudget
from edgecnn.errors import UsageError, near
from edgecnn.exporting.request import ExportRequest
from edgecnn.parity.limits import Limits
from edgecnn.project.tables import BenchTable
from edgecnn.tomlfile import nearest

FILE = "edgecnn.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """How a model is measured, and what the results are held to.

    Attributes:
        options: The options of the measurement.
        targets: Where to measure; None for the targets of the check.
        asked_for: Whether the file has a table ``bench`` or a baseline: then everything is measured.
        baseline: The record that results are compared with.
        budgets: Upper limits of results.
    """

    options: BenchTable
    targets: tuple[str, ...] | None
    asked_for: bool
    baseline: Path | None
    budgets: tuple[ProjectBudget, ...]

    @property
    def measures(self) -> bool:
        """Whether anything must be measured on a target; sizes are known from the files."""
        return self.asked_for or any(budget.item != "size_kb" for budget in self.budgets)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """How to export, check and measure one model.

    Attributes:
        name: Its name, which is also the name of its bundle's folder and files.
        line: The line of its table in the file.
        request: What to export, and how.
        directory: The folder for the bundle.
        targets: Where to check it; None for the runtimes installed here.
        time_limit: Seconds for one answer of a runtime; None for the default.
        limits: Limits of the check that replace the defaults or add to them.
        baseline: The file of an earlier check to compare with.
        gates: How to measure it, and its budgets.
    """

    name: str
    line: int | None
    request: ExportRequest
    directory: Path
    targets: tuple[str, ...] | None
    time_limit: float | None
    limits: Limits
    baseline: Path | None
    gates: Gates


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """An ``edgecnn.toml`` and the plans of its models, in the file's order."""

    path: Path
    models: tuple[ModelPlan, ...]
    budgets: tuple[ProjectBudget, ...]

    def only(self, names: Sequence[str]) -> tuple[ModelPlan, ...]:
        """The models of these names, in the file's order; all models if there are no names.

        Raises:
            UsageError: if there is no such model.
        """
        known = [plan.name for plan in self.models]
        for name in names:
            if name not in known:
                raise UsageError(f"there is no model {name!r}", where=str(self.path), hint=near(name, known))
        return tuple(plan for plan in self.models if not names or plan.name in names)


def find_project(folder: Path | None = None) -> Path | None:
    """The nearest ``edgecnn.toml`` of the folder and its parents, up to one with ``.git``; None if there is none."""
    return nearest(FILE, folder)
