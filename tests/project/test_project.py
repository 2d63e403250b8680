"""edgecnn.toml: what it says, where it is wrong, what would run, and how it begins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.paths import ROOT

from edgecnn.errors import UsageError
from edgecnn.project.model_plan import find_project
from edgecnn.project.reading import parse_project
from edgecnn.project.template import NewProject, project_text
from edgecnn.tomlfile import Lines

WHOLE = """
targets = ["litert", "onnxruntime@pi4"]
time_limit = 30
data = "digits"
[export]
precisions = ["fp32", "int8"]
recipe = "recipes/mine.toml"
[limits]
accuracy_drop = 0.02
int8.lsb_mean = 0.7
[baselines]
check = "base"
bench = "base"
[bench]
processes = 2
[budget]
size_kb = 100
[budget."*@pi4"]
instructions_m = 2

[model.first]
model = "nets.py:Net"
weights = "w/first.pt"
arguments = { width = 16, deep = true }
input_shape = "3x8x8"

[model.second]
model = "lenet5"
targets = ["litert"]
data = { source = "folder:photos", split = "test", mean = 0.5 }
export.directory = "out"
export.formats = ["tflite"]
limits.accuracy_drop = 0.1
limits.undecided = "fail"
bench.targets = ["litert[threads=2]"]
budget.size_kb = 50
"""


@pytest.fixture
def run(run, tmp_path, monkeypatch):
    """In a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return run


def test_what_holds_for_all_models_and_what_for_one(tmp_path) -> None:
    first, second = parse_project(tmp_path / "edgecnn.toml", WHOLE).models
    assert (first.name, first.line, second.line) == ("first", 21, 27)
    assert first.request.model == "nets.py:Net"
    assert first.request.arguments == {"width": 16, "deep": True}
    assert first.request.shapes == ((3, 8, 8),)
    assert first.targets == ("litert", "onnxruntime@pi4")
    assert second.targets == ("litert",)
    assert first.request.data is not None
    assert first.request.data.spec == "digits"
    assert second.request.data is not None
    assert (second.request.data.spec, second.request.data.split, second.request.data.mean) == (
        "folder:photos", "test", (0.5,),
    )  # fmt: skip
    assert second.request.options.formats == ("tflite",)
    assert second.request.options.precisions == ("fp32", "int8")
    assert first.limits.values == {("", "accuracy_drop"): 0.02, ("int8", "lsb_mean"): 0.7}
    assert second.limits.given("int8", "accuracy_drop") == 0.1
    assert (first.limits.undecided, second.limits.undecided) == ("estimate", "fail")
    assert [(b.targets, b.item, b.limit) for b in second.gates.budgets] == [
        ("*", "size_kb", 50), ("*@pi4", "instructions_m", 2),
    ]  # fmt: skip
    assert second.gates.options.processes == 2
    assert second.gates.targets == ("litert[threads=2]",)
    assert second.time_limit == 30


def test_paths_are_relative_to_the_file(tmp_path) -> None:
    first, second = parse_project(tmp_path / "edgecnn.toml", WHOLE).models
    assert first.request.weights == tmp_path / "w" / "first.pt"
    assert first.request.folder == tmp_path
    assert first.request.options.recipe == str(tmp_path / "recipes" / "mine.toml")
    assert (first.directory, second.directory) == (tmp_path / "build" / "first", tmp_path / "out" / "second")
    assert first.baseline == tmp_path / "base" / "first.check.json"
    assert second.gates.baseline == tmp_path / "base" / "second.bench.json"


