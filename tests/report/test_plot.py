"""The picture of drift along a network: what is drawn where, and that it is the same text every time."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from edgecnn.cli import cli
from edgecnn.locate.expected import Gap
from edgecnn.locate.location import Line, Location
from edgecnn.report.drift import drift_plot
from edgecnn.report.svg import COLOURS, Canvas, shortened

SVG = "{http://www.w3.org/2000/svg}"


def gap(unit: str, largest: float) -> Gap:
    return Gap(unit=unit, largest=largest, mean=largest / 4, count=1, elements=8)


def location(
    artifact: str, unit: str, drift: list[float], *, broken: int | None = None, names: str = "abcdef"
) -> Location:
    """One artifact whose values drift so, and whose operator of that number breaks its rule."""
    lines = tuple(
        Line(
            value=name,
            module=f"features.{name}",
            operator="Conv2d",
            drift=gap(unit, value),
            alone=gap(unit, value if i == broken else 0.0),
            broken=i == broken,
        )
        for i, (name, value) in enumerate(zip(names, drift, strict=False))
    )
    return Location(artifact=artifact, target="litert@pi4", runtime="litert", board="pi4", lines=lines)


INT8 = location("net.int8.tflite", "LSB", [0, 0, 3, 12, 200], broken=2)
GOOD = location("net.int8.onnx", "LSB", [0, 0, 0, 1])
FP32 = location("net.fp32.onnx", "range", [0, 1e-7, 1e-3, math.inf], broken=2)


def drawn(*locations: Location) -> ET.Element:
    return ET.fromstring(drift_plot(locations))


def texts(root: ET.Element) -> list[str]:
    return [e.text or "" for e in root.iter(f"{SVG}text")]


def points(root: ET.Element, legend: int = 2) -> list[list[tuple[float, float]]]:
    """The lines that are drawn, without those of the legend, which have two points."""
    found = [[tuple(map(float, p.split(","))) for p in e.attrib["points"].split()] for e in root.iter(f"{SVG}polyline")]
    return [line for line in found if len(line) > legend]


def test_rows_are_values_and_places_are_sizes() -> None:
    root = drawn(INT8)
    (line,) = points(root)
    assert [y for _, y in line] == sorted(y for _, y in line)
    steps = {round(b[1] - a[1], 1) for a, b in itertools.pairwise(line)}
    assert len(steps) == 1
    xs = [x for x, _ in line]
    assert xs[0] == xs[1] < xs[2] < xs[3] < xs[4]
    decade = 200 / 12
    assert (xs[4] - xs[3]) / (xs[3] - xs[2]) == pytest.approx(math.log(decade) / math.log(4), rel=0.01)
    said = texts(root)
    assert [t for t in said if t.startswith("features.")] == [f"features.{n}" for n in "abcde"]
    assert {"0", "1", "10", "100", "1,000"} <= set(said)
    assert "largest difference in LSB, logarithmic" in said


def test_the_first_operator_that_breaks_its_rule_is_marked() -> None:
    root = drawn(INT8, GOOD)
    rings = [e for e in root.iter(f"{SVG}circle") if e.attrib["fill"] == "none"]
    bad = max(points(root), key=len)
    assert [(float(e.attrib["cx"]), float(e.attrib["cy"])) for e in rings] == [bad[2]]
    assert texts(root).count("first to break its rule") == 1
    legend = [t for t in texts(root) if " on litert@pi4: " in t]
    assert legend == [
        "net.int8.tflite on litert@pi4: features.c (Conv2d) breaks its rule first, by 3 LSB in isolation",
        "net.int8.onnx on litert@pi4: no operator breaks its rule",
    ]
    bold = [
        e.text for e in root.iter(f"{SVG}text") if e.attrib.get("font-weight") and (e.text or "").startswith("feat")
    ]
    assert bold == ["features.c"]


def test_units_have_panels_and_values_that_are_no_numbers_a_place() -> None:
    root = drawn(FP32, INT8)
    said = texts(root)
    assert said.index("Integers") < said.index("Floats")
    assert "NaN" in said
    assert "limit of one operator in isolation: 1e-05" in said
    lines = points(root)
    infinite = next(line for line in lines if len(line) == 4)
    assert infinite[3][0] > infinite[2][0] > infinite[1][0] > infinite[0][0]
    assert "NaN" not in texts(drawn(INT8))


def test_values_of_several_files_are_brought_into_one_order() -> None:
    other = location("net.int8.onnx", "LSB", [0, 0, 0], names="axc")
    assert [t for t in texts(drawn(INT8, other)) if t.startswith("features.")] == [f"features.{n}" for n in "axbcde"]
    several = replace(INT8, lines=tuple(replace(line, module="features") for line in INT8.lines))
    assert [t for t in texts(drawn(several)) if t in "abcde"] == list("abcde")


def test_all_is_inside_and_of_known_colours() -> None:
    long = replace(INT8, lines=tuple(replace(x, module=f"{'very.long.' * 9}{x.value}") for x in INT8.lines))
    root = drawn(long, GOOD, FP32)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for e in root.iter():
        for key, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            assert -1 <= float(e.attrib.get(key, "0").rstrip("%")) <= most
    light = {colour for colour, _ in COLOURS.values()}
    used = {e.attrib[k] for e in root.iter() for k in ("fill", "stroke") if e.attrib.get(k, "none") != "none"}
    assert used <= light
    dark = root.find(f"{SVG}style").text or ""  # type: ignore[union-attr]
    assert all(
        re.search(rf"\.{kind}-{name}{{(fill|stroke):{c}}}", dark) for name, (_, c) in COLOURS.items() for kind in "fs"
    )
    assert any(t.startswith("…") and t.endswith("long.a") for t in texts(root))


def test_the_same_gives_the_same_bytes_and_odd_names_are_no_markup() -> None:
    odd = replace(INT8, artifact="<b>&\x00.tflite")
    assert drift_plot([odd, FP32]) == drift_plot([odd, FP32])
    assert any(t.startswith("<b>&\N{REPLACEMENT CHARACTER}.tflite on") for t in texts(drawn(odd)))


def test_nothing_to_draw_is_said() -> None:
    assert "nothing was located: no artifact could output its intermediate values" in texts(
        ET.fromstring(drift_plot([]))
    )
    assert "nothing was checked: no" in texts(ET.fromstring(drift_plot([], because="nothing was checked: no")))


def test_shapes_differ_without_colours() -> None:
    canvas = Canvas()
    for number in range(4):
        canvas.mark(number, (10, 10), "series0")
    marks = list(ET.fromstring(canvas.document(20, 20, "", "")))[4:]
    assert len({ET.tostring(mark) for mark in marks}) == 4
    assert shortened("a.b.c", 4) == "…b.c"


def test_the_option_is_not_ignored(tmp_path) -> None:
    args = ["check", str(tmp_path / "none"), "--plot", str(tmp_path / "drift.svg")]
    refused = CliRunner().invoke(cli, [*args, "--no-locate"])
    assert refused.exit_code != 0
    assert not (tmp_path / "drift.svg").exists()
    (tmp_path / "drift.svg").write_text("<svg>of yesterday</svg>")
    failed = CliRunner().invoke(cli, args)
    assert failed.exit_code != 0
    assert "nothing was checked: " in (tmp_path / "drift.svg").read_text()
    (tmp_path / "notes.txt").write_text("mine")
    other = CliRunner().invoke(cli, [*args[:-1], str(tmp_path / "notes.txt")])
    assert other.exit_code != 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
