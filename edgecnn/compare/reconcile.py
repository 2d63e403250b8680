"""Reconcile two opened files: which values correspond, in which layouts and types. Nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from edgecnn.compare.artifact_facts import Facts
from edgecnn.compare.comparison import shown
from edgecnn.compare.matching import Pair, match
from edgecnn.compare.numbers import Numbers, check_compatible
from edgecnn.compare.shape_mapping import AmbiguousError, Fit, Loose, Shape, UnfitError, by, elements, fit, same
from edgecnn.errors import UsageError
from edgecnn.export.file_facts import Affine
from edgecnn.targets.hosts.replies import TensorInfo

MAX_INPUT_BYTES = 2**28
"""The largest input of one call, 256 MiB: more is hardly meant."""
_EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What the user states about one of the two files.

    Attributes:
        layouts: ``nchw`` or ``nhwc`` by the value's name; of all other images (values of 4 axes) under the name "".
        quantization: Parameters by the value's name.
    """

    layouts: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    quantization: Mapping[str, Affine] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How two files are compared, where the files themselves do not determine it.

    Attributes:
        input_map: B's name for inputs of A.
        output_map: B's name for outputs of A.
        shapes: Whole shapes of inputs, by name; each file takes those that it has and that fit it.
        ranges: Smallest and largest random value by the name of A's input; of all others under the name "".
        a: What the user states about A.
        b: What the user states about B.
        samples: The number of random samples.
        seed: The seed of the random samples.
        limits: The limits on B's outputs, by the metric's name.
    """

    input_map: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    output_map: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    shapes: Mapping[str, Shape] = field(default_factory=lambda: MappingProxyType({}))
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=lambda: MappingProxyType({}))
    a: Side = field(default_factory=Side)
    b: Side = field(default_factory=Side)
    samples: int = 32
    seed: int = 0
    limits: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A value that both files have.

    Attributes:
        a: Its place and name in A.
        b: Its place and name in B.
        numbers_a: How A stores it.
        numbers_b: How B stores it.
        fit: How A's shape maps to B's.
        how: How the two were recognised as one value.
    """

    a: tuple[int, str]
    b: tuple[int, str]
    numbers_a: Numbers
    numbers_b: Numbers
    fit: Fit
    how: str

    def words(self, what: str) -> str:
        """How the value was reconciled, for messages."""
        names = shown(self.a[1]) if self.a[1] == self.b[1] else f"{shown(self.a[1])} = {shown(self.b[1])}"
        types = (
            f"{self.numbers_a.words} in both"
            if self.numbers_a == self.numbers_b
            else f"{self.numbers_a.words} in A, {self.numbers_b.words} in B"
        )
        return f"{what} {names} ({self.how}): {self.fit.words}; {types}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All inputs in A's order, and whether both files take any number of samples at once."""

    joined: tuple[Joined, ...]
    free_batch: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedFile:
    """A file that a runtime has opened: its inputs and outputs, what is known of it, and what the user states."""

    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]
    facts: Facts
    side: Side
    identical: bool = False

    def numbers(self, tensor: TensorInfo) -> Numbers:
        """How a value is stored, by the user, else by the file or its manifest, else by the runtime."""
        if tensor.name in self.side.quantization:
            affine: Affine | None = self.side.quantization[tensor.name]
        elif tensor.name in self.facts.quantization:
            affine = self.facts.quantization[tensor.name]
        else:
            q = tensor.quantization
            affine = None if q is None or q.scale <= 0 else Affine(scale=q.scale, zero_point=q.zero_point)
        return Numbers(dtype=tensor.dtype, affine=affine if tensor.dtype.startswith(("int", "uint")) else None)

    def layout(self, name: str, rank: int) -> str:
        """The layout of a value; empty where it is not known. A layout for all values holds for images (4 axes)."""
        of_all = self.side.layouts.get("", "") if rank == 4 else ""
        return self.side.layouts.get(name) or of_all or self.facts.layouts.get(name, "")


def check_names(options: Options, a: OpenedFile, b: OpenedFile) -> None:
    """Refuse options that name a value which their file does not have.

    Raises:
        UsageError: naming them.
    """
    inputs = {t.name for t in (*a.inputs, *b.inputs)}
    _check_known("--shape", set(options.shapes), inputs)
    _check_known("--range", set(options.ranges) - {""}, {t.name for t in a.inputs})
    for letter, opened in (("a", a), ("b", b)):
        own = {t.name for t in (*opened.inputs, *opened.outputs)}
        _check_known(f"--layout-{letter}", set(opened.side.layouts) - {""}, own)
        _check_known(f"--quantization-{letter}", set(opened.side.quantization), own)
        for t in (*opened.inputs, *opened.outputs):
            if t.name in opened.side.quantization and not t.dtype.startswith(("int", "uint")):
                raise UsageError(f"--quantization-{letter} {t.name}: it is {t.dtype}", hint="leave it out")


def _check_known(option: str, given: set[str], known: set[str]) -> None:
    for name in sorted(given - known):
        raise UsageError(f"{option}: no such value as {name!r}", hint=f"one of {', '.join(sorted(known))}")


