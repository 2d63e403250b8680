"""``edgecnn.toml`` as a plan: which models are exported, checked and measured, how, and where."""

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
    """How a model is measured, and against what.

    Attributes:
        options: As the file has them.
        targets: Where; None for where it is checked.
        asked_for: Whether the file has a table ``bench`` or a baseline: then everything is measured.
        baseline: The record that results are compared with.
        budgets: What results may cost at most.
    """

    options: BenchTable
    targets: tuple[str, ...] | None
    asked_for: bool
    baseline: Path | None
    budgets: tuple[ProjectBudget, ...]

    @property
    def measures(self) -> bool:
        """Whether anything must run for it; sizes alone are known from the files."""
        return self.asked_for or any(budget.item != "size_kb" for budget in self.budgets)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """What is to be done with one model.

    Attributes:
        name: Its name, which its bundle's folder and files bear.
        line: Of its table in the file.
        request: How it is exported.
        directory: Where the bundle goes.
        targets: Where it is checked; None for the runtimes installed beside edgecnn.
        time_limit: Seconds for one answer of a runtime; None for the usual.
        limits: What the check demands besides or instead of the defaults.
        baseline: What the check is compared with.
        gates: How it is measured.
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
    """The file, and its models in their order."""

    path: Path
    models: tuple[ModelPlan, ...]
    budgets: tuple[ProjectBudget, ...]

    def only(self, names: Sequence[str]) -> tuple[ModelPlan, ...]:
        """The models of these names, in the file's order; all where none is given.

        Raises:
            UsageError: There is no such model.
        """
        known = [plan.name for plan in self.models]
        for name in names:
            if name not in known:
                raise UsageError(f"there is no model {name!r}", where=str(self.path), hint=near(name, known))
        return tuple(plan for plan in self.models if not names or plan.name in names)


def find_project(folder: Path | None = None) -> Path | None:
    """The nearest ``edgecnn.toml`` of the folder and its parents, up to one with ``.git``; None if there is none."""
    return nearest(FILE, folder)
