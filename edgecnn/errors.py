"""The errors that users see. Each says what went wrong, where, why, and what to try."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgecnnError(Exception):
    """Base class of every error that edgecnn raises on purpose.

    Args:
        message: What went wrong, in one line.
        where: The file, layer or source line it concerns.
        why: The cause, unless the message already states it.
        hint: What to try.
        detail: Full text (a traceback, a runtime's log), shown only with ``--verbose``.
    """

    exit_code = 2

    def __init__(self, message: str, *, where: str = "", why: str = "", hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.why = why
        self.hint = hint
        self.detail = detail

    def __str__(self) -> str:
        return "\n".join([self.message, *self.lines()])

    def lines(self) -> list[str]:
        """The indented lines that follow the message: where, why, try."""
        parts = (("where", self.where), ("why", self.why), ("try", self.hint))
        return [_labelled(label, text) for label, text in parts if text]


def _labelled(label: str, text: str) -> str:
    head = f"  {label + ':':<7}"
    return head + text.replace("\n", "\n" + " " * len(head))


class UsageError(EdgecnnError):
    """An argument or option that cannot be used as given."""


class ModelError(EdgecnnError):
    """A model or its weights cannot be loaded, or cannot run on the given input."""


class CaptureError(EdgecnnError):
    """``torch.export`` could not trace the module, or it traced to operators that are not supported."""


class GraphError(EdgecnnError):
    """A graph that breaks the rules of :mod:`edgecnn.graph`."""


class QuantizationError(EdgecnnError):
    """A model that cannot be quantized as requested, or data that cannot calibrate it."""


class LoweringError(EdgecnnError):
    """A graph that a format cannot express."""


class BundleError(EdgecnnError):
    """A bundle that cannot be written or read, or that contradicts its manifest."""


class DataError(EdgecnnError):
    """A data set that cannot be read or does not fit the model."""


class TargetError(EdgecnnError):
    """A runtime or its host failed: it is missing, crashed, hung, or sent a malformed reply."""


def near(name: str, known: Iterable[str]) -> str:
    """The hint for an unknown name: the most similar known names, or all known names if none is similar."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"{' or '.join(close)}" if close else f"one of {', '.join(known)}" if known else ""
