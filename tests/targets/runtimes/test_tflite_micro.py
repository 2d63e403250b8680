"""TFLite Micro: its arena, batches in pieces, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from support.int8 import images
from support.int8_files import data

from edgecnn.errors import TargetError


def test_micro_tells_its_arena(agent_for) -> None:
    """The number is enough, and 16 bytes less are not."""
    agent = agent_for("tflite-micro")
    with agent.open("tflite-micro", data("conv_pool"), "net.tflite") as session:
        needed = session.arena_bytes
    agent.open("tflite-micro", data("conv_pool"), "net.tflite", arena_bytes=needed).close()
    with pytest.raises(TargetError, match="failed to allocate"):
        agent.open("tflite-micro", data("conv_pool"), "net.tflite", arena_bytes=needed - 16)


def test_micro_runs_batches_in_pieces(agent_for) -> None:
    x = images((1, 28, 28), 5).transpose(0, 2, 3, 1).copy()
    with agent_for("tflite-micro").open("tflite-micro", data("lenet5"), "net.tflite") as session:
        assert [(t.name, t.shape) for t in session.inputs] == [("x", (None, 28, 28, 1))]
        assert [(t.name, t.shape) for t in session.outputs] == [("output", (None, 10))]
        whole = session.infer([x])[0]
        np.testing.assert_array_equal(whole, np.concatenate([session.infer([x[i : i + 1]])[0] for i in range(5)]))
        with pytest.raises(TargetError, match="cannot run on empty inputs"):
            session.infer([x[:0]])
        with pytest.raises(TargetError, match=r"has the shape"):
            session.infer([x[:, :27]])


@pytest.mark.parametrize(
    ("artifact", "options", "words"),
    [
        (b"no artifact at all", {}, "is no TFLite file"),
        (None, {"threads": 2}, "has one thread, not 2"),
        (None, {"arena_bytes": 0}, "arena_bytes is 0"),
        (None, {"xnnpack": True}, "has no option 'xnnpack'"),
    ],
    ids=str,
)
def test_micro_refuses(agent_for, artifact: bytes | None, options, words: str) -> None:
    with pytest.raises(TargetError, match=words):
        agent_for("tflite-micro").open("tflite-micro", artifact or data("conv_pool"), "net.tflite", **options)
