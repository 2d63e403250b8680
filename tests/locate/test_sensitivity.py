"""Which layers int8 costs most in, and the recipe that leaves them in float."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support.int8 import quantized
from support.shared_host import shared_target
from torch import nn

import edgecnn
from edgecnn.bundle import load_bundle
from edgecnn.capture.capture import capture
from edgecnn.cli import cli
from edgecnn.data.calibration import of_samples
from edgecnn.data.sources import load_dataset
from edgecnn.errors import UsageError
from edgecnn.golden.float import execute_float
from edgecnn.golden.float_layers import as_real
from edgecnn.golden.integer import execute_integer
from edgecnn.locate.failures import locate_failures
from edgecnn.locate.quality import Evaluator, Variant, paired_change
from edgecnn.locate.sensitivity import as_glob, layers_of, sensitivity, spare
from edgecnn.locate.suggest import advise, with_floats
from edgecnn.parity.bundle_check import check_bundle
from edgecnn.parity.statistics import paired_drop
from edgecnn.quantize.calibrated import observe_graph
from edgecnn.quantize.quantize import float_nodes
from edgecnn.quantize.recipe import INT8, Override, Recipe, load_recipe, settings_of
from edgecnn.quantize.recipe_text import recipe_text, write_recipe


class Block(nn.Module):
    """A convolution and a sum: its own operator is the sum, and it holds a module."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.conv(x))


class Uneven(nn.Module):
    """One layer whose channels differ by a factor of 1,000 in size, so that one step for all of them loses most."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem, self.block = nn.Conv2d(1, 8, 3), Block(8)
        self.wide, self.head = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.scores = nn.Linear(8, 4)
        with torch.no_grad():
            sizes = torch.logspace(0, 3, 8).reshape(8, 1, 1, 1)
            self.wide.weight.mul_(sizes)
            self.wide.bias.mul_(sizes.reshape(8))
            self.head.weight.div_(sizes.reshape(1, 8, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(torch.relu(self.wide(self.block(torch.relu(self.stem(x))))))
        return self.scores(torch.relu(x).mean((2, 3)))


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return np.random.default_rng(0).random((48, 1, 10, 10), np.float32)


@pytest.fixture(scope="module")
def uneven(samples):
    return quantized(Uneven().eval(), [samples])


def outputs_of(q, inputs: np.ndarray, *, real_inputs: bool) -> np.ndarray:
    """The whole graph executed, nothing reused."""
    x = inputs if real_inputs else q.activations[q.graph.inputs[0].name].quantize(inputs)
    name = q.graph.outputs[0].value
    return as_real(q, name, execute_integer(q, [x])[name])


def noise_of(outputs: np.ndarray, expected: np.ndarray) -> float:
    apart = outputs.astype(np.float64) - expected
    return float((apart**2).sum() / (expected.astype(np.float64) ** 2).sum())


def test_layers_are_what_a_recipe_can_name(uneven) -> None:
    """A module that holds others is named by its operator, not by its path, which would stand for all within."""
    layers = layers_of(uneven)
    assert [layer.path for layer in layers] == ["stem", "block.conv", "block.add", "wide", "head", "mean", "scores"]
    for layer in layers:
        recipe = Recipe(name="r", overrides=(Override(layers=as_glob(layer.path), precision="float"),))
        floats = {name for name, s in settings_of(recipe, uneven.graph).items() if s.skip}
        assert floats == set(layer.nodes)


def test_reused_values_change_nothing(uneven, samples) -> None:
    """Every variant is what executing all of it gives, bit for bit."""
    found = sensitivity(uneven, [samples])
    expected = execute_float(uneven.graph, [samples])[uneven.graph.outputs[0].value]
    every = frozenset(n.name for n in uneven.graph.nodes)
    assert found.whole.noise == pytest.approx(noise_of(outputs_of(uneven, samples, real_inputs=False), expected))
    for row in found.rows:
        alone = replace(uneven, skipped=float_nodes(uneven.graph, every - set(row.layer.nodes)))
        spared = replace(uneven, skipped=frozenset(row.layer.nodes))
        assert row.alone.noise == pytest.approx(noise_of(outputs_of(alone, samples, real_inputs=True), expected))
        assert row.spared.noise == pytest.approx(noise_of(outputs_of(spared, samples, real_inputs=False), expected))


def test_the_float_graph_is_its_own_reference(uneven, samples) -> None:
    evaluator = Evaluator(uneven, [samples])
    assert evaluator.measure([evaluator.reference])[0].snr == math.inf


def test_the_costly_layers_are_named(uneven, samples) -> None:
    """The wide layer's result loses most: rounded where the layer gives it, and where the next one reads it."""
    found = sensitivity(uneven, [samples])
    costliest = sorted(found.rows, key=lambda row: -row.alone.noise)
    assert {row.layer.path for row in costliest[:2]} == {"wide", "head"}
    assert costliest[1].alone.noise > 4 * costliest[2].alone.noise


