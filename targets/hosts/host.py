"""Hosts: places where the agent can be started, under one interpreter or several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from edgecnn.errors import TargetError
from edgecnn.targets.hosts.connection import DEFAULT_TIME_LIMIT, Connection
from edgecnn.targets.hosts.machine_info import AgentInfo

DEFAULT_ENVIRONMENT = ""
"""The name of a host's first environment."""


class Host(Protocol):
    """A place where the agent can be started: this machine, one over ssh, or an emulated board.

    A host has one environment (an interpreter with its packages) or several, since some runtimes cannot share one:
    tflite-runtime needs numpy 1, the others run with numpy 2.

    Attributes:
        name: What the user and errors call it.
        kind: ``local``, ``ssh`` or ``emulated``.
        environments: Names of its environments; the first is `DEFAULT_ENVIRONMENT`, others have the name of the runtime
            they are for.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  (in the class's docstring)

    @property
    def kind(self) -> str: ...  # noqa: D102

    @property
    def environments(self) -> tuple[str, ...]: ...  # noqa: D102

    def start(self, environment: str = DEFAULT_ENVIRONMENT, *, time_limit: float = DEFAULT_TIME_LIMIT) -> Connection:
        """Start an agent.

        Args:
            environment: One of `environments`.
            time_limit: Seconds for each call that does not state its own.

        Raises:
            TargetError: The agent cannot be started.
        """


def check_environment(host: Host, environment: str) -> None:
    """Check that a host has an environment.

    Raises:
        TargetError: It has not; the error names those it has.
    """
    if environment not in host.environments:
        raise TargetError(f"{host.name} has no environment {environment!r}", hint=f"one of {host.environments}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRuntimes:
    """A runtime on a host: its environment, and its version if the package states one."""

    environment: str
    version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The environments and runtimes of a host.

    Attributes:
        agents: What the agent reports, by the environment in which it could be started.
        runtimes: The runtimes, by name; of several environments that have one, the first.
        problems: Why the agent could not be started, by environment.
    """

    agents: Mapping[str, AgentInfo]
    runtimes: Mapping[str, FoundRuntimes]
    problems: Mapping[str, TargetError]


def survey(host: Host, *, time_limit: float = DEFAULT_TIME_LIMIT) -> Survey:
    """Start an agent in each environment of a host and ask what is there. Errors of the host become `problems`."""
    agents: dict[str, AgentInfo] = {}
    runtimes: dict[str, FoundRuntimes] = {}
    problems: dict[str, TargetError] = {}
    for environment in host.environments:
        try:
            with host.start(environment, time_limit=time_limit) as connection:
                agents[environment] = connection.hello()
        except TargetError as error:
            problems[environment] = error
            continue
        own = agents[environment].runtimes
        for name in (
            [environment] if environment in own else own
        ):  # an environment for a runtime is for that runtime only
            runtimes.setdefault(name, FoundRuntimes(environment=environment, version=own[name]))
    return Survey(
        agents=MappingProxyType(agents), runtimes=MappingProxyType(runtimes), problems=MappingProxyType(problems)
    )
