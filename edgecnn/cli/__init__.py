"""The command line: each command parses, calls one library function, and prints."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from edgecnn import __version__
from edgecnn.cli.state import STATE, common_options
from edgecnn.errors import EdgecnnError

COMMANDS = ("train", "export", "check", "show", "models")


class _LazyGroup(click.Group):
    """Imports a command's file when the command is looked at; those files import nothing heavy themselves."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"edgecnn.cli.{cmd_name}"), f"{cmd_name}_command")
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", "-V", message="edgecnn %(version)s")
@common_options
def cli() -> None:
    """Export small torch CNNs to ONNX and TFLite, and prove the files right on the runtimes they will run on.

    \b
    Examples:
      edgecnn train conv_pool --data digits -o weights.pt
      edgecnn export conv_pool --weights weights.pt --data digits -o build/conv_pool
      edgecnn export my_net.py:Net --input-shape 3x64x64 -o build/net
      edgecnn check build/conv_pool --data digits

    Exit codes: 0 good, 1 a check failed, 2 wrong usage or input.
    """


def main() -> None:
    """Run the command line and exit. The one place that turns errors into messages and exit codes."""
    STATE.verbose = STATE.debug = False
    try:
        code = cli.main(prog_name="edgecnn", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as err:
        err.show()
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing was left half-written", err=True)
        code = 130
    except EdgecnnError as err:
        code = _report(err)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone, and wants no complaint about it
        code = 0
    except Exception as err:  # noqa: BLE001  (whatever it is, the user gets a message)
        code = _report_fault(err)
    sys.exit(code if isinstance(code, int) else 0)


def _report(err: EdgecnnError) -> int:
    click.echo(f"error: {err.message}", err=True)
    for line in err.lines():
        click.echo(line, err=True)
    for note in getattr(err, "__notes__", ()):
        click.echo(f"  note:  {note}", err=True)
    if err.detail and (STATE.verbose or STATE.debug):
        click.echo(f"\n{err.detail.rstrip()}", err=True)
    if STATE.debug:
        import traceback

        traceback.print_exc()
    return err.exit_code


def _report_fault(err: Exception) -> int:
    """A fault of edgecnn itself."""
    if STATE.debug:
        raise err
    click.echo(f"error: {type(err).__name__}: {err}", err=True)
    click.echo(
        "  why:   this is a fault of edgecnn\n  try:   the same with --debug, and report what it prints", err=True
    )
    return 2
