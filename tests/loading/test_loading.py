"""MODEL, --weights, --arg and --input-shape: what is accepted, and what the user is told."""

from __future__ import annotations

import os
import sys
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgecnn.errors import ModelError, UsageError
from edgecnn.loading import load_module, parse_argument, parse_shape
from edgecnn.models import create_model

NET = """
from torch import nn

class Net(nn.Module):
    input_shape = (1, 8, 8)

    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.fc = nn.Linear(width, 2)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))

def make(width):
    return Net(width)

def other():
    return "a text"

class Outer:
    Inner = Net

instance = Net()
number = 3
"""


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path}/net.py"


# --- where models come from


def test_zoo():
    loaded = load_module("lenet5", arguments={"num_classes": 3}, seed=7)
    assert (loaded.name, loaded.input_shapes, loaded.program) == ("lenet5", ((1, 28, 28),), None)
    assert loaded.notes == ["no --weights: random weights, seed 7"]
    assert not loaded.module.training


def test_seed_decides_and_global_state_stays():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    a, b, c = (load_module("lenet5", seed=s).module.state_dict() for s in (0, 0, 1))
    key = "features.0.weight"
    assert torch.equal(a[key], b[key])
    assert not torch.equal(a[key], c[key])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("attribute", "arguments", "width"),
    [("Net", {}, 4), ("Net", {"width": 6}, 6), ("make", {"width": 5}, 5), ("Outer.Inner", {}, 4), ("instance", {}, 4)],
)
def test_file(net, attribute, arguments, width):
    loaded = load_module(f"{net}:{attribute}", arguments=arguments)
    assert loaded.module.conv.out_channels == width
    assert loaded.input_shapes == ((1, 8, 8),)
    assert loaded.name == attribute.replace(".", "_")
    assert not loaded.module.training
    assert loaded.notes == [f"no --weights: the weights are as {attribute} makes them, seed 0"]


@pytest.mark.parametrize("line", ["from blocks import block", "from .blocks import block", "from . import blocks"])
def test_siblings_are_found_during_import_and_call_only(tmp_path, line):
    (tmp_path / "blocks.py").write_text("from torch import nn\nblock = nn.ReLU\n")
    (tmp_path / "late.py").write_text("extra = 1\n")
    (tmp_path / "my-net.v2.py").write_text(
        f"{line}\nfrom torch import nn\ndef make():\n    import late\n    return nn.ReLU()\n"
    )
    before = list(sys.path)
    assert isinstance(load_module(f"{tmp_path}/my-net.v2.py:make").module, nn.ReLU)
    assert sys.path == before


def test_two_projects_do_not_get_each_others_siblings(tmp_path):
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "width.py").write_text(f"WIDTH = {number}\n")
        (folder / "net.py").write_text(
            "from width import WIDTH\nfrom torch import nn\nnet = lambda: nn.Conv2d(1, WIDTH, 1)\n"
        )
    widths = [load_module(f"{tmp_path}/{number}/net.py:net").module.out_channels for number in (1, 2, 1)]
    assert widths == [1, 2, 1]


