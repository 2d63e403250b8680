"""Count a file's differences from its program without running it: rounding may hide them from every sample."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from edgecnn.bundle import Artifact, Bundle
from edgecnn.errors import EdgecnnError
from edgecnn.locate.file_comparison import compare_file
from edgecnn.locate.malformed_file import contradictions
from edgecnn.locate.reexport import reexport_artifact


def file_differences(bundle: Bundle) -> Callable[[Artifact], int | None]:
    """A function that counts an artifact's constants, parameters, options and operators that differ from its program.

    The program holds the digest of each file that was written from it, so that an unmodified file takes no time. Any
    other file is compared with a re-export; one that cannot be read counts as one difference. The function gives None
    for a file whose digest the program does not hold.

    Raises:
        BundleError: if the program cannot be read.
    """
    program = bundle.program()
    version = bundle.manifest.versions.get("edgecnn", "")

    def count(artifact: Artifact) -> int | None:
        written = program.digests.get(artifact.path.name)
        if written is None:
            return None
        data = artifact.read()
        if hashlib.sha256(data).hexdigest() == written:
            return 0
        try:
            with contradictions(artifact):
                return len(compare_file(reexport_artifact(artifact, program, data, version=version), data).found)
        except EdgecnnError:
            return 1

    return count
