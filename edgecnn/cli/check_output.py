"""Print a check's report: a table for each set of samples, then failures and undecided verdicts, then a summary."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from edgecnn.cli.output import Column, print_table, print_unjudged
from edgecnn.cli.state import STATE

if TYPE_CHECKING:
    from edgecnn.parity.best_classes import WorstSample
    from edgecnn.parity.verdict import CheckReport, Verdict

WIDTH = 100
"""Width of sentences; tables are as wide as they need to be."""
SHOWN = 3
"""How many of the worst samples are shown for a verdict."""


def print_report(report: CheckReport) -> None:
    """Print a check's verdicts, why some did not pass, and a summary."""
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
    for place, verdicts in enumerate(_sections(report.verdicts)):
        if place:
            click.echo()
        _print_section(verdicts)
    if report.verdicts:
        click.echo()
    for text in _footers(report.verdicts):
        _print_wrapped(text, first="")
    for verdicts in _grouped([v for v in report.verdicts if v.outcome != "passed"]):
        _print_explanation(verdicts)
    for u in report.unjudged:
        print_unjudged(u)
    click.echo(_summary(report))


def _sections(verdicts: Sequence[Verdict]) -> list[list[Verdict]]:
    """Verdicts grouped by samples and reference, in the order of their first verdict."""
    sections: dict[tuple[str, str], list[Verdict]] = {}
    for v in verdicts:
        sections.setdefault((v.samples_from, v.reference), []).append(v)
    return list(sections.values())


def _print_section(verdicts: Sequence[Verdict]) -> None:
    first = verdicts[0]
    heading = f"{first.samples_from}, against {first.reference}"
    click.echo(f"{heading} ({_known(first)})" if _known(first) else heading)
    columns: list[Column] = [("artifact", "left"), ("target", "left")]
    outputs = len({v.output for v in verdicts}) > 1
    if outputs:
        columns.append(("output", "left"))
    columns.append(("of range", "right"))
    integers = any(v.lsb_max is not None for v in verdicts)
    if integers:
        columns.append(("LSB max, mean", "right"))
    scores = any(v.top1_agreement is not None for v in verdicts)
    if scores:
        columns.append(("top-1", "right"))
    truth = "" if integers else _truth(verdicts)  # golden inputs are too few to measure accuracy
    if truth:
        columns += [(truth, "right"), ("drop, points", "right")]
    columns.append(("verdict", "left"))
    print_table(columns, [_row(v, outputs=outputs, integers=integers, scores=scores, truth=truth) for v in verdicts])
    if STATE.verbose or STATE.debug:
        for v in verdicts:
            _print_all(v)


def _known(v: Verdict) -> str:
    """The score of the reference itself, for the heading."""
    if v.reference_score is not None:
        return f"whose {v.score_name} is {v.reference_score:.2%}"
    return "" if v.reference_accuracy is None else f"whose accuracy is {v.reference_accuracy:.2%}"


def _truth(verdicts: Sequence[Verdict]) -> str:
    """The heading of the score against true labels: accuracy, F1 or mIoU; empty without labels."""
    names = {v.score_name for v in verdicts if v.score is not None}
    return min(names) if names else "accuracy" if any(v.accuracy is not None for v in verdicts) else ""


def _row(v: Verdict, *, outputs: bool, integers: bool, scores: bool, truth: str) -> list[str]:
    row = [v.artifact, v.target]
    row += [v.output] if outputs else []
    row.append(f"{v.relative_error:.1e}")
    if integers:
        row.append("-" if v.lsb_max is None else f"{v.lsb_max:.0f}, {v.lsb_mean:.3f}")
    if scores:
        row.append("-" if v.top1_agreement is None else f"{v.top1_agreement:.1%}")
    if truth:
        value = v.accuracy if v.score is None else v.score
        row += ["-" if value is None else f"{value:.2%}", _drop(v)]
    said = {"passed": "passed", "failed": "FAILED"}.get(v.outcome, "undecided" if v.passed else "UNDECIDED")
    return [*row, said]


def _drop(v: Verdict) -> str:
    """A loss in percentage points, with its bounds."""
    if v.drop is None or v.drop_low is None or v.drop_high is None:
        return "-"
    return f"{100 * v.drop:.2f} ({100 * v.drop_low:.2f} to {100 * v.drop_high:.2f})"


def _print_all(v: Verdict) -> None:
    """Print all measurements of a verdict in a few lines."""
    click.echo(f"  {v.artifact} on {v.target}, output {v.output}")
    click.echo(
        f"    error: max {v.max_abs_error:.3g}, mean {v.mean_abs_error:.3g}, RMSE {v.rmse:.3g}, cosine {v.cosine:.6f},"
        f" SNR {_db(v.snr_db)}, PSNR {_db(v.psnr_db)}, NaN {v.nan_count}, infinite {v.inf_count}"
    )
    if v.top5_agreement is not None:
        click.echo(f"    top-5 agreement {v.top5_agreement:.2%}")
    if v.accuracy is not None and v.accuracy_low is not None and v.accuracy_high is not None:
        click.echo(
            f"    accuracy {v.accuracy:.2%} ({v.accuracy_low:.2%} to {v.accuracy_high:.2%}), {v.lost} lost and"
            f" {v.gained} gained against the reference, McNemar's exact p {v.mcnemar_p:.2g}"
        )
    wrong = sorted((c for c in v.confusion if c[0] != c[1]), key=lambda c: (-c[2], c[:2]))[:SHOWN]
    if wrong:
        click.echo("    confused classes: " + ", ".join(f"{a} for {b} ({n})" for a, b, n in wrong))
    if v.worst_samples:
        click.echo(f"    worst samples: {_worst(v.worst_samples)}")


