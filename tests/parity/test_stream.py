"""A data set is streamed: requests overlap, answers wait on disk, memory stays flat, and the line survives it all."""

from __future__ import annotations

import sys
import threading
import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn

import edgecnn
from edgecnn.data.dataset import Dataset
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import DataError, TargetError
from edgecnn.parity import sample_sets
from edgecnn.parity.bundle_check import check_inputs
from edgecnn.parity.disk_arrays import DiskArrays
from edgecnn.parity.runner import Runner
from edgecnn.targets.hosts.channel import LostError
from edgecnn.targets.hosts.process import Child
from edgecnn.targets.hosts.reconnect import ReconnectingSession

SIZE = 16


class Made:
    """Images that are made when they are asked for: none is ever in memory twice."""

    input_shape = (1, SIZE, SIZE)

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def load(self, indices: np.ndarray) -> np.ndarray:
        grid = np.arange(SIZE * SIZE, dtype=np.float32)
        return np.sin(indices[:, None] * 0.7 + grid * 0.01).reshape(-1, 1, SIZE, SIZE)


def made(count: int) -> Dataset:
    return Dataset(
        name=f"made ({count})",
        spec="made",
        class_names=("a", "b"),
        labels=np.arange(count) % 2,
        preprocessing=Preprocessing(),
        note="",
        source=Made(count),
        members=np.arange(count),
    )


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 6)).eval()


@pytest.fixture(scope="module")
def bundle(net, tmp_path_factory) -> edgecnn.Bundle:
    folder = tmp_path_factory.mktemp("stream") / "net"
    return edgecnn.export_model(net, torch.zeros(1, 1, SIZE, SIZE), folder, name="net", formats=["onnx"])


def says(net: nn.Module, inputs) -> list[np.ndarray]:
    with torch.no_grad():
        return [net(torch.from_numpy(np.ascontiguousarray(inputs[0]))).numpy()]


class Fake:
    """A session that answers at once, in this process, and counts."""

    inputs = outputs = (None,)

    def __init__(self, net) -> None:
        self._net = net
        self.batches: list[int] = []

    def infer_each(self, batches, *, batch=None):
        for (images,) in batches:
            self.batches.append(len(images))
            yield says(self._net, [images])


def test_memory_does_not_grow_with_samples(bundle, net) -> None:
    """Beside a few bytes for each sample's answer; one sample's image has 1,024 bytes, its scores 24."""

    def peak(count: int) -> int:
        session = Fake(net)
        runner = Runner(bundle, bundle.artifacts[0], session)
        with sample_sets.data_sample_set(bundle, made(count), lambda x: says(net, x), "torch") as samples:
            tracemalloc.start()
            try:
                [(_, found)] = runner.run(samples, None)
                most = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert found.difference.samples == sum(session.batches) == count
        assert max(session.batches) == sample_sets.MOST
        return most

    peak(512)  # what is imported and made once
    few, many = peak(1536), peak(12_288)
    assert many - few < 30 * (12_288 - 1536)


def test_batches_are_of_the_same_size_for_the_same_model(bundle, monkeypatch) -> None:
    assert sample_sets.batch_size(bundle) == 256
    monkeypatch.setattr(sample_sets, "BYTES", 10 * 1024)
    assert sample_sets.batch_size(bundle) == 10
    monkeypatch.setattr(sample_sets, "BYTES", 1)
    assert sample_sets.batch_size(bundle) == 1


def test_batches_do_not_change_the_verdict(bundle, net, monkeypatch) -> None:
    found = []
    for most in (7, 64):
        monkeypatch.setattr(sample_sets, "MOST", most)
        with sample_sets.data_sample_set(bundle, made(100), lambda x: says(net, x), "torch") as samples:
            [(_, measured)] = Runner(bundle, bundle.artifacts[0], Fake(net)).run(samples, None)
            found.append((measured.answers.got.tolist(), measured.answers.labels.tolist(), samples.digest()))
    assert found[0] == found[1]


def test_the_reference_is_asked_once_however_many_run_side_by_side(bundle, net) -> None:
    asked = []

    def reference(inputs):
        asked.append(len(inputs[0]))
        return says(net, inputs)

    with sample_sets.data_sample_set(bundle, made(2000), reference, "torch") as samples:
        runs = [threading.Thread(target=lambda: list(samples.batches("fp32", ""))) for _ in range(3)]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        digest = samples.digest()
        again = [b for batch in samples.batches("fp32", "") for b in batch.expected]
    assert sum(asked) == 2000
    assert np.array_equal(np.concatenate(again), says(net, [made(2000).batch(range(2000))])[0])
    assert digest == samples.digest()


