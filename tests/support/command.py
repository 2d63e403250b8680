"""The command line in the tests' own process."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner

from edgecnn.cli import cli, main
from edgecnn.errors import EdgecnnError


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


def invoke(*arguments: object) -> tuple[int, str]:
    """Run ``edgecnn`` with arguments by click's runner.

    Returns:
        The exit code, and what the command printed; of an error that a user is meant to see its words.
    """
    result = CliRunner().invoke(cli, list(map(str, arguments)), standalone_mode=False)
    if isinstance(result.exception, EdgecnnError):
        return 2, str(result.exception)
    if isinstance(result.exception, click.ClickException):
        return result.exception.exit_code, result.exception.format_message()
    assert result.exception is None, result.exception
    return result.return_value, result.output
