"""Check arguments of the zoo's models."""

from __future__ import annotations

from edgecnn.errors import ModelError


def positive(model: str, **arguments: object) -> None:
    """Refuse arguments that are not whole numbers of 1 or more.

    Raises:
        ModelError: naming the first such argument.
    """
    for name, value in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{model}: {name}={value!r} is not possible", hint="a whole number of 1 or more")
