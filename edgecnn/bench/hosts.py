"""Facts about a host for a record, and the peak performance of its board."""

from __future__ import annotations

import re

import msgspec

from edgecnn.bench.records import Conditions, HostFacts
from edgecnn.targets.boards import load_boards
from edgecnn.targets.hosts.host import Host
from edgecnn.targets.hosts.machine_info import ProbeInfo

_REVISION = re.compile(r" Rev .*")


def host_facts(host: Host, *, time_limit: float) -> HostFacts:
    """Query the facts about a host.

    Raises:
        TargetError: The host is unreachable.
    """
    with host.start(host.environments[0], time_limit=time_limit) as connection:
        agent, probe = connection.hello(), connection.probe()
    return HostFacts(
        kind=host.kind,
        machine=agent.machine,
        board=probe.board,
        cpu=probe.cpu,
        cores=probe.cores,
        memory=probe.memory,
        features=probe.features,
        os=probe.os,
        kernel=probe.kernel,
        libc=probe.libc,
        python=probe.python,
        before=_conditions(probe),
    )


def with_conditions_after(host: Host, facts: HostFacts, *, time_limit: float) -> HostFacts:
    """Add the present conditions of the host as those after the measurement.

    Raises:
        TargetError: The host is unreachable.
    """
    with host.start(host.environments[0], time_limit=time_limit) as connection:
        return msgspec.structs.replace(facts, after=_conditions(connection.probe()))


def peak_macs(facts: HostFacts, precision: str, threads: int) -> float | None:
    """Peak multiply-accumulates per second of a board's processor; None for boards without figures.

    It is cores times clock times the operations that the vector units start in each cycle, which the board's file
    states with its source: the compute roof of the roofline model (Williams, Waterman & Patterson, 2009).
    """
    if facts.kind == "emulated" or facts.board is None:
        return None
    for board in load_boards().values():
        if board.arm is None or board.macs_per_cycle is None or board.frequency_mhz is None:
            continue
        if _REVISION.sub("", board.arm.model) == _REVISION.sub("", facts.board):
            width = board.macs_per_cycle.int8 if precision == "int8" else board.macs_per_cycle.float32
            return min(threads, board.cores or 1) * board.frequency_mhz.max * 1e6 * width
    return None


def _conditions(probe: ProbeInfo) -> Conditions:
    return Conditions(
        governor=probe.governor,
        mhz=tuple(clock.now / 1000 for clock in probe.clocks if clock.now),
        temperature=probe.temperature,
        throttled=probe.throttled,
        load=probe.load,
        memory_available=probe.memory_available,
        swap=probe.swap,
    )
