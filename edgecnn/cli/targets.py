"""``edgecnn targets``: list, probe, build and add targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecnn.cli.result_files import put_json
from edgecnn.cli.shared_options import json_option, time_limit_option
from edgecnn.cli.state import common_options
from edgecnn.errors import UsageError

if TYPE_CHECKING:
    from edgecnn.targets.config import HostEntry
    from edgecnn.targets.listing import HostRow, Probed

F = TypeVar("F", bound=Callable[..., Any])
SUBCOMMANDS = ("probe", "emulate", "add", "setup")


@click.group("targets", invoke_without_command=True)
@click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), help="Seconds for a host.  [default: 20]")
@json_option
@common_options
@click.pass_context
def targets_command(context: click.Context, time_limit: float | None, json_file: Path | None) -> None:
    """List the hosts that --target can name, with their runtimes, and why a host cannot be used.

    Hosts are this machine (local), the boards that edgecnn emulates, and the hosts of targets.toml (in the project, or
    in the user's configuration folder). Name any other host as ssh://user@host.

    \b
    Examples:
      edgecnn targets
      edgecnn targets emulate pi4 pi5
      edgecnn targets add kitchen ssh://pi@raspberrypi.local
      edgecnn targets probe kitchen
      edgecnn targets setup tflite-runtime
    """
    if context.invoked_subcommand is not None:
        if json_file or time_limit is not None:
            name = context.invoked_subcommand
            raise UsageError("--json and --time-limit before a subcommand have no effect", hint=f"after {name}")
        return
    from edgecnn.targets.config import load_config
    from edgecnn.targets.listing import list_hosts

    config = load_config()
    rows = list_hosts(config, time_limit=time_limit)
    files = [str(path) for path in config.files]
    if not put_json(json_file, {"schema": 1, "files": files, "hosts": [row.as_json() for row in rows]}):
        _print_hosts(rows, config.files)


def _print_hosts(rows: Sequence[HostRow], files: Sequence[Path]) -> None:
    from edgecnn.cli.output import print_table

    columns = [("host", "left"), ("kind", "left"), ("what", "left"), ("runtimes", "left"), ("state", "left")]
    print_table(columns, [[r.name, r.kind, r.place, _versions(r.runtimes), r.state] for r in rows])
    for row in rows:
        for note in row.notes:
            click.echo(f"note: {row.name}: {note}", err=True)
        if row.why:
            hint = f"\n  try:   {row.hint}" if row.hint else ""
            click.echo(f"{row.name} is {row.state}: {row.why}{hint}", err=True)
    waiting = [row.name for row in rows if row.state == "not built" and not row.why]
    if waiting:
        click.echo(f"note: boards are built in seconds: edgecnn targets emulate {' '.join(waiting)}", err=True)
    if files:
        click.echo(f"note: read from {', '.join(map(str, files))}", err=True)


def _versions(runtimes: Any) -> str:
    return ", ".join(f"{name} {version or ''}".strip() for name, version in runtimes.items()) or "none"


@targets_command.command("probe")
@click.argument("target", metavar="TARGET")
@time_limit_option
@json_option
@common_options
def probe_command(target: str, time_limit: float | None, json_file: Path | None) -> None:
    """Show a host: board, processor, memory, temperature, system, Python, runtimes.

    TARGET is the name of a host, or a target, of which only the host matters.

    \b
    Examples:
      edgecnn targets probe local
      edgecnn targets probe pi4 --json pi4.json
      edgecnn targets probe ssh://pi@raspberrypi.local
    """
    from edgecnn.targets.listing import probe_host

    entry = _entry(target)
    probed = probe_host(entry, time_limit=time_limit)
    agent = {**asdict_of(probed.agent), "runtimes": dict(probed.runtimes)}
    whole = {"host": entry.name, "kind": entry.kind, "place": entry.place, "agent": agent}
    value = {"schema": 1, **whole, "machine": asdict(probed.machine), "notes": list(probed.notes)}
    if not put_json(json_file, value):
        _print_probe(entry, probed)


def asdict_of(record: Any) -> dict[str, Any]:
    """The fields of a dataclass, without converting their values."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _entry(target: str) -> HostEntry:
    """The host with this name, or of this target."""
    from edgecnn.targets.config import load_config, ssh_entry
    from edgecnn.targets.names import SSH, parse_target

    config = load_config()
    if target in config.hosts:
        return config.hosts[target]
    name = parse_target(target if "@" in target or target.startswith(SSH) else f"@{target}", hosts=config.hosts)
    if name.many_hosts:
        raise UsageError(f"{target} can mean several hosts", hint="one of them")
    return ssh_entry(name.host, name=name.host, origin="") if name.host.startswith(SSH) else config.host(name.host)


def _print_probe(entry: HostEntry, probed: Probed) -> None:
    machine, agent = probed.machine, probed.agent
    clocks = [_clock(clock) for clock in machine.clocks]
    bits = "" if agent.machine == agent.wheel_machine else f", {agent.bits}-bit programs"
    rows = {
        "host": f"{entry.name} ({entry.kind}: {entry.place})",
        "board": machine.board,
        "processor": machine.cpu,
        "machine": f"{agent.machine}{bits}",
        "cores": machine.cores,
        "features": " ".join(machine.features),
        "memory": _memory(machine.memory, machine.memory_available),
        "swap": _mebibytes(machine.swap),
        "clocks": "; ".join(clocks),
        "temperature": None if machine.temperature is None else f"{machine.temperature:.1f} °C",
        "throttling": None if machine.throttled is None else ", ".join(machine.throttled) or "none since boot",
        "load": None if machine.load is None else " ".join(f"{value:.2f}" for value in machine.load),
        "system": machine.os,
        "kernel": machine.kernel,
        "C library": machine.libc,
        "Python": f"{agent.python}, numpy {agent.numpy}",
        "runtimes": _versions(probed.runtimes),
    }
    for label, value in rows.items():
        click.echo(f"{label + ':':<13} {value if value not in (None, '') else 'unknown'}")
    for note in probed.notes:
        click.echo(f"note: {note}", err=True)


def _clock(clock: Any) -> str:
    now, low, high = (f"{kilohertz / 1000:.0f}" if kilohertz else "" for kilohertz in (clock.now, clock.min, clock.max))
    parts = (
        f"cores {clock.cores}" if clock.cores else "",
        f"{now} MHz" if now else "",
        f"{low} to {high} MHz" if low and high else "",
        f"governor {clock.governor}" if clock.governor else "",
    )
    return ", ".join(part for part in parts if part)


def _memory(total: int | None, available: int | None) -> str | None:
    both = (_mebibytes(total), _mebibytes(available))
    return None if both[0] is None else both[0] if both[1] is None else f"{both[0]}, {both[1]} available"


def _mebibytes(count: int | None) -> str | None:
    return None if count is None else f"{count / 2**20:,.0f} MiB"


@targets_command.command("emulate")
@click.argument("boards", metavar="BOARD...", nargs=-1, required=True)
@click.option("--remove", is_flag=True, help="Remove the boards instead.")
@common_options
def emulate_command(boards: tuple[str, ...], remove: bool) -> None:
    """Build emulated boards, on which QEMU runs the wheels of the board's processor. No root, no container.

    Downloads are verified, and stay in the user's cache folder until the board's definition changes. BOARD can be a
    glob.

    \b
    Examples:
      edgecnn targets emulate pi4
      edgecnn targets emulate 'pi*'
      edgecnn targets emulate pi4 --remove
    """
    from edgecnn.cli.output import progress_bar
    from edgecnn.targets.emulation import build_board, remove_board

    for board in _boards(boards):
        if remove:
            click.echo(f"{board.name}: {'removed' if remove_board(board) else 'was not built'}")
            continue
        with progress_bar(board.name) as progress:
            built = build_board(board, progress=progress)
        click.echo(f"{board.name}: {f'built in {built.seconds:.0f} s' if built.fresh else 'is built already'}")
        if built.plugin is None:
            click.echo(f"note: {board.name}: instructions cannot be counted: no C compiler (apt install gcc)", err=True)


def _boards(names: Sequence[str]) -> list[Any]:
    from fnmatch import fnmatchcase

    from edgecnn.targets.boards import load_board, load_boards
    from edgecnn.targets.names import is_glob

    chosen: dict[str, Any] = {}
    emulated = {name: board for name, board in load_boards().items() if board.kind == "emulated"}
    for name in names:
        fitting = [b for b in emulated if fnmatchcase(b, name)] if is_glob(name) else [name]
        if not fitting:
            raise UsageError(f"no board matches {name}", hint=f"one of {', '.join(emulated)}")
        chosen |= {b: load_board(b) for b in fitting}
    return list(chosen.values())


@targets_command.command("add")
@click.argument("name", metavar="NAME")
@click.argument("destination", metavar="ssh://USER@HOST[:PORT]")
@click.option("--python", metavar="PATH", help="Python interpreter on the host.  [default: python3]")
@click.option("--identity", metavar="FILE", help="Private key.  [default: those that ssh offers]")
@click.option("--user/--project", "for_user", default=False, help="Write the user's targets.toml, or the project's.")
@click.option("--force", is_flag=True, help="Replace an existing host of that name.")
@time_limit_option
@common_options
def add_command(
    name: str,
    destination: str,
    python: str | None,
    identity: str | None,
    for_user: bool,
    force: bool,
    time_limit: float | None,
) -> None:
    """Add a host that ssh reaches to targets.toml under a name, after it has answered.

    Uses the system's ssh, with your keys, agent, configuration and known hosts.

    \b
    Examples:
      edgecnn targets add kitchen ssh://pi@raspberrypi.local
      edgecnn targets add lab ssh://pi@10.0.0.7:2222 --python /home/pi/venv/bin/python --user
    """
    from edgecnn.targets.config import check_addition, new_project_file, ssh_entry, user_file
    from edgecnn.targets.config_file import add_host
    from edgecnn.targets.listing import probe_host

    path = user_file() if for_user else new_project_file()
    check_addition(path, name, force=force)
    settings = {key: value for key, value in (("python", python), ("identity", identity)) if value is not None}
    entry = ssh_entry(destination, name=name, origin=str(path), settings=settings)
    probed = probe_host(entry, time_limit=time_limit)
    add_host(path, name, ssh=destination, python=python, identity=identity, force=force)
    board = probed.machine.board or probed.machine.cpu or probed.agent.machine
    click.echo(f"{name}: {board}, Python {probed.agent.python}, runtimes: {_versions(probed.runtimes)}")
    click.echo(f"written to {path}; use it as --target @{name}")
    if not probed.runtimes:
        _advise(name, probed)


def _advise(name: str, probed: Probed) -> None:
    from edgecnn.targets.runtimes import RUNTIMES
    from edgecnn.targets.wheels import advice

    agent = probed.agent
    for runtime in RUNTIMES:
        click.echo(f"note: {name}: {runtime}: {advice(runtime, agent.wheel_machine, agent.python)}", err=True)


@targets_command.command("setup")
@click.argument("runtime", metavar="RUNTIME")
@click.option("--python", metavar="PATH", help="Python interpreter to make it with.  [default: one that fits]")
@click.option("--remove", is_flag=True, help="Remove the environment instead.")
@common_options
def setup_command(runtime: str, python: str | None, remove: bool) -> None:
    """Make an environment for a runtime: tflite-runtime, tflite-micro or openvino.

    It stays in the user's data folder, with pinned versions, and is then used as RUNTIME@local.

    \b
    Examples:
      edgecnn targets setup tflite-runtime
      edgecnn targets setup openvino
      edgecnn targets setup tflite-micro --remove
    """
    from edgecnn.targets.environments import remove_environment, setup_environment

    if remove:
        click.echo(f"{runtime}: {'removed' if remove_environment(runtime) else 'was not set up'}")
        return
    environment = setup_environment(runtime, python=python, progress=lambda text: click.echo(f"{text} ...", err=True))
    click.echo(f"{runtime}: {', '.join(environment.requirements)} in {environment.folder}")
    click.echo(f"use it as --target {runtime}")
