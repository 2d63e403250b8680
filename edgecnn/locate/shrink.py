"""Shrink a fault on a target to the fewest nodes and samples that still show it, as a bundle for a bug report."""

from __future__ import annotations

import math
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecnn.bundle import Artifact, Bundle, check_destination
from edgecnn.errors import EdgecnnError, TargetError, UsageError
from edgecnn.export.written import Place
from edgecnn.graph.ops import ValueName
from edgecnn.locate.candidate import (
    REEXPORTED,
    Kind,
    SubgraphFile,
    boundaries,
    extract_from_file,
    reexport_subgraph,
    some_samples,
    write_subgraph,
)
from edgecnn.locate.ddmin import minimise
from edgecnn.locate.expected import expect
from edgecnn.locate.reexport import Reexport, reexport_artifact
from edgecnn.locate.subgraph import Subgraph, subgraph_of
from edgecnn.locate.tap_outputs import find_points
from edgecnn.parity.bundle_check import check_bundle
from edgecnn.parity.verdict import CheckReport
from edgecnn.targets.runtimes.rounding_rules import REFERENCE_RULE
from edgecnn.targets.target import Target
from edgecnn.types import Progress

TRIED = 2
"""How many samples are tried alone before the samples are divided."""
SHRUNK = ("fp32", "fp16", "int8")
"""Precisions whose files can be shrunk."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """How an artifact fails on a target: ``difference``, ``NaN``, or ``crash`` with the words of the error."""

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
        symptom: How it fails there.
        reason: The reason of the small bundle's verdict.
        nodes: The nodes that are left, in running order.
        whole: How many the whole has.
        samples: How many samples are left.
        kind: ``cut`` where its file is cut out of the artifact; ``anew`` where it is exported again, and fails too.
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
        """The command that reproduces the fault."""
        return shlex.join(["edgecnn", "check", str(self.bundle.directory), "--target", self.target])

    @property
    def verdict(self) -> str:
        """What is at fault: the file where only the cut file fails, else the runtime or the exporter."""
        if self.kind == "cut":
            return "the fault is in the file: the same layers exported again from the bundle's program do not show it"
        return "the fault is in the runtime, or in how edgecnn exports these layers: exported again they show it too"


def shrink(
    bundle: Bundle,
    target: Target,
    directory: str | Path,
    *,
    artifact: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Shrunk:
    """Write the smallest subgraph of a bundle that fails on a target as the whole does.

    Args:
        bundle: The bundle.
        target: Where it fails.
        directory: Where the small bundle goes.
        artifact: The file name of the artifact; None for the first that fails there.
        force: Replace a folder that holds other things too.
        progress: Receives each check.

    Raises:
        UsageError: if nothing fails there, or the artifact is none of those that do.
        TargetError: if the target cannot be asked, or no subgraph shows the fault.
        BundleError: if the bundle is damaged, or the folder cannot be replaced or written.
    """
    check_destination(directory, force=force)
    failing = symptoms(check_bundle(bundle, targets=[target]))
    chosen, symptom = _chosen(bundle, failing, artifact, target)
    with tempfile.TemporaryDirectory(prefix="edgecnn-shrink-") as scratch:
        search = _Search(bundle, chosen, target, symptom, Path(scratch), progress)
        return search.run(Path(directory), force=force)


def symptoms(report: CheckReport) -> dict[str, Symptom]:
    """How each artifact failed, for those that did.

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
            hint="another --target or --artifact; only faults that golden inputs show can be shrunk",
        )
    name = wanted or next(iter(failing))
    return next(a for a in bundle.artifacts if a.path.name == name), failing[name]


