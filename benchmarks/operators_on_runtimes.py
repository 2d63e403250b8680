"""Every operator on every runtime and emulated board, float and int8: the tables of docs/runtimes.md.

``python benchmarks/operators_on_runtimes.py [--boards B,...] [--each N] [--write]`` takes the operators of all cases of
the tests (tests/cases.py), each with its settings and shapes once, and of each kind at most N, spread evenly (all if
not given). They run side by side in files of forty: in int8 on the golden executor's integers by the runtime's own
rule, in float on random values, against torch. A file that a runtime refuses is taken apart, so that the operator is
named. ``--write`` puts the table into docs/runtimes.md; without it, it is printed. Interrupted, it shows the places
that are done. Boards must have been built (``edgecnn targets emulate``); runtimes that are missing are said.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from cases import CASES
from int8_support import ALL, Executor, python_of
from operators_support import FORMS, RULES, Cell, chosen, float_parts, int8_parts, survey, writable

from edgecnn.targets.boards import load_board
from edgecnn.targets.hosts.emulated import EmulatedHost
from edgecnn.targets.hosts.local import LocalHost

PAGE = Path(__file__).parent.parent / "docs" / "runtimes.md"
BEGIN, END = "<!-- operators: benchmarks/operators_on_runtimes.py -->", "<!-- end of operators -->"
SLOW = 600.0


def said(cell: Cell | None, precision: str) -> str:
    """A cell of the table."""
    if cell is None or not cell.parts:
        return "-"
    if cell.lost == cell.parts:
        return "not offered"
    some = f", {cell.lost} of {cell.parts} not offered" if cell.lost else ""
    if precision == "fp32":
        return ("yes" if not cell.off else f"{cell.worst:.0e}") + some
    return ("exact" if not cell.off else f"{cell.off:,} of {cell.values:,} by {cell.worst:.0f}") + some


def places(boards: Sequence[str], stack: ExitStack) -> Iterator[tuple[str, Executor, Any]]:
    """Name, executor and agent of each place, started when it is its turn."""
    for name, executor in ALL.items():
        if (python := python_of(executor.runtime)) is None:
            print(f"{name}: not installed, left out", file=sys.stderr)
            continue
        yield name, executor, stack.enter_context(LocalHost(python).start())
    for board in boards:
        host = EmulatedHost(load_board(board))
        for runtime, form in FORMS.items():
            if runtime in host.board.runtimes:
                agent = stack.enter_context(host.start(host.environment_of(runtime), time_limit=SLOW))
                yield f"{runtime}@{board}", Executor(form, runtime, {}, RULES[runtime]), agent


def table(found: dict[str, dict[tuple[str, str], Cell]], precision: str) -> str:
    """One precision: a row for each operator, a column for each place; below it why some are not offered."""
    names = list(found)
    kinds = sorted({kind for cells in found.values() for kind, p in cells if p == precision})
    rows = [[kind, *(said(found[n].get((kind, precision)), precision) for n in names)] for kind in kinds]
    lines = [f"| {' | '.join(row)} |" for row in (["operator", *names], ["---"] * (len(names) + 1), *rows)]
    why: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        for kind in kinds:
            if (cell := found[name].get((kind, precision))) is not None and cell.refused:
                why[kind, cell.refused].append(name)
    notes = [f"- {kind}, {', '.join(where)}: {text}" for (kind, text), where in why.items()]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", default="pi2,pi3,pi4,pi5")
    parser.add_argument("--each", type=int, help="operators of each kind; all if not given")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rules = sorted({x.rounding for x in ALL.values()} | set(RULES.values()))
    parts = {
        "fp32": chosen(float_parts(CASES), arguments.each),
        "int8": chosen(int8_parts(rules, CASES), arguments.each),
    }
    print(", ".join(f"{len(v)} operators in {p}" for p, v in parts.items()), file=sys.stderr)
    found: dict[str, dict[tuple[str, str], Cell]] = {}
    boards = [b for b in arguments.boards.split(",") if b]
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        for name, executor, agent in places(boards, stack):
            cells: dict[tuple[str, str], Cell] = {}
            for precision, every in parts.items():
                survey(agent, executor, [p for p in every if writable(p, executor.form)], cells, precision)
            found[name] = cells
            print(f"{name}: done", file=sys.stderr, flush=True)
    text = "\n\n".join(f"### {p}\n\n{table(found, p)}" for p in parts)
    if not arguments.write:
        print(text)
        return
    page = PAGE.read_text()
    PAGE.write_text(f"{page.split(BEGIN)[0]}{BEGIN}\n\n{text}\n\n{END}{page.split(END)[1]}")


if __name__ == "__main__":
    main()
