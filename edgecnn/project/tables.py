"""The tables of ``edgecnn.toml``: their keys and types, before any key is interpreted."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from edgecnn.exporting.export_options import ExportOptions, option_info

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Numbers = float | tuple[float, ...]


class DataTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[data]``: where golden inputs, int8 ranges and the samples of the check come from."""

    source: str | None = None
    split: Literal["train", "test", "all"] | None = None
    scale: float | None = None
    mean: Numbers | None = None
    std: Numbers | None = None


def _export_key(name: str) -> tuple[str, Any, None]:
    kind, choices = get_type_hints(ExportOptions)[name], option_info(name).choices
    if kind == int | None:
        kind = Count
    elif choices and kind != tuple[str, ...]:
        kind = Literal[choices]
    return name, kind | None, None


ExportTable: type[msgspec.Struct] = msgspec.defstruct(
    "ExportTable",
    [("directory", str | None, None), *(_export_key(option.name) for option in fields(ExportOptions))],
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    module=__name__,
)
"""``[export]``: a key for each export option, and ``directory``, the folder that all bundles go into."""


class BenchTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[bench]``: the options of ``edgecnn bench``, and ``targets`` to measure on fewer targets than are checked."""

    targets: tuple[str, ...] | None = None
    threads: tuple[Count, ...] | None = None
    batches: tuple[Count, ...] | None = None
    processes: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None
    time: Positive | None = None
    warmup: Positive | None = None
    max_slowdown: Positive | None = None
    max_instructions: Positive | None = None
    any_host: bool | None = None
    strict: bool | None = None


class BaselinesTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[baselines]``: folders of the files NAME.check.json and NAME.bench.json that models are compared with."""

    check: str | None = None
    bench: str | None = None


class _CommonTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys that the file sets for all models and a model's table can override."""

    targets: tuple[str, ...] | None = None
    time_limit: Positive | None = None
    data: str | dict[str, Any] = {}
    export: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    baselines: dict[str, Any] = {}
    bench: dict[str, Any] | None = None
    budget: dict[str, Any] = {}


class ModelTable(_CommonTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[model.NAME]``: the model, and its overrides of the common keys."""

    model: str | None = None
    weights: str | None = None
    arguments: dict[str, Any] = {}
    input_shape: str | tuple[str, ...] | None = None


class ProjectTable(_CommonTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file: models, and common keys that hold where a model does not override them."""

    model: dict[str, dict[str, Any]] = {}
