"""``edgecnn doctor``."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli.result_files import put_json
from edgecnn.cli.shared_options import json_option
from edgecnn.cli.state import common_options


@click.command("doctor")
@json_option
@common_options
def doctor_command(json_file: Path | None) -> int:
    """Show what is installed, what is missing, what needs it, and the command that installs it.

    Exits 0 even if optional things are missing, and 1 if something that edgecnn needs is missing or broken.

    \b
    Examples:
      edgecnn doctor
      edgecnn doctor --json doctor.json
    """
    from edgecnn.cli.output import print_table
    from edgecnn.doctor import BROKEN, GOOD, diagnose

    diagnosis = diagnose()
    if put_json(json_file, diagnosis.as_json()):
        return 0 if diagnosis.healthy else 1
    columns = [("", "left"), ("", "left"), ("found", "left"), ("for", "left")]
    print_table(columns, [[f.subject, f.state, f.found, f.needed_for] for f in diagnosis.findings])
    lacking = [f for f in diagnosis.findings if f.state != GOOD]
    if lacking:
        click.echo("")
        print_table(
            [("missing", "left"), ("for", "left"), ("try", "left")],
            [[f.subject, f.needed_for, f.hint or "-"] for f in lacking],
        )
    broken = [f.subject for f in diagnosis.findings if f.state == BROKEN]
    click.echo("")
    if broken:
        click.echo(f"doctor: {', '.join(broken)}: edgecnn cannot work like this")
    else:
        optional = f"; optional and missing: {', '.join(f.subject for f in lacking)}" if lacking else ""
        click.echo(f"doctor: what edgecnn needs is here{optional}")
    return 0 if diagnosis.healthy else 1
