"""Locate the fault of an artifact on a target: its layer, its size, and its likely cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgecnn._version import __version__
from edgecnn.bundle import Artifact, Bundle, Manifest, Program
from edgecnn.errors import TargetError
from edgecnn.locate import causes, crash, tap_outputs
from edgecnn.locate.expected import Expected, Gap, expect
from edgecnn.locate.file_comparison import FileComparison, compare_file, layer_of
from edgecnn.locate.golden_outputs import with_golden
from edgecnn.locate.inputs import acts_mixed_up, golden_contradiction
from edgecnn.locate.location import (
    Cause,
    Line,
    Location,
    first_broken,
    layer_name,
    merged_lines,
    module_and_operator,
)
from edgecnn.locate.malformed_file import contradictions
from edgecnn.locate.manifest_check import manifest_cause
from edgecnn.locate.probe_session import ProbeSession
from edgecnn.locate.reexport import reexport_artifact
from edgecnn.locate.rules import EXACT, REAL, breaks, is_exact, rule_of, tolerance
from edgecnn.parity.runner import stored_inputs
from edgecnn.targets.runtimes.refusals import NotOfferedError
from edgecnn.targets.target import Target
from edgecnn.types import Array

SAMPLES = 8
"""The most golden samples that are examined: those whose outputs are worst."""
MEMORY = 1 << 26
"""The most bytes that all values of these samples take together."""


def locate(
    bundle: Bundle, artifact: Artifact, target: Target, *, program: Program | None = None, failed: bool = False
) -> Location:
    """Locate what is wrong with an artifact on a target, if anything is.

    Each of its values is compared with the program's end to end, and each operator in isolation. Where an operator
    breaks its rule, the file is compared with the program, and the usual causes are tried.

    Args:
        bundle: The bundle.
        artifact: One of its artifacts.
        target: Where it is to run.
        program: The bundle's program, where it has been read already.
        failed: Whether a verdict on it failed. Quantization is then to blame where neither file nor runtime is.

    Raises:
        BundleError: if the file, the golden vectors or the program cannot be read.
        TargetError: if the target cannot be reached.
        EdgecnnError: if files of this precision cannot be examined.
    """
    with contradictions(artifact), ProbeSession(bundle, artifact, target) as probe:
        return _Search(probe, program or bundle.program(), failed=failed).run()


def _version_note(manifest: Manifest) -> list[str]:
    by = manifest.versions.get("edgecnn", "")
    if by == __version__:
        return []
    return [f"edgecnn {by} exported the bundle, and {__version__} its program again: that alone can make them differ"]


class _Search:
    """The search for the fault of one artifact on one target."""

    def __init__(self, probe: ProbeSession, program: Program, *, failed: bool) -> None:
        bundle, artifact, target = probe.bundle, probe.artifact, probe.target
        self._bundle, self._artifact, self._target, self._failed = bundle, artifact, target, failed
        self._data = artifact.read()
        self._reexport = reexport_artifact(
            artifact, program, self._data, version=bundle.manifest.versions.get("edgecnn", "")
        )
        self._probe = probe
        self._golden = bundle.golden()
        self._rounding = rule_of(artifact.precision, target.runtime, target.options)
        self._notes = _version_note(bundle.manifest)
        self._hidden: frozenset[str] = frozenset()
        self._blank = Location(
            artifact=artifact.path.name, target=target.name, runtime=target.runtime, board=target.host.name
        )

    def run(self) -> Location:
        """Examine the manifest, the file, the values and the operators, in this order."""
        comparison = compare_file(self._reexport, self._data)
        all_inputs = [self._golden.inputs[i.name] for i in self._bundle.manifest.inputs]
        stored = stored_inputs(self._bundle.manifest, self._artifact, all_inputs)
        try:
            outputs = self._probe.run(self._data, "as it is", stored)
        except NotOfferedError as error:
            return self._not_offered(comparison, error)
        except TargetError as error:
            return self._crashed(comparison, [a[:1] for a in stored], error)
        chosen = tap_outputs.worst_samples(*self._with_golden(outputs), count=self._affordable())
        inputs = [np.ascontiguousarray(a[chosen]) for a in all_inputs]
        stored = [np.ascontiguousarray(a[chosen]) for a in stored]
        expected = expect(self._reexport, self._bundle.manifest, self._artifact, inputs, self._rounding.rule)
        try:
            lines, broken = self._lines(expected, stored)
        except TargetError as error:
            self._notes.append(f"values could not be observed: {error.message}")
            lines, broken = (), []
        given = [a[chosen] for a in self._with_golden(outputs)[0]]
        cause = manifest_cause(self._reexport, self._bundle.manifest, self._artifact)
        cause = cause or self._cause(comparison, expected, lines, broken, inputs, stored, given)
        return self._location(lines, cause)

    def _affordable(self) -> int:
        total = sum(int(np.prod(n.shape)) for n in self._reexport.graph.nodes) * 4
        return max(1, min(SAMPLES, MEMORY // max(total, 1), self._golden.samples))

    def _with_golden(self, outputs: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        return with_golden(outputs, self._bundle.manifest, self._artifact, self._golden, self._rounding.rule)

    def _lines(
        self, expected: Expected, stored: Sequence[Array]
    ) -> tuple[tuple[Line, ...], list[tuple[tap_outputs.Point, Array]]]:
        """Compare every value end to end and every operator in isolation; repeat on a re-export of a modified file.

        Returns:
            A line for each value, and the points whose operator breaks its rule with what the operator gave.
        """
        spec = self._artifact.spec.quantization
        points = tap_outputs.find_points(self._reexport, self._data, "float32" if spec is None else spec.io)
        points = tap_outputs.keep_fusions(points, self._probe, self._data, stored)
        self._note(points)
        drift = tap_outputs.tap(points, self._probe, self._data, stored, expected)
        alone, gave = tap_outputs.force(points, self._probe, self._data, stored, expected)
        reexported: Sequence[Gap | None] = [None] * len(alone)
        if self._data != self._reexport.written.data:
            reexported = self._gaps_of_reexport(points, expected, stored)
        lines, broken = [], []
        for i, point in enumerate(points.points):
            module, operator = module_and_operator(self._reexport.graph, point.value)
            if point.output:
                module, operator = f"output {point.output}", "Output"
            wrong = breaks(alone[i], tolerance(self._reexport, point.value, self._rounding))
            lines.append(
                Line(
                    value=f"output {point.output}" if point.output else point.value,
                    module=module,
                    operator=operator,
                    drift=drift[i],
                    alone=alone[i],
                    anew=reexported[i],
                    broken=wrong,
                )
            )
            broken += [(point, gave[i])] if wrong else []
        return merged_lines(lines), broken

    def _gaps_of_reexport(
        self, points: tap_outputs.Points, expected: Expected, stored: Sequence[Array]
    ) -> list[Gap | None]:
        """How far each operator of the re-exported file is from golden; None where it does not hold a point's value."""
        spec = self._artifact.spec.quantization
        own = tap_outputs.find_points(
            self._reexport, self._reexport.written.data, "float32" if spec is None else spec.io
        )
        try:
            gaps, _ = tap_outputs.force(own, self._probe, self._reexport.written.data, stored, expected)
        except TargetError as error:
            self._notes.append(f"the re-exported file does not run there either: {error.message}")
            return [None] * len(points.points)
        known = {(p.value, p.place.form, p.output): gap for p, gap in zip(own.points, gaps, strict=True)}
        return [known.get((p.value, p.place.form, p.output)) for p in points.points]

    def _note(self, points: tap_outputs.Points) -> None:
        self._hidden = frozenset((*points.missing, *points.merged))
        if points.missing:
            self._notes.append(f"the file has no tensor for {', '.join(points.missing[:5])}")
        if points.merged:
            self._notes.append(
                f"left out, since {self._target.runtime} computes them as part of the operators that follow:"
                f" {', '.join(points.merged)}"
            )
        if points.refused:
            self._notes.append(f"{self._target.runtime} fuses other operators while its values are observed")

    def _cause(
        self,
        comparison: FileComparison,
        expected: Expected,
        lines: Sequence[Line],
        broken: list[tuple[tap_outputs.Point, Array]],
        inputs: Sequence[Array],
        stored: Sequence[Array],
        given: Sequence[Array],
    ) -> Cause | None:
        """The likely cause: the file first, then the runtime, then the input, then quantization.

        Where the re-exported operator breaks its rule too, the file's differences from the program are not the cause.
        """
        first = broken[0][0].value if broken else ""
        found = causes.file_cause(comparison, [first, *self._parts_of(first)])
        if found is not None and not self._reexport_breaks(first, lines):
            mixed = acts_mixed_up(
                self._reexport, self._bundle.manifest, self._artifact, inputs, given, self._rounding.rule
            )
            return replace(found, text=f"{found.text}; it acts as if its input were {mixed}") if mixed else found
        if broken:
            return self._of_the_runtime(expected, broken, stored)
        contradiction = golden_contradiction(self._reexport, self._bundle.manifest, self._artifact, self._golden)
        if contradiction is not None:
            return contradiction
        mixed = acts_mixed_up(self._reexport, self._bundle.manifest, self._artifact, inputs, given, self._rounding.rule)
        if mixed:
            text = f"it acts as if its input were {mixed}"
            return Cause(fault="input", text=text, remedy="feed it as the manifest says")
        together = self._together(lines, stored)
        if together is not None or not self._failed:
            return together
        return causes.float_kernels(self._probe, self._data, stored) or causes.clipped_cause(expected)

    def _reexport_breaks(self, value: str, lines: Sequence[Line]) -> bool:
        """Whether the re-exported operator breaks its rule too, and by at least half as much."""
        line = next((line for line in lines if line.value == value), None)
        if line is None or line.anew is None:
            return False
        allowed = tolerance(self._reexport, value, self._rounding)
        return breaks(line.anew, allowed) and line.anew.largest >= line.alone.largest / 2

    def _of_the_runtime(
        self, expected: Expected, broken: Sequence[tuple[tap_outputs.Point, Array]], stored: Sequence[Array]
    ) -> Cause:
        return (
            causes.saturation_cause(self._probe, [point.value for point, _ in broken])
            or causes.float_kernels(self._probe, self._data, stored)
            or causes.rounding_cause(expected, broken, self._target.runtime)
            or self._threads(stored)
            or self._kernel(broken[0][0].value)
        )

    def _together(self, lines: Sequence[Line], stored: Sequence[Array]) -> Cause | None:
        """The cause where values are wrong although every operator alone is right."""
        exact, plain = is_exact(self._reexport, self._rounding), self._artifact.precision in ("fp32", "fp16")
        if not exact and not (plain and self._failed):
            return None  # single steps and the last bits of floats add up, which is no fault
        first = next((line for line in lines if breaks(line.drift, EXACT if exact else REAL)), None)
        if first is None:
            return None
        text = f"every operator alone keeps its rule, but end to end a value breaks it: {first.drift}"
        known = first.value if first.value in self._reexport.graph.shapes else ""
        cause = self._threads(stored) or Cause(
            fault="runtime", text=text, remedy="another version or other options of the runtime"
        )
        return replace(cause, layer=known)

    def _parts_of(self, value: str) -> list[str]:
        """The unobserved values whose operators the runtime fused into the operator of a value: nearest first."""
        parts: list[str] = []
        front = [value]
        while front:
            node = self._reexport.graph.producers.get(front.pop(0))
            new = [] if node is None else [i for i in node.inputs if i in self._hidden and i not in parts]
            parts += new
            front += new
        return parts

    def _threads(self, stored: Sequence[Array]) -> Cause | None:
        """The cause where one thread gives other values than several."""
        threads = self._target.options.get("threads", 1)
        if threads == 1:
            return None
        one = self._probe.run(self._data, "on one thread", stored, options={"threads": 1})
        many = self._probe.run(self._data, "again", stored)
        if all((a == b).all() for a, b in zip(one, many, strict=True)):
            return None
        return Cause(
            fault="runtime",
            text=f"with {threads} threads the runtime adds in another order: on one thread it gives other values",
            remedy="threads=1",
        )

    def _kernel(self, value: str) -> Cause:
        same = "the re-exported operator does the same"
        if self._data == self._reexport.written.data:
            same = "the file is what its program gives, bit for bit"
        operator = module_and_operator(self._reexport.graph, value)[1]
        remedy = "another version or other options of the runtime"
        if self._reexport.quantized is not None:
            remedy += ", or this layer in float by a recipe"
        text = f"{self._target.runtime}'s kernel for {operator} is at fault there: {same}"
        return Cause(fault="runtime", text=text, remedy=remedy)

    def _not_offered(self, comparison: FileComparison, error: NotOfferedError) -> Location:
        """The location of an operator that the runtime itself says it does not have."""
        value = layer_of(self._reexport, error.operators[0].value)
        own = Cause(fault="runtime", text=error.why, remedy=error.hint)
        cause = causes.file_cause(comparison, [value]) or own
        return replace(
            self._blank,
            layer=layer_name(self._reexport.graph, cause.layer or value),
            size=f"no answer: {error.message}",
            fault=cause.fault,
            cause=cause.text,
            remedy=cause.remedy,
        )

    def _crashed(self, comparison: FileComparison, stored: Sequence[Array], error: TargetError) -> Location:
        """The location of the first operator that the runtime fails at."""
        if not self._probe.is_reached():
            raise error
        found = crash.first_failing(self._probe, self._data, stored)
        if found is None:
            note = f"with one sample it runs; with all of them: {error.message}"
            return replace(self._blank, notes=(note,))
        kind, name, error = found
        value = layer_of(self._reexport, name)
        cause = causes.file_cause(comparison, [value])
        if cause is None:
            text = f"{self._target.runtime} fails at this operator, and the file holds what its program says"
            cause = Cause(fault="runtime", text=text, remedy="another version or other options of the runtime")
        return replace(
            self._blank,
            layer=layer_name(self._reexport.graph, cause.layer or value),
            size=f"no answer from {kind} ({name}): {error.message}",
            fault=cause.fault,
            cause=cause.text,
            remedy=cause.remedy,
        )

    def _location(self, lines: Sequence[Line], cause: Cause | None) -> Location:
        first = first_broken(lines)
        layer = size = ""
        if first is not None:
            inside = cause is not None and cause.layer in self._parts_of(first.value)
            value = cause.layer if cause is not None and inside else first.value
            known = value in self._reexport.graph.shapes
            layer = layer_name(self._reexport.graph, value) if known else first.module
            size = str(first.alone)
        elif cause is not None and cause.layer:
            layer = layer_name(self._reexport.graph, cause.layer)
        return replace(
            self._blank,
            layer=layer,
            size=size,
            fault="" if cause is None else cause.fault,
            cause="" if cause is None else cause.text,
            remedy="" if cause is None else cause.remedy,
            lines=tuple(lines),
            notes=tuple(self._notes),
        )
