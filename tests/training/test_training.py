"""Training and saving."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.nets import small_net
from torch import nn

from edgecnn.data.sources import load_dataset
from edgecnn.errors import DataError, ModelError, UsageError
from edgecnn.loading import load_module
from edgecnn.training.fit import check_weights_path, evaluate_model, save_weights, train_model


def digits(shape=(1, 8, 8)):
    return [load_dataset("digits", input_shape=shape, split=split) for split in ("train", "test")]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def trained(seed, **options):
    """Two epochs on a few of the digits."""
    module, few = small_net(), [data.take(np.arange(200)) for data in digits()]
    return module, train_model(module, *few, epochs=2, seed=seed, **options)


@pytest.fixture
def set_threads():
    """For more than one, as outside the tests: sums may not depend on which thread ends first."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def third():
    """What seed 3 gives."""
    return trained(3)


def test_lenet5_learns_the_digits():
    module = load_module("lenet5").module
    steps = []
    result = train_model(module, *digits((1, 28, 28)), epochs=2, seed=0, progress=steps.append)
    assert result.scores["accuracy"] > 0.7
    assert result.scores == result.history[-1].scores == evaluate_model(module, digits((1, 28, 28))[1])
    assert [epoch.number for epoch in result.history] == [1, 2]
    assert result.history[1].loss < result.history[0].loss
    assert (len(steps), steps[-1].epoch, steps[-1].step, steps[-1].steps) == (44, 2, 22, 22)
    assert not module.training


def test_same_seed_same_weights_and_nothing_else_is_touched(set_threads):
    set_threads(2)
    torch.manual_seed(5)
    state, mode = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    (a, first), (b, second), (c, _) = trained(3), trained(3), trained(4)
    assert equal(a, b)
    assert first == second
    assert not equal(a, c)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.are_deterministic_algorithms_enabled() == mode


def test_without_augmentation_is_another_training(third):
    assert not equal(third[0], trained(3, augment=False)[0])


def test_images_are_read_batch_by_batch_when_they_are_many(monkeypatch, third):
    monkeypatch.setattr("edgecnn.training.fit._IN_MEMORY", 0)
    assert equal(trained(3)[0], third[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "0 epochs"),
        ({"epochs": 1, "batch_size": 0}, "batches of 0"),
        ({"epochs": 1, "learning_rate": 0.0}, "learning rate of 0.0"),
        ({"epochs": 1, "learning_rate": float("nan")}, "learning rate of nan"),
    ],
)
def test_numbers_refused(options, said):
    with pytest.raises(UsageError, match=said):
        train_model(small_net(), *digits(), seed=0, **options)


def test_training_that_diverges():
    with pytest.raises(ModelError, match="became") as caught:
        train_model(small_net(), *digits(), epochs=1, seed=0, learning_rate=1e38)
    assert "a lower --learning-rate" in caught.value.hint


class Frozen(nn.Module):
    def forward(self, x):
        return torch.zeros(len(x), 10)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class Picky(nn.Module):
    """Runs only in eval mode."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        if self.training:
            raise ValueError("not today")
        return self.linear(x.flatten(1))


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (small_net(classes=9), "output is 2x9, but there are 10 classes"),
        (nn.Conv2d(1, 10, 3), "output is 2x10x6x6"),
        (nn.Conv2d(3, 10, 3), "does not run on images of 1x8x8"),
        (Frozen(), "nothing to train"),
        (Picky(), "cannot be trained on these images"),
        (Pair(), "gives a tuple"),
    ],
)
def test_models_refused(module, said):
    with pytest.raises(ModelError, match=said):
        train_model(module, *digits(), epochs=1, seed=0)


def test_labels_are_needed():
    train, test = digits()
    with pytest.raises(DataError, match="no labels"):
        train_model(small_net(), dataclasses.replace(train, labels=None), test, epochs=1, seed=0)
    with pytest.raises(DataError, match="no labels"):
        evaluate_model(small_net(), dataclasses.replace(test, labels=None))


def scenes(size=48, train=24, test=8):
    parts = [load_dataset("scenes", input_shape=(1, size, size), split=split) for split in ("train", "test")]
    return [part.take(part.spread(count)) for part, count in zip(parts, (train, test), strict=True)]


def map_net(stride, channels=11, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        conv = (nn.Conv2d(1, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(stride))
        return nn.Sequential(*conv, nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, channels, 1))


@pytest.mark.parametrize(("stride", "names"), [(1, ["mIoU", "pixel accuracy"]), (8, ["F1", "precision", "recall"])])
def test_scenes_train_segmentation_and_detection_the_same_way_every_time(set_threads, stride, names):
    set_threads(2 if stride > 1 else 1)

    def train():
        module = map_net(stride)
        return module, train_model(module, *scenes(), epochs=2, batch_size=8, seed=1)

    (a, first), (b, second) = train(), train()
    assert equal(a, b)
    assert first == second
    assert list(first.scores) == names
    assert first.history[1].loss < first.history[0].loss


def test_a_net_that_always_sees_background_finds_nothing():
    class Blind(nn.Module):
        def forward(self, x):
            y = torch.zeros(len(x), 11, 6, 6)
            y[:, 0] = 9
            return y

    assert evaluate_model(Blind(), scenes()[1]) == {"F1": 0, "precision": 0, "recall": 0}


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (map_net(8, channels=10), "has 10 classes of objects, and background"),
        (small_net(), "does not run on images of 1x48x48"),
        (nn.Sequential(nn.Flatten(), nn.Linear(48 * 48, 11)), "output is 2x11, but scenes has 10 classes"),
        (nn.Sequential(nn.Conv2d(1, 11, 3, padding=2)), "is larger than the image"),
    ],
)
def test_models_refused_on_scenes(module, said):
    with pytest.raises(ModelError, match=said):
        train_model(module, *scenes(), epochs=1, seed=0)


def test_fewer_images_than_a_batch():
    train, test = digits()
    result = train_model(small_net(), train.take(np.arange(20)), test, epochs=2, seed=0)
    assert len(result.history) == 2


@pytest.mark.parametrize("ending", [".pt", ".pth", ".safetensors"])
def test_weights_survive_saving(tmp_path, ending):
    path = tmp_path / "new" / f"w{ending}"
    save_weights(small_net(seed=1), path)
    first = path.read_bytes()
    save_weights(small_net(seed=1), path)
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    other = path.with_name(f"other{ending}")
    save_weights(small_net(seed=1), other)
    assert other.read_bytes() == first
    source = "from support.nets import small_net\n"
    (tmp_path / "net.py").write_text(source)
    assert equal(load_module(f"{tmp_path}/net.py:small_net", weights=path).module, small_net(seed=1))


@pytest.mark.parametrize("name", ["w.onnx", "w", "w.pt2"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(UsageError, match="weights are not written as"):
        save_weights(small_net(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "w.pt"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ModelError, match="cannot be written") as caught:
        save_weights(small_net(), path)
    assert caught.value.why == "No space left on device"
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["w.pt"]


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "w.pt").mkdir()
    with pytest.raises(UsageError, match="this is a folder"):
        check_weights_path(tmp_path / "w.pt")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelError, match="cannot be written"):
        save_weights(small_net(), tmp_path / "file" / "w.pt")
