"""--weights: which checkpoints are read, and what the user is told of those that do not fit."""

from __future__ import annotations

import os
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgecnn.errors import ModelError, UsageError
from edgecnn.loading import load_module
from edgecnn.models import create_model


def saved(tmp_path, state, name="w.pt"):
    path = tmp_path / name
    torch.save(state, path)
    return path


def weights_of(seed=3):
    return load_module("lenet5", seed=seed).module.state_dict()


def assert_loaded(path, notes):
    loaded = load_module("lenet5", weights=path)
    expected = weights_of()
    assert all(torch.equal(v, expected[k]) for k, v in loaded.module.state_dict().items())
    assert loaded.notes == notes


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
def test_weights(tmp_path, name):
    save_file(weights_of(), tmp_path / "w.safetensors")
    assert_loaded(tmp_path / name if name == "w.safetensors" else saved(tmp_path, weights_of(), name), [])


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_nested_weights(tmp_path, key):
    path = saved(tmp_path, {key: weights_of(), "epoch": 3, "optimizer": {"lr": 0.1}})
    assert_loaded(path, [f"weights read from {key!r} of the checkpoint"])


@pytest.mark.parametrize(
    "prefixes", [["module."], ["_orig_mod."], ["module.", "_orig_mod."], ["_orig_mod.", "module."]]
)
def test_prefixes_are_taken_off_and_said(tmp_path, prefixes):
    path = saved(tmp_path, {"".join(prefixes) + k: v for k, v in weights_of().items()})
    assert_loaded(path, [f"prefix {prefix!r} removed from 10 keys" for prefix in prefixes])


def test_a_prefix_that_is_the_models_own_stays(tmp_path):
    source = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.module = nn.Linear(2, 2)
"""
    (tmp_path / "net.py").write_text(source)
    state = load_module(f"{tmp_path}/net.py:Net", seed=1).module.state_dict()
    assert load_module(f"{tmp_path}/net.py:Net", weights=saved(tmp_path, state)).notes == []


def test_other_types_are_converted_and_said(tmp_path):
    path = saved(tmp_path, {k: v.half() for k, v in weights_of().items()})
    loaded = load_module("lenet5", weights=path)
    assert loaded.notes == ["weights stored as torch.float16 were converted to the model's own type"]


def test_misfits_are_all_named(tmp_path):
    state = weights_of()
    state["features.0.wieght"] = state.pop("features.0.weight")
    state["classifier.5.weight"] = torch.zeros(7, 84)
    with pytest.raises(ModelError, match="1 missing, 1 unexpected, 1 of another shape") as caught:
        load_module("lenet5", weights=saved(tmp_path, state))
    assert "missing: features.0.weight (near: features.0.wieght)" in caught.value.why
    assert "unexpected: features.0.wieght" in caught.value.why
    assert "classifier.5.weight is 7x84, the model has 10x84" in caught.value.why
    assert "rename features.0.wieght to features.0.weight" in caught.value.hint


def test_long_lists_are_shortened_with_a_count(tmp_path):
    with pytest.raises(ModelError, match="10 missing, 55 unexpected") as caught:
        load_module("lenet5", weights=saved(tmp_path, create_model("resnet8").state_dict()))
    assert "and 2 more" in caught.value.why
    assert "and 47 more" in caught.value.why


def test_another_number_of_classes_has_its_own_hint(tmp_path):
    path = saved(tmp_path, create_model("lenet5", num_classes=3).state_dict())
    with pytest.raises(ModelError, match="2 of another shape") as caught:
        load_module("lenet5", weights=path)
    assert "--arg num_classes" in caught.value.hint


class Harmful:
    def __reduce__(self):
        return (os.mkdir, (HARM,))


HARM = "harm-was-done"


@pytest.mark.parametrize("content", [nn.Linear(2, 2), {"state_dict": {}, "config": Harmful()}])
def test_pickles_with_code_are_refused_and_not_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="holds Python objects") as caught:
        load_module("lenet5", weights=saved(tmp_path, content))
    assert "torch.save(model.state_dict(), 'weights.pt')" in caught.value.hint
    assert not (tmp_path / HARM).exists()


def damaged(kind):
    def write(path):
        torch.save(weights_of(), path, _use_new_zipfile_serialization=kind != "old half")
        content = path.read_bytes()
        path.write_bytes({"empty": b"", "text": b"hello " * 50}.get(kind, content[: len(content) // 2]))

    return write


@pytest.mark.parametrize("kind", ["half", "old half", "empty", "text"])
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_damaged_weights(tmp_path, kind, ending):
    path = tmp_path / f"w{ending}"
    damaged(kind)(path)
    with pytest.raises(ModelError, match="not a file of weights, or a damaged one") as caught:
        load_module("lenet5", weights=path)
    assert caught.value.where == str(path)
    assert caught.value.why


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "it holds nothing"),
        ([torch.zeros(1)], "it holds a list"),
        ({"epoch": 3, "lr": 0.1}, "it holds epoch, lr"),
        ({"model": {}, "state_dict": {}}, "it holds model, state_dict"),
    ],
)
def test_files_without_a_state_dict(tmp_path, content, said):
    with pytest.raises(ModelError, match="holds no state dict") as caught:
        load_module("lenet5", weights=saved(tmp_path, content))
    assert caught.value.why == said


def test_torchscript_is_refused(tmp_path):
    path = tmp_path / "w.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)
        with pytest.raises(ModelError, match="holds Python objects"):
            load_module("lenet5", weights=path)


def test_missing_weights_and_wrong_ending(tmp_path):
    saved(tmp_path, {}, "weights.pt")
    with pytest.raises(ModelError, match="no such file") as caught:
        load_module("lenet5", weights=tmp_path / "weight.pt")
    assert caught.value.hint.endswith("weights.pt?")
    with pytest.raises(ModelError, match="this is a folder"):
        load_module("lenet5", weights=tmp_path)
    (tmp_path / "w.h5").write_bytes(b"")
    with pytest.raises(UsageError, match=r"does not read \.h5"):
        load_module("lenet5", weights=tmp_path / "w.h5")