def _db(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.1f} dB"


def _worst(samples: Sequence[WorstSample]) -> str:
    texts = []
    for w in samples[:SHOWN]:
        if w.got is None:
            texts.append(f"no. {w.sample} (error {w.error:.2g})")
        else:
            label = "" if w.label is None else f", truly {w.label}"
            texts.append(f"no. {w.sample} ({w.got} by {w.margin:.2g}, expected {w.expected}{label})")
    return ", ".join(texts)


def _footers(verdicts: Sequence[Verdict]) -> list[str]:
    """The limits, the runtimes, and the layers that are left in float."""
    from edgecnn.parity.limits import METRICS

    lines = []
    held: dict[str, dict[str, None]] = {}
    for v in verdicts:
        for metric, limit in v.limits.items():
            sign = ">=" if metric in METRICS and METRICS[metric].least else "<="
            held.setdefault(f"{metric} {sign} {limit:g}", {})[v.precision] = None
    if held:
        lines.append("limits: " + "; ".join(f"{', '.join(names)} {text}" for text, names in held.items()))
    golden = {v.samples_from for v in verdicts if v.lsb_max is not None}
    if any(v.drop is not None and v.samples_from not in golden for v in verdicts):
        lines.append("drop: loss against the reference in percentage points, with its lower and upper 95 % bounds")
    versions = sorted({f"{v.runtime} {v.runtime_version}" for v in verdicts})
    if versions:
        lines.append(f"runtimes: {', '.join(versions)}")
    lines += dict.fromkeys(text for v in verdicts if v.lsb_max is not None and (text := _protection(v)))
    for name, layers in sorted({v.artifact: v.float_layers for v in verdicts if v.float_layers}.items()):
        lines.append(f"{name} computes in float, as its recipe says: {', '.join(layers)}")
    return lines


def _protection(v: Verdict) -> str:
    """Which of a runtime's kernels judged an int8 artifact, where a session's setting decides that; else empty."""
    from edgecnn.targets.runtimes import RUNTIMES

    row = RUNTIMES[v.runtime]
    if row.saturation is None or not row.saturation.session:
        return ""
    option = ", ".join(f"{name}={'on' if v.options.get(name) else 'off'}" for name in row.saturation.without)
    settings = ", ".join(f'{name} = "{value}"' for name, value in row.saturation.session.items())
    without = "without " if row.saturates(v.options) else ""
    return f"int8 on {v.runtime}: judged with {option} ({without}{settings})"


def _grouped(verdicts: Sequence[Verdict]) -> list[list[Verdict]]:
    """Verdicts with equal explanations, grouped, in the order of their first verdict."""
    groups: dict[tuple[str, ...], list[Verdict]] = {}
    for v in verdicts:
        worst = _worst(v.worst_samples) if v.outcome == "failed" else ""
        groups.setdefault((v.outcome, v.samples_from, v.output, v.reason, v.layer, v.cause, worst), []).append(v)
    return list(groups.values())


def _print_explanation(verdicts: Sequence[Verdict]) -> None:
    """Print why verdicts did not pass, and the samples to look at."""
    v = verdicts[0]
    names = ", ".join(f"{each.artifact} on {each.target}" for each in verdicts)
    lines = v.reason.split("; ")
    lines += [f"first wrong layer: {v.layer}"] if v.layer else []
    lines += [f"likely cause: {v.cause}"] if v.cause else []
    lines += [f"worst samples: {_worst(v.worst_samples)}"] if v.outcome == "failed" and v.worst_samples else []
    _print_wrapped(f"{v.outcome}: {names}, {v.samples_from}, output {v.output}", first="")
    for text in lines:
        _print_wrapped(text, first="  ")


def _print_wrapped(text: str, *, first: str) -> None:
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    click.echo("\n".join(lines))


def _summary(report: CheckReport) -> str:
    count = len(report.verdicts)
    failed = sum(not v.passed for v in report.verdicts)
    unsure = sum(v.outcome == "undecided" for v in report.verdicts)
    undecided = f", {unsure} of them undecided" if unsure else ""
    lost = f"; {len(report.unjudged)} could not be judged" if report.unjudged else ""
    if failed:
        return f"check: failed, {failed} of {count} verdicts{undecided}{lost}"
    if not count:
        return "check: nothing could be judged"
    if lost:
        return f"check: incomplete: {count} of {count} verdicts passed{undecided}{lost}"
    return f"check: passed, {count} of {count} verdicts{undecided}"
