"""MODEL, --arg and --input-shape: what is accepted, and what the user is told."""

from __future__ import annotations

import sys

import pytest
import torch
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
