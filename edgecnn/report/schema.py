"""JSON Schemas of the output of ``check --json`` and ``ci --json``, generated from the classes that they write.

``docs/generate.py`` writes both files; a test fails if they are out of date.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import msgspec

from edgecnn.locate.location import Location
from edgecnn.parity.plain_session import PlainSession
from edgecnn.parity.verdict import SCHEMA, WHEN_LOCATED, Verdict
from edgecnn.report.outcome import Outcome

CI_SCHEMA = 2
"""Schema number of ``ci --json``; it changes whenever that of the verdicts does."""
DRAFT = "https://json-schema.org/draft/2020-12/schema"
_ERROR = {
    "target": "the target it should have run on",
    "artifact": "the file; empty for all files",
    "message": "what went wrong",
    "where": "the file, layer or line it concerns",
    "why": "the cause, if known",
    "try": "what to try",
}
_SPOKEN = {"type": "array", "items": {"type": "string"}, "description": "further notes for the user"}
_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
"""JSON has no NaN and no infinities; they are written as strings."""


def check_schema() -> dict[str, Any]:
    """The JSON Schema of ``edgecnn check --json``."""
    verdict, defs = _object(Verdict)
    location, more = _object(Location)
    plain, _ = _object(PlainSession)
    lists = {"verdicts": _list(verdict), "unjudged": _list(_error()), "locations": _list(location)}
    lists["plain_sessions"] = _list(plain)
    return _document("edgecnn check --json", SCHEMA, lists, {**defs, **more})


def ci_schema() -> dict[str, Any]:
    """The JSON Schema of ``edgecnn ci --json``."""
    verdict, defs = _object(Verdict)
    outcome, more = _object(Outcome)
    model = {"type": "string", "description": "the model's name in edgecnn.toml"}
    verdict = {**verdict, "properties": {"model": model, **verdict["properties"]}}
    verdict["required"] = ["model", *verdict["required"]]
    lists = {"verdicts": _list(verdict), "outcomes": _list(outcome)}
    return _document("edgecnn ci --json", CI_SCHEMA, lists, {**defs, **more})


def _document(title: str, number: int, lists: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "schema": {"const": number, "description": "version of this format"},
        "passed": {"type": "boolean", "description": "whether everything could be judged and passed"},
        **lists,
        "notes": _SPOKEN,
    }
    whole: dict[str, Any] = {"$schema": DRAFT, "title": title, "type": "object", "properties": properties}
    return {**whole, "required": list(properties), "$defs": {**defs, "number": _NUMBER}}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _error() -> dict[str, Any]:
    properties = {key: {"type": "string", "description": text} for key, text in _ERROR.items()}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _object(kind: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of a dataclass, with descriptions from its docstring, and the definitions that it refers to."""
    (whole,), defs = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    own = defs.pop(whole["$ref"].rpartition("/")[2])
    texts = _described(kind)
    properties = {
        name: {"description": texts[name], **_written(value)} if name in texts else _written(value)
        for name, value in own["properties"].items()
    }
    required = [name for name in properties if name not in WHEN_LOCATED]
    schema = {"type": "object", "properties": properties, "required": required}
    return schema, {name: _written(value) for name, value in defs.items()}


def _written(value: Any) -> Any:
    """A schema without defaults, docstrings and class names, and with the strings for NaN and infinities."""
    if isinstance(value, list):
        return [_written(v) for v in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "number":
        return {"$ref": "#/$defs/number"}
    dropped = ("default", "title") if "properties" not in value else ("default", "title", "description")
    return {k: _written(v) for k, v in value.items() if k not in dropped}


def _described(kind: type) -> dict[str, str]:
    """The descriptions in the section ``Attributes`` of a class's docstring, by attribute."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()).replace("``", "`") for name, text in found}
