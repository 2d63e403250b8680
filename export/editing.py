"""How a file is edited without being exported again: what is wrong in it stays wrong, byte for byte."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgecnn.errors import BundleError

if TYPE_CHECKING:
    from edgecnn.export.steps import Step
    from edgecnn.types import Array

TensorKey = Any
"""What identifies a tensor of a file: its name in ONNX, its index in TFLite."""


@dataclass(frozen=True, slots=True)
class End:
    """A tensor that an extracted file takes or gives: its type, and its shape for one sample."""

    tensor: TensorKey
    dtype: str
    shape: tuple[int, ...]


class Editor(Protocol):
    """What each format's module ``edit`` offers. A file is bytes, and every function leaves those it is given alone.

    All functions raise BundleError where the file cannot be read.
    """

    def inputs(self, data: bytes) -> list[TensorKey]:
        """The file's inputs, in its order."""
        ...

    def outputs(self, data: bytes) -> list[TensorKey]:
        """The file's outputs, in its order."""
        ...

    def tensor_names(self, data: bytes) -> Mapping[TensorKey, str]:
        """The name of each tensor that an operator computes."""
        ...

    def read_tensors(self, data: bytes) -> set[TensorKey]:
        """The tensors that some operator reads."""
        ...

    def corresponding(self, reference: bytes, data: bytes) -> dict[TensorKey, TensorKey]:
        """For each tensor of a reference file the tensor of the same name that an operator of ``data`` computes."""
        ...

    def operators(self, data: bytes) -> list[tuple[str, str]]:
        """Each operator's kind and the name of its first result, in running order."""
        ...

    def steps(self, data: bytes) -> list[Step]:
        """The operators with all that they hold, in running order."""
        ...

    def with_outputs(self, data: bytes, tensors: Sequence[TensorKey], *, batch_free: bool) -> bytes:
        """The file with these tensors as its only outputs, in this order.

        Args:
            data: The file.
            tensors: The outputs.
            batch_free: Whether inputs and outputs have a batch that can be resized.
        """
        ...

    def with_fed_tensors(
        self, data: bytes, tensors: Sequence[TensorKey], fed: Sequence[tuple[TensorKey, Array]], *, batch_free: bool
    ) -> bytes:
        """The file with ``fed`` tensors as further inputs: operators read these inputs instead of computed tensors.

        Args:
            data: The file.
            tensors: The outputs.
            fed: Tensors, each with an example of the values that it is fed.
            batch_free: Whether inputs and outputs have a batch that can be resized.
        """
        ...

    def first_operators(self, data: bytes, count: int) -> bytes:
        """The file's first ``count`` operators; its outputs are all of their results that the rest reads."""
        ...

    def extract(self, data: bytes, inputs: Sequence[End], outputs: Sequence[End], *, batch_free: bool) -> bytes:
        """The operators between some tensors and others as a file of their own.

        Raises:
            BundleError: if the outputs depend on anything besides the inputs.
        """
        ...


def needed_operators(
    operators: Sequence[tuple[Sequence[TensorKey], Sequence[TensorKey]]],
    inputs: Collection[TensorKey],
    outputs: Sequence[TensorKey],
    constants: Collection[TensorKey],
) -> set[int]:
    """The places of the operators that the outputs need when the inputs are given.

    Args:
        operators: The tensors that each operator reads, and those that it computes.
        inputs: The given tensors.
        outputs: The wanted tensors.
        constants: The tensors whose values the file holds.

    Raises:
        BundleError: if the outputs depend on another tensor, or no operator lies between.
    """
    makers = {name: i for i, (_, results) in enumerate(operators) for name in results}
    needed: set[int] = set()
    wanted = list(outputs)
    while wanted:
        name = wanted.pop()
        if name in inputs or (name in constants and name not in makers) or name == "":
            continue
        if name not in makers:
            raise BundleError(f"the file cannot be cut there: it needs {name} too")
        if makers[name] not in needed:
            needed.add(makers[name])
            wanted.extend(operators[makers[name]][0])
    if not needed:
        raise BundleError("the file cannot be cut there: no operator lies between")
    return needed
