"""The command line in the tests' own process."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from edgecnn.cli import main


class Result(NamedTuple):
    """What a command wrote."""

    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class Command:
    """``edgecnn`` with arguments: its exit code is checked, and no traceback may be seen that was not asked for."""

    monkeypatch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object, code: int = 0) -> Result:
        self.monkeypatch.setattr(sys, "argv", ["edgecnn", *map(str, arguments)])
        self.capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        result = Result(*self.capfd.readouterr())
        assert stop.value.code == code, result
        assert "Traceback" not in result.stderr or {"--debug", "--verbose"} & set(arguments)
        return result