MODEL = '[model.x]\nmodel = "lenet5"\n'
WRONG = [
    ("targts = []", 1, "no key 'targts'", "targets"),
    ("targets = []", 1, "targets is empty", "litert"),
    ('\ntargets = ["litert",\n"litertt"]', 2, "no runtime 'litertt'", "litert"),
    ("targets = 3", 1, "Expected a list, got a whole number", ""),
    ("time_limit = 0", 1, "time_limit: Expected a number > 0", ""),
    ('[model]\nmodel = "lenet5"', 1, "every model is a table with a name", "[model.my_net]"),
    ('[[model]]\nname = "x"', 1, "every model is a table with a name", "[model.my_net]"),
    ("[model.x]", 1, "does not say what it is", "file.py:callable|my_net.py"),
    (MODEL + 'weigths = "w.pt"', 3, "no key 'weigths'", "weights"),
    ("[model.x]\nmodel = 3", 2, "model: Expected a text, got a whole number", ""),
    ('[model."a/b"]\nmodel = "lenet5"', 1, "cannot name a model", "my_net"),
    (MODEL + 'input_shape = "3xx"', 3, "'3xx' is not a shape", "1x28x28"),
    (MODEL + 'export.formats = ["onx"]', 3, "formats: 'onx' given", "onnx"),
    ('[export]\n\nprecisions = ["int9"]\n' + MODEL, 3, "precisions: 'int9' given", "int8"),
    (MODEL + 'export = { io = "int9" }', 3, "io: there is no 'int9'", "uint8"),
    (MODEL + 'export.recipe = "int8"', 3, "recipe without int8 has no effect", 'precisions = ["fp32", "int8"]'),
    (MODEL + "[model.x.export]\nopset = 0", 4, "opset: Expected a whole number >= 1", ""),
    ('[data]\nsplit = "tset"', 2, "there is no 'tset'", "train, test, all"),
    ("[data]\nscale = 0.5\n" + MODEL, 2, "scale without a source", "source ="),
    ("data = 3", 1, "Expected a text or a table", ""),
    ("[limits]\n\naccuracy_drp = 1", 3, "no metric 'accuracy_drp'", "accuracy_drop"),
    ('[limits.int8]\nlsb_mean = "x"', 2, "not a number", ""),
    ("[limits.int9]\nlsb_mean = 1", 2, "no precision 'int9'", "int8"),
    (MODEL + 'limits.undecided = "maybe"', 3, "undecided 'maybe' is not known", "estimate"),
    ("[budget]\nsize_kbb = 3", 2, "no item 'size_kbb'", "size_kb"),
    ('[budget."*@pi4"]\nsize_kb = -1', 2, "size_kb=-1 is not a valid limit", "positive"),
    ("[bench]\nprocesses = 0", 2, "processes: Expected a whole number >= 1", ""),
    ("[bench]\nmax_slowdown = 1.1\n" + MODEL, 2, "max_slowdown without a baseline", "[baselines]"),
    ('[baselines]\nchek = "x"', 2, "no key 'chek'", "check"),
    ("x = ", None, "not valid TOML", "toml.io"),
]


@pytest.mark.parametrize(("text", "line", "message", "hint"), WRONG, ids=[row[2] for row in WRONG])
def test_a_mistake_is_told_with_its_line(tmp_path, text, line, message, hint) -> None:
    path = tmp_path / "edgecnn.toml"
    with pytest.raises(UsageError) as stop:
        parse_project(path, text)
    assert message in stop.value.message
    assert stop.value.where == (str(path) if line is None else f"{path}, line {line}")
    assert any(part in stop.value.hint for part in hint.split("|"))


def test_lines_of_every_way_to_write_a_key(tmp_path) -> None:
    text = 'a = [\n  "b = 1",\n]\n"c d".e = 1\nt = """\n[f]\ng = 1\n"""\n[f]\ng = { h = 1 }\n  [f."i.j"] # x\n k=1\n'
    lines = Lines(tmp_path, text)
    found = [lines.number(*at) for at in (("a",), ("c d", "e"), ("f",), ("f", "g", "h"), ("f", "i.j", "k"), ("z",))]
    assert found == [1, 4, 9, 10, 12, None]


def test_the_nearest_file_counts_up_to_the_repository(tmp_path) -> None:
    (tmp_path / "edgecnn.toml").write_text("")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_project(deep) == tmp_path / "edgecnn.toml"
    (tmp_path / "a" / ".git").mkdir()
    assert find_project(deep) is None


