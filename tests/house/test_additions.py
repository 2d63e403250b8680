"""Each list of files in docs/design.md ("Where to add things"), walked with a dummy addition.

A walk makes the changes that its list names, in memory and nowhere else, and shows that the addition then works through
the public commands and functions; before, it is refused by name or not there.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import click
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from support.paths import ROOT
from torch import nn

import edgecnn
from edgecnn.bundle import program as bundle_program
from edgecnn.capture import aten
from edgecnn.cli import cli, shared_options
from edgecnn.data import sources
from edgecnn.data.sources import load_dataset
from edgecnn.errors import CaptureError, EdgecnnError, GraphError, UsageError
from edgecnn.export import formats
from edgecnn.export.format_descriptor import Format, Refusal
from edgecnn.export.legal_programs import LEGALIZED
from edgecnn.export.onnx import lower as onnx_lower
from edgecnn.export.onnx.format import ONNX
from edgecnn.export.tflite import lower as tflite_lower
from edgecnn.export.tflite.format import TFLITE
from edgecnn.export.written import Written
from edgecnn.exporting import export_options, precisions
from edgecnn.exporting.export_options import ExportOptions
from edgecnn.golden import float as golden_float
from edgecnn.graph import traits
from edgecnn.graph.elementwise import _Elementwise
from edgecnn.graph.ops import Abs, ValueName
from edgecnn.graph.traits import traits_of
from edgecnn.project import tables
from edgecnn.quantize import calibrate
from edgecnn.quantize.quantize import NO_INT8_FORM
from edgecnn.targets.agent.single_file import MAIN, join_modules
from edgecnn.targets.boards import load_boards, read_board
from edgecnn.targets.config import load_config
from edgecnn.targets.hosts import local
from edgecnn.targets.runtimes import RUNTIMES, runtimes_for
from edgecnn.targets.target import find_targets

pytestmark = pytest.mark.skipif(not (ROOT / "docs" / "design.md").exists(), reason="needs the checkout, not a wheel")
X = np.random.default_rng(0).standard_normal((8, 3, 6, 5)).astype(np.float32)
Insert = Callable[[Mapping[Any, Any], Any, Any], None]


@pytest.fixture
def insert(monkeypatch: pytest.MonkeyPatch) -> Insert:
    """Put a row into one of the project's read-only tables."""

    def put(table: Mapping[Any, Any], key: Any, row: Any) -> None:
        (rows,) = gc.get_referents(table) if isinstance(table, MappingProxyType) else (table,)
        monkeypatch.setitem(rows, key, row)

    return put


