"""Metrics of two arrays, against their definitions written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgecnn.parity.best_classes import BestClasses
from edgecnn.parity.metrics import compare


def arrays(shape: tuple[int, ...] = (40, 7), noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    reference = rng.standard_normal(shape).astype(np.float32)
    return reference + np.float32(noise) * rng.standard_normal(shape).astype(np.float32), reference


@pytest.mark.parametrize("shape", [(40, 7), (6, 3, 5, 4)])
def test_metrics_are_their_definitions(shape) -> None:
    output, reference = (a.astype(np.float64) for a in arrays(shape))
    found = compare(output, reference)
    apart = output - reference
    extent = reference.max() - reference.min()
    assert found.max_abs == np.abs(apart).max()
    assert found.mean_abs == pytest.approx(np.abs(apart).mean())
    assert found.relative == pytest.approx(np.abs(apart).max() / extent)
    assert found.rmse == pytest.approx(np.sqrt((apart**2).mean()))
    assert found.snr_db == pytest.approx(10 * np.log10((reference**2).sum() / (apart**2).sum()))
    assert found.psnr_db == pytest.approx(20 * np.log10(extent / found.rmse))
    flat = (output.reshape(-1), reference.reshape(-1))
    assert found.cosine == pytest.approx(flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1]))
    worst = np.abs(apart).reshape(len(apart), -1).max(1)
    assert [place for _, place in found.worst] == np.argsort(-worst)[:5].tolist()


def test_top5_counts_the_references_class_among_five() -> None:
    output, reference = arrays(noise=1.0)
    found = compare(output, reference)
    five = np.argsort(-output, axis=1)[:, :5]
    assert found.top1_agreement == (output.argmax(1) == reference.argmax(1)).mean()
    assert found.top5_agreement == np.mean([b in row for b, row in zip(reference.argmax(1), five, strict=True)])
    assert found.top1_agreement < found.top5_agreement < 1
    assert compare(output[:, :5], reference[:, :5]).top5_agreement is None
    assert compare(output[:, :, None], reference[:, :, None]).top1_agreement is None


def test_no_difference_and_nothing_but_zeros() -> None:
    same = compare(np.ones((2, 3)), np.ones((2, 3)))
    assert (same.max_abs, same.relative, same.snr_db, same.psnr_db, same.cosine) == (0, 0, math.inf, math.inf, 1)
    assert same.worst == []
    none = compare(np.zeros((2, 3)), np.zeros((2, 3)))
    assert (none.snr_db, none.cosine) == (math.inf, 1)
    one = compare(np.ones((2, 3)), np.zeros((2, 3)))
    assert (one.snr_db, one.cosine) == (-math.inf, 0)
    assert compare(np.zeros((0, 3)), np.zeros((0, 3))).samples == 0


def test_nan_and_infinities_are_counted_and_worst() -> None:
    output, reference = arrays()
    output[7, 0], output[9, 1], output[9, 2] = np.nan, np.inf, -np.inf
    found = compare(output, reference)
    assert (found.nans, found.infinities) == (1, 2)
    assert math.isnan(found.max_abs)
    assert [place for _, place in found.worst[:2]] == [7, 9]
    for value in (found.rmse, found.snr_db, found.psnr_db, found.cosine, found.mean_abs):
        assert not math.isfinite(value)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        compare(np.zeros((2, 3)), np.zeros((3, 2)))


def test_answers_keep_classes_confusion_and_the_worst() -> None:
    reference = np.eye(3)[[0, 1, 2, 0, 1]]
    output = np.eye(3)[[0, 1, 2, 1, 1]].astype(np.float64)
    output[3] = [0.2, 0.9, 0]
    output[4] = [0, 0.4, 0.5]
    answers = BestClasses()
    for part in (slice(0, 2), slice(2, 5)):
        answers.add(output[part], reference[part], np.array([0, 1, 2, 0, 0])[part])
    assert answers.got.tolist() == [0, 1, 2, 1, 2]
    assert answers.expected.tolist() == [0, 1, 2, 0, 1]
    assert answers.confusion() == ((0, 0, 1), (0, 1, 1), (0, 2, 1), (1, 1, 1), (2, 2, 1))
    assert [(w.sample, w.expected, w.got, w.label) for w in answers.worst] == [(3, 0, 1, 0), (4, 1, 2, 0)]
    assert answers.worst[0].margin == pytest.approx(0.7)
    assert answers.worst[0].error == pytest.approx(0.9)


def test_the_worst_do_not_depend_on_batches() -> None:
    output, reference = arrays(noise=2.0)
    whole, parts = BestClasses(), BestClasses()
    whole.add(output, reference)
    for i in range(0, 40, 3):
        parts.add(output[i : i + 3], reference[i : i + 3])
    assert whole.worst == parts.worst
    assert len(whole.worst) == 5
    assert whole.labels is None
    assert whole.confusion() == ()
