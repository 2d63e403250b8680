"""Write choices of channels as slices: a GATHER runs outside XNNPACK, one element at a time, and splits its work."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from edgecnn.export.legal_programs import SameStorage
from edgecnn.graph.graph import Graph, Node
from edgecnn.graph.ops import Concat, Gather, Slice, ValueName
from edgecnn.graph.rewrite import Rewriter, rewrite

FEW_PIECES, MOST_PIECES = 4, 16
"""How many slices replace a GATHER in any case, and how many where they have two channels on average.

Measured in LiteRT on x86 with 48 channels of 12x12: a slice and its part of the concatenation cost as much as two to
three channels of a GATHER of any width; and a GATHER ends one part of XNNPACK's work and begins another.
"""
MOST_PARTS = 5
"""Parts of a CONCATENATION that XNNPACK takes (its delegate in LiteRT 2.3; with more it leaves it to TFLite)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Channels ``start`` to ``stop`` of a value."""

    value: ValueName
    start: int
    stop: int


Pieces = tuple[Piece, ...]


def pick_by_slices(graph: Graph, same_storage: SameStorage) -> Graph:
    """Write a choice of channels as slices laid side by side.

    After a concatenation the concatenated values are sliced, so that successive choices copy a channel only once.
    Concatenations of more parts than XNNPACK takes are made in steps. Does not apply to choices of many pieces
    (``FEW_PIECES``, ``MOST_PIECES``), nor across operators whose input and output are stored differently.

    Args:
        graph: The graph.
        same_storage: Whether two of its values are stored with the same type and parameters.
    """
    return rewrite(graph, _Picking(graph, same_storage).step)


class _Picking:
    """The pieces that choices and concatenations consist of, and the slices that exist already."""

    def __init__(self, graph: Graph, same_storage: SameStorage) -> None:
        self._same_storage, self._outputs = same_storage, {o.value for o in graph.outputs}
        self._chosen: dict[ValueName, Pieces] = {}
        self._joined: dict[ValueName, Pieces] = {}
        self._slices: dict[Piece, ValueName] = {}

    def step(self, r: Rewriter, node: Node) -> ValueName | None:
        """Rewrite a choice, or a concatenation that holds one."""
        if not all(self._stored_the_same(r, x, node) for x in node.inputs):
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
                if not self._chosen.keys().isdisjoint(xs) and (made := self._side_by_side(r, node, pieces)):
                    return made
                return _concat(r, node, xs) if len(xs) > MOST_PARTS else None
        return None

    def _stored_the_same(self, r: Rewriter, x: ValueName, node: Node) -> bool:
        source = self._chosen[x][0].value if x in self._chosen else x
        return r.constant(x) is None and self._same_storage(source, node.name)

    def _cut(self, r: Rewriter, x: ValueName, start: int, stop: int) -> list[Piece]:
        """The pieces that channels of a value consist of."""
        found, place = [], 0
        for piece in self._chosen.get(x) or self._joined.get(x) or (Piece(x, 0, r.shape(x)[1]),):
            low, high = max(start - place, 0), min(stop - place, piece.stop - piece.start)
            if low < high:
                found.append(Piece(piece.value, piece.start + low, piece.start + high))
            place += piece.stop - piece.start
        return found

    def _side_by_side(self, r: Rewriter, node: Node, pieces: Pieces) -> ValueName | None:
        most = max(FEW_PIECES, min(MOST_PIECES, node.shape[1] // 2))
        if len(pieces) > most or (len(pieces) == 1 and node.name in self._outputs):
            return None
        if len(pieces) == 1:
            return self._slice(r, node, pieces[0], "")
        parts = [self._slice(r, node, piece, f"part{i}") for i, piece in enumerate(pieces)]
        return _concat(r, node, parts)

    def _slice(self, r: Rewriter, node: Node, piece: Piece, suffix: str) -> ValueName:
        if (piece.start, piece.stop) == (0, r.shape(piece.value)[1]):
            return piece.value
        if piece not in self._slices:
            cut = Slice(x=piece.value, axis=1, start=piece.start, stop=piece.stop)
            self._slices[piece] = name = r.emit(cut, node, suffix)
            self._chosen[name] = (piece,)
        return self._slices[piece]


def _concat(r: Rewriter, node: Node, parts: Sequence[ValueName]) -> ValueName:
    """A concatenation; of many parts in steps, first of the narrowest neighbours, since these are copied twice."""
    parts, number = list(parts), 0
    while len(parts) > MOST_PARTS:
        count = min(len(parts) - MOST_PARTS + 1, MOST_PARTS)
        widths = [r.shape(x)[1] for x in parts]
        at = min(range(len(parts) - count + 1), key=lambda i: sum(widths[i : i + count]))
        joined = r.emit(Concat(xs=tuple(parts[at : at + count]), axis=1), node, f"joined{number}")
        parts[at : at + count], number = [joined], number + 1
    return r.emit(Concat(xs=tuple(parts), axis=1), node)


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """The ranges of consecutive indices."""
    ends = [0, *(i for i, (a, b) in enumerate(pairwise(indices), start=1) if b != a + 1), len(indices)]
    return [(indices[a], indices[b - 1] + 1) for a, b in pairwise(ends)]


def _merged(pieces: Iterable[Piece]) -> Pieces:
    """The pieces, with adjacent ones merged."""
    found: list[Piece] = []
    for piece in pieces:
        if found and (found[-1].value, found[-1].stop) == (piece.value, piece.start):
            found[-1] = replace(found[-1], stop=piece.stop)
        else:
            found.append(piece)
    return tuple(found)
