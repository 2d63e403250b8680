"""Scenes, what is found in them, and the picture of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from edgecnn.cli import cli
from edgecnn.data.dataset import SceneObject
from edgecnn.data.sources import load_dataset
from edgecnn.errors import DataError, UsageError
from edgecnn.training.pictures import check_drawable, check_picture, draw
from edgecnn.training.tasks import OBJECT_WEIGHT, Centre, Centres, Segments, find_centres, match_centres, task_of

SHAPE = (1, 64, 48)
SCENES = load_dataset("scenes", input_shape=SHAPE)
FEW = list(range(6))


def test_scenes_are_the_same_every_time_and_say_what_they_are():
    again = load_dataset("scenes", input_shape=SHAPE, split="all").take(np.arange(800, 1000))
    np.testing.assert_array_equal(SCENES.batch(FEW), again.batch(FEW))
    assert SCENES.name == "scenes (held-out 200 of 1,000)"
    assert SCENES.input_shape == SHAPE
    assert SCENES.labels is None
    assert SCENES.class_names == tuple("0123456789")
    assert [len(load_dataset("scenes", input_shape=SHAPE, split=s)) for s in ("train", "all")] == [800, 1000]
    assert load_dataset("scenes", input_shape=None).input_shape == (1, 96, 96)
    x = SCENES.batch(FEW)
    assert x.dtype == np.float32
    assert 0 <= x.min() < 0.1 < 0.5 < x.max() <= 1


def test_masks_and_objects_agree():
    masks = SCENES.masks(FEW)
    assert masks.shape == (6, 64, 48)
    for place, mask in zip(FEW, masks, strict=True):
        objects = SCENES.objects(place)
        assert objects
        assert set(np.unique(mask)) == {0, *(o.label + 1 for o in objects)}
        for o in objects:
            top, left = int(o.row - o.side / 2), int(o.column - o.side / 2)
            box = mask[top : top + int(o.side), left : left + int(o.side)]
            assert set(np.unique(box)) <= {0, o.label + 1}
            assert 0.1 < (box > 0).mean() < 0.9


def test_held_out_scenes_show_held_out_digits():
    train = load_dataset("scenes", input_shape=SHAPE, split="train")
    source = SCENES.truth
    assert not set(source._pools[0]) & set(source._pools[1])
    assert len(source._pools[1]) == 360
    assert not set(train.members) & set(SCENES.members)


def test_models_of_three_channels_get_grey_three_times():
    for spec in ("scenes", "digits"):
        rgb = load_dataset(spec, input_shape=(3, 64, 48))
        grey = load_dataset(spec, input_shape=SHAPE)
        np.testing.assert_array_equal(rgb.batch(FEW), grey.batch(FEW).repeat(3, 1))
        assert rgb.input_shape == (3, 64, 48)
        assert "grey values repeated in 3 channels" in rgb.note
        with pytest.raises(DataError, match="the model takes 2"):
            load_dataset(spec, input_shape=(2, 64, 48))


def test_scenes_too_small_to_show_anything():
    with pytest.raises(DataError, match="31x64 are too small to show digits"):
        load_dataset("scenes", input_shape=(1, 31, 64))


def test_digits_do_not_say_what_is_where():
    with pytest.raises(DataError, match=r"the objects in .* are not known"):
        load_dataset("digits", input_shape=None).masks([0])


def perfect(data, places, task, scale=9.0):
    """Logits that say what is true."""
    targets = task.targets(data, np.asarray(places))
    return np.moveaxis(np.eye(task.count, dtype=np.float32)[targets], -1, 1) * scale


@pytest.mark.parametrize("shape", [(6, 11, 64, 48), (6, 11, 16, 12)])
def test_the_truth_scores_best(shape):
    task = task_of(SCENES, shape)
    assert isinstance(task, Segments if shape[2] == 64 else Centres)
    assert task.weights == [1.0] + [OBJECT_WEIGHT] * 10  # the ground is most of a scene, and learned first
    scorer = task.scorer()
    scorer.add(perfect(SCENES, FEW, task), SCENES, np.asarray(FEW))
    assert set(scorer.scores().values()) == {1.0}


def test_overlap_by_hand():
    class Two:
        input_shape = (1, 1, 4)

        def masks(self, places):
            return np.array([[[0, 0, 1, 1]]])

    scorer = Segments(3).scorer()
    said = np.array([0, 1, 1, 1])
    scorer.add(np.moveaxis(np.eye(3)[said][None, None], -1, 1), Two(), np.array([0]))
    assert scorer.scores() == {"mIoU": pytest.approx((1 / 2 + 2 / 3) / 2), "pixel accuracy": 0.75}


def logits(rows, columns, *cells):
    values = np.zeros((3, rows, columns), np.float32)
    values[0] = 4
    for label, row, column, value in cells:
        values[1 + label, row, column] = value
    return values


def test_a_centre_is_where_an_object_is_likeliest():
    found = find_centres(logits(4, 6, (0, 1, 1, 9), (0, 1, 2, 8), (1, 3, 5, 6), (1, 0, 5, 3)), (32, 48))
    assert [(c.label, c.row, c.column) for c in found] == [(0, 12, 12), (1, 28, 44)]
    assert found[0].probability > found[1].probability > 0.5


def test_a_centre_is_right_once_and_within_a_cell():
    def centre(label, row, column):
        return Centre(label=label, row=row, column=column, probability=0.9)

    where = ((1, 10, 10), (1, 18, 10), (2, 40, 40))
    objects = [SceneObject(label=label, row=row, column=column, side=8) for label, row, column in where]
    found = [centre(1, 12, 12), centre(1, 4, 4), centre(1, 18, 18), centre(2, 40, 49), centre(1, 40, 40)]
    matched = match_centres(found, objects, (8, 8))
    assert matched == [objects[0], None, objects[1], None, None]


@pytest.mark.parametrize("shape", [(6, 11, 64, 48), (6, 11, 8, 6)])
def test_the_picture(tmp_path, shape):
    task = task_of(SCENES, shape)
    outputs = perfect(SCENES, FEW, task)
    outputs[0, 0] = 99  # all of the first scene's objects are missed
    path = tmp_path / "new" / "found.png"
    draw(path, SCENES, outputs, FEW, task)
    first = path.read_bytes()
    image = np.asarray(Image.open(path))
    heights = 2 if isinstance(task, Segments) else 1
    assert image.shape == (2 * 64 * 3 * heights + 2, 4 * 48 * 3 + 6, 3)
    colours = {tuple(c) for c in image.reshape(-1, 3)}
    if isinstance(task, Centres):
        assert {(80, 220, 100), (250, 190, 60)} <= colours
        assert (250, 80, 80) not in colours
    draw(path, SCENES, outputs, FEW, task)
    assert path.read_bytes() == first


def test_pictures_refused(tmp_path):
    with pytest.raises(UsageError, match="PNG"):
        check_picture(tmp_path / "found.jpg")
    with pytest.raises(UsageError, match="nothing to draw on digits"):
        check_drawable(load_dataset("digits", input_shape=None))


def test_train_draws_and_scores(tmp_path):
    picture, weights = tmp_path / "found.png", tmp_path / "w.pt"
    arguments = ["train", "fomo", "--arg", "image_size=32", "--data", "scenes", "--epochs", "1", "--batch-size", "200"]
    result = CliRunner().invoke(cli, [*arguments, "--picture", str(picture), "-o", str(weights), "--json", "-"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert {"F1", "precision", "recall", "picture"} <= set(said)
    assert said["history"][0]["F1"] == said["F1"]
    assert picture.exists()
    assert weights.exists()
