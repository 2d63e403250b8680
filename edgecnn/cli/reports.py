"""``--json``, ``--junit``, ``--markdown``, and what GitHub shows: one way for every command that judges."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecnn.cli.files import TEXT, XML, one_on_stdout, put_json, put_text
from edgecnn.cli.options import json_option
from edgecnn.errors import EdgecnnError

if TYPE_CHECKING:
    from edgecnn.report.github import SourceLine
    from edgecnn.report.outcome import Outcome

F = TypeVar("F", bound=Callable[..., Any])


def report_options(command: F) -> F:
    """``--json``, ``--junit`` and ``--markdown``."""
    for option, kind, text in (
        ("--markdown", TEXT, "Write a summary as Markdown, as for a job's page; - as for --json."),
        ("--junit", XML, "Write JUnit XML, as CI systems read it; - as for --json."),
    ):
        name = f"{option.removeprefix('--')}_file"
        command = click.option(option, name, type=kind, metavar="FILE", help=text)(command)
    return json_option(command)


class Reports:
    """The reports that were asked for, by options or by GitHub's variables.

    Args:
        title: Of the whole: the command.
        files: What the options say, by parameter's name; among them a plot's, where the command has ``--plot``.

    Raises:
        UsageError: Two of them are to go to standard output.
    """

    def __init__(self, title: str, files: Mapping[str, Any]) -> None:
        self._title = title
        names = ("json", "junit", "markdown", "plot")
        self._files: dict[str, Path | None] = {f"--{n}": files.get(f"{n}_file") for n in names}
        self.prints_text = not one_on_stdout(self._files)
        """Whether standard output is free for a table."""

    @property
    def asked_for(self) -> list[str]:
        """The options that were given."""
        return [option for option, file in self._files.items() if file is not None]

    def publish(
        self,
        outcomes: Sequence[Outcome],
        value: Any,
        *,
        notes: Sequence[str] = (),
        places: Mapping[str, SourceLine] | None = None,
        plot: str = "",
    ) -> None:
        """Write all of them; one that cannot be written keeps no other from it.

        On GitHub annotations are printed too: to standard output, which is documented to work, or to standard error
        where a report has standard output for itself.

        Args:
            outcomes: What came of everything.
            value: The same for ``--json``.
            notes: What else is to be said in Markdown.
            places: Where each model is spoken of.
            plot: The same as a picture, for ``--plot``.

        Raises:
            UsageError: One could not be written.
        """
        from edgecnn.report.github import add_summary, annotate
        from edgecnn.report.junit import junit
        from edgecnn.report.markdown import markdown

        page = markdown(outcomes, self._title, notes)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        problems = [
            _attempt(lambda: put_json(self._files["--json"], value)),
            _attempt(lambda: put_text(self._files["--junit"], junit(outcomes, self._title))),
            _attempt(lambda: put_text(self._files["--markdown"], page)),
            _attempt(lambda: put_text(self._files["--plot"], plot)),
            _attempt(lambda: add_summary(Path(summary), page) if summary else None),
        ]
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for line in annotate(outcomes, places):
                click.echo(line, err=not self.prints_text)
        for problem in problems:
            if problem is not None:
                raise problem


def _attempt(write: Callable[[], object]) -> EdgecnnError | None:
    try:
        write()
    except EdgecnnError as error:
        return error
    return None
