"""Read and check ``edgecnn.toml``; every mistake is reported with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgecnn.bench.budget import ITEMS, ProjectBudget, check_limit
from edgecnn.errors import UsageError, near
from edgecnn.export.formats import check_choice
from edgecnn.exporting.export_options import ExportOptions, in_toml, option_info
from edgecnn.exporting.request import DataChoice, ExportRequest
from edgecnn.parity.limits import Limits
from edgecnn.project.model_plan import Gates, ModelPlan, Project, find_project
from edgecnn.project.tables import BaselinesTable, BenchTable, DataTable, ExportTable, ModelTable, ProjectTable
from edgecnn.tomlfile import Lines, parse, read_table, read_text

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
At = tuple[str, ...]


def load_project(path: Path) -> Project:
    """Read and check an ``edgecnn.toml``. Nothing that it names is opened.

    Raises:
        UsageError: if the file cannot be read, or has a mistake; with the line.
    """
    text = read_text(path)
    return parse_project(path, text)


def parse_project(path: Path, text: str) -> Project:
    """Read and check the text of an ``edgecnn.toml``.

    Raises:
        UsageError: if the file has a mistake; with the line.
    """
    lines = Lines(path, text)
    tables = parse(path, text)
    models = tables.get("model", {})
    if not isinstance(models, dict) or not all(isinstance(table, dict) for table in models.values()):
        hint = '[model.my_net]\nmodel = "my_net.py:Net"'
        raise UsageError("every model is a table with a name", where=lines.where("model"), hint=hint)
    whole = read_table((), path.name, tables, ProjectTable, lines)
    reader = _ProjectReader(path.resolve().parent, lines, whole)
    plans = tuple(reader.plan(name, table) for name, table in whole.model.items())
    return Project(path=path, models=plans, budgets=reader.budgets((), whole.budget))


def budgets_of(model: str, folder: Path | None = None) -> tuple[ProjectBudget, ...]:
    """The budgets that the nearest ``edgecnn.toml`` has for a model of this name; none without a file.

    Raises:
        UsageError: if the file has a mistake.
    """
    path = find_project(folder)
    if path is None:
        return ()
    project = load_project(path)
    return next((plan.gates.budgets for plan in project.models if plan.name == model), project.budgets)


class _ProjectReader:
    def __init__(self, root: Path, lines: Lines, whole: ProjectTable) -> None:
        self._root, self._lines, self._whole = root, lines, whole
        # Common tables are checked by themselves first, so that a mistake is reported in its own line.
        self.budgets((), whole.budget)
        self._targets(("targets",), whole.targets)
        self._limits((), whole.limits)
        for key, kind in (("data", DataTable), ("export", ExportTable), ("baselines", BaselinesTable)):
            self._section((), key, getattr(whole, key), kind)
        self._section((), "bench", whole.bench or {}, BenchTable)

    def plan(self, name: str, table: dict[str, Any]) -> ModelPlan:
        """The plan of one model."""
        from edgecnn.exporting.export_model import check_name

        at, whole = ("model", name), self._whole
        self._located(at, lambda: check_name(name))
        model = read_table(at, f"model {name}", table, ModelTable, self._lines)
        baselines = self._merged(at, "baselines", whole.baselines, model.baselines, BaselinesTable)
        targets = self._targets((*at, "targets"), model.targets) or whole.targets
        check = None if baselines.check is None else self._root / baselines.check / f"{name}.check.json"
        bench = None if baselines.bench is None else self._root / baselines.bench / f"{name}.bench.json"
        export = _given(self._merged(at, "export", whole.export, model.export, ExportTable))
        directory = export.pop("directory", "build")
        return ModelPlan(
            name=name,
            line=self._lines.number(*at),
            request=self._request(at, name, model, export),
            directory=self._root / directory / name,
            targets=targets,
            time_limit=model.time_limit or whole.time_limit,
            limits=self._limits((), whole.limits).for_all().updated(self._limits(at, model.limits)),
            baseline=check,
            gates=self._gates(at, model, bench),
        )

    def _request(self, at: At, name: str, model: ModelTable, export: Mapping[str, Any]) -> ExportRequest:
        if model.model is None:
            raise UsageError(
                f"model {name} does not say what it is",
                where=self._lines.where(*at),
                hint='model = "my_net.py:Net", a zoo name, package.module:callable, or a .pt2 file',
            )
        request = ExportRequest(
            model=model.model,
            weights=None if model.weights is None else self._root / model.weights,
            arguments=model.arguments,
            shapes=self._shapes(at, model),
            data=self._data(at, model),
            folder=self._root,
            name=name,
            options=self._options(at, export),
        )
        self._located((*at, "export"), lambda: request.check(in_toml), other=("export",))
        return request

    def _options(self, at: At, export: Mapping[str, Any]) -> ExportOptions:
        values = dict(export)
        for key in ("formats", "precisions"):
            if key in values:
                place, choices = ("export", key), option_info(key).choices
                self._located((*at, *place), lambda k=key, c=choices: check_choice(k, values[k], c), other=place)  # type: ignore[misc]
        recipe = values.get("recipe")
        if recipe is not None and recipe.endswith(".toml"):
            values["recipe"] = str(self._root / recipe)
        return ExportOptions(**values)

    def _shapes(self, at: At, model: ModelTable) -> tuple[tuple[int, ...], ...]:
        from edgecnn.loading import parse_shape

        given = model.input_shape or ()
        texts = [given] if isinstance(given, str) else list(given)
        return tuple(self._located((*at, "input_shape"), lambda t=text: parse_shape(t)) for text in texts)  # type: ignore[misc]

    def _data(self, at: At, model: ModelTable) -> DataChoice | None:
        data = self._merged(at, "data", _named(self._whole.data), _named(model.data), DataTable)
        if data.source is None:
            given = list(_given(data))
            if given:
                where = self._lines.where(*(*at, "data") if model.data else ("data",), given[0])
                raise UsageError(
                    f"data: {', '.join(given)} without a source", where=where, hint='source = "folder:DIR"'
                )
            return None
        return DataChoice(
            spec=data.source, split=data.split, scale=data.scale, mean=_numbers(data.mean), std=_numbers(data.std)
        )

    def _gates(self, at: At, model: ModelTable, baseline: Path | None) -> Gates:
        whole = self._whole
        options = self._merged(at, "bench", whole.bench or {}, model.bench or {}, BenchTable)
        self._targets((*at, "bench", "targets"), (model.bench or {}).get("targets"))
        self._targets(("bench", "targets"), (whole.bench or {}).get("targets"))
        if baseline is None:
            for key in ("max_slowdown", "max_instructions", "any_host"):
                if getattr(options, key) is not None:
                    where = self._lines.where(*at if key in (model.bench or {}) else (), "bench", key)
                    raise UsageError(
                        f"bench: {key} without a baseline", where=where, hint='[baselines]\nbench = "baselines"'
                    )
        common = {(b.targets, b.item): b for b in self.budgets((), whole.budget)}
        own = {(b.targets, b.item): b for b in self.budgets(at, model.budget)}
        return Gates(
            options=options,
            targets=options.targets,
            asked_for=baseline is not None or whole.bench is not None or model.bench is not None,
            baseline=baseline,
            budgets=tuple({**common, **own}.values()),
        )

    def budgets(self, at: At, table: Mapping[str, Any]) -> tuple[ProjectBudget, ...]:
        """The budgets of a table ``budget``."""
        return tuple(self._budgets((*at, "budget"), table))

    def _budgets(self, at: At, table: Mapping[str, Any]) -> Iterator[ProjectBudget]:
        for name, value in table.items():
            items = value if isinstance(value, dict) else {name: value}
            for item, limit in items.items():
                place = (*at, name, item) if isinstance(value, dict) else (*at, name)
                if item not in ITEMS:
                    where = self._lines.where(*place)
                    raise UsageError(f"a budget has no item {item!r}", where=where, hint=near(item, ITEMS))
                targets = name if isinstance(value, dict) else "*"
                number = self._located(place, lambda i=item, v=limit: check_limit(i, v))  # type: ignore[misc]
                yield ProjectBudget(targets=targets, item=item, limit=number)

    def _limits(self, at: At, table: Mapping[str, Any]) -> Limits:
        limits = Limits.of({})
        for key, value in table.items():
            if key == "undecided":
                continue
            for name in value if isinstance(value, dict) else [""]:
                one = {key: {name: value[name]} if name else value}
                place = (*at, "limits", key, *([name] if name else []))
                limits = limits.updated(self._located(place, lambda o=one: Limits.of(o)))  # type: ignore[misc]
        undecided = table.get("undecided", self._whole.limits.get("undecided", limits.undecided))
        return self._located((*at, "limits", "undecided"), lambda: replace(limits, undecided=undecided))

    def _targets(self, at: At, targets: tuple[str, ...] | None) -> tuple[str, ...] | None:
        from edgecnn.targets.names import parse_target

        if targets is not None and not targets:
            raise UsageError("targets is empty", where=self._lines.where(*at), hint='["litert", "onnxruntime@pi4"]')
        for target in targets or ():
            self._located(at, lambda t=target: parse_target(t))  # type: ignore[misc]
        return targets

    def _merged(self, at: At, key: str, common: Mapping[str, Any], own: Mapping[str, Any], kind: type[S]) -> S:
        """The common table, with the keys of a model's own table in place of its keys."""
        self._section(at, key, own, kind)
        return msgspec.convert({**common, **own}, kind, strict=True)

    def _section(self, at: At, key: str, table: Any, kind: type[S]) -> S:
        named = _named(table) if key == "data" else table
        return read_table((*at, key), ".".join((*at, key)), named, kind, self._lines)

    def _located(self, at: At, read: Callable[[], T], *, other: At = ()) -> T:
        """The result of ``read``; the line is added to its error."""
        try:
            return read()
        except UsageError as error:
            exact = self._lines.number(*at) != self._lines.number(*at[:2])
            error.where = self._lines.where(*at) if exact or not other else self._lines.where(*other)
            raise


def _named(data: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """``data = "digits"`` is short for ``data = { source = "digits" }``."""
    return {"source": data} if isinstance(data, str) else data


def _given(table: msgspec.Struct) -> dict[str, Any]:
    """The keys of a table that the file has, with their values."""
    return {key: value for key, value in msgspec.structs.asdict(table).items() if value is not None}


def _numbers(value: float | tuple[float, ...] | None) -> tuple[float, ...] | None:
    return (value,) if isinstance(value, int | float) else value
