"""Build emulated boards, and say how long each took."""

from __future__ import annotations

import sys
import time

from edgecnn.errors import EdgecnnError
from edgecnn.targets.boards import load_board
from edgecnn.targets.emulation import build_board


def main() -> int:
    """Build the boards that are named; return the exit code."""
    begun = time.monotonic()
    for name in sys.argv[1:]:
        try:
            built = build_board(load_board(name), progress=lambda text, done, total: print(f"  {done}/{total} {text}"))
        except EdgecnnError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        print(f"{name}: {'built' if built.fresh else 'was there'}, {built.seconds:.1f} s", flush=True)
    print(f"all in {time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
