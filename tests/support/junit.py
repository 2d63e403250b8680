"""What CI systems (Jenkins, GitLab, GitHub's actions) take for JUnit XML, by the XSD that they share."""

from __future__ import annotations

from xml.etree import ElementTree as ET

COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}
SUITE = {"name", "tests", *COUNTED}
CASE = {"name", "classname"}
WITHIN = {"failure", "error", "skipped", "system-out", "system-err", "properties"}


def read_junit(text: str) -> ET.Element:
    """The document, after every rule of the schema was held to it."""
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    root = ET.fromstring(text.encode())
    assert root.tag == "testsuites"
    check_counts(root)
    names = set()
    for suite in root:
        assert suite.tag == "testsuite"
        assert set(suite.attrib) >= SUITE
        check_counts(suite)
        for case in suite:
            assert case.tag == "testcase"
            assert set(case.attrib) >= CASE
            assert all(case.attrib[key] for key in CASE)
            assert {child.tag for child in case} <= WITHIN
            assert sum(child.tag in COUNTED.values() for child in case) <= 1
            for child in case:
                assert child.tag not in ("failure", "error") or set(child.attrib) == {"message", "type"}
            names.add((case.attrib["classname"], case.attrib["name"]))
    assert len(names) == len(root.findall(".//testcase"))
    return root


def check_counts(element: ET.Element) -> None:
    """What an element says of the cases in it is so."""
    assert int(element.attrib["tests"]) == len(element.findall(".//testcase"))
    for attribute, tag in COUNTED.items():
        assert int(element.attrib[attribute]) == len(element.findall(f".//{tag}"))
