"""What a file holds otherwise than its program, told without running it: rounding may hide it from every sample."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from edgecnn.bundle import Artifact, Bundle
from edgecnn.errors import EdgecnnError
from edgecnn.locate.file_comparison import compare_file
from edgecnn.locate.malformed_file import contradictions
from edgecnn.locate.reexport import reexport_artifact


def file_differences(bundle: Bundle) -> Callable[[Artifact], int | None]:
    """What counts the constants, parameters, options and operators of an artifact that are not its program's.

    The program knows the digest of each file that was written from it, so that a file which nobody has touched takes no
    time. Any other is compared with the program exported anew; one that cannot be read counts as one difference. Of a
    file that the program knows nothing of, None is said.

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
