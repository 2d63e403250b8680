"""Where the two files run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecnn.compare.source import SourceFile
from edgecnn.errors import TargetError, UsageError
from edgecnn.parity.check_jobs import find_given
from edgecnn.targets.runtimes import RUNTIMES, runtimes_for
from edgecnn.targets.target import Found, Target, TargetFailure, installed_targets

Given = Sequence[Target | str]
"""Targets, or names of some."""


@dataclass(frozen=True, slots=True)
class Ran:
    """The target that A runs on, and the one that B runs on."""

    a: Target
    b: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Pairs of targets, the targets that could not be reached, and notes on those that globs passed over."""

    pairs: tuple[Ran, ...]
    failures: tuple[TargetFailure, ...] = ()
    notes: tuple[str, ...] = ()


def places(
    a: SourceFile, b: SourceFile, both: Given, for_a: Given, for_b: Given, time_limit: float | None = None
) -> Places:
    """The pairs of targets to compare on.

    Where both files run on the same targets, each target is paired with itself; else each of A's targets with each of
    B's.

    Raises:
        UsageError: if a name is wrong, or names nothing that runs its file.
        TargetError: if no runtime here runs a file and no target was given for it.
    """
    if both and for_a and for_b:
        raise UsageError("--target with both --target-a and --target-b has no effect", hint="leave --target out")
    found_both = _found(both, time_limit) if both else None
    found_a, found_b = (_found(own, time_limit) if own else found_both for own in (for_a, for_b))
    here = installed_targets(time_limit=time_limit) if found_a is None or found_b is None else []
    all_a, all_b = (
        [_installed(source, here)] if some is None else _running(source, some)
        for source, some in ((a, found_a), (b, found_b))
    )
    if found_both is not None:
        named = [t for t in found_both.targets if t.asked_for]
        _check_used(named, ([] if for_a else [a]) + ([] if for_b else [b]))
    found = [one for i, one in enumerate((found_a, found_b)) if one is not None and (not i or one is not found_a)]
    failures = tuple(f for one in found for f in one.failures)
    notes = tuple(note for one in found for note in one.notes)
    return Places(pairs=tuple(_pairs(all_a, all_b)), failures=failures, notes=notes)


def _found(given: Given, time_limit: float | None) -> Found:
    """The targets; where none of them can be reached, the first failure is raised."""
    found = find_given(given, time_limit)
    if found.failures and not found.targets:
        raise found.failures[0].error
    return found


def _installed(source: SourceFile, here: Sequence[Target]) -> Target:
    """The first runtime here, in the order of the table of runtimes."""
    for target in here:
        if source.format in RUNTIMES[target.runtime].formats:
            return target
    row = runtimes_for(source.format)[0]
    raise TargetError(
        f"no runtime here runs {source.name}",
        hint=f"python -m pip install {row.distribution}\nor --target for another place: edgecnn targets",
    )


def _running(source: SourceFile, found: Found) -> list[Target]:
    """The targets that run a file's format."""
    running = [t for t in found.targets if source.format in RUNTIMES[t.runtime].formats]
    if not running:
        names = ", ".join(t.name for t in found.targets)
        suitable = ", ".join(row.name for row in runtimes_for(source.format))
        raise UsageError(f"{source.name} runs on none of {names}", hint=f"a target with one of: {suitable}")
    return running


def _check_used(targets: Sequence[Target], sources: Sequence[SourceFile]) -> None:
    """Refuse a target that was named and runs none of the files it is for."""
    for target in targets:
        if not {source.format for source in sources} & set(RUNTIMES[target.runtime].formats):
            names = " or ".join(source.name for source in sources)
            raise UsageError(f"{target.name} does not run {names}", hint="another target")


def _pairs(all_a: Sequence[Target], all_b: Sequence[Target]) -> list[Ran]:
    if [t.name for t in all_a] == [t.name for t in all_b]:
        return [Ran(t, t) for t in all_a]
    return [Ran(x, y) for x in all_a for y in all_b]
