"""Choices of channels as slices: TFLite's GATHER runs outside XNNPACK, one element at a time, and cuts its work in two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Concat, Gather, Slice, ValueName
from edgecnn.graph.rewrite import Rewriter, rewrite

Alike = Callable[[ValueName, ValueName], bool]
"""Whether two values are stored alike: with the same parameters, where they are integers."""
MOST_PIECES = 16
"""Slices that take a GATHER's place. Measured in LiteRT on 48 channels of 12x12, a GATHER costs as much as 25."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Channels ``start`` to ``stop`` of a value."""

    value: ValueName
    start: int
    stop: int


Pieces = tuple[Piece, ...]


def pick_by_slices(graph: Graph, alike: Alike) -> Graph:
    """Write a choice of channels as slices laid side by side.

    Behind a concatenation, what was concatenated is cut, so that a channel is not copied again and again on its way
    through one choice after the other. Does not apply to choices of more than ``MOST_PIECES`` pieces, nor across
    operators whose input is stored otherwise than their output.
    """
    return rewrite(graph, _Picking(graph, alike).step)


class _Picking:
    """What choices and concatenations are made of, and the slices that are there already."""

    def __init__(self, graph: Graph, alike: Alike) -> None:
        self._alike, self._outputs = alike, {o.value for o in graph.outputs}
        self._chosen: dict[ValueName, Pieces] = {}
        self._joined: dict[ValueName, Pieces] = {}
        self._slices: dict[Piece, ValueName] = {}

    def step(self, r: Rewriter, node: Node) -> ValueName | None:
        """Rewrite a choice, and a concatenation that holds one."""
        if not all(self._is_alike(r, x, node) for x in node.inputs):
            return None
        match node.op:
            case Gather(x=x, axis=1, indices=indices):
                pieces = _merged(p for start, stop in _runs(indices) for p in self._cut(r, x, start, stop))
                self._chosen[node.name] = pieces
                return self._side_by_side(r, node, pieces)
            case Slice(x=x, axis=1, start=start, stop=stop, step=1):
                pieces = _merged(self._cut(r, x, start, stop))
                if x in self._chosen:
                    self._chosen[node.name] = pieces
                    return self._side_by_side(r, node, pieces)
                return self._side_by_side(r, node, pieces) if len(pieces) == 1 else None
            case Concat(xs=xs, axis=1):
                pieces = _merged(p for x in xs for p in self._cut(r, x, 0, r.shape(x)[1]))
                self._joined[node.name] = pieces
                return self._side_by_side(r, node, pieces) if not self._chosen.keys().isdisjoint(xs) else None
        return None

    def _is_alike(self, r: Rewriter, x: ValueName, node: Node) -> bool:
        source = self._chosen[x][0].value if x in self._chosen else x
        return r.constant(x) is None and self._alike(source, node.name)

    def _cut(self, r: Rewriter, x: ValueName, start: int, stop: int) -> list[Piece]:
        """The pieces that channels of a value are made of."""
        found, place = [], 0
        for piece in self._chosen.get(x) or self._joined.get(x) or (Piece(x, 0, r.shape(x)[1]),):
            low, high = max(start - place, 0), min(stop - place, piece.stop - piece.start)
            if low < high:
                found.append(Piece(piece.value, piece.start + low, piece.start + high))
            place += piece.stop - piece.start
        return found

    def _side_by_side(self, r: Rewriter, node: Node, pieces: Pieces) -> ValueName | None:
        if len(pieces) > MOST_PIECES or (len(pieces) == 1 and node.name in self._outputs):
            return None
        if len(pieces) == 1:
            return self._slice(r, node, pieces[0], "")
        parts = [self._slice(r, node, piece, f"part{i}") for i, piece in enumerate(pieces)]
        return r.emit(Concat(xs=tuple(parts), axis=1), node)

    def _slice(self, r: Rewriter, node: Node, piece: Piece, suffix: str) -> ValueName:
        if (piece.start, piece.stop) == (0, r.shape(piece.value)[1]):
            return piece.value
        if piece not in self._slices:
            cut = Slice(x=piece.value, axis=1, start=piece.start, stop=piece.stop)
            self._slices[piece] = name = r.emit(cut, node, suffix)
            self._chosen[name] = (piece,)
        return self._slices[piece]


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Indices that follow one another, as ranges."""
    ends = [0, *(i for i, (a, b) in enumerate(pairwise(indices), start=1) if b != a + 1), len(indices)]
    return [(indices[a], indices[b - 1] + 1) for a, b in pairwise(ends)]


def _merged(pieces: Iterable[Piece]) -> Pieces:
    """Pieces without cuts between neighbours."""
    found: list[Piece] = []
    for piece in pieces:
        if found and (found[-1].value, found[-1].stop) == (piece.value, piece.start):
            found[-1] = replace(found[-1], stop=piece.stop)
        else:
            found.append(piece)
    return tuple(found)