def test_a_spool_gives_back_any_rows() -> None:
    spool, rng = DiskArrays(), np.random.default_rng(0)
    whole = [rng.standard_normal((50, 3)).astype(np.float32), rng.integers(0, 9, (50, 2, 2))]
    try:
        for i in range(0, 50, 20):
            spool.append([a[i : i + 20] for a in whole])
        for start, stop in ((0, 50), (13, 14), (39, 41), (50, 50)):
            for read, array in zip(spool.read(start, stop), whole, strict=True):
                assert read.dtype == array.dtype
                assert np.array_equal(read, array[start:stop])
    finally:
        spool.close()


def test_a_full_disk_is_said(monkeypatch) -> None:
    spool = DiskArrays()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgecnn.parity.disk_arrays.tempfile.TemporaryFile", full)
    with pytest.raises(DataError, match="temporary file") as stop:
        spool.append([np.zeros((1, 1))])
    assert "TMPDIR" in stop.value.hint


def test_arrays_that_do_not_fit_are_refused(bundle, net) -> None:
    for inputs in ([np.zeros((3, 1, 4, 4), np.float32)], [], [np.zeros((3, 1, SIZE, SIZE), np.float32)] * 2):
        with pytest.raises(DataError, match="do not fit"):
            check_inputs(bundle, inputs, lambda x: says(net, x))


# --- the line ---------------------------------------------------------------------------------------------------------


def test_requests_overlap_and_answers_come_in_order(agent, bundle) -> None:
    artifact, taken = bundle.artifacts[0], []
    images = made(9).batch(range(9))

    def batches():
        for i in range(9):
            taken.append(i)
            yield [images[i : i + 1]]

    with agent.open("onnxruntime", artifact.read(), "net") as session:
        whole = session.infer([images])[0]
        answers = session.infer_each(batches())
        assert np.allclose(next(answers)[0], whole[:1])
        assert taken == [0, 1]  # the second is on its way while the first is looked at
        rest = [a[0] for a in answers]
        assert np.allclose(np.concatenate(rest), whole[1:])
        assert np.allclose(session.infer([images])[0], whole)  # the line is in step still
        assert np.allclose(session.infer([images], batch=4)[0], whole)


def test_giving_up_half_way_ends_the_agent(bundle) -> None:
    from edgecnn.targets.hosts.local import LocalHost

    with LocalHost().start() as connection:
        session = connection.open("onnxruntime", bundle.artifacts[0].read(), "net")
        images = made(3).batch(range(3))
        answers = session.infer_each([images[i : i + 1]] for i in range(3))
        next(answers)
        answers.close()
        assert not connection.alive
        with pytest.raises(TargetError, match="closed"):
            session.infer([images])


def test_what_the_agent_refuses_is_told_where_its_answer_would_be(bundle) -> None:
    from edgecnn.targets.hosts.local import LocalHost

    with LocalHost().start() as connection:
        session = connection.open("onnxruntime", bundle.artifacts[0].read(), "net")
        images = made(1).batch([0])
        answers = session.infer_each([[images], [images.astype(np.float64)], [images]])
        next(answers)
        with pytest.raises(TargetError, match="float64 is given"):
            next(answers)


def test_two_who_write_to_each_other_do_not_both_wait() -> None:
    """A program that answers each block at length before it reads the next; all blocks are written before any read."""
    program = """
import sys
while block := sys.stdin.buffer.read(3_000_000):
    sys.stdout.buffer.write(b"x" * 2_000_000)
    sys.stdout.buffer.flush()
"""
    child = Child([sys.executable, "-c", program], {})
    try:
        child.limit(60)
        for _ in range(3):
            child.write(b"y" * 3_000_000)
        got = 0
        while got < 6_000_000:
            got += len(child.read(2**20))
        assert got == 6_000_000
    finally:
        child.kill()


class Cut:
    """Sessions of which the first loses its line after so many answers."""

    def __init__(self, after: int, times: int = 1) -> None:
        self.after, self.times, self.seen = after, times, []

    def start(self):
        return self, self

    notes = ()

    def close(self) -> None: ...

    def infer_each(self, batches, *, batch=None):
        ahead = []
        for batch in batches:
            ahead.append(batch)
            if len(ahead) == 2:
                yield self._answer(ahead.pop(0))
        for batch in ahead:
            yield self._answer(batch)

    def _answer(self, batch):
        if self.times and len(self.seen) == self.after:
            self.times -= 1
            raise LostError("net: the line was cut")
        self.seen.append(batch[0])
        return [batch[0] * 10]


@pytest.mark.parametrize("after", [0, 1, 4, 5])
def test_a_line_that_is_cut_loses_and_repeats_no_answer(after: int) -> None:
    cut = Cut(after)
    session = ReconnectingSession(cut.start)
    assert [a[0] for a in session.infer_each([i] for i in range(6))] == [0, 10, 20, 30, 40, 50]
    assert cut.seen == [0, 1, 2, 3, 4, 5]
    assert "started over" in session.notes[0]


def test_a_line_that_is_cut_twice_is_given_up() -> None:
    session = ReconnectingSession(Cut(2, times=2).start)
    with pytest.raises(LostError, match="twice"):
        list(session.infer_each([i] for i in range(6)))
