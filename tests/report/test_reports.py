"""Reports: JUnit XML, Markdown, GitHub's annotations and summary, and the schema of the JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import jsonschema
import pytest
from support.junit import read_junit

from edgecnn.errors import TargetError, UsageError
from edgecnn.report.github import MOST_ANNOTATIONS, MOST_BYTES, MOST_LETTERS, SourceLine, add_summary, annotate
from edgecnn.report.junit import junit
from edgecnn.report.markdown import markdown
from edgecnn.report.outcome import Outcome, error_outcome, exit_code, summary
from edgecnn.report.schema import check_schema, ci_schema

GOOD = Outcome(
    model="net",
    step="check",
    artifact="net.int8.tflite",
    target="litert@pi4",
    subject="32 golden inputs, output",
    metric="lsb_max",
    value=0.0,
    limit=0.0,
    size=54_192,
)
BAD = replace(
    GOOD,
    subject="digits, output",
    value=7.25,
    status="failed",
    message="the largest difference is 7.2, the limit 0",
    layer="features.3",
    cause="the layer rounds half to even",
)
LOST = error_outcome(
    TargetError("kitchen: no answer", where="ssh://pi@kitchen", why="timed out", hint="is it on?"),
    "net",
    "check",
    artifact="net.fp32.onnx",
    target="onnxruntime@kitchen",
)
IDLE = Outcome(model="other", step="bench", status="skipped", message="there is no bundle")
ALL = [GOOD, BAD, LOST, IDLE]


@pytest.mark.parametrize(
    ("outcomes", "code", "words"),
    [
        ([GOOD], 0, "passed: 1 of 1"),
        ([GOOD, BAD], 1, "failed: 1 of 2 failed"),
        ([GOOD, LOST], 2, "incomplete: 1 could not be judged"),
        (ALL, 1, "failed: 1 of 4 failed, 1 could not be judged, 1 not run"),
        ([GOOD, IDLE], 2, "incomplete: 1 not run"),
        ([], 2, "nothing was checked"),
    ],
)
def test_exit_codes(outcomes, code, words) -> None:
    assert exit_code(outcomes) == code
    assert summary(outcomes) == words


def test_junit() -> None:
    root = read_junit(junit(ALL, "edgecnn ci"))
    assert [s.attrib["name"] for s in root] == ["net check", "other bench"]
    assert {k: root.attrib[k] for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.attrib == {"message": BAD.message, "type": "lsb_max"}
    assert failure.text is not None
    for part in ("lsb_max: 7.25, limit 0", "layer: features.3", "cause: the layer rounds", "file: 54,192 bytes"):
        assert part in failure.text
    cases = [case.attrib["name"] for case in root.findall(".//testcase")]
    assert cases[1] == "net.int8.tflite on litert@pi4, digits, output"


def test_junit_of_anything() -> None:
    """Control characters and markup are no XML, and two cases may not have one name."""
    odd = replace(BAD, subject="\x1b[31m<b>&\ud800\"'", message="a\x00b\nc", layer="é")
    root = read_junit(junit([odd, odd, odd], "x\x07"))
    names = [case.attrib["name"] for case in root.findall(".//testcase")]
    assert names[0].endswith("\ufffd[31m<b>&\ufffd\"'")
    assert names[1:] == [f"{names[0]} (2)", f"{names[0]} (3)"]
    assert read_junit(junit([], "nothing")).attrib["tests"] == "0"


def test_the_same_outcomes_give_the_same_bytes() -> None:
    assert junit(ALL, "x") == junit(list(ALL), "x")
    assert markdown(ALL, "x") == markdown(list(ALL), "x")


def test_markdown_names_what_is_wrong_first() -> None:
    text = markdown([*ALL, replace(BAD, artifact="a|b_<i>", message="x `y`")], "edgecnn ci", ["a *note*"])
    lines = text.splitlines()
    assert lines[0] == "## edgecnn ci: failed: 2 of 5 failed, 1 could not be judged, 1 not run"
    assert lines[2].startswith("- **net.int8.tflite on litert@pi4, digits, output** (check): the largest")
    assert "  - layer: features.3" in lines
    assert "  - try: is it on?" in lines
    assert "- note: a \\*note\\*" in lines
    rows = [line for line in lines if line.startswith("| ")]
    assert rows[0] == "| result | artifact | target | what | measured | limit | file |"
    assert (
        rows[3]
        == "| FAILED | net.int8.tflite | litert@pi4 | check, digits, output, lsb\\_max | 7.25 | 0 | 54,192 bytes |"
    )
    assert "| FAILED | a\\|b\\_&lt;i&gt; |" in rows[-1]
    assert "<i>" not in text
    assert "details" not in markdown([GOOD], "x")


def test_annotations_are_escaped_as_github_says() -> None:
    odd = replace(BAD, artifact="a,b:c%", message="50% wrong:\r\nhere, too", layer="", cause="", size=None)
    (line,) = annotate([GOOD, odd], {"net": SourceLine("deep/edgecnn.toml", 7)})
    assert line == (
        "::error file=deep/edgecnn.toml,line=7,title=edgecnn check%3A a%2Cb%3Ac%25 on litert@pi4 failed"
        "::digits, output: 50%25 wrong:%0D%0Ahere, too"
    )
    (line,) = annotate([LOST])
    assert line.startswith("::error title=edgecnn check%3A net.fp32.onnx on onnxruntime@kitchen could not be judged::")
    assert line.endswith("kitchen: no answer%0Awhere: ssh://pi@kitchen%0Awhy: timed out%0Atry: is it on?")
    assert annotate([GOOD, IDLE]) == []


def unescaped(line: str) -> tuple[dict[str, str], str]:
    """A command as GitHub's runner reads it: properties end at the first ``::`` and are parted by commas."""
    head, _, data = line.removeprefix("::error ").partition("::")
    pairs = [pair.split("=", 1) for pair in head.split(",")]
    codes = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))

    def plain(text: str, known: Sequence[tuple[str, str]]) -> str:
        for code, character in known:
            text = text.replace(code, character)
        return text

    return {k: plain(v, codes) for k, v in pairs}, plain(data, [c for c in codes if c[1] not in ":,"])


