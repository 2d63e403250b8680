"""Read ``edgecnn.toml``: every rule of it, each broken one with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgecnn.bench.budget import ITEMS, ProjectBudget, check_limit
from edgecnn.errors import UsageError, near
from edgecnn.export.formats import FORMATS, PRECISIONS, check_choice
from edgecnn.exporting.request import DataChoice, ExportRequest, refuse_idle_options
from edgecnn.parity.limits import Limits
from edgecnn.project.project import Gates, ModelPlan, Project
from edgecnn.project.tables import BaselinesTable, BenchTable, DataTable, ExportTable, ModelTable, ProjectTable
from edgecnn.tomlfile import Lines, parse, read_table, read_text

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
At = tuple[str, ...]


def load_project(path: Path) -> Project:
    """Read and check an ``edgecnn.toml``. Nothing that it names is opened.

    Raises:
        UsageError: The file cannot be read, or says what is not known or has no meaning; with the line.
    """
    text = read_text(path)
    return parse_project(path, text)


def parse_project(path: Path, text: str) -> Project:
    """The same from the file's text.

    Raises:
        UsageError: As `load_project`.
    """
    lines = Lines(path, text)
    tables = parse(path, text)
    models = tables.get("model", {})
    if not isinstance(models, dict) or not all(isinstance(table, dict) for table in models.values()):
        hint = '[model.my_net]\nmodel = "my_net.py:Net"'
        raise UsageError("every model is a table with a name", where=lines.where("model"), hint=hint)
    whole = read_table((), path.name, tables, ProjectTable, lines)
    reader = _Reader(path.resolve().parent, lines, whole)
    plans = tuple(reader.plan(name, table) for name, table in whole.model.items())
    return Project(path=path, models=plans, budgets=reader.budgets((), whole.budget))


class _Reader:
    def __init__(self, root: Path, lines: Lines, whole: ProjectTable) -> None:
        self._root, self._lines, self._whole = root, lines, whole
        # What holds for every model is checked by itself, so that mistakes are found where they stand.
        self.budgets((), whole.budget)
        self._targets(("targets",), whole.targets)
        self._limits((), whole.limits)
        for key, kind in (("data", DataTable), ("export", ExportTable), ("baselines", BaselinesTable)):
            self._section((), key, getattr(whole, key), kind)
        self._section((), "bench", whole.bench or {}, BenchTable)

    def plan(self, name: str, table: dict[str, Any]) -> ModelPlan:
        """What is to be done with a model."""
        from edgecnn.exporting.export_model import check_name

        at, whole = ("model", name), self._whole
        self._located(at, lambda: check_name(name))
        model = read_table(at, f"model {name}", table, ModelTable, self._lines)
        baselines = self._merged(at, "baselines", whole.baselines, model.baselines, BaselinesTable)
        targets = self._targets((*at, "targets"), model.targets) or whole.targets
        check = None if baselines.check is None else self._root / baselines.check / f"{name}.check.json"
        bench = None if baselines.bench is None else self._root / baselines.bench / f"{name}.bench.json"
        export = self._merged(at, "export", whole.export, model.export, ExportTable)
        return ModelPlan(
            name=name,
            line=self._lines.number(*at),
            request=self._request(at, name, model, export),
            directory=self._root / (export.directory or "build") / name,
            targets=targets,
            time_limit=model.time_limit or whole.time_limit,
            limits=self._limits((), whole.limits).for_all().updated(self._limits(at, model.limits)),
            baseline=check,
            gates=self._gates(at, model, bench),
        )

    def _request(self, at: At, name: str, model: ModelTable, export: ExportTable) -> ExportRequest:
        if model.model is None:
            raise UsageError(
                f"model {name} does not say what it is",
                where=self._lines.where(*at),
                hint='model = "my_net.py:Net", a zoo name, package.module:callable, or a .pt2 file',
            )
        formats, precisions = self._choices(at, export)
        recipe = export.recipe
        options = {key: getattr(export, key) for key in ("calibration", "calibration_samples", "opset")}
        request = ExportRequest(
            model=model.model,
            weights=None if model.weights is None else self._root / model.weights,
            arguments=model.arguments,
            shapes=self._shapes(at, model),
            data=self._data(at, model),
            folder=self._root,
            name=name,
            formats=formats,
            precisions=precisions,
            recipe=str(self._root / recipe) if recipe is not None and recipe.endswith(".toml") else recipe,
            io=export.io or "float32",
            c_array=bool(export.c_array),
            **options,
        )
        self._located((*at, "export"), lambda: refuse_idle_options(request, spell=str), other=("export",))
        return request

    def _choices(self, at: At, export: ExportTable) -> tuple[tuple[str, ...], tuple[str, ...]]:
        def chosen(key: str, given: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
            other = ("export", key)
            return self._located((*at, *other), lambda: check_choice(key, given, known), other=other)

        formats = chosen("formats", export.formats or FORMATS, FORMATS)
        return formats, chosen("precisions", export.precisions or ("fp32",), PRECISIONS)

    def _shapes(self, at: At, model: ModelTable) -> tuple[tuple[int, ...], ...]:
        from edgecnn.loading import parse_shape

        given = model.input_shape or ()
        texts = [given] if isinstance(given, str) else list(given)
        return tuple(self._located((*at, "input_shape"), lambda t=text: parse_shape(t)) for text in texts)  # type: ignore[misc]

    def _data(self, at: At, model: ModelTable) -> DataChoice | None:
        data = self._merged(at, "data", _named(self._whole.data), _named(model.data), DataTable)
        if data.source is None:
            idle = [key for key, value in msgspec.structs.asdict(data).items() if value is not None]
            if idle:
                where = self._lines.where(*(*at, "data") if model.data else ("data",), idle[0])
                raise UsageError(f"data: {', '.join(idle)} without a source", where=where, hint='source = "folder:DIR"')
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
        """What a table ``budget`` says."""
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
        """A table of a model over the one of all models, key by key."""
        self._section(at, key, own, kind)
        return msgspec.convert({**common, **own}, kind, strict=True)

    def _section(self, at: At, key: str, table: Any, kind: type[S]) -> S:
        named = _named(table) if key == "data" else table
        return read_table((*at, key), ".".join((*at, key)), named, kind, self._lines)

    def _located(self, at: At, read: Callable[[], T], *, other: At = ()) -> T:
        """What ``read`` gives; its error gets the line."""
        try:
            return read()
        except UsageError as error:
            exact = self._lines.number(*at) != self._lines.number(*at[:2])
            error.where = self._lines.where(*at) if exact or not other else self._lines.where(*other)
            raise


def _named(data: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """``data = "digits"`` is short for ``data = { source = "digits" }``."""
    return {"source": data} if isinstance(data, str) else data


def _numbers(value: float | tuple[float, ...] | None) -> tuple[float, ...] | None:
    return (value,) if isinstance(value, int | float) else value
