"""A fault on a target made small: the fewest nodes and samples that still show it, as a bundle for a bug report."""

from __future__ import annotations

import math
import re
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecnn.bundle import Artifact, Bundle, check_destination
from edgecnn.errors import EdgecnnError, TargetError, UsageError
from edgecnn.export.written import Place
from edgecnn.graph.ops import ValueName
from edgecnn.locate.candidate import (
    Kind,
    Made,
    boundaries,
    cut_out,
    export_anew,
    some_samples,
    write_part,
)
from edgecnn.locate.ddmin import minimise
from edgecnn.locate.expected import expect
from edgecnn.locate.reexport import Twin, make_twin
from edgecnn.locate.subgraph import Part, part_of
from edgecnn.locate.tap_outputs import find_points
from edgecnn.parity.check import check_bundle
from edgecnn.parity.verdict import CheckReport
from edgecnn.targets.target import Target

TRIED = 2
"""Samples that are tried alone before they are divided."""
SHRUNK = ("fp32", "fp16", "int8")
"""Precisions whose files can be made small."""
Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Symptom:
    """How an artifact fails on a target: ``difference``, ``NaN``, or ``crash`` with what was said of it."""

    kind: str
    words: str = ""

    def __str__(self) -> str:
        return {"difference": "values differ", "NaN": "values are NaN or infinite"}.get(self.kind, self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """A small bundle that fails as the whole did.

    Attributes:
        bundle: The bundle.
        artifact: The artifact's file name, in both.
        target: Where it fails.
        symptom: How.
        reason: What the check says of the small one.
        nodes: The nodes that are left, in running order.
        whole: How many the whole has.
        samples: How many samples are left.
        kind: ``cut``: its file is cut out of the artifact. ``anew``: it is exported anew, and fails all the same.
        checks: How many checks it took.
    """

    bundle: Bundle
    artifact: str
    target: str
    symptom: Symptom
    reason: str
    nodes: tuple[str, ...]
    whole: int
    samples: int
    kind: Kind
    checks: int

    @property
    def command(self) -> str:
        """What reproduces the fault."""
        return shlex.join(["edgecnn", "check", str(self.bundle.directory), "--target", self.target])

    @property
    def verdict(self) -> str:
        """What is at fault, as far as the two ways of making the part tell."""
        if self.kind == "cut":
            return "the fault is in the file: the same layers exported anew from the bundle's program do not show it"
        return "the fault is in the runtime, or in how edgecnn exports these layers: exported anew they show it too"


def shrink(
    bundle: Bundle,
    target: Target,
    directory: str | Path,
    *,
    artifact: str | None = None,
    force: bool = False,
    progress: Told | None = None,
) -> Shrunk:
    """Write the smallest part of a bundle that fails on a target as the whole does.

    Args:
        bundle: The bundle.
        target: Where it fails.
        directory: Where the small bundle goes.
        artifact: The file name of the artifact; None for the first that fails there.
        force: Replace a folder that holds other things too.
        progress: Told of each check.

    Raises:
        UsageError: if nothing fails there, or the artifact is none of those that do.
        TargetError: if the target cannot be asked, or no part shows the fault.
        BundleError: if the bundle is damaged, or the folder cannot be replaced or written.
    """
    check_destination(directory, force=force)
    failing = symptoms(check_bundle(bundle, targets=[target]))
    chosen, symptom = _chosen(bundle, failing, artifact, target)
    with tempfile.TemporaryDirectory(prefix="edgecnn-shrink-") as scratch:
        search = _Search(bundle, chosen, target, symptom, Path(scratch), progress)
        return search.run(Path(directory), force=force)


def symptoms(report: CheckReport) -> dict[str, Symptom]:
    """How each artifact that failed did.

    Raises:
        TargetError: if the target itself could not be asked.
    """
    found: dict[str, Symptom] = {}
    for unjudged in report.unjudged:
        if not unjudged.artifact:
            raise unjudged.error
        found[unjudged.artifact] = Symptom("crash", re.sub(r"\d+", "#", unjudged.error.message))
    for verdict in report.verdicts:
        if not verdict.passed:
            kind = "difference" if math.isfinite(verdict.max_abs_error) else "NaN"
            found.setdefault(verdict.artifact, Symptom(kind))
    return found


def _chosen(
    bundle: Bundle, failing: Mapping[str, Symptom], wanted: str | None, target: Target
) -> tuple[Artifact, Symptom]:
    names = ", ".join(failing)
    if wanted is not None and wanted not in {a.path.name for a in bundle.artifacts}:
        raise UsageError(f"the bundle has no artifact {wanted}", where=str(bundle.directory), hint=names)
    if not failing or (wanted is not None and wanted not in failing):
        raise UsageError(
            f"{wanted or 'nothing'} does not fail on {target.name}" if wanted else f"nothing fails on {target.name}",
            where=str(bundle.directory),
            why=f"what fails there: {names}" if names else "all verdicts on the golden inputs passed",
            hint="another --target or --artifact; only faults that golden inputs show can be made small",
        )
    name = wanted or next(iter(failing))
    return next(a for a in bundle.artifacts if a.path.name == name), failing[name]


class _Search:
    """Makes parts, checks them, and keeps the smallest that fails as the whole does."""

    def __init__(
        self, bundle: Bundle, artifact: Artifact, target: Target, symptom: Symptom, scratch: Path, told: Told | None
    ) -> None:
        self._bundle, self._artifact, self._target, self._symptom = bundle, artifact, target, symptom
        self._scratch, self._told, self._checks = scratch, told, 0
        if artifact.precision not in SHRUNK:
            raise UsageError(
                f"{artifact.path.name} is not made small",
                why=f"a part of it as a bundle is made of {', '.join(SHRUNK)} files alone",
                hint=f"edgecnn check {bundle.directory} --locate names the layer",
            )
        self._data, self._version = artifact.read(), bundle.manifest.versions["edgecnn"]
        self._twin = make_twin(artifact, bundle.program(), self._data, version=self._version)
        golden = bundle.golden()
        given = [golden.inputs[i.name] for i in bundle.manifest.inputs]
        expected = expect(self._twin, bundle.manifest, artifact, given, "half_even_fp32")
        self._values = {name: expected.real(name) for name in expected.values}
        self._places = self._boundaries()
        self._every = tuple(range(golden.samples))

    def run(self, directory: Path, *, force: bool) -> Shrunk:
        """The smallest bundle, checked once more and written."""
        kind, nodes = self._fewest_nodes()
        samples = self._fewest_samples(kind, nodes)
        reason = self._check(self._write(self._scratch / "last", kind, nodes, samples))
        if reason is None:
            raise TargetError(
                f"the fault of {self._artifact.path.name} on {self._target.name} does not show every time",
                why=f"a part of it ({', '.join(nodes)}) failed, and passed when it was asked again",
                hint="run the check several times; memory and threads are the first suspects",
            )
        return Shrunk(
            bundle=self._write(directory, kind, nodes, samples, force=force),
            artifact=self._artifact.path.name,
            target=self._target.name,
            symptom=self._symptom,
            reason=reason,
            nodes=tuple(nodes),
            whole=len(self._twin.graph.nodes),
            samples=len(samples),
            kind=kind,
            checks=self._checks,
        )

    def _boundaries(self) -> Mapping[ValueName, Sequence[Place]]:
        spec = self._artifact.spec.quantization
        points = find_points(self._twin, self._data, "float32" if spec is None else spec.io)
        return boundaries(self._twin, points, self._artifact, self._data)

    def _fewest_nodes(self) -> tuple[Kind, list[ValueName]]:
        """Cut out of the file as far as that goes; then exported anew, if that fails too."""
        nodes = [n.name for n in self._twin.graph.nodes]
        if self._fails("cut", nodes, self._every):
            groups = inseparable(self._twin, self._places)
            found = minimise(groups, lambda some: self._fails("cut", _joined(some), self._every))
            few = _joined(found)
            return ("anew" if self._fails("anew", few, self._every) else "cut"), few
        if self._fails("anew", nodes, self._every):
            return "anew", minimise(nodes, lambda some: self._fails("anew", some, self._every))
        raise TargetError(
            f"the fault of {self._artifact.path.name} on {self._target.name} cannot be made smaller",
            why="neither its layers cut out of the file nor the same exported anew show it: the file is another than"
            " its bundle's program says, or its ends are wrong (sizes, layout, preprocessing)",
            hint="send the whole bundle with the report, or export the model again",
        )

    def _fewest_samples(self, kind: Kind, nodes: Sequence[ValueName]) -> list[int]:
        """One sample is usual, and any; so the first ones are tried alone."""
        for sample in self._every[:TRIED]:
            if len(self._every) > 1 and self._fails(kind, nodes, [sample]):
                return [sample]
        return minimise(self._every, lambda some: self._fails(kind, nodes, some))

    def _fails(self, kind: Kind, nodes: Sequence[ValueName], samples: Sequence[int]) -> bool:
        try:
            made = self._write(self._scratch / "part", kind, nodes, samples)
        except EdgecnnError:  # no model can be made of these nodes alone
            return False
        return self._check(made) is not None

    def _write(
        self, directory: Path, kind: Kind, nodes: Sequence[ValueName], samples: Sequence[int], *, force: bool = False
    ) -> Bundle:
        part = part_of(self._twin.graph, self._twin.quantized, set(nodes))
        name = self._artifact.path.name
        how = f"cut out of {name}" if kind == "cut" else f"a part of {name}, exported anew"
        inputs = {i.name: self._values[i.name] for i in part.graph.inputs}
        return write_part(
            directory,
            part,
            self._made(part, kind),
            self._bundle,
            self._artifact,
            some_samples(inputs, samples),
            note=f"{how}: {', '.join(part.nodes)}",
            force=force,
        )

    def _made(self, part: Part, kind: Kind) -> Made:
        if kind == "cut":
            return cut_out(part, self._artifact, self._data, self._places)
        return export_anew(part, self._artifact, self._data, self._version)

    def _check(self, bundle: Bundle) -> str | None:
        """What the check says where it fails as the whole does; None where it does not."""
        self._checks += 1
        if self._told is not None:
            nodes = len(bundle.program().graph.nodes)
            self._told(f"{nodes} nodes, {bundle.manifest.golden.samples} samples", self._checks, self._checks)
        report = check_bundle(bundle, targets=[self._target])
        if symptoms(report).get(self._artifact.path.name) != self._symptom:
            return None
        reasons = [v.reason for v in report.verdicts if not v.passed] + [u.error.message for u in report.unjudged]
        return reasons[0]


def inseparable(twin: Twin, places: Mapping[ValueName, Sequence[Place]]) -> list[list[ValueName]]:
    """Nodes in running order, in groups between which the file has no tensor to cut at."""
    group = {n.name: i for i, n in enumerate(twin.graph.nodes)}
    for node in twin.graph.nodes:
        for value in node.inputs:
            if value in group and not places.get(value):
                old, new = group[node.name], group[value]
                group = {name: new if g == old else g for name, g in group.items()}
    found: dict[int, list[ValueName]] = {}
    for name, number in group.items():
        found.setdefault(number, []).append(name)
    return list(found.values())


def _joined(groups: Sequence[Sequence[ValueName]]) -> list[ValueName]:
    return [name for group in groups for name in group]
