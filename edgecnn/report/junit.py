"""Outcomes as JUnit XML, which CI systems display as tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from xml.etree import ElementTree as ET

from edgecnn.report.outcome import Outcome, Status, number, totals
from edgecnn.report.xmltext import xml_text

_TAGS: dict[Status, str] = {"failed": "failure", "error": "error", "skipped": "skipped"}


def junit(outcomes: Sequence[Outcome], name: str) -> str:
    """Format outcomes as JUnit XML: a suite for each step of each model, and a case for each outcome, in order.

    It contains no times, so that the same outcomes give the same bytes.

    Args:
        outcomes: All outcomes.
        name: Name of the whole report.
    """
    root = ET.Element("testsuites", {"name": xml_text(name), **_counts(outcomes)})
    for (model, step), group in groupby(outcomes, key=lambda o: (o.model, o.step)):
        members = list(group)
        suite = ET.SubElement(root, "testsuite", {"name": xml_text(f"{model} {step}"), **_counts(members)})
        seen: Counter[str] = Counter()
        for outcome in members:
            seen[outcome.name] += 1
            _case(suite, outcome, seen[outcome.name])
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _counts(outcomes: Sequence[Outcome]) -> dict[str, str]:
    count = totals(outcomes)
    return {
        "tests": str(len(outcomes)),
        "failures": str(count["failed"]),
        "errors": str(count["error"]),
        "skipped": str(count["skipped"]),
    }


def _case(suite: ET.Element, outcome: Outcome, number_of_name: int) -> None:
    name = outcome.name if number_of_name == 1 else f"{outcome.name} ({number_of_name})"
    case = ET.SubElement(
        suite, "testcase", {"classname": xml_text(f"{outcome.model}.{outcome.step}"), "name": xml_text(name)}
    )
    if outcome.status in _TAGS:
        element = ET.SubElement(case, _TAGS[outcome.status], {"message": xml_text(outcome.message)})
        if outcome.status != "skipped":
            element.set("type", outcome.metric or outcome.step)
            element.text = xml_text("\n".join((outcome.message, *_measured(outcome), *outcome.details)))
    else:
        lines = (*_measured(outcome), *outcome.details)
        if lines:
            ET.SubElement(case, "system-out").text = xml_text("\n".join(lines))


def _measured(outcome: Outcome) -> tuple[str, ...]:
    if outcome.value is None:
        return ()
    return (f"{outcome.metric}: {number(outcome.value)}, limit {number(outcome.limit)}",)
