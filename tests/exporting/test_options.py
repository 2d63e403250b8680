"""The command line, ``edgecnn.toml`` and Python have the same export options, and refuse the same combinations."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import click
import msgspec
import pytest

import edgecnn
from edgecnn.cli.export import export_command
from edgecnn.cli.shared_options import NameList, given_options
from edgecnn.errors import QuantizationError, UsageError
from edgecnn.exporting.export_options import (
    DEFAULT_OPSET,
    ExportOptions,
    in_python,
    in_toml,
    on_command_line,
    option_info,
    refuse_impossible,
    refuse_without_effect,
)
from edgecnn.project.reading import parse_project
from edgecnn.project.tables import ExportTable

OPTIONS = {option.name: option for option in fields(ExportOptions)}
TYPES = get_type_hints(ExportOptions)


def _command_line() -> dict[str, click.Option]:
    return {str(p.name): p for p in export_command.params if isinstance(p, click.Option) and p.name in OPTIONS}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_the_same_everywhere(name: str) -> None:
    option, kind = OPTIONS[name], TYPES[name]
    command = _command_line()[name]
    key = {f.name: f for f in msgspec.structs.fields(ExportTable)}[name]
    argument = inspect.signature(edgecnn.export_model).parameters[name]
    assert command.opts == [on_command_line(name)]
    assert command.get_default(click.Context(export_command)) == option.default
    assert key.default is None
    assert argument.default == (DEFAULT_OPSET if name == "opset" else option.default)
    in_file = [part for part in get_args(key.type) if part is not type(None)]
    if kind == tuple[str, ...]:
        assert isinstance(command.type, NameList)
        assert in_file == [tuple[str, ...]]
    elif kind is bool:
        assert command.is_flag
        assert in_file == [bool]
    elif kind == int | None:
        assert isinstance(command.type, click.IntRange)
        assert command.type.min == 1
        assert [get_args(part)[0] for part in in_file] == [int]
    elif option_info(name).choices:
        assert isinstance(command.type, click.Choice)
        assert tuple(command.type.choices) == option_info(name).choices
        assert tuple(get_args(in_file[0])) == option_info(name).choices
    else:
        assert command.type is click.STRING
        assert in_file == [str]


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_has_help_and_a_word_in_the_docstrings(name: str) -> None:
    assert _command_line()[name].help == option_info(name).help
    assert option_info(name).help.rstrip("]").strip()
    assert f"\n        {name}: " in str(ExportOptions.__doc__) + "\n"
    assert f"\n        {name}: " in str(edgecnn.export_model.__doc__)


def test_nothing_but_the_options_and_the_directory_is_in_the_table() -> None:
    assert {f.name for f in msgspec.structs.fields(ExportTable)} == {"directory", *OPTIONS}


def test_the_same_values_from_the_command_line_and_the_file() -> None:
    arguments = "lenet5 -o x --formats tflite --precisions int8,fp32 --recipe int8-7bit --calibration random"
    arguments += " --calibration-samples 9 --io uint8 --c-array"
    context = export_command.make_context("export", arguments.split())
    text = """
[export]
formats = ["tflite"]
precisions = ["int8", "fp32"]
recipe = "int8-7bit"
calibration = "random"
calibration_samples = 9
io = "uint8"
c_array = true
[model.x]
model = "lenet5"
"""
    (plan,) = parse_project(Path("edgecnn.toml"), text).models
    expected = ExportOptions(
        formats=("tflite",),
        precisions=("fp32", "int8"),
        recipe="int8-7bit",
        calibration="random",
        calibration_samples=9,
        io="uint8",
        c_array=True,
    )
    assert given_options(context.params) == plan.request.options == expected
    assert expected.precisions == ("fp32", "int8")


def test_defaults_are_the_same_from_the_command_line_and_the_file() -> None:
    context = export_command.make_context("export", ["lenet5", "-o", "x"])
    (plan,) = parse_project(Path("edgecnn.toml"), '[model.x]\nmodel = "lenet5"').models
    assert given_options(context.params) == plan.request.options == ExportOptions()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"formats": ()}, "formats: no name at all"),
        ({"precisions": ("int9",)}, "precisions: 'int9'"),
        ({"io": "int9"}, "io 'int9' is not known"),
        ({"calibration": "zeros"}, "calibration 'zeros' is not known"),
        ({"calibration_samples": 0}, "calibration_samples 0 is not possible"),
        ({"opset": -1}, "opset -1 is not possible"),
    ],
)
def test_values_that_are_not_known(values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        ExportOptions(**values)
    assert caught.value.hint


WITHOUT_EFFECT = [
    ({"recipe": "int8"}, "recipe without int8 has no effect"),
    ({"io": "int8"}, "io without int8 has no effect"),
    ({"calibration": "random"}, "calibration without int8 or int16x8 has no effect"),
    ({"calibration_samples": 8}, "calibration_samples without int8 or int16x8 has no effect"),
    ({"opset": 13, "formats": ("tflite",)}, "opset without onnx has no effect"),
    ({"c_array": True}, "c_array without int8 has no effect"),
    ({"c_array": True, "precisions": ("int8",), "formats": ("onnx",)}, "c_array without tflite has no effect"),
    ({"recipe": "int8", "precisions": ("int16x8",), "formats": ("tflite",)}, "recipe without int8 has no effect"),
]


@pytest.mark.parametrize(("values", "message"), WITHOUT_EFFECT, ids=[row[1] for row in WITHOUT_EFFECT])
@pytest.mark.parametrize("spelling", [in_python, on_command_line, in_toml])
def test_options_without_effect_are_refused_as_the_user_writes_them(values, message, spelling) -> None:
    name = message.split()[0]
    with pytest.raises(UsageError, match=message.replace(name, spelling(name))) as caught:
        refuse_without_effect(ExportOptions(**values), with_data=False, spelling=spelling)
    assert all((caught.value.where, caught.value.why, caught.value.hint))


def test_every_option_for_some_files_only_has_a_row_above() -> None:
    tested = {message.split()[0] for _, message in WITHOUT_EFFECT}
    assert tested == {name for name in OPTIONS if option_info(name).formats or option_info(name).precisions}


def test_options_with_an_effect_are_taken() -> None:
    options = ExportOptions(precisions=("int16x8",), formats=("tflite",), calibration="random", calibration_samples=8)
    refuse_without_effect(options, with_data=False)
    refuse_impossible(options, calibrated=True)
    with pytest.raises(UsageError, match="calibration and data exclude each other"):
        refuse_without_effect(options, with_data=True)


def test_precisions_that_are_impossible_are_refused() -> None:
    with pytest.raises(UsageError, match="int16x8 is not written as onnx"):
        refuse_impossible(ExportOptions(precisions=("int16x8",)), calibrated=True)
    with pytest.raises(QuantizationError, match="int8 needs calibration data"):
        refuse_impossible(ExportOptions(precisions=("int8",)), calibrated=False)
