"""This machine as a host whose agent is started once for the whole session: checks by the dozen take no time."""

from __future__ import annotations

from typing import Any, Self

from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.names import TargetName
from edgecnn.targets.target import Target


class Kept:
    """A connection that its users cannot close."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Keep it open."""

    def close(self) -> None:
        """Keep it open."""


class SharedHost(LocalHost):
    """Gives out one connection again and again."""

    def __init__(self, connection: Any) -> None:
        super().__init__()
        object.__setattr__(self, "_kept", Kept(connection))

    @property
    def kind(self) -> str:
        """Not ``local``, where a check starts an agent for each core: there is only this one."""
        return "shared"

    def start(self, environment: str = "", *, time_limit: float = 0) -> Any:
        """The connection."""
        return self._kept


def shared_target(agent: Any, runtime: str, place: str = "local", **options: Any) -> Target:
    """A runtime of that agent, as a target with the name that it has at its place."""
    return Target(
        runtime=runtime,
        host=SharedHost(agent),
        options=options,
        name=str(TargetName(runtime=runtime, options=tuple(sorted(options.items())), host=place)),
    )
