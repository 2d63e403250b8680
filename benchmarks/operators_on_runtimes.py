"""Every operator on every runtime and emulated board, float and int8: the tables of docs/runtimes.md.

``python benchmarks/operators_on_runtimes.py [--places GLOB,...] [--each N] [--write]`` takes the operators of all test
cases (tests/cases), each with its settings and shapes once, and at most N of each kind, spread evenly (default: all).
They run in parallel branches of files of forty operators: in int8 on the golden executor's integers by the runtime's
own rule, in float on random values, compared with torch. A file that a runtime refuses is split until the refused
operator is known. ``--places 'litert*,*@pi3'`` measures only these places. ``--write`` stores the measurements in
benchmarks/operators_on_runtimes.jsonl, after every place, and generates the tables of docs/runtimes.md from it; places
that were not measured now keep their results. Without it, only the new results are printed. Boards must have been built
(``edgecnn targets emulate``); missing runtimes are reported.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from cases import CASES
from support.environments import python_of
from support.int8 import ALL, Executor
from support.operators import FORMS, RULES, Cell, chosen, float_parts, int8_parts, survey, writable

from edgecnn.targets.boards import load_boards
from edgecnn.targets.emulation.build import is_built
from edgecnn.targets.hosts.emulated import EmulatedHost
from edgecnn.targets.hosts.local import LocalHost

PAGE = Path(__file__).parent.parent / "docs" / "runtimes.md"
MEASURED = Path(__file__).with_suffix(".jsonl")
BEGIN, END = "<!-- operators: benchmarks/operators_on_runtimes.py -->", "<!-- end of operators -->"
SLOW = 600.0
HERE = "here"
LOCAL_NAMES = {"xnnpack": "litert", "reference": "litert reference"}
"""The page's names of runtimes on this machine that the tests name by their kernels."""
Cells = dict[tuple[str, str], Cell]
Place = tuple[str, Executor, Callable[[], Any]]


def places() -> Iterator[Place]:
    """Name, executor and starter of the agent for every available place; the others are reported."""
    for name, executor in ALL.items():
        python = python_of(executor.runtime)
        if python is None:
            print(f"{name}: not installed, skipped", file=sys.stderr)
            continue
        yield f"{LOCAL_NAMES.get(name, name)}@{HERE}", executor, LocalHost(python).start
    for board in load_boards().values():
        if board.emulation is None:
            continue
        if not is_built(board):
            print(f"{board.name}: not built, skipped", file=sys.stderr)
            continue
        host = EmulatedHost(board)
        for runtime, form in FORMS.items():
            if runtime in board.runtimes:
                start = _starter(host, host.environment_of(runtime))
                yield f"{runtime}@{board.name}", Executor(form, runtime, {}, RULES[runtime]), start


def _starter(host: EmulatedHost, environment: str) -> Callable[[], Any]:
    return lambda: host.start(environment, time_limit=SLOW)


def said(cell: Cell, precision: str) -> str:
    """The text for an operator's result at a place."""
    if cell.lost == cell.parts:
        return "not offered"
    some = f", {cell.lost} of {cell.parts} not offered" if cell.lost else ""
    if precision == "fp32":
        return ("yes" if not cell.off else f"{cell.worst:.0e}") + some
    return ("exact" if not cell.off else f"{cell.off:,} of {cell.values:,} by {cell.worst:.0f}") + some


def grouped(texts: Mapping[str, str]) -> str:
    """One cell of the table: the result of most places, then the other results with the names of their places.

    Args:
        texts: What is said, by place.
    """
    if not texts:
        return "-"
    by_text: dict[str, list[str]] = defaultdict(list)
    for place, text in texts.items():
        by_text[text].append(place)
    first, *others = sorted(by_text, key=lambda t: -len(by_text[t]))
    return "; ".join([first, *(f"{', '.join(by_text[t])}: {t}" for t in others)])


