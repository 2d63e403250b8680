"""``edgecnn bench`` and ``edgecnn bench compare``."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecnn.cli.result_files import STDOUT, TEXT, one_on_stdout, put_json, put_text
from edgecnn.cli.shared_options import json_option, prints_to_stderr, target_option, time_limit_option
from edgecnn.cli.state import common_options
from edgecnn.errors import UsageError

if TYPE_CHECKING:
    from edgecnn.bench.budget import OverBudget
    from edgecnn.bench.measure_bundle import BenchReport
    from edgecnn.bench.regression import RecordComparison

F = TypeVar("F", bound=Callable[..., Any])
SORTS = ("p50", "p99", "peak", "size", "instructions", "artifact", "target")


class CountList(click.ParamType[tuple[int, ...]]):
    """Comma-separated whole numbers from 1 on."""

    name = "counts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Split at commas, and read each number."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 4096 for part in parts):
            self.fail(f"{value!r} is not one number or several with commas, such as 1,2,4", param, ctx)
        return tuple(dict.fromkeys(int(part) for part in parts))


class _RunContext(click.Context):
    """Usage and errors show ``edgecnn bench`` as the user writes it, without ``run``."""

    @property
    def command_path(self) -> str:
        return "" if self.parent is None else self.parent.command_path


class _RunCommand(click.Command):
    context_class = _RunContext


class _BenchGroup(click.Group):
    """A group of ``bench BUNDLE`` and ``bench compare A B``: anything but ``compare`` is a bundle."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] not in (["compare"], ["-h"], ["--help"]):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def get_help(self, ctx: click.Context) -> str:
        texts = []
        for name, info in (("run", "bench"), ("compare", "bench compare")):
            command = self.commands[name]
            own = click.Context(command, info_name=info, parent=ctx.parent, terminal_width=ctx.terminal_width)
            texts.append(command.get_help(own))
        return "\n\n".join(texts)


@click.group("bench", cls=_BenchGroup, context_settings={"ignore_unknown_options": True})
def bench_command() -> None:
    """Measure how long artifacts take, or compare two measurements."""


