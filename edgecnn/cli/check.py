"""``edgecnn check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from edgecnn.cli.reports import Reports, report_options
from edgecnn.cli.result_files import SVG
from edgecnn.cli.shared_options import (
    MODEL_HELP,
    data_options,
    load_data,
    load_model,
    prints_to_stderr,
    refuse_without_data,
    target_option,
    time_limit_option,
)
from edgecnn.cli.state import STATE, common_options
from edgecnn.errors import EdgecnnError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgecnn.bundle import Bundle
    from edgecnn.data.dataset import Dataset
    from edgecnn.locate.location import Location
    from edgecnn.parity.verdict import CheckReport


@click.command("check", epilog=MODEL_HELP)
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@data_options
@click.option("--model", metavar="MODEL", help="Torch model to compare with on the data set.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights of that model.")
@click.option(
    "--arg", "arguments", multiple=True, metavar="KEY=VALUE", help="Argument of its class or function; can be repeated."
)
@target_option
@time_limit_option
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="[PRECISION:]METRIC=NUMBER",
    help="Limit that replaces a default or adds to them; can be repeated (docs/check.md).",
)
@click.option(
    "--undecided",
    type=click.Choice(["estimate", "fail", "pass"]),
    default="estimate",
    show_default=True,
    help="Result if there are too few samples to decide: that of their estimate, a failure, or a pass.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also fail where anything is worse than in this file by more than its noise.",
)
@click.option(
    "--save-baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write such a file if the check passes.",
)
@click.option(
    "--locate/--no-locate",
    "locating",
    default=None,
    help="Find the layer and the likely cause for every artifact, or for none.  [default: for failures]",
)
@click.option(
    "--plot",
    "plot_file",
    type=SVG,
    metavar="FILE",
    help="Plot how errors grow along the network, for every artifact, as SVG; - is standard output.",
)
@report_options
@common_options
def check_command(
    bundle: Path,
    model: str | None,
    targets: tuple[str, ...],
    time_limit: float | None,
    locating: bool | None,
    **given: Any,
) -> int:
    """Check every artifact of BUNDLE against the reference, on the runtimes installed here or on the given targets.

    Golden inputs are always checked, against the outputs of the torch model at export. With --data, the data set is
    checked too: against the torch model if --model names it, else against the bundle's first fp32 artifact.

    For failures, the check finds the layer, the size and the likely cause (docs/locate.md).

    Exits 1 if an artifact is wrong (an fp32 one by more than 1e-5 of the output's range, any with NaN), and 2 if none
    is but something could not be judged: a host cannot be reached, a runtime crashes. Other hosts are judged anyway.

    A loss of accuracy fails if the samples show that it is above the limit, and passes if they show that it is not;
    otherwise it is undecided, and the report says how many samples would decide. docs/check.md has all limits.

    \b
    Examples:
      edgecnn check build/conv_pool
      edgecnn check build/conv_pool --data digits --model conv_pool --weights weights.pt
      edgecnn check build/net --data idx:t10k-images-idx3-ubyte.gz,t10k-labels-idx1-ubyte.gz --json check.json
      edgecnn check build/net --data folder:test --limit accuracy_drop=0.02 --limit int8:lsb_max=1
      edgecnn check build/net --data folder:test --save-baseline parity.json
      edgecnn check build/net --data folder:test --baseline parity.json --undecided fail
      edgecnn check build/net --locate --plot drift.svg
      edgecnn check build/net --json check.json --junit junit.xml --markdown summary.md
      edgecnn check build/net --target litert --target onnxruntime@pi4 --target @ssh://pi@raspberrypi.local
      edgecnn check build/net --target '*@pi*' --target 'litert[threads=4,xnnpack=off]@local'
    """
    from edgecnn.cli.check_output import print_report
    from edgecnn.cli.located import print_locations
    from edgecnn.parity.baseline import save_baseline
    from edgecnn.report.outcome import check_outcomes

    reports = Reports("edgecnn check", given)
    if given["plot_file"] is not None and locating is False:
        raise UsageError(
            "--plot with --no-locate has no effect", why="the plot shows what was located", hint="one of the two"
        )
    drawn = given["plot_file"] is not None
    try:
        loaded, data, report = _check(bundle, model, targets, time_limit, True if drawn else locating, given)
    except EdgecnnError as error:
        _publish_error(reports, bundle, error)
        raise
    if reports.prints_text:
        if data is not None and data.note:
            click.echo(f"note: {data.note}", err=True)
        print_report(report)
        print_locations(cast("Sequence[Location]", report.locations), whole=bool(locating) or STATE.verbose)
    sizes = {a.path.name: a.bytes for a in loaded.artifacts}
    outcomes = check_outcomes(report, loaded.manifest.name, sizes)
    reports.publish(outcomes, report.as_json(), notes=report.notes, plot=_plot(report) if drawn else "")
    if given["save_baseline"] is not None:
        if report.passed:
            save_baseline(report, given["save_baseline"])
        else:
            click.echo(f"note: {given['save_baseline']} is not written, since the check has not passed", err=True)
    return report.exit_code


def _check(
    bundle: Path,
    model: str | None,
    targets: tuple[str, ...],
    time_limit: float | None,
    locating: bool | None,
    given: dict[str, Any],
) -> tuple[Bundle, Dataset | None, CheckReport]:
    from edgecnn.bundle import load_bundle
    from edgecnn.checking.check import check_bundle
    from edgecnn.cli.output import progress_bar
    from edgecnn.files import check_writable
    from edgecnn.parity.baseline import load_baseline
    from edgecnn.parity.limits import Limits

    if model is None and (given["weights"] or given["arguments"]):
        raise UsageError("--weights and --arg have no effect without --model", hint="--model MODEL, or leave them out")
    if given["save_baseline"] is not None:
        check_writable(given["save_baseline"])
    limits = Limits.parse(given["limits"], undecided=given["undecided"])
    baseline = None if given["baseline"] is None else load_baseline(given["baseline"])
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
            limits=limits,
            baseline=baseline,
            locating=locating,
        )
    return loaded, data, report


def _publish_error(reports: Reports, bundle: Path, error: EdgecnnError) -> None:
    """Write an error that prevents the check to the reports too, so that stale reports are overwritten."""
    from edgecnn.parity.verdict import CheckReport, Unjudged
    from edgecnn.report.outcome import check_outcomes

    report = CheckReport(verdicts=(), unjudged=(Unjudged(target="", artifact="", error=error),))
    outcomes = check_outcomes(report, bundle.name or str(bundle), {})
    reports.publish(outcomes, report.as_json(), plot=_plot(report, because=f"nothing was checked: {error.message}"))


def _plot(report: CheckReport, *, because: str = "") -> str:
    from edgecnn.report.drift import drift_plot

    return drift_plot(cast("Sequence[Location]", report.locations), because=because)


def _data(bundle: Bundle, given: dict[str, Any]) -> Dataset | None:
    how = {key: given[key] for key in ("split", "scale", "mean", "std")}
    if given["data"] is None:
        refuse_without_data(how)
        return None
    inputs = bundle.manifest.inputs
    return load_data(given["data"], [i.shape[1:] for i in inputs], **how, recorded=inputs[0].preprocessing)


def _reference(bundle: Bundle, model: str, given: dict[str, Any]) -> Any:
    if given["data"] is None:
        raise UsageError(
            "--model without --data has no effect",
            why="golden inputs are checked against the outputs of the model at export",
            hint="--data DATA, or leave --model out",
        )
    from edgecnn.capture.reference import torch_reference

    loaded = load_model(model, given["weights"], given["arguments"])
    return torch_reference(loaded.program or loaded.module, batch_resizable=bundle.manifest.batch_resizable)