class _Search:
    """Writes subgraphs as bundles, checks them, and keeps the smallest one that fails as the whole does."""

    def __init__(
        self,
        bundle: Bundle,
        artifact: Artifact,
        target: Target,
        symptom: Symptom,
        scratch: Path,
        progress: Progress | None,
    ) -> None:
        self._bundle, self._artifact, self._target, self._symptom = bundle, artifact, target, symptom
        self._scratch, self._progress, self._checks = scratch, progress, 0
        if artifact.precision not in SHRUNK:
            raise UsageError(
                f"{artifact.path.name} is not made small",
                why=f"a subgraph of it as a bundle is made of {', '.join(SHRUNK)} files alone",
                hint=f"edgecnn check {bundle.directory} --locate names the layer",
            )
        self._data, self._version = artifact.read(), bundle.manifest.versions["edgecnn"]
        self._reexport = reexport_artifact(artifact, bundle.program(), self._data, version=self._version)
        golden = bundle.golden()
        given = [golden.inputs[i.name] for i in bundle.manifest.inputs]
        expected = expect(self._reexport, bundle.manifest, artifact, given, REFERENCE_RULE)
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
                why=f"a subgraph of it ({', '.join(nodes)}) failed, and passed when it was checked again",
                hint="run the check several times; memory and threads are the first suspects",
            )
        return Shrunk(
            bundle=self._write(directory, kind, nodes, samples, force=force),
            artifact=self._artifact.path.name,
            target=self._target.name,
            symptom=self._symptom,
            reason=reason,
            nodes=tuple(nodes),
            whole=len(self._reexport.graph.nodes),
            samples=len(samples),
            kind=kind,
            checks=self._checks,
        )

    def _boundaries(self) -> Mapping[ValueName, Sequence[Place]]:
        spec = self._artifact.spec.quantization
        points = find_points(self._reexport, self._data, "float32" if spec is None else spec.io)
        return boundaries(self._reexport, points, self._artifact, self._data)

    def _fewest_nodes(self) -> tuple[Kind, list[ValueName]]:
        """The fewest nodes that fail cut out of the file; whether they fail exported again too decides the kind."""
        nodes = [n.name for n in self._reexport.graph.nodes]
        if self._fails("cut", nodes, self._every):
            groups = inseparable(self._reexport, self._places)
            found = minimise(groups, lambda some: self._fails("cut", _joined(some), self._every))
            few = _joined(found)
            return (REEXPORTED if self._fails(REEXPORTED, few, self._every) else "cut"), few
        if self._fails(REEXPORTED, nodes, self._every):
            return REEXPORTED, minimise(nodes, lambda some: self._fails(REEXPORTED, some, self._every))
        raise TargetError(
            f"the fault of {self._artifact.path.name} on {self._target.name} cannot be made smaller",
            why="neither its layers cut out of the file nor the same layers exported again show it: the file"
            " differs from its bundle's program, or its inputs or outputs are wrong (sizes, layout, preprocessing)",
            hint="send the whole bundle with the report, or export the model again",
        )

    def _fewest_samples(self, kind: Kind, nodes: Sequence[ValueName]) -> list[int]:
        """Most faults show with any one sample, so the first samples are tried alone before they are divided."""
        for sample in self._every[:TRIED]:
            if len(self._every) > 1 and self._fails(kind, nodes, [sample]):
                return [sample]
        return minimise(self._every, lambda some: self._fails(kind, nodes, some))

    def _fails(self, kind: Kind, nodes: Sequence[ValueName], samples: Sequence[int]) -> bool:
        try:
            made = self._write(self._scratch / "subgraph", kind, nodes, samples)
        except EdgecnnError:  # no model can be made of these nodes alone
            return False
        return self._check(made) is not None

    def _write(
        self, directory: Path, kind: Kind, nodes: Sequence[ValueName], samples: Sequence[int], *, force: bool = False
    ) -> Bundle:
        subgraph = subgraph_of(self._reexport.graph, self._reexport.quantized, set(nodes))
        name = self._artifact.path.name
        how = f"cut out of {name}" if kind == "cut" else f"a subgraph of {name}, exported again"
        inputs = {i.name: self._values[i.name] for i in subgraph.graph.inputs}
        return write_subgraph(
            directory,
            subgraph,
            self._file_of(subgraph, kind),
            self._bundle,
            self._artifact,
            some_samples(inputs, samples),
            note=f"{how}: {', '.join(subgraph.nodes)}",
            force=force,
        )

    def _file_of(self, subgraph: Subgraph, kind: Kind) -> SubgraphFile:
        if kind == "cut":
            return extract_from_file(subgraph, self._artifact, self._data, self._places)
        return reexport_subgraph(subgraph, self._artifact, self._data, self._version)

    def _check(self, bundle: Bundle) -> str | None:
        """The reason of the check's verdict where a bundle fails as the whole does; None where it does not."""
        self._checks += 1
        if self._progress is not None:
            nodes = len(bundle.program().graph.nodes)
            self._progress(f"{nodes} nodes, {bundle.manifest.golden.samples} samples", self._checks, self._checks)
        report = check_bundle(bundle, targets=[self._target])
        if symptoms(report).get(self._artifact.path.name) != self._symptom:
            return None
        reasons = [v.reason for v in report.verdicts if not v.passed] + [u.error.message for u in report.unjudged]
        return reasons[0]


def inseparable(reexport: Reexport, places: Mapping[ValueName, Sequence[Place]]) -> list[list[ValueName]]:
    """Nodes in running order, in groups between which the file has no tensor to cut at."""
    group = {n.name: i for i, n in enumerate(reexport.graph.nodes)}
    for node in reexport.graph.nodes:
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
