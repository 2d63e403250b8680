"""Parse the values of ``--arg`` and ``--input-shape``."""

from __future__ import annotations

import ast
import keyword
import math
import re
import warnings

from edgecnn.errors import UsageError

Shape = tuple[int, ...]
MOST_ELEMENTS = 1 << 26
"""Largest input: 256 MiB of float32, far more than a small computer can take."""


def parse_argument(text: str) -> tuple[str, object]:
    """Split ``key=value``; the value is a Python literal if it parses as one, else text.

    Raises:
        UsageError: if there is no key, or the value is ``true`` or ``false``, which as texts would both be truthy.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier() or keyword.iskeyword(key):
        raise UsageError(f"--arg {text!r} is not key=value", hint="--arg num_classes=10")
    if value in ("true", "false"):
        raise UsageError(f"--arg {text}: {value} would be text", hint=f"--arg {key}={value.capitalize()}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            return key, ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return key, value


def parse_shape(text: str) -> Shape:
    """The numbers of ``1x28x28``: the shape of one input, without the batch.

    Raises:
        UsageError: if it is not one to three whole numbers of 1 or more, joined by ``x``.
    """
    text = text.lower()
    if not re.fullmatch(r"[0-9]{1,9}(x[0-9]{1,9})*", text, re.ASCII):
        raise UsageError(f"{text!r} is not a shape", hint="1x28x28: channels, height, width; the batch is left out")
    shape = tuple(map(int, text.split("x")))
    if 0 in shape:
        raise UsageError(f"the shape {text} has a 0 in it", hint="1x28x28: every number is 1 or more")
    if math.prod(shape) > MOST_ELEMENTS:
        raise UsageError(
            f"the shape {text} has {math.prod(shape):,} elements",
            hint=f"at most {MOST_ELEMENTS:,}",
        )
    if len(shape) > 3:
        raise UsageError(
            f"the shape {text} has {len(shape)} numbers",
            why="an image is channels x height x width; the batch is left out",
            hint="x".join(map(str, shape[-3:])),
        )
    return shape