def test_package_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "pkg_for_test").mkdir()
    (tmp_path / "pkg_for_test/__init__.py").write_text("")
    (tmp_path / "pkg_for_test/net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    assert load_module("pkg_for_test.net:Net").input_shapes == ((1, 8, 8),)
    assert isinstance(load_module("torch.nn:ReLU").module, nn.ReLU)


@pytest.mark.parametrize(
    ("declared", "shapes"),
    [
        ("input_shapes = [(1, 8, 8), [4]]", ((1, 8, 8), (4,))),
        ("input_shape = (1, 1, 8, 8)", None),
        ("input_shape = (1, None, 8)", None),
        ("input_shape = 'large'", None),
        ("input_shapes = 3", None),
        ("pass", None),
    ],
)
def test_declared_shapes(tmp_path, declared, shapes):
    (tmp_path / "net.py").write_text(f"from torch import nn\nclass Net(nn.ReLU):\n    {declared}\n")
    assert load_module(f"{tmp_path}/net.py:Net").input_shapes == shapes


@pytest.mark.parametrize("batch", [1, 4])
def test_program(tmp_path, batch):
    model = create_model("lenet5").eval()
    example = torch.rand(batch, 1, 28, 28)
    shapes = ({0: torch.export.Dim("n", max=64)},) if batch > 1 else None
    torch.export.save(torch.export.export(model, (example,), dynamic_shapes=shapes), tmp_path / "my net.pt2")
    loaded = load_module(f"{tmp_path}/my net.pt2")
    assert (loaded.name, loaded.input_shapes, loaded.notes) == ("my_net", ((1, 28, 28),), [])
    assert isinstance(loaded.program, torch.export.ExportedProgram)
    torch.testing.assert_close(loaded.module(example), model(example))


# --- models that are refused


@pytest.mark.parametrize(
    ("spec", "kind", "said", "hint"),
    [
        ("lenet", UsageError, "'lenet' is not a model", "lenet5? a zoo name (conv_pool, lenet5, tiny_vgg, resnet8"),
        ("", UsageError, "is not a model", "a zoo name"),
        ("{net}", UsageError, "is not a model", "net.py:Net"),
        ("{net}:", UsageError, "is not a model", "a zoo name"),
        ("w.safetensors", UsageError, "is not a model", "--weights w.safetensors"),
        ("{net}x.py:Net", ModelError, "no such file", ""),
        ("{dir}/nett.py:Net", ModelError, "no such file", "net.py?"),
        ("{dir}/gone.pt2", ModelError, "no such file", ""),
        ("{dir}/bad.pt2", ModelError, "not a .pt2 file", "torch.export.save"),
        ("{dir}/zip.pt2", ModelError, "torch cannot read it", "torch.export.save"),
        ("{net}:Nett", ModelError, "there is no Nett", "Net? it defines Net, make, other, Outer"),
        ("{net}:other", ModelError, "gave str, not an nn.Module", "return"),
        ("{net}:number", ModelError, "is of type int", "name a class"),
        ("{net}:make", ModelError, "missing a required argument: 'width'", "--arg name=value"),
        ("no_such_package.net:Net", ModelError, "no Python module no_such_package", "no_such_package/net.py"),
        ("torch.nm:Net", ModelError, "no Python module torch.nm", "torch/nm.py"),
    ],
)
def test_models_refused(net, tmp_path, spec, kind, said, hint):
    (tmp_path / "bad.pt2").write_bytes(b"nothing of the kind")
    torch.save({"a": 1}, tmp_path / "zip.pt2")
    with pytest.raises(kind, match=said) as caught:
        load_module(spec.format(net=net, dir=tmp_path))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("spec", "arguments", "said"),
    [
        ("{net}:instance", {"width": 3}, "is a module already"),
        ("{net}:Net", {"widht": 3}, "unexpected keyword argument 'widht'"),
        ("lenet5", {"width": 3}, "takes no argument width"),
        ("x.pt2", {"width": 3}, "--arg cannot be combined"),
    ],
)
def test_arguments_refused(net, spec, arguments, said):
    with pytest.raises((UsageError, ModelError), match=said):
        load_module(spec.format(net=net), arguments=arguments)


def test_weights_with_a_program(tmp_path):
    with pytest.raises(UsageError, match="--weights cannot be combined"):
        load_module("x.pt2", weights=tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ("import math\n\nmath.sqrt(-1)\n", 3, "ValueError: math domain error"),
        ("x = (\n", 1, "SyntaxError"),
        ("\nimport surely_not_installed\n", 2, "ModuleNotFoundError"),
        ("import sys\nsys.exit('usage: net.py')\n", 2, "SystemExit: usage: net.py"),
        ("import torch\ndef Net():\n    return torch.nn.Linear(2, 2)(torch.zeros(3))\n", 3, "RuntimeError"),
        ("raise Exception\n", 1, "Exception: Exception"),
    ],
)
def test_errors_in_the_users_code_name_the_users_line(tmp_path, source, line, said):
    path = tmp_path / "net.py"
    path.write_text(source)
    with pytest.raises(ModelError, match=said) as caught:
        load_module(f"{path}:Net")
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.hint
    assert "Traceback" in caught.value.detail or "SyntaxError" in caught.value.detail


# --- weights


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


# --- arguments and shapes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n=3", ("n", 3)),
        ("lr=1e-3", ("lr", 1e-3)),
        ("shape=(1, 2)", ("shape", (1, 2))),
        ("flag=True", ("flag", True)),
        ("none=None", ("none", None)),
        ("pooling=avg", ("pooling", "avg")),
        ("quoted='3'", ("quoted", "3")),
        ("url=a=b", ("url", "a=b")),
        ("empty=", ("empty", "")),
        ("code=open('x')", ("code", "open('x')")),
        ("odd=0x", ("odd", "0x")),
        ("deep=" + "(" * 500, ("deep", "(" * 500)),
    ],
)
def test_parse_argument(text, expected):
    assert parse_argument(text) == expected


@pytest.mark.parametrize("text", ["n", "=3", "", "a-b=3", "class=3", "flag=false", "flag=true"])
def test_parse_argument_refused(text):
    with pytest.raises(UsageError):
        parse_argument(text)


@pytest.mark.parametrize(("text", "expected"), [("1x28x28", (1, 28, 28)), ("64", (64,)), ("1x490", (1, 490))])
def test_parse_shape(text, expected):
    assert parse_shape(text) == expected


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "the batch is left out"),
        ("1,28,28", "1x28x28"),
        ("1x28x", "1x28x28"),
        ("1x-28x28", "1x28x28"),
        ("1x28.5x28", "1x28x28"),
        ("1x0x28", "1 or more"),
        ("1x1x28x28", "1x28x28"),
        ("\uff11x28x28", "1x28x28"),
        ("1x28x28\n", "1x28x28"),
        ("9" * 5000, "1x28x28"),
    ],
)
def test_parse_shape_refused(text, hint):
    with pytest.raises(UsageError) as caught:
        parse_shape(text)
    assert hint in caught.value.hint
