"""All hosts are asked at once."""

from __future__ import annotations

import pytest

from edgecnn.targets.parallel import at_once


def test_all_hosts_are_asked_at_once() -> None:
    import threading

    barrier = threading.Barrier(5, timeout=20)

    def meet(number: int) -> int:
        barrier.wait()
        return number

    assert at_once(meet, range(5)) == list(range(5))
    with pytest.raises(ValueError, match="2"):
        at_once(lambda n: (_ for _ in ()).throw(ValueError(n)) if n > 1 else n, range(5))
