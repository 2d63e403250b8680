"""``edgecnn check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from edgecnn.cli.options import (
    MODEL_HELP,
    data_options,
    json_option,
    load_data,
    load_model,
    prints_to_stderr,
    refuse_without_data,
    target_option,
    time_limit_option,
)
from edgecnn.cli.state import STATE, common_options
from edgecnn.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgecnn.bundle import Bundle
    from edgecnn.data.dataset import Dataset
    from edgecnn.locate.location import Location


@click.command("check", epilog=MODEL_HELP)
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@data_options
@click.option("--model", metavar="MODEL", help="The torch model, to be the reference on the data set.")
@click.option("--weights", type=click.Path(path_type=Path), help="Its weights.")
@click.option("--arg", "arguments", multiple=True, metavar="KEY=VALUE", help="Argument of its class or function.")
@target_option
@time_limit_option
@click.option(
    "--locate/--no-locate",
    "locating",
    default=None,
    help="Find the layer and the likely cause: of every artifact, or never. By default of those that fail.",
)
@json_option
@common_options
def check_command(
    bundle: Path,
    model: str | None,
    targets: tuple[str, ...],
    time_limit: float | None,
    locating: bool | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Check every artifact of BUNDLE against the reference, on the runtimes installed here or on the given targets.

    The golden inputs are always checked, against what the torch model said at export. With --data the data set is
    checked too: against the torch model if --model gives it, else against the bundle's first fp32 artifact.

    Of what fails, the layer, the size and the likely cause are looked for (docs/locate.md).

    Exits 1 when an artifact is wrong (an fp32 one by more than 1e-5 of the output's range, any with NaN), and 2 when
    none is but something could not be judged: a host is not reached, a runtime crashes. The other hosts are judged.

    \b
    Examples:
      edgecnn check build/conv_pool
      edgecnn check build/conv_pool --data digits --model conv_pool --weights weights.pt
      edgecnn check build/net --data idx:t10k-images-idx3-ubyte.gz,t10k-labels-idx1-ubyte.gz --json
      edgecnn check build/net --target litert --target onnxruntime@pi4 --target @ssh://pi@raspberrypi.local
      edgecnn check build/net --target '*@pi*' --target 'litert[threads=4,xnnpack=off]@local'
    """
    from edgecnn.bundle import load_bundle
    from edgecnn.cli.located import print_locations
    from edgecnn.cli.output import print_json, print_report, progress_bar
    from edgecnn.locate.report import locate_failures
    from edgecnn.parity.check import check_bundle

    if model is None and (given["weights"] or given["arguments"]):
        raise UsageError("--weights and --arg belong to --model", hint="--model MODEL, or leave them out")
    loaded = load_bundle(bundle)
    data = _data(loaded, given)
    with prints_to_stderr():
        reference = None if model is None else _reference(loaded, model, given)
    with prints_to_stderr(), progress_bar("checking") as progress:
        report = check_bundle(
            loaded,
            targets=targets or None,
            data=data,
            reference=reference,
            time_limit=time_limit,
            progress=progress,
        )
        if locating is not False:
            report = locate_failures(
                loaded, report, everything=bool(locating), time_limit=time_limit, progress=progress
            )
    if as_json:
        print_json(report.as_json())
    else:
        if data is not None and data.note:
            click.echo(f"note: {data.note}", err=True)
        print_report(report)
        print_locations(cast("Sequence[Location]", report.locations), whole=bool(locating) or STATE.verbose)
    return report.exit_code


def _data(bundle: Bundle, given: dict[str, Any]) -> Dataset | None:
    how = {key: given[key] for key in ("split", "scale", "mean", "std")}
    if given["data"] is None:
        refuse_without_data(how)
        return None
    inputs = bundle.manifest.inputs
    return load_data(given["data"], [i.shape[1:] for i in inputs], **how, noted=inputs[0].preprocessing)


def _reference(bundle: Bundle, model: str, given: dict[str, Any]) -> Any:
    if given["data"] is None:
        raise UsageError(
            "--model without --data has no effect",
            why="golden inputs are checked against what the model said at export",
            hint="--data DATA, or leave --model out",
        )
    from edgecnn.capture.program import program_batch
    from edgecnn.capture.reference import TorchReference

    loaded = load_model(model, given["weights"], given["arguments"])
    if loaded.program is not None:
        return TorchReference(loaded.program, program_batch(loaded.program))
    return TorchReference(loaded.module, None if bundle.manifest.batch_resizable else 1)
