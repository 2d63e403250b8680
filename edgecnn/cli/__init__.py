"""The command line: each command parses its arguments, calls one library function, and prints the result."""

from __future__ import annotations

import errno
import os
import signal
import sys
from importlib import import_module

import click

from edgecnn._version import __version__
from edgecnn.cli.result_files import missing_argument
from edgecnn.cli.state import STATE, common_options
from edgecnn.errors import EdgecnnError, UsageError

COMMANDS = (
    "train",
    "export",
    "check",
    "compare",
    "bench",
    "ci",
    "init",
    "predict",
    "targets",
    "show",
    "models",
    "sensitivity",
    "shrink",
    "filter",
    "doctor",
)


class _LazyGroup(click.Group):
    """A group that imports the module of a command on first use. Those modules import nothing heavy."""

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
      edgecnn targets emulate pi4
      edgecnn check build/conv_pool --target @pi4
      edgecnn predict build/conv_pool five.png --target litert@pi4

    Exit codes: 0 good, 1 a check failed, 2 wrong usage, input or target, 130 interrupted.
    """


def main() -> None:
    """Run the command line and exit. Only this function turns errors into messages and exit codes."""
    STATE.verbose = STATE.debug = False
    try:
        if sys.stdout is None:
            raise UsageError("there is no standard output to print to", hint="redirect it to a file or to /dev/null")
        code = cli.main(prog_name="edgecnn", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as err:
        err.show()
        if isinstance(err, click.MissingParameter) and (why := missing_argument(err)):
            click.echo(f"  why:   {why}", err=True)
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing was left half-written", err=True)
        code = 128 + signal.SIGINT
    except EdgecnnError as err:
        code = _report(err)
    except OSError as err:
        code = _report_output(err)
    except Exception as err:  # noqa: BLE001  (whatever it is, the user gets a message)
        code = _report_fault(err)
    except SystemExit:  # click raises it if the reader of standard output has closed it
        code = 128 + signal.SIGPIPE
    sys.exit(code if isinstance(code, int) else 0)


def _report_output(err: OSError) -> int:
    """Report output that cannot be written, or a bug of edgecnn."""
    if err.errno not in (errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO) or err.filename:
        return _report_fault(err)
    # Discard what is left in the buffer, or the interpreter fails to flush it at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if err.errno == errno.EPIPE:
        return 128 + signal.SIGPIPE
    click.echo(f"error: the output cannot be written: {err.strerror}", err=True)
    return 2


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
    """Report a bug of edgecnn itself."""
    if STATE.debug:
        raise err
    click.echo(f"error: {type(err).__name__}: {err}", err=True)
    click.echo(
        "  why:   this is a bug of edgecnn\n  try:   run it again with --debug, and report what it prints", err=True
    )
    return 2
