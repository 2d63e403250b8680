"""Plot of the error growth along a network, with a row for each value and a line for each artifact on a target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgecnn.locate.location import Line, Location
from edgecnn.locate.rules import REAL_LIMIT
from edgecnn.report.svg import SERIES, Canvas, shortened, text_width

TITLE = "Drift along the network"
_SUBTITLE = "the largest error of each value in an end-to-end run, against the golden executor, in execution order"
_ROW, _PLOT, _EDGE, _TOP = 19.0, 460.0, 20.0, 62.0
_ZERO, _END = 56.0, 64.0
"""Widths left and right of the logarithmic axis, for errors of 0 and for NaN and infinite errors."""
_LABEL = 40
"""Largest number of characters of a module's path."""
_BOLD = 1.08
"""Width of bold text relative to regular text."""
_BREAKS = "first to break its rule"
_UNITS: Mapping[str, tuple[str, str, float, float]] = {
    "LSB": ("Integers", "largest difference in LSB, logarithmic", 1.0, 1e2),
    "range": ("Floats", "largest error as a share of the value's range, logarithmic", 1e-8, 1e-4),
}
"""For each unit: title of the panel, label of its axis, and the smallest range of the axis."""
_DASHES = ("", "6 3", "2 2")


@dataclass(frozen=True, slots=True)
class _Series:
    number: int
    location: Location

    @property
    def colour(self) -> str:
        return f"series{self.number % SERIES}"

    @property
    def dash(self) -> str:
        return _DASHES[self.number // SERIES % len(_DASHES)]

    @property
    def name(self) -> str:
        return f"{self.location.artifact} on {self.location.target}"

    @property
    def first(self) -> Line | None:
        return next((line for line in self.location.lines if line.broken), None)


def drift_plot(locations: Sequence[Location], *, because: str = "") -> str:
    """Draw the plot as SVG. The same locations give the same bytes.

    Integers and floats have separate panels, because their errors have different units. The axis is logarithmic, with a
    separate position for 0. In each line the first operator that breaks its rule is circled, and its row is marked.

    Args:
        locations: The locations of one bundle.
        because: The reason shown if there is nothing to draw.
    """
    drawn = [_Series(i, found) for i, found in enumerate(x for x in locations if x.lines)]
    canvas = Canvas()
    canvas.text((_EDGE, 30), TITLE, size=17, bold=True)
    canvas.text((_EDGE, 49), _SUBTITLE, "dim")
    panels = [_Panel(unit, [s for s in drawn if _unit(s.location) == unit]) for unit in _UNITS]
    panels = [panel for panel in panels if panel.series]
    if not panels:
        text = because or "nothing was located: no artifact could output its intermediate values"
        canvas.text((_EDGE, 84), text)
        return canvas.document(max(640.0, 2 * _EDGE + text_width(text)), 110.0, TITLE, text)
    for panel in panels:
        panel.align(panels)
    width = max(text_width(_SUBTITLE) + 2 * _EDGE, *(panel.width for panel in panels))
    top = _TOP
    for panel in panels:
        top = panel.draw(canvas, top)
    return canvas.document(width, top, TITLE, " ".join(_said(s) for s in drawn))


def _unit(location: Location) -> str:
    """The unit of most values: an integer artifact may have float inputs and outputs."""
    units = [line.drift.unit for line in location.lines]
    return max(_UNITS, key=units.count)


def _said(series: _Series) -> str:
    if series.first is None:
        return f"{series.name}: no operator breaks its rule."
    return f"{series.name}: {series.first.module} breaks its rule first."


class _Panel:
    """All lines of one unit, with a row for each value of any line."""

    def __init__(self, unit: str, series: Sequence[_Series]) -> None:
        self.unit, self.series = unit, series
        self._lines = {s.number: {line.value: line for line in _of_unit(s.location, unit)} for s in series}
        self._values = _merged([list(lines) for lines in self._lines.values()])
        self._labels = _labels(self._values, [line for lines in self._lines.values() for line in lines.values()])
        found = [line.drift.largest for lines in self._lines.values() for line in lines.values()]
        self._low, self._high = _decades(unit, found)
        self._bad = not all(map(math.isfinite, found))
        modules, operators = ([pair[i] for pair in self._labels] for i in (0, 1))
        self.column = _EDGE + max((text_width(shortened(m, _LABEL)) for m in modules), default=0.0) * _BOLD + 16
        self.left = self.column + max(map(text_width, operators), default=0.0) + 14

    @property
    def width(self) -> float:
        """Width of the panel, with legend and marks."""
        marked = max((12 * len(them) + text_width(_BREAKS) for them in self._marked().values()), default=0.0)
        legend = max(text_width(self._legend(s)) + 42 for s in self.series) + 2 * _EDGE
        return max(self.left + _PLOT + 20 + marked + _EDGE, legend)

    def align(self, panels: Sequence[_Panel]) -> None:
        """Align the columns with the widest labels of all panels."""
        operators = max(panel.left - panel.column for panel in panels)
        self.column = max(panel.column for panel in panels)
        self.left = self.column + operators

    def draw(self, canvas: Canvas, top: float) -> float:
        """Draw the panel; returns the y coordinate of its lower end."""
        canvas.text((_EDGE, top + 16), _UNITS[self.unit][0], bold=True, size=14)
        for i, series in enumerate(self.series):
            y = top + 38 + 18 * i
            canvas.path([(_EDGE, y - 4), (_EDGE + 28, y - 4)], series.colour, dash=series.dash)
            canvas.mark(series.number, (_EDGE + 14, y - 4), series.colour)
            canvas.text((_EDGE + 38, y), self._legend(series))
        begin = top + 38 + 18 * len(self.series) + 20
        end = begin + _ROW * len(self._values)
        self._frame(canvas, begin, end)
        for series in self.series:
            self._draw_line(canvas, series, begin)
        return end + 56

    def _legend(self, series: _Series) -> str:
        first = series.first
        if first is None:
            return f"{series.name}: no operator breaks its rule"
        amount = _amount(first.alone.largest, first.alone.unit)
        return f"{series.name}: {first.module} ({first.operator}) breaks its rule first, by {amount} in isolation"

    def _frame(self, canvas: Canvas, begin: float, end: float) -> None:
        """Draw rows with labels, grid and axis."""
        marked = self._marked()
        right = self.left + _PLOT
        for i, value in enumerate(self._values):
            y = begin + _ROW * i
            if value in marked:
                canvas.rect(_EDGE - 6, y, right - _EDGE + 6, _ROW, "alarm")
                for n, series in enumerate(marked[value]):
                    canvas.mark(series.number, (right + 16 + 12 * n, y + _ROW / 2), series.colour)
                canvas.text((right + 14 + 12 * len(marked[value]), y + 13.5), _BREAKS, "warn")
            module, operator = self._labels[i]
            canvas.text((_EDGE, y + 13.5), shortened(module, _LABEL), bold=value in marked)
            canvas.text((self.column, y + 13.5), operator, "dim")
        for exponent in range(self._low, self._high + 1):
            x = self._x(10.0**exponent)
            canvas.line((x, begin), (x, end), "grid")
            canvas.text((x, end + 16), _tick(exponent, self.unit), "dim", anchor="middle", size=11)
        for x, text in [(self._x(0.0), "0"), *([(self._x(math.inf), "NaN")] if self._bad else [])]:
            canvas.line((x, begin), (x, end), "grid", dash="2 3")
            canvas.text((x, end + 16), text, "dim", anchor="middle", size=11)
        if self.unit == "range" and self._low <= math.log10(REAL_LIMIT) <= self._high:
            x = self._x(REAL_LIMIT)
            canvas.line((x, begin - 4), (x, end), "warn", dash="5 4")
            canvas.text(
                (x, begin - 7),
                f"limit of one operator in isolation: {REAL_LIMIT:.0e}",
                "warn",
                anchor="middle",
                size=11,
            )
        canvas.line((self.left, end), (right, end), "axis")
        canvas.text((self.left + _PLOT / 2, end + 34), _UNITS[self.unit][1], "dim", anchor="middle")

    def _draw_line(self, canvas: Canvas, series: _Series, begin: float) -> None:
        lines, first = self._lines[series.number], series.first
        apart = (self.series.index(series) - (len(self.series) - 1) / 2) * min(2.6, 9 / len(self.series))
        places = [
            (lines[v], (self._x(lines[v].drift.largest), begin + _ROW * (i + 0.5) + apart))
            for i, v in enumerate(self._values)
            if v in lines
        ]
        canvas.path([at for _, at in places], series.colour, dash=series.dash)
        for line, at in places:
            title = f"{line.value} ({line.operator}), {series.name}: {line.drift}; in isolation {line.alone}"
            canvas.mark(series.number, at, series.colour, title=title)
            if line is first:
                canvas.ring(at, "warn", size=7.5)

    def _marked(self) -> dict[str, list[_Series]]:
        """For each row at which a line first breaks its rule, these lines."""
        found: dict[str, list[_Series]] = {}
        for series in self.series:
            if series.first is not None and series.first.value in self._lines[series.number]:
                found.setdefault(series.first.value, []).append(series)
        return found

    def _x(self, value: float) -> float:
        if not value > 0:
            return self.left + _ZERO / 2
        begin, end = self.left + _ZERO, self.left + _PLOT - (_END if self._bad else 8)
        if not math.isfinite(value):
            return self.left + _PLOT - _END / 3
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return begin + min(max(share, 0.0), 1.0) * (end - begin)


def _of_unit(location: Location, unit: str) -> list[Line]:
    return [line for line in location.lines if line.drift.unit == unit]


def _merged(orders: Sequence[Sequence[str]]) -> list[str]:
    """Merge the orders into one, which keeps each of them where they agree."""
    merged: list[str] = []
    for order in sorted(orders, key=len, reverse=True):
        place = 0
        for value in order:
            if value in merged:
                place = merged.index(value) + 1
            else:
                merged.insert(place, value)
                place += 1
    return merged


def _labels(values: Sequence[str], lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Module and operator of each value, or the value's name if its module has several values of that operator."""
    known = {line.value: line for line in reversed(lines)}
    pairs = [(known[v].module, known[v].operator) for v in values]
    return [(v if pairs.count(p) > 1 else p[0], p[1]) for v, p in zip(values, pairs, strict=True)]


def _decades(unit: str, found: Sequence[float]) -> tuple[int, int]:
    """The powers of ten between which the axis runs."""
    positive = [v for v in found if v > 0 and math.isfinite(v)]
    low, high = min([_UNITS[unit][2], *positive]), max([_UNITS[unit][3], *positive])
    return max(math.floor(math.log10(low)), -16), math.ceil(math.log10(high))


def _tick(exponent: int, unit: str) -> str:
    return f"{10**exponent:,}" if unit == "LSB" and 0 <= exponent <= 4 else f"1e{exponent}"


def _amount(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "NaN or infinite values"
    return f"{value:.4g} LSB" if unit == "LSB" else f"{value:.2g} of its range"
