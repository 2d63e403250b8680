"""What trips over a file under suspicion is said of the file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from edgecnn.bundle import Artifact
from edgecnn.errors import BundleError


@contextmanager
def contradictions(artifact: Artifact) -> Iterator[None]:
    """A file under suspicion may say anything: what it trips is a property of the file.

    Raises:
        BundleError: if its tables contradict each other.
    """
    try:
        yield
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError, struct.error) as err:
        raise BundleError(
            f"{artifact.path.name} cannot be looked into: its tables contradict each other",
            why=f"{type(err).__name__}: {err}",
            hint="export the model again",
        ) from err