def _gate_options(command: F) -> F:
    options = (
        click.option(
            "--max-slowdown",
            type=click.FloatRange(min=0, min_open=True),
            help="Largest allowed ratio of latencies to the baseline.  [default: 1.05]",
        ),
        click.option(
            "--max-instructions",
            type=click.FloatRange(min=0, min_open=True),
            help="Largest allowed ratio of instruction counts to the baseline.  [default: 1.005]",
        ),
        click.option(
            "--any-host", is_flag=True, help="Compare even if the hosts differ in processor, cores, board or governor."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _format_options(command: F) -> F:
    for name, text in (("csv", "CSV"), ("markdown", "Markdown")):
        command = click.option(
            f"--{name}",
            f"{name}_file",
            type=TEXT,
            metavar="FILE",
            help=f"Write the table as {text}; - is standard output.",
        )(command)
    return json_option(command)


@bench_command.command("run", cls=_RunCommand)
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@target_option
@click.option(
    "--threads", type=CountList(), default=(), metavar="N[,N...]", help="Numbers of threads to try.  [default: 1]"
)
@click.option(
    "--batch", "batches", type=CountList(), default=(1,), metavar="N[,N...]", help="Samples per call.  [default: 1]"
)
@click.option(
    "--processes",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    help="New processes for each artifact on each target.",
)
@click.option(
    "--time",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Most seconds to time each artifact on each target.",
)
@click.option(
    "--warmup",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Most seconds to warm up each process.",
)
@click.option("--profile", is_flag=True, help="Show the time of each operator.")
@click.option("--histogram", is_flag=True, help="Show the distributions of latencies.")
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Write a record with the raw samples.")
@click.option("--baseline", type=click.Path(path_type=Path), metavar="FILE", help="Compare with a record of --save.")
@_gate_options
@click.option(
    "--budget", metavar="ITEM=LIMIT,...", help="Upper limits, such as latency_p99_ms=5,size_kb=100,peak_kb=2000."
)
@click.option("--strict", is_flag=True, help="Exit 1 when a result is invalid.")
@click.option("--sort", type=click.Choice(SORTS), help="Sort the rows.  [default: the order of the artifacts]")
@time_limit_option
@_format_options
@common_options
def run_command(bundle: Path, **given: Any) -> int:
    """Measure the latency of every artifact of BUNDLE, on the runtimes installed here or on the given targets.

    Calls are timed on the device, with the inputs in place, in several processes, in which the artifacts take turns.
    p50 has a 95 % interval. A run that cannot be trusted (drift, two modes, throttling, a changing frequency, other
    load) is marked INVALID with the reason and what to do. On emulated boards instructions are counted instead, which
    is not a latency.

    Exits 1 if something is slower than --baseline allows (only if the whole interval of the ratio is above the limit
    and both runs are valid), over the --budget, or invalid under --strict; 2 if something could not be measured.

    \b
    Budget items: latency_p50_ms, latency_p90_ms, latency_p99_ms, first_ms, load_ms,
    size_kb, peak_kb, arena_kb, instructions_m. The tables [budget] and
    [budget."TARGET"] of edgecnn.toml set them for a project (docs/ci.md).

    \b
    Examples:
      edgecnn bench build/net
      edgecnn bench build/net --target litert@pi4 --target onnxruntime@ssh://pi@raspberrypi.local
      edgecnn bench build/net --threads 1,2,4 --profile
      edgecnn bench build/net --save now.json --baseline before.json --max-slowdown 1.05
      edgecnn bench build/net --target litert@pi5 --budget instructions_m=2,size_kb=100
    """
    from edgecnn.bench.budget import over_budget, over_project_budgets, parse_budget
    from edgecnn.bench.measure_bundle import bench_bundle
    from edgecnn.bench.records import load_record, save_record
    from edgecnn.bench.warmup import BenchSettings
    from edgecnn.bundle import load_bundle
    from edgecnn.cli.output import progress_bar
    from edgecnn.project.reading import budgets_of

    one_on_stdout(_files(given))
    loaded = load_bundle(bundle)
    budget = {} if given["budget"] is None else parse_budget(given["budget"])
    project = budgets_of(loaded.manifest.name)
    if given["baseline"] is None and (given["max_slowdown"] or given["max_instructions"] or given["any_host"]):
        raise UsageError(
            "--max-slowdown, --max-instructions and --any-host have no effect without --baseline",
            hint="--baseline FILE",
        )
    baseline = None if given["baseline"] is None else load_record(given["baseline"])
    limits = BenchSettings(processes=given["processes"], seconds=given["seconds"], warmup=given["warmup"])
    with prints_to_stderr(), progress_bar("measuring") as progress:
        report = bench_bundle(
            loaded,
            targets=given["targets"] or None,
            limits=limits,
            threads=given["threads"],
            batches=given["batches"],
            profile=given["profile"],
            time_limit=given["time_limit"],
            progress=progress,
        )
    if given["save"] is not None:
        save_record(report.record, given["save"])
    comparison = None if baseline is None else _comparison(baseline, report.record, given)
    measured = [r for r in report.results if r.error is None]
    over = [*over_budget(measured, budget), *over_project_budgets(measured, project)]
    _print(report, comparison, over, given)
    failed = bool(over) or (comparison is not None and comparison.failed) or (given["strict"] and not report.valid)
    return 1 if failed else 0 if report.complete else 2


@bench_command.command("compare")
@click.argument("before", metavar="BEFORE.json", type=click.Path(path_type=Path))
@click.argument("now", metavar="NOW.json", type=click.Path(path_type=Path))
@_gate_options
@_format_options
@common_options
def compare_command(before: Path, now: Path, **given: Any) -> int:
    """Compare two records that `edgecnn bench --save` wrote: ratios of medians with 95 % intervals.

    Exits 1 if the whole interval of a ratio is above its limit and both runs are valid. Refuses records of hosts that
    differ in processor, cores, board or governor, unless --any-host is given.

    \b
    Example:
      edgecnn bench compare before.json now.json --max-slowdown 1.02
    """
    from edgecnn.bench.records import load_record

    one_on_stdout(_files(given))
    comparison = _comparison(load_record(before), load_record(now), given)
    _print_comparison(comparison, given)
    return 1 if comparison.failed else 0


def _files(given: dict[str, Any]) -> dict[str, Path | None]:
    return {f"--{form}": given[f"{form}_file"] for form in ("json", "csv", "markdown")}


def _comparison(before: Any, now: Any, given: dict[str, Any]) -> RecordComparison:
    from edgecnn.bench.regression import MAX_INSTRUCTIONS, MAX_SLOWDOWN, compare_records

    return compare_records(
        before,
        now,
        max_slowdown=given["max_slowdown"] or MAX_SLOWDOWN,
        max_instructions=given["max_instructions"] or MAX_INSTRUCTIONS,
        any_host=given["any_host"],
    )


def _print(
    report: BenchReport, comparison: RecordComparison | None, over: list[OverBudget], given: dict[str, Any]
) -> None:
    import msgspec

    from edgecnn.cli.bench_output import print_bench, print_comparison, print_notes

    def show(form: str) -> None:
        print_bench(report, form, sort=given["sort"], histograms=given["histogram"])
        if comparison is not None:
            click.echo(err=form == "csv")
            print_comparison(comparison, "text" if form == "csv" else form, err=form == "csv")
        for item in over:
            click.echo(f"over budget: {item}", err=form == "csv")

    if given["json_file"] is not None:
        value = report.as_json()
        value["comparison"] = None if comparison is None else msgspec.to_builtins(comparison)
        value["over_budget"] = msgspec.to_builtins(over)
        put_json(given["json_file"], value)
    _show(show, given)
    if given["json_file"] != STDOUT:
        print_notes(report)


def _print_comparison(comparison: RecordComparison, given: dict[str, Any]) -> None:
    import msgspec

    from edgecnn.cli.bench_output import print_comparison

    put_json(given["json_file"], {"schema": 1, "failed": comparison.failed, **msgspec.to_builtins(comparison)})
    _show(lambda form: print_comparison(comparison, form), given)


def _show(show: Callable[[str], None], given: dict[str, Any]) -> None:
    """Print the form that goes to standard output, and write the other forms to their files."""
    files = _files(given)
    for form in ("csv", "markdown"):
        if files[f"--{form}"] not in (None, STDOUT):
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
                show(form)
            put_text(files[f"--{form}"], out.getvalue())
    there = [option for option, file in files.items() if file == STDOUT]
    if there != ["--json"]:
        show(there[0].removeprefix("--") if there else "text")
