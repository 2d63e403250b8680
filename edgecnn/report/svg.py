"""A minimal SVG writer with colours for light and dark pages and reproducible output."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edgecnn.report.xmltext import xml_text

FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
SIZE = 12.0
"""Font size in pixels."""
WIDTH_OF_LETTER = 0.56
"""Average width of a character relative to the font size, since no font is available to measure."""
COLOURS = {
    "paper": ("#ffffff", "#15181c"),
    "ink": ("#1d2329", "#e4e8ec"),
    "dim": ("#5c6670", "#9aa5b0"),
    "grid": ("#e3e7eb", "#2b3138"),
    "axis": ("#9aa5b0", "#5c6670"),
    "alarm": ("#fbe3df", "#4a2320"),
    "warn": ("#b3261e", "#ff8a80"),
    "series0": ("#0067a5", "#5db7f0"),
    "series1": ("#c04f00", "#ff9a4d"),
    "series2": ("#007d5b", "#3fcf9f"),
    "series3": ("#8a3f86", "#dd8fd8"),
    "series4": ("#8c6d00", "#e3c044"),
    "series5": ("#4a4fb5", "#a3a8ff"),
}
"""Colours by name, each for light and for dark pages."""
SERIES = 6
"""Number of colours for lines."""
Point = tuple[float, float]


class Canvas:
    """Shapes in the order in which they are drawn."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Draw a filled rectangle."""
        self._parts.append(f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" {_fill(colour)}/>')

    def line(self, a: Point, b: Point, colour: str, *, width: float = 1.0, dash: str = "") -> None:
        """Draw a straight line."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        ends = f'x1="{_n(a[0])}" y1="{_n(a[1])}" x2="{_n(b[0])}" y2="{_n(b[1])}"'
        self._parts.append(f'<line {ends} {_stroke(colour)} stroke-width="{_n(width)}"{dashed}/>')

    def path(self, points: Sequence[Point], colour: str, *, width: float = 1.6, dash: str = "") -> None:
        """Draw points joined by lines."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        text = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        style = f'fill="none" stroke-width="{_n(width)}" stroke-linejoin="round"{dashed}'
        self._parts.append(f'<polyline points="{text}" {_stroke(colour)} {style}/>')

    def mark(self, shape: int, at: Point, colour: str, *, size: float = 3.4, title: str = "") -> None:
        """Draw one of four marks, which distinguish lines without colours.

        Args:
            shape: Number of the shape, modulo 4.
            at: Centre of the mark.
            colour: Name of the colour.
            size: Half the width of the mark.
            title: Tooltip of the mark.
        """
        x, y = at
        inner = f"<title>{_escaped(title)}</title>" if title else ""
        corners = (
            None,
            ((-1, -1), (1, -1), (1, 1), (-1, 1)),
            ((0, -1.25), (1.2, 0.95), (-1.2, 0.95)),
            ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)),
        )[shape % 4]
        if corners is None:
            self._parts.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(size)}" {_fill(colour)}>{inner}</circle>')
            return
        text = " ".join(f"{_n(x + a * size * 0.92)},{_n(y + b * size * 0.92)}" for a, b in corners)
        self._parts.append(f'<polygon points="{text}" {_fill(colour)}>{inner}</polygon>')

    def ring(self, at: Point, colour: str, *, size: float) -> None:
        """Draw an open circle."""
        style = f'fill="none" {_stroke(colour)} stroke-width="1.8"'
        self._parts.append(f'<circle cx="{_n(at[0])}" cy="{_n(at[1])}" r="{_n(size)}" {style}/>')

    def text(
        self,
        at: Point,
        text: str,
        colour: str = "ink",
        *,
        anchor: str = "start",
        size: float = SIZE,
        bold: bool = False,
    ) -> None:
        """Draw one line of text with its baseline at the point."""
        weight = ' font-weight="600"' if bold else ""
        place = f'x="{_n(at[0])}" y="{_n(at[1])}" text-anchor="{anchor}" font-size="{_n(size)}"'
        self._parts.append(f"<text {place}{weight} {_fill(colour)}>{_escaped(text)}</text>")

    def document(self, width: float, height: float, title: str, description: str) -> str:
        """The SVG document, with a background, and a title and description for screen readers."""
        size = f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{FONT}">'
        dark = "".join(f".f-{n}{{fill:{c}}}.s-{n}{{stroke:{c}}}" for n, (_, c) in COLOURS.items())
        paper = f'<rect width="100%" height="100%" {_fill("paper")}/>'
        lines = [
            head,
            f"<title>{_escaped(title)}</title>",
            f"<desc>{_escaped(description)}</desc>",
            f"<style>@media (prefers-color-scheme: dark){{{dark}}}</style>",
            paper,
            *self._parts,
            "</svg>",
        ]
        return "\n".join(lines) + "\n"


def text_width(text: str, size: float = SIZE) -> float:
    """Estimate the width of a text."""
    return len(text) * size * WIDTH_OF_LETTER


def shortened(text: str, letters: int) -> str:
    """Truncate a text at its start to a number of characters; the end of a path is more specific."""
    return text if len(text) <= letters else "…" + text[1 - letters :]


def _escaped(text: str) -> str:
    return escape(xml_text(text), quote=False)


def _fill(colour: str) -> str:
    return f'fill="{COLOURS[colour][0]}" class="f-{colour}"'


def _stroke(colour: str) -> str:
    return f'stroke="{COLOURS[colour][0]}" class="s-{colour}"'


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
