"""The descriptor of a file format: all that the rest of the project asks about one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from edgecnn.errors import UsageError
from edgecnn.export.legal_programs import LEGALIZED, Legalize, LegalProgram, Programs

if TYPE_CHECKING:
    from edgecnn.export.editing import Editor
    from edgecnn.export.file_facts import FileFacts
    from edgecnn.export.written import Written


class Refusal(NamedTuple):
    """Why a format is not written in a precision, and what to try."""

    reason: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """How a file is written.

    Attributes:
        version: The edgecnn version that the file names as its producer.
        io: Type of the inputs and outputs of int8 files: ``float32``, ``int8``, or ``uint8``.
        opset: The opset of formats that have some; None for the format's default.
    """

    version: str
    io: str = "float32"
    opset: int | None = None


FileWriter = Callable[[Programs, WriteOptions], "Written"]
"""Writes a model's file in one format and precision."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format.

    A descriptor imports nothing heavy: its functions import the packages of their format when they are called.

    Attributes:
        name: Its name in options and manifests, which is also the ending of its files.
        title: Its name in messages.
        package: The distribution that writes it; manifests state its version.
        mark: Bytes 4 to 8 of its files; empty where the format has no mark.
        options: The fields of `WriteOptions` that this format has and others lack.
        writers: By precision, what writes a file.
        refused: The precisions that the format is not written in.
        legalize: The rewrites that bring a graph into what the format can say.
        options_of: Completes options by those that the file itself states.
        check_self_contained: Refuses a file whose weights lie in other files, naming the file in its second argument;
            None where reading a bundle does not look for that.
        facts: What a file of any origin says about itself; the second argument names the file in messages.
        macs: Multiply-accumulates of a file for one sample; None where they cannot be told.
        editor: Imports the format's `Editor`.
    """

    name: str
    title: str
    package: str
    mark: bytes = b""
    options: tuple[str, ...] = ()
    writers: Mapping[str, FileWriter]
    refused: Mapping[str, Refusal]
    legalize: Legalize
    options_of: Callable[[bytes, WriteOptions], WriteOptions]
    check_self_contained: Callable[[bytes, str], None] | None
    facts: Callable[[bytes, str], FileFacts]
    macs: Callable[[bytes], int | None]
    editor: Callable[[], Editor]

    def check_offers(self, precision: str) -> None:
        """Refuse a precision that the format does not offer.

        Raises:
            UsageError: with the reason and what to try.
        """
        if precision in self.refused:
            reason, hint = self.refused[precision]
            raise UsageError(f"{precision} is not written as {self.name}", why=reason, hint=hint)
        if precision not in self.writers:
            known = ", ".join(self.writers)
            raise UsageError(f"{precision} is not written as {self.name}", hint=f"one of: {known}")

    def write(self, programs: Programs, precision: str, options: WriteOptions) -> Written:
        """Write a model's file.

        Raises:
            UsageError: if the format does not offer the precision, or an option is out of range.
            LoweringError: if the format cannot express the model.
            QuantizationError: if weights do not fit the precision.
        """
        self.check_offers(precision)
        return self.writers[precision](programs, options)

    def legalized(self, programs: Programs, precision: str) -> LegalProgram:
        """What a file of a precision computes, operator by operator.

        Raises:
            UsageError: if the format does not offer the precision.
            EdgecnnError: if the model has no program of that precision.
        """
        self.check_offers(precision)
        return LEGALIZED[precision](programs, self.legalize)
