"""The options of an export, declared once: ``edgecnn export``, ``edgecnn.toml`` and Python take them from here.

Imports no numpy, so that ``--help`` stays light.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from edgecnn.errors import QuantizationError, UsageError
from edgecnn.export.formats import FORMATS, PRECISIONS, check_choice, check_offered, formats_with
from edgecnn.exporting.precisions import BY_RECIPE, CALIBRATED, IO, WITH_IO

DEFAULT_OPSET = 17
DEFAULT_CALIBRATION_SAMPLES = 256
DEFAULT_RECIPE = "int8"
C_ARRAY_SOURCE = ("tflite", "int8")
"""Format and precision of the file that a C array holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionInfo:
    """What is known of an export option besides its name, type and default.

    Attributes:
        help: One line for ``edgecnn export --help``.
        choices: The values it can have, or its items if it is a tuple; empty for any.
        formats: It changes files of these formats only; empty for all.
        precisions: It changes files of these precisions only; empty for all.
    """

    help: str
    choices: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()


def _option(default: Any, text: str, **info: tuple[str, ...]) -> Any:
    return field(default=default, metadata={"info": OptionInfo(help=text, **info)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How a model is exported.

    The command line has each field as an option, ``edgecnn.toml`` as a key of ``[export]``, and
    :func:`edgecnn.export_model` as an argument, all with these names, types and defaults. Whole numbers count from 1.

    Attributes:
        formats: Formats to write.
        precisions: Precisions to write each format in.
        recipe: How int8 is made: a built-in recipe, or the path of a TOML file. None for the recipe ``int8``.
        calibration: ``random`` calibrates with random inputs, which tries the mechanics only. None for the data that
            is given besides these options.
        calibration_samples: Most samples to calibrate with; None for 256.
        io: Type of the inputs and outputs of int8 files.
        c_array: Write the int8 TFLite file as C source too.
        opset: ONNX opset; None for 17.

    Raises:
        UsageError: if a value is none of the choices, or a number is less than 1.
    """

    formats: tuple[str, ...] = _option(FORMATS, f"Of {','.join(FORMATS)}.  [default: all]", choices=FORMATS)
    precisions: tuple[str, ...] = _option(("fp32",), f"Of {','.join(PRECISIONS)}.  [default: fp32]", choices=PRECISIONS)
    recipe: str | None = _option(
        None,
        "int8, int8-portable, int8-uint8-weights, int8-7bit, int8-per-channel, or a TOML file."
        f"  [default: {DEFAULT_RECIPE}]",
        precisions=BY_RECIPE,
    )
    calibration: str | None = _option(
        None,
        "Calibrate without data: to try the mechanics only.",
        choices=("random",),
        precisions=CALIBRATED,
    )
    calibration_samples: int | None = _option(
        None, f"Samples for int8 ranges.  [default: {DEFAULT_CALIBRATION_SAMPLES}]", precisions=CALIBRATED
    )
    io: str = _option(
        "float32",
        "Inputs and outputs of int8 files; uint8 takes the raw image's bytes.  [default: float32]",
        choices=IO,
        precisions=WITH_IO,
    )
    c_array: bool = _option(
        False,
        "Write the int8 TFLite file as C source too, for microcontrollers.",
        formats=C_ARRAY_SOURCE[:1],
        precisions=C_ARRAY_SOURCE[1:],
    )
    opset: int | None = _option(
        None,
        f"ONNX opset.  [default: {DEFAULT_OPSET}]",
        formats=tuple(row.name for row in formats_with("opset")),
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value, choices = getattr(self, option.name), option_info(option.name).choices
            if isinstance(option.default, tuple):
                object.__setattr__(self, option.name, check_choice(option.name, value, choices))
            elif choices and value is not None and value not in choices:
                raise UsageError(f"{option.name} {value!r} is not known", hint=f"one of: {', '.join(choices)}")
            elif isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise UsageError(f"{option.name} {value} is not possible", hint="a whole number from 1 on")


def option_info(name: str) -> OptionInfo:
    """The declaration of an option by its name."""
    return _INFO[name]


_INFO: Mapping[str, OptionInfo] = MappingProxyType({f.name: f.metadata["info"] for f in fields(ExportOptions)})

Spelling = Callable[[str, Sequence[str]], str]
"""How a user writes an option: its name, and the values to give it, or none to name it only."""


def in_python(name: str, values: Sequence[str] = ()) -> str:
    """An option as an argument of :func:`edgecnn.export_model`."""
    return f"{name}={tuple(values)!r}" if values else name


def on_command_line(name: str, values: Sequence[str] = ()) -> str:
    """An option of ``edgecnn export``."""
    option = f"--{name.replace('_', '-')}"
    return f"{option} {','.join(values)}" if values else option


def in_toml(name: str, values: Sequence[str] = ()) -> str:
    """A key of ``edgecnn.toml``."""
    items = ", ".join(f'"{value}"' for value in values)
    return f"{name} = [{items}]" if values else name


def option_has_effect(name: str, formats: Sequence[str]) -> bool:
    """Whether an option changes files of any of these formats."""
    needed = option_info(name).formats
    return not needed or bool(set(needed) & set(formats))


def refuse_without_effect(options: ExportOptions, *, with_data: bool, spelling: Spelling = in_python) -> None:
    """Refuse options that change none of the files that are asked for.

    Args:
        options: What is asked for.
        with_data: Whether there is a data set to calibrate with.
        spelling: How the user writes an option.

    Raises:
        UsageError: naming the options.
    """
    without: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for option in fields(options):
        if getattr(options, option.name) == option.default:
            continue
        info = option_info(option.name)
        for key, needed in (("formats", info.formats), ("precisions", info.precisions)):
            if needed and not set(needed) & set(getattr(options, key)):
                without.setdefault((key, needed), []).append(option.name)
    for (key, needed), names in without.items():
        raise UsageError(
            f"{', '.join(spelling(name, ()) for name in names)} without {' or '.join(needed)} has no effect",
            where=spelling(key, getattr(options, key)),
            why="no file that is asked for would differ",
            hint=f"{spelling(key, (*getattr(options, key), needed[0]))}, or leave it out",
        )
    if with_data and options.calibration is not None:
        raise UsageError(
            f"{spelling('calibration', ())} and {spelling('data', ())} exclude each other", hint="one of the two"
        )


def refuse_impossible(options: ExportOptions, *, calibrated: bool) -> None:
    """Refuse, before any work, precisions that a format does not offer or that lack calibration data.

    Args:
        options: What is asked for.
        calibrated: Whether there is anything to calibrate with.

    Raises:
        UsageError: if a format does not offer a precision.
        QuantizationError: if a precision needs calibration data and there is none.
    """
    for form in options.formats:
        for precision in options.precisions:
            check_offered(form, precision)
    lacking = [p for p in options.precisions if p in CALIBRATED]
    if lacking and not calibrated:
        raise QuantizationError(
            f"{lacking[0]} needs calibration data: the ranges of the model's values are taken from it",
            hint="--data DATA (in Python calibration=...), or calibration 'random' to try the mechanics only",
        )
