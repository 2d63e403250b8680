"""The reports of every command that judges: ``--json``, ``--junit``, ``--markdown``, and GitHub's annotations."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecnn.cli.result_files import TEXT, XML, one_on_stdout, put_json, put_text
from edgecnn.cli.shared_options import json_option
from edgecnn.errors import EdgecnnError

if TYPE_CHECKING:
    from edgecnn.report.github import SourceLine
    from edgecnn.report.outcome import Outcome

F = TypeVar("F", bound=Callable[..., Any])


def report_options(command: F) -> F:
    """``--json``, ``--junit`` and ``--markdown``."""
    for option, kind, text in (
        ("--markdown", TEXT, "Write a summary as Markdown, for a job's page; - is standard output."),
        ("--junit", XML, "Write JUnit XML, for CI systems; - is standard output."),
    ):
        name = f"{option.removeprefix('--')}_file"
        command = click.option(option, name, type=kind, metavar="FILE", help=text)(command)
    return json_option(command)


class Reports:
    """The reports that options or GitHub's variables ask for.

    Args:
        title: The title of the reports: the command.
        files: The values of the options by parameter name, with ``plot_file`` if the command has ``--plot``.

    Raises:
        UsageError: if two reports would go to standard output.
    """

    def __init__(self, title: str, files: Mapping[str, Any]) -> None:
        self._title = title
        names = ("json", "junit", "markdown", "plot")
        self._files: dict[str, Path | None] = {f"--{n}": files.get(f"{n}_file") for n in names}
        self.prints_text = not one_on_stdout(self._files)
        """Whether a table may be printed to standard output."""

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
        """Write all reports, even if one of them cannot be written.

        On GitHub, also print annotations: to standard output, as GitHub documents, or to standard error if a report
        goes to standard output.

        Args:
            outcomes: The outcomes of everything that ran.
            value: The value for ``--json``.
            notes: Notes for Markdown.
            places: The file and line of each model, for annotations.
            plot: The SVG for ``--plot``.

        Raises:
            UsageError: if a report could not be written.
        """
        from edgecnn.report.github import add_summary, annotate
        from edgecnn.report.junit import junit
        from edgecnn.report.markdown import markdown

        page = markdown(outcomes, self._title, notes)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        problems = [
            _error_of(lambda: put_json(self._files["--json"], value)),
            _error_of(lambda: put_text(self._files["--junit"], junit(outcomes, self._title))),
            _error_of(lambda: put_text(self._files["--markdown"], page)),
            _error_of(lambda: put_text(self._files["--plot"], plot)),
            _error_of(lambda: add_summary(Path(summary), page) if summary else None),
        ]
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for line in annotate(outcomes, places):
                click.echo(line, err=not self.prints_text)
        for problem in problems:
            if problem is not None:
                raise problem


def _error_of(write: Callable[[], object]) -> EdgecnnError | None:
    try:
        write()
    except EdgecnnError as error:
        return error
    return None
