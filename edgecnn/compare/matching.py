"""Pair the inputs of A with those of B, or their outputs: by option, by name, or by shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgecnn.errors import UsageError

_WRAPPED = re.compile(r"(?:serving_default_|StatefulPartitionedCall[:/]?)?(.*?)(?::\d+)?")
"""What TensorFlow puts around a name."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The places of one value in A's list and in B's, and how the two were recognised as one."""

    a: int
    b: int
    how: str


def match(
    names_a: Sequence[str],
    names_b: Sequence[str],
    mapping: Mapping[str, str],
    fits: Callable[[int, int], bool],
    *,
    what: str,
    all_of_them: bool,
) -> list[Pair]:
    """Pair the values of two files.

    Options come first, then equal names, then names without TensorFlow's wrapping, then a pair that is left alone, then
    shapes that fit one to one.

    Args:
        names_a: A's names.
        names_b: B's names.
        mapping: B's name for names of A, as the user gives them.
        fits: Whether the shapes of A's value and B's, by their places, can be those of one value.
        what: ``input`` or ``output``.
        all_of_them: Whether nothing may be left over on either side.

    Raises:
        UsageError: if a name of the mapping is wrong, or what is left can be paired in several ways or none.
    """
    pairs = _mapped(names_a, names_b, mapping, what)
    for how, plain in (("by name", str), ("by name, without TensorFlow's wrapping", _unwrapped)):
        for a in _left(names_a, pairs, "a"):
            same = [b for b in _left(names_b, pairs, "b") if plain(names_b[b]) == plain(names_a[a])]
            others = [o for o in _left(names_a, pairs, "a") if plain(names_a[o]) == plain(names_a[a])]
            if len(same) == len(others) == 1 and plain(names_a[a]):
                pairs.append(Pair(a, same[0], how))
    left_a, left_b = _left(names_a, pairs, "a"), _left(names_b, pairs, "b")
    if len(left_a) == len(left_b) == 1 and fits(left_a[0], left_b[0]):
        pairs.append(Pair(left_a[0], left_b[0], f"the only {what}" if len(names_a) == 1 else f"the only {what} left"))
    elif left_a and left_b and (all_of_them or len(left_a) == len(left_b) or not pairs):
        pairs += _by_shape(left_a, left_b, fits)
    _check_left(names_a, names_b, pairs, what, all_of_them=all_of_them)
    return sorted(pairs, key=lambda pair: pair.a)


def _mapped(names_a: Sequence[str], names_b: Sequence[str], mapping: Mapping[str, str], what: str) -> list[Pair]:
    pairs = []
    for a, b in mapping.items():
        for side, name, names in (("A", a, names_a), ("B", b, names_b)):
            if list(names).count(name) != 1:
                raise UsageError(
                    f"--{what}-map {a}={b}: {side} has no {what} {name!r}",
                    hint=f"one of {', '.join(names)}",
                )
        pairs.append(Pair(list(names_a).index(a), list(names_b).index(b), f"by --{what}-map"))
    if len({pair.b for pair in pairs}) != len(pairs):
        raise UsageError(f"--{what}-map names one {what} of B twice", hint=f"once for each {what}")
    return pairs


def _unwrapped(name: str) -> str:
    found = _WRAPPED.fullmatch(name)
    return found[1] if found else name


def _left(names: Sequence[str], pairs: Sequence[Pair], side: str) -> list[int]:
    taken = {getattr(pair, side) for pair in pairs}
    return [i for i in range(len(names)) if i not in taken]


def _by_shape(left_a: list[int], left_b: list[int], fits: Callable[[int, int], bool]) -> list[Pair]:
    """Those where each fits the other and nothing else."""
    table = {a: [b for b in left_b if fits(a, b)] for a in left_a}
    found = []
    for a, fitting in table.items():
        if len(fitting) == 1 and sum(fitting[0] in row for row in table.values()) == 1:
            found.append(Pair(a, fitting[0], "by shape"))
    return found


def _check_left(
    names_a: Sequence[str], names_b: Sequence[str], pairs: Sequence[Pair], what: str, *, all_of_them: bool
) -> None:
    left_a = [names_a[i] for i in _left(names_a, pairs, "a")]
    left_b = [names_b[i] for i in _left(names_b, pairs, "b")]
    none_is_left = not left_a and not left_b
    if none_is_left or (not all_of_them and pairs and not (left_a and left_b)):
        return
    raise UsageError(
        f"which {what} of B is which of A's?",
        why=f"A has {_some(left_a)}\nB has {_some(left_b)}\nnames differ, and shapes do not tell",
        hint=f"--{what}-map {left_a[0]}={left_b[0]}"
        if left_a and left_b
        else f"two models with the same number of {what}s",
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:8]) + (" ..." if len(names) > 8 else "") if names else "none left"