def test_a_dry_run_tells_all_and_does_nothing(run, tmp_path) -> None:
    (tmp_path / "edgecnn.toml").write_text(WHOLE)
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "first.pt").write_bytes(b"")
    rows = [" ".join(line.split()) for line in run("ci", "--dry-run")[0].splitlines()]
    for row in (
        "first export model nets.py:Net",
        "first export weights w/first.pt",
        "first export argument width = 16",
        "first export input shape 3x8x8",
        f"first export recipe {tmp_path}/recipes/mine.toml",
        "first export to build/first",
        "first check target litert@local (this machine)",
        "first check time limit 30 s",
        "first check limit accuracy_drop 0.02",
        "first check limit int8: lsb_mean 0.7",
        "first check baseline base/first.check.json (missing)",
        "first bench processes 2",
        "first bench budget instructions_m 2 on *@pi4",
        "second export data folder:photos, split test, mean (0.5,)",
        "second check undecided fail",
        "second bench target litert[threads=2]@local (this machine)",
        "second bench budget size_kb 50 on *",
    ):
        assert row in rows
    assert any(row.startswith("first check target onnxruntime@pi4 (emulated: Raspberry Pi 4") for row in rows)
    assert [
        row for row in map(str.strip, run("ci", "--dry-run", "--only", "second")[0].splitlines()) if "first" in row
    ] == []
    assert {p.name for p in tmp_path.iterdir()} == {"edgecnn.toml", "w"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no edgecnn.toml here or above"),
        (["--config", "other.toml"], "other.toml cannot be read"),
        (["--dry-run", "--json", "x.json"], "--json with --dry-run has no effect"),
        (["--json", "-", "--junit", "-"], "exclude each other"),
    ],
)
def test_wrong_usage(run, tmp_path, arguments, message) -> None:
    (tmp_path / ".git").mkdir()
    assert message in run("ci", *arguments, code=2)[1]


def test_models_that_are_not_there(run, tmp_path) -> None:
    (tmp_path / "edgecnn.toml").write_text(WHOLE)
    _, said = run("ci", "--only", "frist", code=2)
    assert "there is no model 'frist'" in said
    assert "try:   first" in said
    (tmp_path / "edgecnn.toml").write_text("data = 'digits'\n")
    assert "names no model" in run("ci", code=2)[1]
    (tmp_path / "edgecnn.toml").write_text(MODEL)
    assert "no baseline is asked for" in run("ci", "--save-baselines", code=2)[1]


def test_a_new_project_by_options(run, tmp_path) -> None:
    options = ["--model", "my.py:Net", "--weights", "w.pt", "--data", "folder:photos", "--input-shape", "3x4x4"]
    out, _ = run(
        "init", *options, "--precisions", "fp32", "--target", "litert", "--target", "@pi4", "--name", "n", "--yes"
    )
    assert out.startswith("edgecnn.toml: ")
    text = (tmp_path / "edgecnn.toml").read_text()
    (plan,) = parse_project(tmp_path / "edgecnn.toml", text).models
    assert (plan.name, plan.request.model, plan.request.weights) == ("n", "my.py:Net", tmp_path / "w.pt")
    assert plan.targets == ("litert", "@pi4")
    assert plan.request.shapes == ((3, 4, 4),)
    assert plan.request.data is not None
    assert "already exists" in run("init", "--model", "lenet5", "--yes", code=2)[1]
    assert (tmp_path / "edgecnn.toml").read_text() == text


def test_a_new_project_by_asking(run, tmp_path, monkeypatch) -> None:
    answers = tmp_path / "answers"
    answers.write_text("lenet\nlenet5\nw.pt\n-\n\n\nlitertt\nlitert\n")
    with answers.open() as given:
        monkeypatch.setattr(sys, "stdin", given)
        out, err = run("init")
    assert "'lenet' is not a model" in err
    assert "no runtime 'litertt'" in err
    assert "Model (" not in out
    (plan,) = parse_project(tmp_path / "edgecnn.toml", (tmp_path / "edgecnn.toml").read_text()).models
    assert (plan.name, plan.targets, plan.request.data) == ("lenet5", ("litert",), None)
    assert plan.request.options.precisions == ("fp32",)