def table(found: Mapping[str, Cells], precision: str) -> str:
    """One precision: a row for each operator, a column for each runtime; and below it why some are not offered."""
    runtimes = list(dict.fromkeys(name.split("@")[0] for name in found))
    kinds = sorted({kind for cells in found.values() for kind, p in cells if p == precision})
    here = {r: [n.split("@")[1] for n in found if n.split("@")[0] == r] for r in runtimes}
    rows = []
    for kind in kinds:
        texts = {
            r: {h: said(c, precision) for h in here[r] if (c := found[f"{r}@{h}"].get((kind, precision))) is not None}
            for r in runtimes
        }
        rows.append([kind, *(grouped(texts[r]) for r in runtimes)])
    lines = [f"| {' | '.join(row)} |" for row in (["operator", *runtimes], ["---"] * (len(runtimes) + 1), *rows)]
    notes = reasons(found, precision, kinds)
    return "\n".join([*lines, *([""] if notes else []), *notes])


def reasons(found: Mapping[str, Cells], precision: str, kinds: Sequence[str]) -> list[str]:
    """The runtimes' own messages about operators that they do not offer."""
    why: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, cells in found.items():
        for kind in kinds:
            if (cell := cells.get((kind, precision))) is not None and cell.refused:
                runtime = name.split("@")[0]
                if runtime not in why[kind, cell.refused]:
                    why[kind, cell.refused].append(runtime)
    return [f"- {kind}, {', '.join(runtimes)}: {text}" for (kind, text), runtimes in why.items()]


def read_measured(each: int | None) -> dict[str, Cells]:
    """Earlier measurements with the same number of operators of each kind, by place."""
    found: dict[str, Cells] = defaultdict(dict)
    for line in MEASURED.read_text(encoding="utf-8").splitlines() if MEASURED.exists() else []:
        row = json.loads(line)
        if row["each"] != each:
            sys.exit(f"{MEASURED.name} holds {row['each']} operators of each kind: --each {row['each']}, or remove it")
        found[row["place"]] |= {(kind, row["precision"]): Cell(**cell) for kind, cell in row["cells"].items()}
    return dict(found)


def write(found: Mapping[str, Cells], order: Sequence[str], precisions: Sequence[str], each: int | None) -> None:
    """Store the measurements, and put the tables into the page."""
    found = {name: found[name] for name in [*order, *sorted(set(found) - set(order))] if name in found}
    lines = []
    for name, cells in found.items():
        for p in precisions:
            # Values that are 0 or empty are the cell's defaults.
            own = {k: {n: v for n, v in asdict(c).items() if v} for (k, q), c in cells.items() if q == p}
            lines.append(json.dumps({"place": name, "precision": p, "each": each, "cells": own}))
    MEASURED.write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = "\n\n".join(f"### {p}\n\n{table(found, p)}" for p in precisions)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(f"{page.split(BEGIN)[0]}{BEGIN}\n\n{text}\n\n{END}{page.split(END)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--places", default="*", help="globs such as litert@pi3; all by default")
    parser.add_argument("--each", type=int, help="operators of each kind; all if not given")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rules = sorted({x.rounding for x in ALL.values()} | set(RULES.values()))
    everywhere = list(places())
    wanted = [p for p in everywhere if any(fnmatchcase(p[0], glob) for glob in arguments.places.split(","))]
    found = read_measured(arguments.each) if arguments.write else {}
    parts = {
        "fp32": chosen(float_parts(CASES), arguments.each),
        "int8": chosen(int8_parts(rules, CASES), arguments.each),
    }
    print(", ".join(f"{len(v)} operators in {p}" for p, v in parts.items()), file=sys.stderr, flush=True)
    for name, executor, start in wanted:
        cells: Cells = {}
        with start() as agent:
            for precision, every in parts.items():
                survey(agent, executor, [p for p in every if writable(p, executor.form)], cells, precision)
        found[name] = cells
        print(f"{name}: done", file=sys.stderr, flush=True)
        if arguments.write:
            write(found, [p[0] for p in everywhere], list(parts), arguments.each)
    if not arguments.write:
        print("\n\n".join(f"### {p}\n\n{table(found, p)}" for p in parts))


if __name__ == "__main__":
    main()