def listed() -> dict[str, list[str]]:
    """The kinds of additions in docs/design.md, and the files that each names."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- additions -->(.*?)<!-- end of additions -->", text, re.DOTALL)
    rows = [line.strip("| ").split(" | ", 1) for line in block.splitlines() if line.startswith(("| a ", "| an "))]
    return {kind: re.findall(r"`([\w./-]+/[\w./<>-]*)`", files) for kind, files in rows}


def test_every_kind_has_a_walk() -> None:
    walks = {name.removeprefix("test_adding_") for name in globals() if name.startswith("test_adding_")}
    assert {kind.split(" ", 1)[1].replace(" ", "_") for kind in listed()} == walks


def test_every_file_named_exists() -> None:
    for kind, files in listed().items():
        assert files, kind
        for file in files:
            if "<" not in file:
                assert (ROOT / file).exists(), f"{kind}: {file}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Negate(_Elementwise):
    """``-x``."""

    VALUES: ClassVar = ("x",)
    x: ValueName


class Negative(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -x


def test_adding_operator(insert: Insert, tmp_path: Path) -> None:
    op = Negate(x="x")
    with pytest.raises(GraphError, match="Negate has no row"):
        traits_of(op)
    insert(traits.TRAITS, Negate, traits.TRAITS[Abs])
    insert(aten.CONVERTERS, "aten.neg.default", lambda b, a: b.add(Negate(x=a["self"])))
    insert(golden_float.EXECUTORS, Negate, lambda _op, _samples, x: -x)
    insert(onnx_lower.LOWERINGS, Negate, lambda w, node, o: w.emit("Neg", node, [w.tensor(o.x)]))
    insert(tflite_lower.LOWERINGS, Negate, tflite_lower.pointwise.unary("NEG", "NegOptions"))
    insert(NO_INT8_FORM, Negate, ("negations have no int8 kernel here", "a float layer"))
    insert(bundle_program._OPERATORS, "Negate", Negate)  # made from the union of operators in ops.py
    bundle = edgecnn.export_model(Negative().eval(), torch.zeros(1, 3, 6, 5), tmp_path / "net", calibration=X)
    assert edgecnn.check_bundle(bundle).passed
    model = onnx.load(bundle.artifact("onnx", "fp32").path)
    assert [n.op_type for n in model.graph.node] == ["Neg"]
    with pytest.raises(EdgecnnError, match="negations have no int8 kernel here"):
        edgecnn.export_model(
            Negative().eval(), torch.zeros(1, 3, 6, 5), tmp_path / "q", calibration=X, precisions=["int8"]
        )


def test_an_operator_that_lacks_a_converter_is_refused(tmp_path: Path) -> None:
    class Sorted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sort(-1).values

    with pytest.raises(CaptureError, match=r"aten\.sort"):
        edgecnn.export_model(Sorted().eval(), torch.zeros(1, 3), tmp_path / "net")


def test_adding_precision(insert: Insert, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fp8"):
        edgecnn.export_model(nn.ReLU().eval(), torch.zeros(1, 3), tmp_path / "no", precisions=["fp8"])
    fp32 = precisions.DESCRIPTORS["fp32"]
    insert(precisions.DESCRIPTORS, "fp8", replace(fp32, plan=lambda given: replace(fp32.plan(given), precision="fp8")))
    insert(LEGALIZED, "fp8", LEGALIZED["fp32"])
    insert(ONNX.writers, "fp8", ONNX.writers["fp32"])
    insert(TFLITE.refused, "fp8", Refusal("no kernel takes float8", "--formats onnx"))
    info = next(f for f in fields(ExportOptions) if f.name == "precisions").metadata["info"]
    monkeypatch.setattr(formats, "PRECISIONS", (*formats.PRECISIONS, "fp8"))
    object.__setattr__(info, "choices", (*info.choices, "fp8"))
    try:
        bundle = edgecnn.export_model(
            nn.ReLU().eval(), torch.zeros(1, 3), tmp_path / "net", precisions=["fp8"], formats=["onnx"]
        )
        assert [a.path.name for a in bundle.artifacts] == ["re_lu.fp8.onnx"]
        with pytest.raises(UsageError, match="fp8 is not written as tflite") as caught:
            edgecnn.export_model(
                nn.ReLU().eval(), torch.zeros(1, 3), tmp_path / "t", precisions=["fp8"], formats=["tflite"]
            )
        assert caught.value.why == "no kernel takes float8"
    finally:
        object.__setattr__(info, "choices", info.choices[:-1])


def test_adding_format(insert: Insert, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="listing"):
        edgecnn.export_model(nn.ReLU().eval(), torch.zeros(1, 3), tmp_path / "no", formats=["listing"])

    def write(programs: Any, _options: Any) -> Written:
        text = "\n".join(node.describe() for node in programs.graph.nodes)
        axes = {
            v.name: tuple(range(len(programs.graph.shapes[getattr(v, "value", v.name)])))
            for v in (*programs.graph.inputs, *programs.graph.outputs)
        }
        return Written(data=text.encode(), axes=axes, operators={}, notes=(), places={})

    row = Format(
        name="listing",
        title="a listing",
        package="numpy",
        writers={"fp32": write},
        refused={},
        legalize=ONNX.legalize,
        options_of=lambda _data, options: options,
        check_self_contained=None,
        facts=ONNX.facts,
        macs=lambda _data: None,
        editor=ONNX.editor,
    )
    insert(formats.REGISTRY, "listing", row)
    info = next(f for f in fields(ExportOptions) if f.name == "formats").metadata["info"]
    object.__setattr__(info, "choices", (*info.choices, "listing"))
    try:
        bundle = edgecnn.export_model(nn.ReLU().eval(), torch.zeros(1, 3), tmp_path / "net", formats=["listing"])
    finally:
        object.__setattr__(info, "choices", info.choices[:-1])
    assert "Relu" in bundle.artifact("listing", "fp32").path.read_text()
    assert not runtimes_for("listing")


SECOND_SESSION = '''"""A runtime that changes signs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgecnn.targets.agent.runtime_session import SessionTensor


class SecondSession:
    version, arena_bytes = "7", None

    def __init__(self, module: str, artifact: bytes, options: Mapping[str, Any]) -> None:
        self.inputs = [SessionTensor("x", [None, 2], "float32", None)]
        self.outputs = [SessionTensor("y", [None, 2], "float32", None)]

    def infer(self, arrays: Sequence[Any]) -> list[Any]:
        return [-arrays[0]]
