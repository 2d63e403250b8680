"""Report parser failures on a suspect file as faults of that file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from edgecnn.bundle import Artifact
from edgecnn.errors import BundleError


@contextmanager
def contradictions(artifact: Artifact) -> Iterator[None]:
    """Turn parser failures into an error about the artifact, whose tables may say anything.

    Raises:
        BundleError: if its tables contradict each other.
    """
    try:
        yield
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError, struct.error) as err:
        raise BundleError(
            f"{artifact.path.name} cannot be examined: its tables contradict each other",
            why=f"{type(err).__name__}: {err}",
            hint="export the model again",
        ) from err
