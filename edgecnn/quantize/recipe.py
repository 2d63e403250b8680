"""Recipes: a calibrator, the width of weights, which values share parameters, and overrides for layers."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from edgecnn.errors import UsageError
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import ValueName
from edgecnn.quantize.calibrate import CALIBRATORS, DEFAULT

WEIGHT_LIMITS: Mapping[int, int] = MappingProxyType({8: 127, 7: 63})
"""Largest magnitude of a weight, by its number of bits."""
PRECISIONS = ("int8", "float")
ENDING = ".toml"


class Override(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings for some layers. None keeps the setting of the recipe, or of an earlier override.

    Attributes:
        layers: Glob of module paths (``features.*``), or of the names of graph values and inputs. A module's path
            stands for everything in it.
        precision: ``int8``, or ``float``: the layer is computed in float32 between dequantized inputs and a quantized
            result.
        calibrator: A name of :data:`~edgecnn.quantize.calibrate.CALIBRATORS`, for the layer's result.
        symmetric: Whether the zero point of the layer's result is 0.
    """

    layers: str
    precision: str | None = None
    calibrator: str | None = None
    symmetric: bool | None = None

    def __post_init__(self) -> None:
        at = f'layers."{self.layers}".'
        _check_type(f"{at}precision", self.precision, (str, type(None)))
        _check_type(f"{at}calibrator", self.calibrator, (str, type(None)))
        _check_type(f"{at}symmetric", self.symmetric, (bool, type(None)))
        if self.precision is not None:
            _check_word(f"{at}precision", self.precision, PRECISIONS)
        if self.calibrator is not None:
            _check_word(f"{at}calibrator", self.calibrator, CALIBRATORS)

    def matches(self, path: str) -> bool:
        """Whether the glob matches a path or one of the modules that contain it."""
        parts = path.split(".")
        return any(fnmatchcase(".".join(parts[:n]), self.layers) for n in range(1, len(parts) + 1))


LINEAR_SCALES = ("auto", "layer", "channel")
_SWITCHES = (("uint8_weights", bool), ("portable", bool), ("correct_biases", bool), ("linear_scales", str))


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is quantized.

    Attributes:
        name: Its name in messages and in the manifest.
        calibrator: A name of :data:`~edgecnn.quantize.calibrate.CALIBRATORS`.
        weight_bits: 8, or 7, with which x86 processors without VNNI cannot saturate.
        uint8_weights: ONNX files store the weights of layers in which x86 processors without VNNI can saturate as uint8
            with zero point 128, for which ONNX Runtime has kernels that cannot. The integers stay the same.
        portable: Additions, subtractions and concatenations share one scale and zero point among inputs and result, so
            that they are additions of integers, exact in every runtime.
        correct_biases: Biases compensate the mean error that quantization leaves in each channel
            (:mod:`edgecnn.quantize.bias_correction`).
        linear_scales: ``layer``: a linear layer has one scale, as in TFLite's first int8 specification.
            ``channel``: one per output, as in convolutions; each costs 16 to 24 bytes of the file. ``auto``: one,
            unless outputs differ so much that weights would lose more than a bit.
        overrides: Exceptions. Where several match a layer, later ones win, field by field.

    Raises:
        UsageError: if a value is not allowed; it names the key.
    """

    name: str
    calibrator: str = DEFAULT
    weight_bits: int = 8
    uint8_weights: bool = False
    portable: bool = False
    correct_biases: bool = True
    linear_scales: str = "auto"
    overrides: tuple[Override, ...] = ()

    def __post_init__(self) -> None:
        for key, kind in (("name", str), ("calibrator", str), ("weight_bits", int), *_SWITCHES):
            _check_type(key, getattr(self, key), (kind,))
        if not self.name.strip():
            raise UsageError("name is empty")
        _check_word("calibrator", self.calibrator, CALIBRATORS)
        _check_word("linear_scales", self.linear_scales, LINEAR_SCALES)
        if self.weight_bits not in WEIGHT_LIMITS:
            raise UsageError(f"weight_bits: {self.weight_bits} given", hint="8, or 7 for x86 without VNNI")

    @property
    def weight_limit(self) -> int:
        """Largest magnitude of an integer weight."""
        return WEIGHT_LIMITS[self.weight_bits]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one layer or input."""

    calibrator: str
    skip: bool = False
    symmetric: bool = False


