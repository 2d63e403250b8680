"""What an int8 artifact computes for users whose sessions lack a setting that edgecnn's own sessions make.

On x86 without VNNI some runtimes saturate unless a session asks for exact kernels
(`edgecnn.targets.runtimes.runtime_descriptor.SaturationFacts`). A check runs with that setting. This module runs the
golden inputs once more without it, in the same agent, and says how far the outputs are then: a note, not a failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from edgecnn.bundle import Artifact, Bundle
from edgecnn.errors import TargetError
from edgecnn.parity.runner import Runner
from edgecnn.parity.sample_sets import SampleSet
from edgecnn.parity.saturation_reason import saturates
from edgecnn.targets.hosts.machine_info import ProbeInfo
from edgecnn.targets.hosts.session import Session
from edgecnn.targets.runtimes import RUNTIMES, OptionValue
from edgecnn.targets.target import Target


class Opened(Protocol):
    """A session whose agent can be asked for more: `edgecnn.targets.hosts.reconnect.ReconnectingSession`."""

    @property
    def options(self) -> Mapping[str, OptionValue]:
        """All options in force."""
        ...

    def probe(self) -> ProbeInfo:
        """Describe the machine."""
        ...

    def open_again(self, **options: OptionValue) -> Session:
        """Open the artifact once more with other options."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSession:
    """One output of an int8 artifact on the golden inputs, in a session that lacks the settings against saturation.

    Attributes:
        artifact: The artifact's file name.
        target: The target that it was judged on, with the settings.
        runtime: The runtime's name.
        session: The settings that are left out: the runtime's own names and values.
        options: All runtime options in force.
        layers: Layers that can saturate.
        output: The output's name.
        samples: Number of golden inputs.
        lsb_max: Largest difference from the integer reference, in steps of the output.
        lsb_mean: Mean difference from the integer reference, in steps of the output.
        top1_agreement: Share of samples with the float reference's best class; None if the output is not a row of class
            scores.
    """

    artifact: str
    target: str
    runtime: str
    session: Mapping[str, str]
    options: Mapping[str, OptionValue]
    layers: tuple[str, ...]
    output: str
    samples: int
    lsb_max: float
    lsb_mean: float
    top1_agreement: float | None

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return asdict(self)

    def sentence(self) -> str:
        """Say it to the user."""
        facts = RUNTIMES[self.runtime].saturation
        assert facts is not None
        settings = ", ".join(f'{name} = "{value}"' for name, value in self.session.items())
        found = f"differs by up to {self.lsb_max:.0f} LSB (mean {self.lsb_mean:.2f})"
        if self.top1_agreement is not None:
            found += f", and its best class is torch's in {self.top1_agreement:.1%} of {self.samples} golden inputs"
        if not self.lsb_max:
            found = f"is the same on {self.samples} golden inputs, though not on any input"
        return (
            f"{self.artifact} on {self.target}: in a session without {settings}, {self.output} {found}: this"
            f" processor has no VNNI, and products can overflow in {len(self.layers)} layers; {facts.remedy}"
        )


def plain_sessions(
    bundle: Bundle, artifact: Artifact, target: Target, opened: Opened, samples: SampleSet
) -> tuple[PlainSession, ...]:
    """Run the golden inputs without the settings that protect the open session, where that makes a difference.

    Args:
        bundle: The bundle.
        artifact: The artifact that is open.
        target: Where it runs.
        opened: Its session.
        samples: The golden inputs.

    Returns:
        One for each output with an integer reference; none where no layer can saturate, the processor is not affected,
        the runtime has no such setting, or the session is without it already.

    Raises:
        TargetError: if the runtime fails without them.
    """
    row, quantization = RUNTIMES[target.runtime], artifact.spec.quantization
    facts = row.saturation
    if quantization is None or not quantization.saturating or facts is None or not facts.session:
        return ()
    if row.saturates(opened.options) or not saturates(opened.probe().features or (), target.runtime):
        return ()
    rounding = row.rounding(artifact.precision, opened.options)
    with opened.open_again(**facts.without) as session:
        found = Runner(bundle, artifact, session).run(samples, None, rounding=rounding.rule)
    return tuple(
        PlainSession(
            artifact=artifact.path.name,
            target=target.name,
            runtime=target.runtime,
            session=dict(facts.session),
            options=dict(session.options),
            layers=quantization.saturating,
            output=output,
            samples=measured.difference.samples,
            lsb_max=measured.integer.max_abs,
            lsb_mean=measured.integer.mean_abs,
            top1_agreement=measured.agreement,
        )
        for output, measured in found
        if measured.integer is not None
    )


def failed_run(artifact: Artifact, target: Target, error: TargetError) -> str:
    """Say that the second run failed, which changes no verdict."""
    return f"{artifact.path.name} on {target.name}: without the session's settings it could not be run: {error.message}"
