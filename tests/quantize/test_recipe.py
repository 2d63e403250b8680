"""Recipes: by name, from a file, with overrides, and what a file may not say."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.quantized_nets import made
from torch import nn

from edgecnn.errors import UsageError
from edgecnn.quantize.recipe import RECIPES, Override, Recipe, load_recipe, parse_recipe


def test_recipes_by_name() -> None:
    assert {name: (r.weight_bits, r.uint8_weights, r.portable, r.linear_scales) for name, r in RECIPES.items()} == {
        "int8": (8, False, False, "auto"),
        "int8-portable": (8, False, True, "auto"),
        "int8-7bit": (7, False, False, "auto"),
        "int8-uint8-weights": (8, True, False, "auto"),
        "int8-per-channel": (8, False, False, "channel"),
    }
    assert all(load_recipe(name) is recipe for name, recipe in RECIPES.items())


def test_a_recipe_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'base = "int8-7bit"\ncalibrator = "percentile"\n[layers."body.*"]\nprecision = "float"\n'
        '[layers.stem]\ncalibrator = "minmax"\nsymmetric = true\n'
    )
    assert load_recipe(path) == Recipe(
        name="mine",
        calibrator="percentile",
        weight_bits=7,
        overrides=(
            Override(layers="body.*", precision="float"),
            Override(layers="stem", calibrator="minmax", symmetric=True),
        ),
    )


WRONG = [
    ("calibratr = 'mse'", "calibratr is no key", "calibrator? "),
    ("calibrator = 'mes'", "calibrator: 'mes'", "mse? "),
    ("calibrator = 3", "calibrator: 3", "a string"),
    ("weight_bits = 4", "weight_bits: 4", "8, or 7"),
    ("weight_bits = true", "weight_bits: True", "a whole number"),
    ("portable = 1", "portable: 1", "true or false"),
    ("uint8_weights = 1", "uint8_weights: 1", "true or false"),
    ("base = 'int9'", "base: 'int9'", "int8? "),
    ("name = ''", "name is empty", ""),
    ("layers = 3", "layers: 3", "a table"),
    ("[layers]\nstem = 3", 'layers."stem": 3', "a table"),
    ("[layers.stem]", 'layers."stem" says nothing', "precision"),
    ("[layers.stem]\nskip = true", 'layers."stem".skip is no key', 'precision = "float"'),
    ("[layers.stem]\nsymetric = true", 'layers."stem".symetric is no key', "symmetric? "),
    ("[layers.stem]\nprecision = 'int16'", "layers.\"stem\".precision: 'int16'", "int8"),
    ("[layers.stem]\nsymmetric = 'yes'", "layers.\"stem\".symmetric: 'yes'", "true or false"),
    ("[layers.stem", "no TOML", ""),
]


@pytest.mark.parametrize(("text", "message", "hint"), WRONG)
def test_what_a_file_may_not_say(text: str, message: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.where == str(path)


def test_recipes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recipe") as caught:
        load_recipe("int8-portabel")
    assert "int8-portable? " in caught.value.hint
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(tmp_path / "absent.toml")


def test_an_override_that_matches_nothing_names_the_layers(net: nn.Module) -> None:
    with pytest.raises(UsageError, match="'bodi' matches no layer") as caught:
        made(net, parse_recipe({"layers": {"bodi": {"symmetric": True}}}, name="r"))
    assert "body.0" in caught.value.hint
    assert "stem" in caught.value.hint


def test_later_overrides_win_field_by_field(net: nn.Module) -> None:
    layers = {"*": {"symmetric": True}, "body": {"precision": "float"}, "body.2": {"precision": "int8"}}
    q = made(net, parse_recipe({"layers": layers}, name="r"))
    assert {q.graph.producers[n].origin.module for n in q.skipped} == {"body.0"}
    assert all(p.zero_point == 0 for p in q.activations.values())


def test_a_calibrator_for_one_layer(net: nn.Module) -> None:
    base, other = made(net), made(net, parse_recipe({"layers": {"head": {"calibrator": "minmax"}}}, name="r"))
    changed = {name for name in base.activations if base.activations[name] != other.activations[name]}
    assert changed <= {other.graph.outputs[0].value}