def test_what_is_not_answered_leaves_no_file(run, tmp_path, monkeypatch) -> None:
    (tmp_path / "answers").write_text("lenet5\n")
    with (tmp_path / "answers").open() as given:
        monkeypatch.setattr(sys, "stdin", given)
        assert "no answer to: Weights" in run("init", code=2)[1]
    assert "there is no model" in run("init", "--yes", code=2)[1]
    assert "no runtime 'x'" in run("init", "--yes", "--model", "lenet5", "--target", "x", code=2)[1]
    assert not (tmp_path / "edgecnn.toml").exists()


def test_what_a_new_file_leaves_out_can_be_taken_in(tmp_path) -> None:
    """Every line that is commented out is right as it stands."""
    answers = NewProject(
        name="x", model="lenet5", weights="", shape="", data="", precisions=("fp32", "int8"), targets=()
    )
    head, _, rest = project_text(answers).partition("\n\n")
    assert head.startswith("# What")
    text = "\n".join(line.removeprefix("# ") for line in rest.splitlines())
    (plan,) = parse_project(tmp_path / "edgecnn.toml", text).models
    assert plan.limits.given("int8", "lsb_mean") == 0.7
    assert plan.gates.baseline is not None
    assert {b.item for b in plan.gates.budgets} == {"size_kb", "instructions_m"}
    assert plan.request.weights == tmp_path / "net.pt"


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="needs the checkout, not an installed wheel")
def test_the_example_in_the_docs(tmp_path) -> None:
    text = (ROOT / "docs" / "ci.md").read_text().partition("```toml\n")[2].partition("```")[0]
    pool, door = parse_project(tmp_path / "edgecnn.toml", text).models
    assert (pool.name, door.request.options.io, door.targets) == ("conv_pool", "uint8", ("@kitchen",))
    assert {b.limit for b in door.gates.budgets if b.item == "size_kb"} == {90}


def test_the_workflow(run, tmp_path) -> None:
    targets = 'targets = ["litert", "onnxruntime@pi4", "tflite-runtime", "@ssh://pi@kitchen"]\n'
    (tmp_path / "edgecnn.toml").write_text(targets + MODEL)
    printed, _ = run("init", "--github")
    steps = [line.strip().removeprefix("- run: ") for line in printed.splitlines()]
    for step in ("edgecnn targets emulate pi4", "edgecnn targets setup tflite-runtime"):
        assert step in steps
    assert any(step.startswith("edgecnn ci ") for step in steps)
    assert "runs-on: self-hosted  # one that reaches ssh://pi@kitchen" in steps
    assert not (tmp_path / ".github").exists()
    run("init", "--github", "--write")
    file = tmp_path / ".github" / "workflows" / "edgecnn.yml"
    assert file.read_text() == printed
    file.write_text("mine")
    assert "already exists" in run("init", "--github", "--write", code=2)[1]
    assert file.read_text() == "mine"
    assert "has no effect" in run("init", "--write", code=2)[1]
    assert "has no effect" in run("init", "--github", "--model", "lenet5", code=2)[1]


def test_relative_names_start_at_the_file(tmp_path, monkeypatch) -> None:
    """Code, a package, and data beside the file are found from any folder."""
    import numpy as np

    from edgecnn.exporting.request import load_data
    from edgecnn.loading import load_module

    (tmp_path / "nets.py").write_text("from torch import nn\nmake = nn.ReLU\n")
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 8, 8), np.uint8))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for spec in ("nets.py:make", "nets:make"):
        assert type(load_module(spec, folder=tmp_path).module).__name__ == "ReLU"
    assert len(load_data("npz:x.npz", None, folder=tmp_path)) == 2
    assert Path.cwd() == elsewhere