'''


def agent_with_second(name: str) -> str:
    """The source of a module of the agent, after the addition."""
    if name == "second_session":
        return SECOND_SESSION
    text = (ROOT / "targets" / "agent" / f"{name}.py").read_text(encoding="utf-8")
    if name != "runtime_table":
        return text
    head, table = "from edgecnn.targets.agent.runtime_session import", "RUNTIME_TABLE: dict[str, RuntimeRow] = {"
    text = text.replace(head, f"from edgecnn.targets.agent.second_session import SecondSession\n{head}")
    return text.replace(table, f'{table}\n    "second": RuntimeRow("json", "json", _ONNX_OPTIONS, SecondSession),')


def test_adding_runtime(insert: Insert, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config()
    with pytest.raises(UsageError, match="there is no runtime 'second'"):
        find_targets(["second"], config=config)
    insert(RUNTIMES, "second", replace(RUNTIMES["onnxruntime"], name="second", title="Second", module="json"))
    assert [row.name for row in runtimes_for("onnx")][-1] == "second"
    with pytest.raises(UsageError, match="second is neither in runtimes nor in missing"):
        read_board(ROOT / "targets" / "boards" / "pi4.toml")
    (failure,) = find_targets(["second"], config=config).failures
    assert failure.error.message == "local has no second"
    monkeypatch.setattr(local, "agent_source", lambda: join_modules(MAIN, agent_with_second))
    (target,) = find_targets(["second"], config=config).targets
    with target.open(b"any bytes", "net") as session:
        (y,) = session.infer([np.float32([[1, -2]])])
    assert (session.version, y.tolist()) == ("7", [[-1, 2]])


def test_adding_board(tmp_path: Path) -> None:
    text = (ROOT / "targets" / "boards" / "pi4.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(text.replace('"pi4"', '"mine"'))
    assert "mine" in load_boards(tmp_path)
    assert read_board(tmp_path / "mine.toml").title == load_boards()["pi4"].title


def test_adding_calibrator(insert: Insert, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('calibrator = "wide"\n')
    arguments: dict[str, Any] = {"calibration": X, "precisions": ["int8"], "recipe": str(tmp_path / "r.toml")}
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU().eval()).eval()
    with pytest.raises(UsageError, match="wide"):
        edgecnn.export_model(net, torch.zeros(1, 3, 6, 5), tmp_path / "no", **arguments)
    insert(calibrate.CALIBRATORS, "wide", lambda observer: (2 * observer.low, 2 * observer.high))
    bundle = edgecnn.export_model(net, torch.zeros(1, 3, 6, 5), tmp_path / "net", **arguments)
    q = bundle.program().quantized
    assert q is not None
    low, high = q.activations[q.graph.inputs[0].name].low, q.activations[q.graph.inputs[0].name].high
    assert (low, high) == pytest.approx((2 * X.min(), 2 * X.max()), rel=0.02)


def test_adding_export_option(insert: Insert, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line and edgecnn.toml follow the class; `tests/exporting/test_options.py` asks for the argument."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class More(ExportOptions):
        quick: bool = export_options._option(False, "Write quickly.")

    for module in (shared_options, tables):
        monkeypatch.setattr(module, "ExportOptions", More)
    insert(export_options._INFO, "quick", fields(More)[-1].metadata["info"])
    seen = []

    @click.command()
    @shared_options.export_options
    def command(**given: Any) -> None:
        seen.append(shared_options.given_options(given))

    assert CliRunner().invoke(command, ["--quick", "--formats", "onnx"]).exit_code == 0
    assert seen == [More(quick=True, formats=("onnx",))]
    assert "Write quickly." in CliRunner().invoke(command, ["--help"]).output
    assert tables._export_key("quick") == ("quick", bool | None, None)


def test_adding_data_source(insert: Insert, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 1, 8, 8), np.uint8))
    with pytest.raises(UsageError, match="npy:"):
        load_dataset(f"npy:{tmp_path / 'x.npy'}", input_shape=(1, 8, 8))

    def read(rest: str, start: Path, wanted: Any) -> Any:
        np.savez(tmp_path / "x.npz", x=np.load(start / rest))
        return sources.read_npz(tmp_path / "x.npz", wanted)

    insert(sources.READERS, "npy", read)
    assert len(load_dataset(f"npy:{tmp_path / 'x.npy'}", input_shape=(1, 8, 8))) == 4


def test_adding_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecnn import cli as package

    @click.command("hello")
    def hello_command() -> None:
        """Say hello."""
        click.echo("hello")

    assert CliRunner().invoke(cli, ["hello"]).exit_code == 2
    module = type(package)("edgecnn.cli.hello")
    module.hello_command = hello_command  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "edgecnn.cli.hello", module)
    monkeypatch.setattr(package, "COMMANDS", (*package.COMMANDS, "hello"))
    assert CliRunner().invoke(cli, ["hello"]).output == "hello\n"
    assert "hello" in CliRunner().invoke(cli, ["--help"]).output