def test_suggestion_is_proven_and_its_recipe_is_read_back(samples, tmp_path: Path) -> None:
    data = of_samples((samples[:32],), "noise")
    observed = observe_graph(capture(Uneven().eval(), [torch.zeros(1, 1, 10, 10)]), data, "int8")
    advice = advise(observed, data, INT8, [samples[32:]], share=0.9)
    found = advice.suggestion
    assert found is not None
    assert {layer.path for layer in found.layers} >= {"wide", "head"}
    assert len(found.layers) < len(advice.sensitivity.rows)
    assert found.regained >= 0.9
    assert found.quality.noise == pytest.approx((1 - found.regained) * advice.sensitivity.whole.noise)
    assert 0 < found.macs < 1
    write_recipe(found.recipe, tmp_path / "mixed.toml", comments=["why"])
    read = load_recipe(tmp_path / "mixed.toml")
    assert read.overrides == found.recipe.overrides
    assert settings_of(read, observed.graph) == settings_of(found.recipe, observed.graph)


def test_a_share_out_of_reach_is_refused(samples) -> None:
    """One layer that does nothing: all of the loss is the rounding of its input and output."""
    module = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(module.weight)
    data = of_samples((samples,), "noise")
    observed = observe_graph(capture(module.eval(), [torch.zeros(1, 1, 10, 10)]), data, "int8")
    with pytest.raises(UsageError, match="no choice of layers regains 90%") as err:
        advise(observed, data, INT8, [samples], share=0.9)
    assert "--regain" in err.value.hint


def test_labels_give_accuracies(uneven, samples) -> None:
    """Labels that the float graph gets right but for two: int8 is compared with it sample by sample."""
    scores = execute_float(uneven.graph, [samples])[uneven.graph.outputs[0].value]
    labels = scores.argmax(1).astype(np.int64)
    labels[:2] = (labels[:2] + 1) % 4
    found = sensitivity(uneven, [samples], labels=labels)
    assert found.reference_accuracy == pytest.approx(46 / 48)
    got = outputs_of(uneven, samples, real_inputs=False).argmax(1)
    change = found.whole.change
    assert found.whole.accuracy == pytest.approx((got == labels).mean())
    assert change is not None
    assert change.value == pytest.approx((got == labels).mean() - 46 / 48)
    assert change.low <= change.value <= change.high


@given(gained=st.integers(0, 40), lost=st.integers(0, 40), both=st.integers(0, 40), neither=st.integers(0, 40))
def test_paired_interval(gained: int, lost: int, both: int, neither: int) -> None:
    """It holds the difference, turns around with the sides, and narrows with more samples."""
    counts = [(True, False, gained), (False, True, lost), (True, True, both), (False, False, neither + 1)]
    new = np.concatenate([np.full(n, a) for a, _, n in counts])
    old = np.concatenate([np.full(n, b) for _, b, n in counts])
    change, turned = paired_change(new, old), paired_change(old, new)
    assert change.value == pytest.approx((gained - lost) / len(new))
    assert -1 <= change.low < change.high <= 1
    assert (change.low, change.high) == pytest.approx((-turned.high, -turned.low))
    more = paired_change(np.tile(new, 16), np.tile(old, 16))
    assert more.high - more.low < change.high - change.low


def test_paired_interval_is_that_of_the_check() -> None:
    """3 gained and 9 lost of 50, each bound with 97.5 %."""
    new = np.array([True] * 3 + [False] * 9 + [True] * 38)
    old = np.array([False] * 3 + [True] * 9 + [True] * 38)
    change, drop = paired_change(new, old), paired_drop(9, 3, 50, 0.975)
    assert (change.value, change.low, change.high) == (-drop.value, -drop.high, -drop.low)
    assert change.low < -0.12 < change.high


