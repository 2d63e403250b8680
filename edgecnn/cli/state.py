"""Options that every command has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class State:
    """The values of the flags that every command has."""

    verbose: bool = False
    debug: bool = False


STATE = State()


def _set(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001  (click's signature)
    if value:
        setattr(STATE, str(param.name), True)


def common_options(command: F) -> F:
    """``--verbose`` and ``--debug``, before or after the command's name."""
    for flag, text in (
        ("--debug", "Show tracebacks."),
        ("--verbose", "Show the full text of errors."),
    ):
        command = click.option(flag, is_flag=True, expose_value=False, is_eager=True, callback=_set, help=text)(command)
    return command