def join_inputs(a: OpenedFile, b: OpenedFile, options: Options) -> Inputs:
    """Settle which input is which, and its shape, layout and numbers in both files.

    Raises:
        UsageError: if the files do not determine it, or contradict each other; it names the option that settles it.
    """
    check_names(options, a, b)
    open_a, open_b = ([_asked(t, options.shapes) for t in opened.inputs] for opened in (a, b))
    for name in options.shapes:
        if not any(
            t.name == name and shape == options.shapes[name]
            for opened, shapes in ((a, open_a), (b, open_b))
            for t, shape in zip(opened.inputs, shapes, strict=True)
        ):
            raise _misfit(name, options.shapes[name], a, b)
    pairs = _pairs(a, b, a.inputs, b.inputs, open_a, open_b, options.input_map, "input", all_of_them=True)
    joined = tuple(_joined(a, b, p, (a.inputs[p.a], b.inputs[p.b]), (open_a[p.a], open_b[p.b]), "input") for p in pairs)
    for one in joined:
        size = max(elements(one.fit.shape_a) * 8, 1)
        if size > MAX_INPUT_BYTES:
            raise UsageError(
                f"input {one.a[1]!r} of {by(one.fit.shape_a)} takes {size:,} bytes",
                why=f"the limit is {MAX_INPUT_BYTES:,}",
                hint="a smaller --shape",
            )
        if 0 in one.fit.shape_a:
            raise UsageError(f"input {one.a[1]!r} of {by(one.fit.shape_a)} is empty", hint="--shape NAME=1x3x224x224")
    free = all(shape[:1] == (None,) for shape in (*open_a, *open_b))
    return Inputs(joined=joined, free_batch=free and all(_keeps_batch(one.fit) for one in joined))


def join_outputs(
    a: OpenedFile, b: OpenedFile, shapes_a: Sequence[Shape], shapes_b: Sequence[Shape], options: Options
) -> tuple[Joined, ...]:
    """Settle which output is which; the shapes are those of a first run.

    Raises:
        UsageError: As `join_inputs`.
    """
    pairs = _pairs(a, b, a.outputs, b.outputs, shapes_a, shapes_b, options.output_map, "output", all_of_them=False)
    return tuple(
        _joined(a, b, p, (a.outputs[p.a], b.outputs[p.b]), (shapes_a[p.a], shapes_b[p.b]), "output") for p in pairs
    )


def _keeps_batch(one: Fit) -> bool:
    return len(one.shape_a) == len(one.shape_b) and one.order[0] == 0


def _asked(tensor: TensorInfo, shapes: Mapping[str, Shape]) -> Loose:
    """An input's shape as the user states it, where that fits the file; else as the file states it."""
    given = shapes.get(tensor.name)
    if given is None or not _contains(tensor.shape, given):
        return tensor.shape
    return given


def _contains(shape: Loose, given: Shape) -> bool:
    return len(shape) == len(given) and all(s in (None, g) for s, g in zip(shape, given, strict=True))


def _misfit(name: str, given: Shape, a: OpenedFile, b: OpenedFile) -> UsageError:
    stated = [f"{side} has {by(t.shape)}" for side, o in (("A", a), ("B", b)) for t in o.inputs if t.name == name]
    return UsageError(
        f"--shape {name}={by(given)} does not fit", why="\n".join(stated), hint="sizes that the file leaves open"
    )


def _pairs(
    a: OpenedFile,
    b: OpenedFile,
    values_a: Sequence[TensorInfo],
    values_b: Sequence[TensorInfo],
    shapes_a: Sequence[Loose],
    shapes_b: Sequence[Loose],
    mapping: Mapping[str, str],
    what: str,
    *,
    all_of_them: bool,
) -> list[Pair]:
    names_a, names_b = [t.name for t in values_a], [t.name for t in values_b]
    if a.identical and not mapping:
        return [Pair(i, i, "the same file") for i in range(len(names_a))]

    def fits(i: int, j: int) -> bool:
        layouts = (a.layout(names_a[i], len(shapes_a[i])), b.layout(names_b[j], len(shapes_b[j])))
        try:
            fit(shapes_a[i], shapes_b[j], layout_a=layouts[0], layout_b=layouts[1])
        except UnfitError:
            return False
        except AmbiguousError:
            return True
        return True

    return match(names_a, names_b, mapping, fits, what=what, all_of_them=all_of_them)


def _joined(
    a: OpenedFile,
    b: OpenedFile,
    pair: Pair,
    values: tuple[TensorInfo, TensorInfo],
    shapes: tuple[Loose, Loose],
    what: str,
) -> Joined:
    names = (values[0].name, values[1].name)
    layouts = (a.layout(names[0], len(shapes[0])), b.layout(names[1], len(shapes[1])))
    numbers = (a.numbers(values[0]), b.numbers(values[1]))
    check_compatible(*numbers, names, what)
    try:
        one = same(*shapes, layouts[0]) if a.identical else fit(*shapes, layout_a=layouts[0], layout_b=layouts[1])
    except AmbiguousError as err:
        err.message = f"{what} {_named(names)}: {err.message}"
        err.hint = f"--layout-a {names[0]}=nchw --layout-b {names[1]}=nhwc, or as it is"
        raise
    except UnfitError as err:
        err.message = f"{what} {_named(names)}: {err.message}"
        err.why = err.why or f"it is the same {what} in both files {pair.how}"
        err.hint = (
            err.hint.replace("NAME", names[0])
            if err.hint
            else f"--{what}-map A=B if it is not, or --layout-a and --layout-b if the layout is another"
        )
        raise
    return Joined(
        a=(pair.a, names[0]),
        b=(pair.b, names[1]),
        numbers_a=numbers[0],
        numbers_b=numbers[1],
        fit=one,
        how=pair.how,
    )


def _named(names: tuple[str, str]) -> str:
    return repr(names[0]) if names[0] == names[1] else f"{names[0]!r} = {names[1]!r}"