@pytest.mark.parametrize("path", ["conv1", "a[0].b", "x*y", 'quo"te', "tab\t"])
def test_recipe_text_is_read_back(path: str, tmp_path: Path) -> None:
    """Names with signs of globs and of TOML, beside overrides that were there."""
    recipe = Recipe(
        name="mixed",
        weight_bits=7,
        portable=True,
        overrides=(
            Override(layers="features.*", calibrator="percentile", symmetric=True),
            Override(layers=as_glob(path), symmetric=True),
        ),
    )
    layer = replace(layers_of(quantized(nn.Conv2d(1, 1, 1).eval(), [np.ones((2, 1, 2, 2), np.float32)]))[0], path=path)
    changed = with_floats(recipe, [layer])
    write_recipe(changed, tmp_path / "mixed.toml")
    assert load_recipe(tmp_path / "mixed.toml") == changed
    assert changed.overrides[-1].matches(path)
    assert not changed.overrides[-1].matches(path + "2")


def test_recipe_text_says_only_what_differs() -> None:
    assert recipe_text(INT8, comments=["a"]) == '# a\nbase = "int8"\n'


def test_nothing_is_left_when_a_recipe_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(UsageError, match="cannot be written"):
        write_recipe(INT8, tmp_path / "file" / "mixed.toml")
    with pytest.raises(UsageError, match="TOML"):
        write_recipe(INT8, tmp_path / "mixed.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_variants_that_keep_layers_of_the_recipe_in_float(samples) -> None:
    """Layers that the recipe leaves in float stay so, and are no rows."""
    recipe = Recipe(name="r", overrides=(Override(layers="wide", precision="float"),))
    q = quantized(Uneven().eval(), [samples], recipe=recipe)
    assert "wide" not in [layer.path for layer in layers_of(q)]
    assert spare(q, layers_of(q)[:1]) == Variant(frozenset({"stem", "wide"}))


def test_check_names_the_layer_that_int8_loses_most_in(samples, agent, tmp_path: Path) -> None:
    """File and runtime are good, the classes are others: what is said is where int8 is too coarse."""
    module = Uneven().eval()
    with torch.no_grad():  # no class leads by itself: small differences decide
        module.scores.bias.sub_(module(torch.as_tensor(samples)).mean(0))
    bundle = edgecnn.export_model(
        module,
        torch.zeros(1, 1, 10, 10),
        tmp_path / "net",
        name="net",
        formats=["tflite"],
        precisions=["fp32", "int8"],
        calibration=samples,
    )
    np.savez(tmp_path / "x.npz", x=samples)
    data = load_dataset(f"npz:{tmp_path / 'x.npz'}", input_shape=(1, 10, 10))
    target = shared_target(agent, "litert")
    report = locate_failures(bundle, check_bundle(bundle, targets=[target], data=data), targets=[target])
    failed = [v for v in report.verdicts if not v.passed]
    assert [v.metric for v in failed] == ["top1_disagreement"]
    assert failed[0].layer.startswith(("wide", "head"))
    assert "int8 itself loses this" in failed[0].cause
    assert "edgecnn sensitivity" in failed[0].cause


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    from edgecnn.models import create_model

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "conv_pool.pt"
    torch.save(create_model("conv_pool").state_dict(), path)
    return path


def test_command_writes_a_recipe_that_export_takes(weights: Path, tmp_path: Path) -> None:
    recipe, bundle = tmp_path / "new" / "mixed.toml", tmp_path / "bundle"
    common = ["conv_pool", "--weights", str(weights), "--data", "digits", "--calibration-samples", "32"]
    run = CliRunner().invoke(
        cli, ["sensitivity", *common, "--samples", "16", "--regain", "0.3", "-o", str(recipe), "--json", "-"]
    )
    assert run.exit_code == 0, run.output
    said = json.loads(run.stdout)
    assert {row["path"] for row in said["layers"]} == {"0", "2", "3", "5", "7"}
    assert said["samples"] == 16
    assert said["suggestion"]["regained"] >= 0.3
    export = [
        "export",
        *common,
        "--formats",
        "tflite",
        "--precisions",
        "int8",
        "--recipe",
        str(recipe),
        "-o",
        str(bundle),
    ]
    run = CliRunner().invoke(cli, [*export, "--no-check"])
    assert run.exit_code == 0, run.output
    quantization = load_bundle(bundle).artifacts[0].spec.quantization
    assert quantization is not None
    assert set(quantization.float_layers) == set(said["suggestion"]["layers"])


def test_command_refuses_what_it_cannot_use(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data is given"):
        CliRunner().invoke(cli, ["sensitivity", "conv_pool"], catch_exceptions=False)
    with pytest.raises(UsageError, match="a TOML file"):
        CliRunner().invoke(
            cli, ["sensitivity", "conv_pool", "--data", "digits", "-o", str(tmp_path / "r.txt")], catch_exceptions=False
        )
