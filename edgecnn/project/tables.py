"""What ``edgecnn.toml`` can say: the tables as they stand in the file, without any meaning yet."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

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


class ExportTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[export]``: as the options of ``edgecnn export``; ``directory`` is where bundles go, each in a folder."""

    directory: str | None = None
    formats: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    recipe: str | None = None
    calibration: Literal["random"] | None = None
    calibration_samples: Count | None = None
    io: Literal["float32", "int8", "uint8"] | None = None
    c_array: bool | None = None
    opset: Count | None = None


class BenchTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[bench]``: as the options of ``edgecnn bench``; ``targets`` where not all are to be measured."""

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
    """``[baselines]``: folders that hold what each model is compared with, NAME.check.json and NAME.bench.json."""

    check: str | None = None
    bench: str | None = None


class _Shared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file says for all models, and a model's table differently for it."""

    targets: tuple[str, ...] | None = None
    time_limit: Positive | None = None
    data: str | dict[str, Any] = {}
    export: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    baselines: dict[str, Any] = {}
    bench: dict[str, Any] | None = None
    budget: dict[str, Any] = {}


class ModelTable(_Shared, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[model.NAME]``: the model, and tables with what is different for it."""

    model: str | None = None
    weights: str | None = None
    arguments: dict[str, Any] = {}
    input_shape: str | tuple[str, ...] | None = None


class ProjectTable(_Shared, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file: models, and what holds for each of them unless its own table says otherwise."""

    model: dict[str, dict[str, Any]] = {}
