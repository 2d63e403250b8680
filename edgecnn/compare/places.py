"""Where the two files run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecnn.compare.source import Source
from edgecnn.errors import TargetError, UsageError
from edgecnn.targets.runtimes import RUNTIMES, runtimes_for
from edgecnn.targets.target import Found, Target, TargetFailure, find_targets, installed_targets


@dataclass(frozen=True, slots=True)
class Ran:
    """Where A runs, and where B."""

    a: Target
    b: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Pairs of targets, what could not be reached, and what globs passed over."""

    pairs: tuple[Ran, ...]
    failures: tuple[TargetFailure, ...] = ()
    notes: tuple[str, ...] = ()


def places(
    a: Source, b: Source, both: Sequence[str], for_a: Sequence[str], for_b: Sequence[str], time_limit: float | None
) -> Places:
    """The pairs of targets to compare on.

    Where both files run on the same targets, each target is a pair with itself; else each of A's is one with each of
    B's.

    Raises:
        UsageError: if a name is wrong, or names nothing that runs its file.
        TargetError: if no runtime here runs a file and no target was given for it.
    """
    if both and for_a and for_b:
        raise UsageError("--target with both --target-a and --target-b has no effect", hint="leave --target out")
    asked = {names: _found(names, time_limit) for names in {tuple(for_a or both), tuple(for_b or both)} if names}
    found_a, found_b = (asked.get(tuple(own or both)) for own in (for_a, for_b))
    here = installed_targets(time_limit=time_limit) if found_a is None or found_b is None else []
    all_a, all_b = (
        [_installed(source, here)] if found is None else _running(source, found)
        for source, found in ((a, found_a), (b, found_b))
    )
    if both:
        _check_used(found_b if for_a else found_a, a, b)
    failures = tuple(dict.fromkeys(f for found in asked.values() for f in found.failures))
    notes = tuple(note for found in asked.values() for note in found.notes)
    return Places(pairs=tuple(_pairs(all_a, all_b)), failures=failures, notes=notes)


def _found(names: Sequence[str], time_limit: float | None) -> Found:
    found = find_targets(names, time_limit=time_limit)
    if found.failures and not found.targets:
        raise found.failures[0].error
    return found


def _installed(source: Source, here: Sequence[Target]) -> Target:
    """The first runtime here, in the order of the table of runtimes."""
    for target in here:
        if source.format in RUNTIMES[target.runtime].formats:
            return target
    row = runtimes_for(source.format)[0]
    raise TargetError(
        f"no runtime here runs {source.name}",
        hint=f"python -m pip install {row.distribution}\nor --target for another place: edgecnn targets",
    )


def _running(source: Source, found: Found) -> list[Target]:
    """Those of the targets that run a file's format."""
    running = [t for t in found.targets if source.format in RUNTIMES[t.runtime].formats]
    if not running:
        names = ", ".join(t.name for t in found.targets)
        suitable = ", ".join(row.name for row in runtimes_for(source.format))
        raise UsageError(f"{source.name} runs on none of {names}", hint=f"a target with one of: {suitable}")
    return running


def _check_used(found: Found | None, a: Source, b: Source) -> None:
    """Refuse a target that was named and runs neither file."""
    for target in found.targets if found else ():
        if target.asked_for and not {a.format, b.format} & set(RUNTIMES[target.runtime].formats):
            raise UsageError(f"{target.name} runs neither {a.name} nor {b.name}", hint="another target")


def _pairs(all_a: Sequence[Target], all_b: Sequence[Target]) -> list[Ran]:
    if [t.name for t in all_a] == [t.name for t in all_b]:
        return [Ran(t, t) for t in all_a]
    return [Ran(x, y) for x in all_a for y in all_b]