@pytest.mark.parametrize("odd", ["a::b", "50%", "x,y=z", "%3A %2C", "1\r\n2", "::error::injected", "é\U0001f600"])
def test_any_text_comes_through_githubs_commands(odd: str) -> None:
    """Nothing of it ends a property or the line, so that nothing can be taken for a command of its own."""
    (line,) = annotate([replace(BAD, artifact=odd, message=odd, subject=odd)], {"net": SourceLine(f"{odd}.toml", 3)})
    assert len(line.splitlines()) == 1
    properties, data = unescaped(line)
    assert set(properties) == {"file", "line", "title"}
    assert properties["file"] == f"{odd}.toml"
    assert odd in properties["title"]
    assert data.startswith(f"{odd}: {odd}")


def test_a_message_is_no_longer_than_the_runner_takes() -> None:
    (line,) = annotate([replace(BAD, message="%" * 5000)])
    data = unescaped(line)[1]
    assert len(data) == MOST_LETTERS
    assert data.endswith("%…")


def test_no_more_annotations_than_github_shows() -> None:
    many = [replace(BAD, artifact=f"{i}.onnx") for i in range(MOST_ANNOTATIONS + 1)]
    lines = annotate(many)
    assert len(lines) == MOST_ANNOTATIONS
    assert lines[-1].startswith("::error title=edgecnn%3A 2 more::9.onnx on ")
    assert "10.onnx" in lines[-1]
    assert len(annotate(many[:-1])) == MOST_ANNOTATIONS


def test_summaries_of_one_step_fit_together(tmp_path) -> None:
    """GitHub counts the whole file of a step, and drops all of it where that is too long."""
    file = tmp_path / "summary"
    page = markdown([replace(GOOD, artifact=f"{i}.onnx") for i in range(6000)] + [BAD], "edgecnn check")
    assert MOST_BYTES / 3 < len(page.encode()) < MOST_BYTES
    for _ in range(4):
        add_summary(file, page)
        assert file.stat().st_size <= MOST_BYTES
    text = file.read_text()
    assert MOST_BYTES - 200 < len(text.encode()) <= MOST_BYTES
    assert text.count("<details>") == text.count("</details>")
    assert "|\n\n</details>\n\nThe rest does not fit GitHub's summary.\n" in text


def test_the_summary_is_added_to_what_is_there(tmp_path) -> None:
    file = tmp_path / "summary"
    file.write_text("before\n")
    add_summary(file, "é\n")
    assert file.read_text() == "before\né\n"
    add_summary(tmp_path / "long", "ä" * 99 + "\n" + "x\n" * MOST_BYTES)
    assert len((tmp_path / "long").read_bytes()) <= MOST_BYTES
    assert (tmp_path / "long").read_text().endswith("x\n\nThe rest does not fit GitHub's summary.\n")
    add_summary(tmp_path / "long", "more\n")
    assert len((tmp_path / "long").read_bytes()) <= MOST_BYTES
    with pytest.raises(UsageError, match="cannot be written"):
        add_summary(tmp_path, "x")


@pytest.mark.parametrize("schema", [check_schema(), ci_schema()], ids=["check", "ci"])
def test_the_schemas_are_schemas(schema) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    verdict = schema["properties"]["verdicts"]["items"]
    needed = {"artifact", "target", "metric", "value", "limit", "passed"}
    assert needed <= set(verdict["required"])
    assert "layer" in verdict["properties"]
    assert "layer" not in verdict["required"]
    assert all("description" in value for value in verdict["properties"].values())


def test_what_the_schema_refuses() -> None:
    validator = jsonschema.Draft202012Validator(ci_schema())
    plain = json.loads(json.dumps(BAD.as_json()))
    good = {"schema": 2, "passed": False, "verdicts": [], "outcomes": [plain], "notes": []}
    validator.validate(good)
    assert not list(validator.iter_errors({**good, "outcomes": [{**plain, "value": "nan"}]}))
    for wrong in (
        {"schema": 1},
        {"passed": "no"},
        {"outcomes": [{**plain, "value": "much"}]},
        {"outcomes": [{**plain, "status": "fine"}]},
        {"verdicts": [{"artifact": "x"}]},
    ):
        assert list(validator.iter_errors({**good, **wrong}))
