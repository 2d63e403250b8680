"""A description of what a project would run, for ``edgecnn ci --dry-run``. Nothing runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from edgecnn.project.model_plan import ModelPlan
from edgecnn.targets.config import Config, load_config
from edgecnn.targets.names import LOCAL, SSH, parse_target
from edgecnn.targets.target import unbuilt

Row = tuple[str, str, str, str]
"""Model, step, item, and value."""


def describe(plans: Sequence[ModelPlan], root: Path) -> list[Row]:
    """Everything that would run, in order.

    Args:
        plans: The models.
        root: The folder that shown paths are relative to.

    Raises:
        UsageError: if there is no such host.
    """
    config = load_config()
    return [(plan.name, *row) for plan in plans for row in _model(plan, root, config)]


def _model(plan: ModelPlan, root: Path, config: Config) -> Iterator[tuple[str, str, str]]:
    request = plan.request
    yield "export", "model", request.model
    if request.weights is not None:
        yield "export", "weights", _path(request.weights, root, needed=True)
    for key, value in request.arguments.items():
        yield "export", "argument", f"{key} = {value!r}"
    for shape in request.shapes:
        yield "export", "input shape", "x".join(map(str, shape))
    if request.data is not None:
        how = {key: getattr(request.data, key) for key in ("split", "scale", "mean", "std")}
        more = [f"{key} {value}" for key, value in how.items() if value is not None]
        yield "export", "data", ", ".join([request.data.spec, *more])
    for option in fields(request.options):
        value = getattr(request.options, option.name)
        if value != option.default or isinstance(value, tuple):
            yield "export", option.name.replace("_", " "), _shown(value)
    yield "export", "to", _path(plan.directory, root)
    yield from _check(plan, root, config)
    yield from _bench(plan, root, config)


def _check(plan: ModelPlan, root: Path, config: Config) -> Iterator[tuple[str, str, str]]:
    data = plan.request.data
    yield "check", "samples", "golden inputs" + ("" if data is None else f", {data.spec} against torch")
    yield from (("check", "target", place) for place in _places(plan.targets, config))
    if plan.time_limit is not None:
        yield "check", "time limit", f"{plan.time_limit:g} s"
    for (precision, metric), limit in plan.limits.values.items():
        yield "check", "limit", f"{precision + ': ' if precision else ''}{metric} {limit:g}"
    if plan.limits.values or plan.limits.undecided != "estimate":
        yield "check", "undecided", plan.limits.undecided
    if plan.baseline is not None:
        yield "check", "baseline", _path(plan.baseline, root, needed=True)


def _bench(plan: ModelPlan, root: Path, config: Config) -> Iterator[tuple[str, str, str]]:
    gates = plan.gates
    if gates.measures:
        places = _places(gates.targets or plan.targets, config)
        yield from (("bench", "target", place) for place in places)
        for key, value in msgspec.structs.asdict(gates.options).items():
            if value is not None and key != "targets":
                yield "bench", key.replace("_", " "), _shown(value)
    for budget in gates.budgets:
        yield "bench", "budget", f"{budget.item} {budget.limit:g} on {budget.targets}"
    if gates.baseline is not None:
        yield "bench", "baseline", _path(gates.baseline, root, needed=True)


def _places(targets: Sequence[str] | None, config: Config) -> Iterator[str]:
    """Targets, each with a description of its host."""
    if targets is None:
        yield "the runtimes installed here"
    for text in targets or ():
        name = parse_target(text, hosts=config.hosts)
        if name.host.startswith(SSH):
            yield f"{name} (over ssh)"
            continue
        fitting = [e for h, e in config.hosts.items() if fnmatchcase(h, name.host)] if name.many_hosts else []
        for entry in fitting or [config.host(name.host)]:
            why = unbuilt(entry)
            about = entry.place if entry.name == LOCAL else f"{entry.kind}: {entry.place}"
            whole = str(name).removesuffix(name.host) + entry.name
            yield f"{whole} ({about}{'; ' + why if why else ''})"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _path(path: Path, root: Path, *, needed: bool = False) -> str:
    shown = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    return f"{shown} (missing)" if needed and not path.exists() else shown
