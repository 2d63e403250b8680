"""The result of writing a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A tensor of a file that holds a value of the graph it was written from.

    Attributes:
        tensor: Its name in ONNX, its index in TFLite.
        axes: Its axis ``i`` holds the value's axis ``axes[i]``.
        form: How: ``real`` numbers; ``integers``; ``centered``, integers less their zero point, as float32;
            or ``sums``, accumulators as float32.
        offset: What is added to the int8 integers: 128 where they are uint8.
        layer: Of ``sums``: the node whose accumulators they are.
        channels: The number of channels, where channels of zeros follow the value's own; 0 where none do.
        shape: Of a sample, where the tensor has the value's elements in their order but not its axes; else empty.
    """

    tensor: str | int
    axes: tuple[int, ...]
    form: Literal["real", "integers", "centered", "sums"] = "real"
    offset: int = 0
    layer: str = ""
    channels: int = 0
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An artifact in memory.

    Attributes:
        data: The file's bytes.
        operators: How many of each of the format's operators it holds.
        axes: For each input and output, by name: its axis ``i`` holds the graph's axis ``axes[i]``.
        notes: What the user should know: an operator that could not be avoided, and why.
        places: For each input and node of the graph as the format has it, by name: the tensors that an operator gives
            and that hold it. Empty where two values are one tensor, and the other value has it.
    """

    data: bytes
    operators: Mapping[str, int]
    axes: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()
    places: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
