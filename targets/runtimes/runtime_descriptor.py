"""What edgecnn knows of a runtime: one `Runtime` for each, in a file of its own beside this one.

No field has a default, so that a new runtime must answer every question. All other modules ask the descriptor and
compare no runtime's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from edgecnn.targets.runtimes.rounding_rules import RoundingRule

OptionValue = bool | int | str
Options = Mapping[str, OptionValue]
Version = tuple[int, int]
Installation = Literal["dependency", "extra", "environment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A setting of a runtime. Its values have the type of its default.

    Attributes:
        default: The value that holds unless another is given; the agent's table has the same.
        choices: The values that a text can have.
        highest: The largest value that a number can have; the smallest is 1.
    """

    default: OptionValue
    choices: tuple[str, ...] = ()
    highest: int = 0

    @property
    def allowed(self) -> str:
        """The possible values, in words."""
        if isinstance(self.default, bool):
            return "on or off"
        if isinstance(self.default, int):
            return f"a number from 1 to {self.highest}"
        return f"one of {', '.join(self.choices)}"

    def accepts(self, value: object) -> bool:
        """Whether a value has this option's type and is one of the possible values."""
        if type(value) is not type(self.default):
            return False
        return value in self.choices if isinstance(value, str) else not self.highest or 1 <= value <= self.highest


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheels:
    """The wheels that one release of a runtime has.

    Attributes:
        release: The newest release that these machines and Pythons can have.
        machines: Machine names as ``uname -m`` prints them.
        pythons: The oldest and the newest Python.
        glibc: The oldest GNU C library.
        extra_requirements: What else pip has to be told.
    """

    release: str
    machines: tuple[str, ...]
    pythons: tuple[Version, Version]
    glibc: Version
    extra_requirements: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """The environment of its own that a runtime can have on this machine.

    Attributes:
        requirements: Packages with exact versions; the runtime is the first.
        pythons: The versions of Python that there are wheels for, the best first.
        why: Why the runtime has an environment of its own.
    """

    requirements: tuple[str, ...]
    pythons: tuple[Version, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiler:
    """A runtime's own profiler, and how its report reads.

    Attributes:
        formats: The formats in whose files it calls operators by the file's names.
        method: What it measures and how exactly, for the reader of a profile.
        prefix: What the runtime puts in front of the names of operators that it has fused.
        suffix: What the runtime's passes append to the names of operators; matches at the end of a name.
        copies: Kinds of operators that the runtime adds to convert or hand over values, and that compute nothing new.
        float_operators: Kinds of operators that compute in float and have an integer counterpart, or are in one.
        float_layers: Those of them that compute a layer; where the integers of an int8 file stop being integers.
        float_remedy: What to try where the runtime computes an int8 layer in float.
    """

    formats: tuple[str, ...]
    method: str
    prefix: str
    suffix: re.Pattern[str]
    copies: frozenset[str]
    float_operators: frozenset[str]
    float_layers: frozenset[str]
    float_remedy: str

    def plain_name(self, name: str) -> str:
        """Return an operator's name in the file, without what the runtime's passes add to it."""
        return self.suffix.sub("", name.removeprefix(self.prefix))


@dataclass(frozen=True, slots=True, kw_only=True)
class SaturationFacts:
    """Int8 kernels for x86 without VNNI that add pairs of products in int16, which can overflow.

    Attributes:
        feature: The instructions that they are written for, as ``/proc/cpuinfo`` lists them.
        unless: Options under which the runtime uses other kernels.
        session: The same as a program sets it in sessions of its own: the runtime's own names and values. Empty where
            the runtime has no such setting that is public.
        without: Options that give a session as programs open it that set none of that; empty if ``session`` is.
        remedy: What to try, the best first.
    """

    feature: str
    unless: Options
    session: Mapping[str, str]
    without: Options
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """A float kernel whose error is larger than rounding explains: by design, measured, with its cause.

    Attributes:
        machine: The machine as wheels are named after it.
        operators: The operators that the kernel computes, as the format spells them.
        unless: Options under which another kernel runs.
        error: Its largest error, as a share of the value.
        why: The cause.
        hint: What to try.
    """

    machine: str
    operators: tuple[str, ...]
    unless: Options
    error: float
    why: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A program that runs artifacts. What it does on the device is the agent's part (`edgecnn.targets.agent`).

    Attributes:
        name: The name that the user writes.
        title: The name that its makers write.
        formats: The formats it runs: ``onnx``, ``tflite``.
        module: The Python module whose presence tells that it is installed.
        working_module: The module whose import proves that its native code loads.
        distribution: What ``pip install`` calls it.
        installation: How it comes to be installed: as a ``dependency`` of edgecnn, as an ``extra`` of the runtime's
            name, or only in an ``environment`` of its own.
        environment: The environment of its own that ``edgecnn targets setup`` makes; None if there is no such need.
        wheels: The wheels that the package index has, the newest release first.
        options: The options that `Connection.open` takes for it.
        lacks: Precisions of its formats that it cannot run, and why.
        rounding: Gives the rounding rule for a precision under given options.
        saturation: Its kernels that saturate on some x86 processors; None if it has none.
        deviations: Its float kernels that are less exact than rounding explains.
        fixed_batch: Whether it runs a file only with the batch size that the file states.
        arena: Whether it tells how much memory its tensors take.
        profiler: Its own profiler; None if Python reaches none. Then a TFLite file is cut after each operator.
        missing_operator: How it says that it does not offer an operator: patterns with the group ``kind``, and
            ``version``, ``name`` (of the node) or ``number`` (of the node, where a kernel refuses a type).
    """

    name: str
    title: str
    formats: tuple[str, ...]
    module: str
    working_module: str
    distribution: str
    installation: Installation
    environment: EnvironmentSpec | None
    wheels: tuple[Wheels, ...]
    options: Mapping[str, Option]
    lacks: Mapping[str, str]
    rounding: Callable[[str, Options], RoundingRule]
    saturation: SaturationFacts | None
    deviations: tuple[Deviation, ...]
    fixed_batch: bool
    arena: bool
    profiler: Profiler | None
    missing_operator: tuple[re.Pattern[str], ...]

    @property
    def single_thread(self) -> bool:
        """Whether it computes on one thread only."""
        return self.options["threads"].highest == 1

    @property
    def requirement(self) -> str:
        """What pip has to install to have it beside edgecnn."""
        return f'"edgecnn[{self.name}]"' if self.installation == "extra" else self.distribution

    def saturates(self, options: Options) -> bool:
        """Whether its int8 kernels can saturate under given options, on some x86 without VNNI."""
        return self.saturation is not None and not self._chosen(self.saturation.unless, options)

    def deviation(self, machine: str, options: Options, operators: Collection[str]) -> Deviation | None:
        """Return the known deviation on a machine, if a file has an operator that it concerns.

        Args:
            machine: As `edgecnn.targets.hosts.replies.AgentInfo.wheel_machine` has it.
            options: The options in force; those left out have their defaults.
            operators: The file's operators, as the format spells them.
        """
        for row in self.deviations:
            if machine == row.machine and set(row.operators) & set(operators) and not self._chosen(row.unless, options):
                return row
        return None

    def _chosen(self, wanted: Options, options: Options) -> bool:
        """Whether any of the wanted values is in force."""
        return any(options.get(name, self.options[name].default) == value for name, value in wanted.items())