def settings_of(recipe: Recipe, graph: Graph) -> dict[ValueName, Settings]:
    """The settings of every node and input of a graph by a recipe.

    Raises:
        UsageError: if an override matches no layer; it lists the layers of the graph.
    """
    matched: set[str] = set()
    settings: dict[ValueName, Settings] = {}
    for value in graph.inputs:
        settings[value.name] = _settings(recipe, (value.name,), matched)
    for node in graph.nodes:
        settings[node.name] = _settings(recipe, _paths(node), matched)
    missed = [o.layers for o in recipe.overrides if o.layers not in matched]
    if missed:
        known = list(dict.fromkeys(p for p in (*(i.name for i in graph.inputs), *map(_path, graph.nodes)) if p))
        raise UsageError(
            f"recipe {recipe.name}: {missed[0]!r} matches no layer",
            hint=_near(missed[0], known) + f"the layers are {', '.join(known)}",
        )
    return settings


def _settings(recipe: Recipe, paths: Iterable[str], matched: set[str]) -> Settings:
    precision, calibrator, symmetric = "int8", recipe.calibrator, False
    for override in recipe.overrides:
        if any(override.matches(path) for path in paths):
            matched.add(override.layers)
            precision = override.precision or precision
            calibrator = override.calibrator or calibrator
            symmetric = symmetric if override.symmetric is None else override.symmetric
    return Settings(calibrator=calibrator, skip=precision == "float", symmetric=symmetric)


def _paths(node: Node) -> tuple[str, ...]:
    return (node.name, node.origin.module) if node.origin.module else (node.name,)


def _path(node: Node) -> str:
    return node.origin.module or node.name


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe by its name, or from a TOML file.

    Raises:
        UsageError: if there is no such recipe, or the file cannot be read or is not valid; it names file and key.
    """
    text = str(name_or_path)
    if text in RECIPES:
        return RECIPES[text]
    path = Path(name_or_path)
    if path.suffix != ENDING:
        raise UsageError(
            f"there is no recipe {text!r}",
            hint=_near(text, RECIPES) + f"one of {', '.join(RECIPES)}, or the path of a TOML file",
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise UsageError("the recipe cannot be read", where=text, why=err.strerror or str(err)) from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise UsageError("the recipe is no TOML", where=text, why=str(err)) from err
    try:
        return parse_recipe(content, name=path.stem)
    except UsageError as err:
        err.where = err.where or text
        raise


def parse_recipe(content: Mapping[str, Any], *, name: str) -> Recipe:
    """A recipe from the keys of a TOML document.

    ``base`` names the recipe to start from (default: ``int8``); ``layers`` holds a table for each glob.

    Raises:
        UsageError: if a key is not known, or a value not allowed.
    """
    known = ("base", *(f for f in Recipe.__struct_fields__ if f != "overrides"), "layers")
    _check_keys("", content, known)
    base = content.get("base", INT8.name)
    _check_type("base", base, (str,))
    _check_word("base", base, RECIPES)
    layers = content.get("layers", {})
    _check_type("layers", layers, (dict,))
    fields = [f for f in Override.__struct_fields__ if f != "layers"]
    overrides = []
    for glob, table in layers.items():
        _check_type(f'layers."{glob}"', table, (dict,))
        _check_keys(f'layers."{glob}".', table, fields)
        if not table:
            raise UsageError(f'layers."{glob}" says nothing', hint=f"one of {', '.join(fields)}")
        overrides.append(Override(layers=glob, **table))
    given = {k: v for k, v in content.items() if k not in ("base", "layers")}
    return Recipe(**{**msgspec.structs.asdict(RECIPES[base]), "name": name, **given, "overrides": tuple(overrides)})


def _check_keys(at: str, given: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for key in given:
        if key == "skip" and "precision" in known:
            raise UsageError(f"{at}skip is no key", hint='precision = "float"')
        if key not in known:
            raise UsageError(f"{at}{key} is no key", hint=_near(key, known) + f"the keys are {', '.join(known)}")


def _check_type(key: str, value: Any, kinds: tuple[type, ...]) -> None:
    if type(value) not in kinds:
        wanted = {str: "a string", int: "a whole number", bool: "true or false", dict: "a table"}[kinds[0]]
        raise UsageError(f"{key}: {value!r} given", hint=wanted)


def _check_word(key: str, value: str, known: Iterable[str]) -> None:
    known = list(known)
    if value not in known:
        raise UsageError(f"{key}: {value!r} given", hint=_near(value, known) + f"one of {', '.join(known)}")


def _near(word: str, possible: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(possible), n=1)
    return f"{near[0]}? " if near else ""


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        r.name: r
        for r in (
            Recipe(name="int8"),
            Recipe(name="int8-portable", portable=True),
            Recipe(name="int8-7bit", weight_bits=7),
            Recipe(name="int8-uint8-weights", uint8_weights=True),
            Recipe(name="int8-per-channel", linear_scales="channel"),
        )
    }
)
"""The built-in recipes by name."""
INT8 = RECIPES["int8"]
