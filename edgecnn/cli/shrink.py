"""``edgecnn shrink``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.result_files import put_json
from edgecnn.cli.shared_options import json_option, time_limit_option
from edgecnn.cli.state import common_options
from edgecnn.errors import UsageError

if TYPE_CHECKING:
    from edgecnn.locate.shrink import Shrunk
    from edgecnn.targets.target import Target


@click.command("shrink")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--target", metavar="TARGET", required=True, help="Where it fails: RUNTIME@HOST, one target (docs/targets.md)."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder for the small bundle."
)
@click.option(
    "--artifact", metavar="FILE", help="File name of the artifact.  [default: the first one that fails there]"
)
@click.option("--force", is_flag=True, help="Replace DIR even if it is not a bundle.")
@time_limit_option
@json_option
@common_options
def shrink_command(
    bundle: Path,
    target: str,
    output: Path,
    artifact: str | None,
    force: bool,
    time_limit: float | None,
    json_file: Path | None,
) -> None:
    """Make the smallest bundle that fails on a target as BUNDLE does, to attach to a bug report.

    Removes layers while the rest still fails in the same way on the reference's values, then samples. Layers are first
    extracted from the existing file, then re-exported; whether the re-exported ones fail too shows if the file or the
    runtime is at fault. Each step is a check on the target.

    \b
    Examples:
      edgecnn shrink build/net --target onnxruntime@haswell -o fault
      edgecnn check fault --target onnxruntime@haswell
    """
    from edgecnn.bundle import check_destination, load_bundle
    from edgecnn.cli.output import progress_bar
    from edgecnn.locate.shrink import shrink

    if output.resolve() == bundle.resolve():
        raise UsageError("the small bundle would replace the whole one", where=str(output), hint="another -o DIR")
    check_destination(output, force=force)
    loaded = load_bundle(bundle)
    with progress_bar("shrinking") as progress:
        found = shrink(loaded, _target(target, time_limit), output, artifact=artifact, force=force, progress=progress)
    if put_json(json_file, _as_json(found)):
        return
    click.echo(f"{found.bundle.directory}: {found.artifact} on {found.target}: {found.symptom}")
    nodes = ", ".join(found.nodes)
    click.echo(f"{len(found.nodes)} of {found.whole} layers are left: {nodes}; samples: {found.samples}")
    click.echo(f"the check says: {found.reason}")
    click.echo(found.verdict)
    click.echo(f"to reproduce: {found.command}")


def _target(name: str, time_limit: float | None) -> Target:
    from edgecnn.targets.target import find_targets

    found = find_targets([name], time_limit=time_limit)
    for failure in found.failures:
        raise failure.error
    if len(found.targets) != 1:
        names = ", ".join(t.name for t in found.targets)
        raise UsageError(f"{name} is {len(found.targets)} targets, and one is needed", why=names, hint="RUNTIME@HOST")
    return found.targets[0]


def _as_json(found: Shrunk) -> dict[str, Any]:
    return {
        "schema": 1,
        "bundle": str(found.bundle.directory),
        "artifact": found.artifact,
        "target": found.target,
        "symptom": found.symptom.kind,
        "reason": found.reason,
        "layers": list(found.nodes),
        "layers_of_whole": found.whole,
        "samples": found.samples,
        "kind": found.kind,
        "verdict": found.verdict,
        "command": found.command,
        "checks": found.checks,
    }
