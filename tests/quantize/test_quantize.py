"""Observers, calibrators, recipes, the rules for integers, layers left in float, and saturation on old x86."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from support.int8 import EXECUTORS, integers, run, saturating
from torch import nn

from edgecnn.capture.capture import capture
from edgecnn.errors import DataError, QuantizationError, UsageError
from edgecnn.export.onnx.export import export_onnx_int8
from edgecnn.export.onnx.int8.saturation import find_saturation
from edgecnn.export.tflite.export import export_tflite_int8
from edgecnn.golden.float_layers import as_real
from edgecnn.golden.integer import execute_integer
from edgecnn.graph.ops import Linear
from edgecnn.program.quantized import QuantizedGraph
from edgecnn.quantize import calibrate
from edgecnn.quantize.bias_correction import correct_biases
from edgecnn.quantize.calibrate import CALIBRATORS, SHARES, STEPS
from edgecnn.quantize.observe import observe
from edgecnn.quantize.observer import BINS, SMALLEST, Observer
from edgecnn.quantize.prepare import prepare
from edgecnn.quantize.quantize import quantize
from edgecnn.quantize.recipe import RECIPES, Override, Recipe, load_recipe, parse_recipe

SHAPE = (2, 8, 8)


class Net(nn.Module):
    """A residual block, a concatenation, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.side = nn.Conv2d(8, 4, 1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(12 * 16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        x = (x + 0.3 * self.body(x)).relu()
        x = torch.cat([x, self.side(x)], 1)
        return self.head(self.pool(x).flatten(1))


def samples(count: int = 32, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def made(module: nn.Module, recipe: Recipe = RECIPES["int8"], x: np.ndarray | None = None) -> QuantizedGraph:
    x = samples() if x is None else x
    graph = prepare(capture(module.eval(), [torch.zeros(1, *x.shape[1:])]))
    return quantize(graph, observe(graph, [[x]]), recipe)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(3)
    return Net().eval()


def observer(*batches: np.ndarray) -> Observer:
    seen = Observer()
    for batch in batches:
        seen.add(np.asarray(batch, np.float32))
    return seen


# Observers.

FLOATS = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False))


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(st.lists(FLOATS, min_size=1, max_size=4))
def test_an_observer_counts_what_numpy_counts(batches: list[np.ndarray]) -> None:
    seen, values = observer(*batches), np.concatenate(batches).astype(np.float64)
    felt = np.where(np.abs(values) < SMALLEST, 0, values)
    assert (seen.low, seen.high) == (felt.min(), felt.max())
    assert seen.counts.sum() == len(values)
    magnitude = np.abs(felt).max()
    if magnitude:
        assert magnitude <= seen.reach < 2 * magnitude or seen.reach == magnitude
        cells = np.floor(values * (BINS / (2 * seen.reach))) + BINS // 2
        assert np.array_equal(seen.counts, np.bincount(np.minimum(cells, BINS - 1).astype(int), minlength=BINS))


def test_widening_merges_cells_and_loses_none() -> None:
    small, large = samples(4), 100 * samples(4, seed=1)
    first, last = observer(small, large), observer(large, small)
    assert first.reach == last.reach
    assert np.array_equal(first.counts, last.counts)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_observer_refuses_what_is_not_finite(bad: float) -> None:
    with pytest.raises(DataError):
        observer(np.array([1.0, bad]))


# Calibrators.

DISTRIBUTIONS = {
    "normal": lambda rng: rng.standard_normal(4000),
    "relu": lambda rng: np.maximum(rng.standard_normal(4000), 0),
    "heavy": lambda rng: rng.standard_t(3, 4000),
    "one outlier": lambda rng: np.append(rng.standard_normal(4000), 80.0),
    "negative": lambda rng: -np.abs(rng.standard_normal(4000)) - 1,
    "two sizes": lambda rng: np.concatenate([rng.standard_normal(4000), 0.01 * rng.standard_normal(4000)]),
}


@pytest.fixture(params=DISTRIBUTIONS)
def seen(request: pytest.FixtureRequest) -> Observer:
    return observer(DISTRIBUTIONS[request.param](np.random.default_rng(5)))


def error_of(seen: Observer, low: float, high: float) -> float:
    """What one range costs, cell by cell."""
    step = (high - low) / STEPS
    zero = np.clip(np.rint(-low / step), 0, STEPS)
    restored = (np.clip(np.rint(seen.centers / step) + zero, 0, STEPS) - zero) * step
    return float(((seen.centers - restored) ** 2 * seen.counts).sum())


def divergence_of(seen: Observer, low: float, high: float) -> float:
    """What one range costs in entropy, cell by cell."""
    step = (high - low) / STEPS
    zero = np.clip(np.rint(-low / step), 0, STEPS)
    middles = (np.arange(BINS) + 0.5) * (2 * seen.reach / BINS) - seen.reach
    counts = seen.counts.astype(float)
    counts[BINS // 2] = 0
    inside = np.flatnonzero((middles >= low) & (middles <= high))
    reference = counts[inside].copy()
    reference[0] += counts[: inside[0]].sum()
    reference[-1] += counts[inside[-1] + 1 :].sum()
    level = np.clip(np.rint(middles[inside] / step) + zero, 0, STEPS).astype(int)
    spread = np.zeros(len(inside))
    for one in np.unique(level):
        cells = np.flatnonzero((level == one) & (counts[inside] > 0))
        if len(cells):
            spread[cells] = counts[inside][level == one].sum() / len(cells)
    if not spread.sum():
        return np.inf
    p, q = reference / reference.sum(), spread / spread.sum()
    both = (p > 0) & (q > 0)
    return float((p[both] * np.log(p[both] / q[both])).sum() + calibrate.LOST * p[(p > 0) & (q == 0)].sum())


def test_running_sums_give_the_errors_of_brute_force(seen: Observer) -> None:
    lows, highs = min(seen.low, 0.0) * SHARES, max(seen.high, 0.0) * SHARES
    expected = [error_of(seen, low, high) for low, high in zip(lows, highs, strict=True)]
    np.testing.assert_allclose(calibrate.squared_errors(seen, lows, highs), expected, rtol=2e-3)


def test_mse_finds_what_brute_force_finds(seen: Observer) -> None:
    low, high = calibrate.mse(seen)
    tried = [
        error_of(seen, a, b)
        for a in np.unique(min(seen.low, 0.0) * SHARES[::4])
        for b in np.unique(max(seen.high, 0.0) * SHARES[::4])
        if a < b
    ]
    assert error_of(seen, low, high) <= 1.02 * min(tried)


def test_entropy_is_that_of_brute_force(seen: Observer) -> None:
    lows, highs = min(seen.low, 0.0) * SHARES[::8], max(seen.high, 0.0) * SHARES[::8]
    expected = [divergence_of(seen, low, high) for low, high in zip(lows, highs, strict=True)]
    np.testing.assert_allclose(calibrate.divergences(seen, lows, highs), expected, rtol=2e-2, atol=2e-3)


def test_percentile_leaves_out_a_share_at_each_end() -> None:
    values = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    low, high = calibrate.percentile(observer(values))
    outside = (100 - calibrate.PERCENTILE) / 200
    np.testing.assert_allclose((low, high), np.quantile(values, [outside, 1 - outside]), rtol=0.01)


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize(
    "values", [[0.0], [3.0], [-3.0], [0.0, 1e-35], [2.0**-80, 1.0], [-5.0, -4.0], [2.0**99, -(2.0**99)]]
)
def test_every_calibrator_stays_within_what_was_seen(name: str, values: list[float]) -> None:
    low, high = CALIBRATORS[name](observer(np.array(values)))
    assert min(*values, 0) <= low <= high <= max(*values, 0) or (low, high) == (min(values), max(values))


# Recipes.


def test_recipes_by_name() -> None:
    assert {name: (r.weight_bits, r.portable, r.linear_scales) for name, r in RECIPES.items()} == {
        "int8": (8, False, "auto"),
        "int8-portable": (8, True, "auto"),
        "int8-7bit": (7, False, "auto"),
        "int8-per-channel": (8, False, "channel"),
    }
    assert all(load_recipe(name) is recipe for name, recipe in RECIPES.items())


def test_a_recipe_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'base = "int8-7bit"\ncalibrator = "percentile"\n[layers."body.*"]\nprecision = "float"\n'
        '[layers.stem]\ncalibrator = "minmax"\nsymmetric = true\n'
    )
    assert load_recipe(path) == Recipe(
        name="mine",
        calibrator="percentile",
        weight_bits=7,
        overrides=(
            Override(layers="body.*", precision="float"),
            Override(layers="stem", calibrator="minmax", symmetric=True),
        ),
    )


WRONG = [
    ("calibratr = 'mse'", "calibratr is no key", "calibrator? "),
    ("calibrator = 'mes'", "calibrator: 'mes'", "mse? "),
    ("calibrator = 3", "calibrator: 3", "a string"),
    ("weight_bits = 4", "weight_bits: 4", "8, or 7"),
    ("weight_bits = true", "weight_bits: True", "a whole number"),
    ("portable = 1", "portable: 1", "true or false"),
    ("base = 'int9'", "base: 'int9'", "int8? "),
    ("name = ''", "name is empty", ""),
    ("layers = 3", "layers: 3", "a table"),
    ("[layers]\nstem = 3", 'layers."stem": 3', "a table"),
    ("[layers.stem]", 'layers."stem" says nothing', "precision"),
    ("[layers.stem]\nskip = true", 'layers."stem".skip is no key', 'precision = "float"'),
    ("[layers.stem]\nsymetric = true", 'layers."stem".symetric is no key', "symmetric? "),
    ("[layers.stem]\nprecision = 'int16'", "layers.\"stem\".precision: 'int16'", "int8"),
    ("[layers.stem]\nsymmetric = 'yes'", "layers.\"stem\".symmetric: 'yes'", "true or false"),
    ("[layers.stem", "no TOML", ""),
]


@pytest.mark.parametrize(("text", "message", "hint"), WRONG)
def test_what_a_file_may_not_say(text: str, message: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.where == str(path)


def test_recipes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recipe") as caught:
        load_recipe("int8-portabel")
    assert "int8-portable? " in caught.value.hint
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(tmp_path / "absent.toml")


def test_an_override_that_matches_nothing_names_the_layers(net: nn.Module) -> None:
    with pytest.raises(UsageError, match="'bodi' matches no layer") as caught:
        made(net, parse_recipe({"layers": {"bodi": {"symmetric": True}}}, name="r"))
    assert "body.0" in caught.value.hint
    assert "stem" in caught.value.hint


def test_later_overrides_win_field_by_field(net: nn.Module) -> None:
    layers = {"*": {"symmetric": True}, "body": {"precision": "float"}, "body.2": {"precision": "int8"}}
    q = made(net, parse_recipe({"layers": layers}, name="r"))
    assert {q.graph.producers[n].origin.module for n in q.skipped} == {"body.0"}
    assert all(p.zero_point == 0 for p in q.activations.values())


def test_a_calibrator_for_one_layer(net: nn.Module) -> None:
    base, other = made(net), made(net, parse_recipe({"layers": {"head": {"calibrator": "minmax"}}}, name="r"))
    changed = {name for name in base.activations if base.activations[name] != other.activations[name]}
    assert changed <= {other.graph.outputs[0].value}


# Integers.


def test_weights_and_biases_follow_the_rules(net: nn.Module) -> None:
    for recipe in (*RECIPES.values(), Recipe(name="layer", linear_scales="layer")):
        q = made(net, recipe)
        for node in q.graph.nodes:
            weights = q.weights.get(getattr(node.op, "weight", ""))
            if weights is None:
                continue
            rows = np.abs(weights.integers.reshape(len(weights.scales), -1).astype(int))
            whole = isinstance(node.op, Linear) and recipe.linear_scales != "channel"
            assert (rows.max(axis=None if whole else 1) == recipe.weight_limit).all()
            real = q.graph.constants[node.op.weight]
            assert np.abs(weights.dequantize() - real).max() <= 0.5001 * weights.scales.max()
            scales = weights.scales.astype(float) * float(q.activations[node.op.x].scale)
            assert np.abs(q.biases[node.name] * scales - q.graph.constants[node.op.bias]).max() <= 0.5001 * scales.max()


def _linear_scales(rows: list[float], linear_scales: str = "auto") -> np.ndarray:
    """The scales that a linear layer gets whose outputs have weights of these magnitudes."""
    module = nn.Linear(16, len(rows))
    with torch.no_grad():
        module.weight.copy_(torch.linspace(-1, 1, 16) * torch.tensor(rows)[:, None])
    x = np.random.default_rng(0).standard_normal((32, 16), dtype=np.float32)
    q = made(module, Recipe(name="own", linear_scales=linear_scales), x)
    (weights,) = q.weights.values()
    assert (np.abs(weights.integers).max(axis=1) > 0).tolist() == [row > 0 for row in rows]
    return weights.scales * 127


def test_a_linear_layer_has_one_scale_unless_its_outputs_differ_much() -> None:
    np.testing.assert_allclose(_linear_scales([2.0, 1.0, 1.0, 0.5]), 2.0)
    np.testing.assert_allclose(_linear_scales([2.0, 0.2, 0.2, 0.2, 0.2]), [2.0, 0.2, 0.2, 0.2, 0.2])
    np.testing.assert_allclose(_linear_scales([2.0, 0.2, 0.2, 0.2, 0.2], "layer"), 2.0)
    np.testing.assert_allclose(_linear_scales([2.0, 1.0], "channel"), [2.0, 1.0])


@pytest.mark.parametrize("linear_scales", ["auto", "layer"])
def test_an_output_without_weights_does_not_coarsen_the_others(linear_scales: str) -> None:
    """By itself such a channel has the scale 1, which one scale for all must not become."""
    np.testing.assert_allclose(_linear_scales([0.01, 0.01, 0.0], linear_scales), 0.01, rtol=1e-6)
    assert _linear_scales([0.0, 0.0], linear_scales).shape == (2,)


def test_portable_gives_additions_and_concatenations_one_scale(net: nn.Module) -> None:
    q = made(net, RECIPES["int8-portable"])
    joined = [n for n in q.graph.nodes if type(n.op).__name__ in ("Add", "Concat")]
    assert len(joined) == 2
    for node in joined:
        assert len({q.activations[v] for v in (*node.inputs, node.name)}) == 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_portable_is_exact_in_both_runtimes(recipe: str, net: nn.Module, agent: object) -> None:
    q = made(net, RECIPES[recipe])
    x = integers(q, [samples(64, seed=9)])
    golden = execute_integer(q, x)[q.graph.outputs[0].value].astype(int)
    written = {"onnx": export_onnx_int8(q, version="0"), "tflite": export_tflite_int8(q, version="0")}
    for name in ("onnxruntime", "xnnpack"):
        (got,) = run(agent, EXECUTORS[name], q, written[EXECUTORS[name].form], x)
        limit = 0 if recipe == "int8-portable" else 3
        assert np.abs(got - golden).max() <= limit, name


def test_portable_with_a_subtraction_and_a_constant(agent: object) -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.randn(1, 2, 1, 1))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return (x - y) + self.bias

    x, y = samples(16), 3 * samples(16, seed=1)
    graph = prepare(capture(Sums().eval(), [torch.zeros(1, *SHAPE), torch.zeros(1, *SHAPE)]))
    q = quantize(graph, observe(graph, [[x, y]]), RECIPES["int8-portable"])
    assert len(set(q.activations.values())) == 1
    given = integers(q, [x, y])
    golden = execute_integer(q, given)[q.graph.outputs[0].value].astype(int)
    for name, export in (("onnxruntime", export_onnx_int8), ("xnnpack", export_tflite_int8)):
        (got,) = run(agent, EXECUTORS[name], q, export(q, version="0"), given)
        assert (got == golden).all(), name


def test_portable_leaves_out_additions_of_prescribed_parameters() -> None:
    class Gate(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x.sigmoid()

    q = made(Gate(), RECIPES["int8-portable"])
    assert any("prescribed" in note for note in q.notes)


def test_corrected_biases_bring_means_back_and_both_formats_keep_them(net: nn.Module, agent: object) -> None:
    q = made(net, RECIPES["int8-portable"])
    x = samples(64, seed=2)
    value = q.graph.outputs[0].value
    expected = net(torch.from_numpy(x)).detach().numpy()

    def shift(q: QuantizedGraph) -> float:
        got = q.activations[value].dequantize(execute_integer(q, integers(q, [x]))[value])
        return float(np.abs((got - expected).mean(axis=0)).mean())

    corrected = correct_biases(q, [samples()])
    assert shift(corrected) < shift(q)
    assert corrected.weights == q.weights
    given = integers(q, [x])
    golden = execute_integer(corrected, given)[value].astype(int)
    for name, export in (("onnxruntime", export_onnx_int8), ("xnnpack", export_tflite_int8)):
        (got,) = run(agent, EXECUTORS[name], corrected, export(corrected, version="0"), given)
        assert (got == golden).all(), name


# Layers left in float.

SKIPS = ["stem", "body", "body.2", "side", "head", "pool", "*"]


@pytest.mark.parametrize("layers", SKIPS)
def test_float_layers_in_both_formats(layers: str, net: nn.Module, infer: object) -> None:
    recipe = Recipe(name="r", portable=True, overrides=(Override(layers=layers, precision="float"),))
    q = made(net, recipe)
    assert q.skipped
    x = samples(16, seed=4)
    out = q.graph.outputs[0].value
    golden = as_real(q, out, execute_integer(q, integers(q, [x]))[out])
    step = float(q.activations[out].scale)
    for form, export in (("onnx", export_onnx_int8), ("tflite", export_tflite_int8)):
        written = export(q, version="0")
        (got,) = infer(form, q.graph, written, [x])
        off = np.abs(got - golden) / step
        # A float sum in another order may fall on the other side of a rounding: 1 LSB, and rarely.
        assert off.max() < 3, form
        assert (off > 0.01).mean() < 0.1, form


def test_onnx_runtime_keeps_float_layers_float(net: nn.Module, tmp_path: Path) -> None:
    import onnx
    import onnxruntime as ort

    q = made(net, Recipe(name="r", overrides=(Override(layers="body.*", precision="float"),)))
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # as edgecnn's own sessions
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(export_onnx_int8(q, version="0").data, options)
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    names = {kind: {n.name.split(".")[0] for n in nodes if n.op_type == kind} for kind in ("Conv", "QLinearConv")}
    assert names["Conv"] == {"body"}
    assert {name.split("_")[0] for name in names["QLinearConv"]} == {"stem", "side"}
    assert sum(n.op_type == "Conv" and n.name.startswith("body") for n in nodes) == 2


def test_a_reshape_is_float_where_its_input_is(net: nn.Module) -> None:
    class Flat(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * 2).permute(0, 2, 3, 1).relu()

    graph = prepare(capture(Flat().eval(), [torch.zeros(1, *SHAPE)]))
    moved = next(n for n in graph.nodes if type(n.op).__name__ == "Transpose")
    scaled = moved.inputs[0]
    for chosen, floats in ((moved.name, set()), (scaled, {moved.name, scaled})):
        q = quantize(
            graph, observe(graph, [[samples()]]), parse_recipe({"layers": {chosen: {"precision": "float"}}}, name="r")
        )
        assert q.skipped == floats


# Bad input.


def refused(batch: object, message: str) -> None:
    graph = prepare(capture(nn.Conv2d(2, 3, 1).eval(), [torch.zeros(1, *SHAPE)]))
    with pytest.raises(DataError, match=message):
        observe(graph, [] if batch is None else [batch])


def test_calibration_data_that_is_refused() -> None:
    nan, inf = samples(), samples()
    nan[3, 0, 0, 0], inf[0, 0, 0, 0] = np.nan, np.inf
    refused(None, "no calibration data")
    refused([samples(), samples()], "2 inputs, the model takes 1")
    refused([samples(4, (2, 8))], "shape")
    refused([samples(4, (3, 8, 8))], "shape")
    refused([np.zeros((4, *SHAPE), np.uint8)], "are uint8")
    refused([nan], "NaN or infinities")
    refused([inf], "NaN or infinities")
    refused([np.zeros((4, *SHAPE), np.float32)], "all 0")


def test_an_overflow_inside_names_the_layer() -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 2, 1))
    with torch.no_grad():
        module[0].weight.fill_(1e30)
        module[1].weight.fill_(1e30)
    with pytest.raises(DataError, match=r"^1 becomes NaN or infinite"):
        made(module)


def test_bytes_are_suspected() -> None:
    x = np.random.default_rng(0).integers(0, 256, (8, *SHAPE)).astype(np.float32)
    assert any("like bytes" in note for note in made(nn.Conv2d(2, 3, 1), x=x).notes)
    assert not made(nn.Conv2d(2, 3, 1), x=samples()).notes


def test_a_constant_tensor_and_dead_channels(agent: object) -> None:
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.Flatten(), nn.Linear(108, 2))
    with torch.no_grad():
        module[0].weight.zero_()
        module[0].bias.fill_(-1.0)  # behind the ReLU nothing but 0
        module[2].weight[1].zero_()
        module[2].bias[1] = 7.0
    q = made(module)
    assert any("is always 0 on" in note for note in q.notes)
    assert any("4 of 4 channels are all 0" in note for note in q.notes)
    x = integers(q, [samples(4)])
    golden = execute_integer(q, x)[q.graph.outputs[0].value].astype(int)
    expected = module(torch.from_numpy(samples(4))).detach().numpy()
    real = q.activations[q.graph.outputs[0].value].dequantize(golden)
    assert np.abs(real - expected).max() < 0.1
    for name, export in (("onnxruntime", export_onnx_int8), ("xnnpack", export_tflite_int8)):
        (got,) = run(agent, EXECUTORS[name], q, export(q, version="0"), x)
        assert (got == golden).all(), name


def test_a_bias_that_would_leave_int32_raises_the_weight_scale() -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        module.weight[0] = 1e-12
        module.bias[0] = 5.0
    q = made(module, Recipe(name="unclipped", calibrator="minmax"))
    assert any("scales of 1 of 2 channels were raised" in note for note in q.notes)
    (bias,) = q.biases.values()
    assert abs(int(bias[0])) <= 1.0001 * 2**30
    x = samples(4)
    value = q.graph.outputs[0].value
    got = q.activations[value].dequantize(execute_integer(q, integers(q, [x]))[value])
    off = np.abs(got - module(torch.from_numpy(x)).detach().numpy()).max()
    assert off <= q.activations[value].scale  # one step, nothing being clipped


@pytest.mark.parametrize("size", [1e-38, 1e-34, 1e-28, 1e-18])
def test_scales_never_underflow(size: float) -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))
    with torch.no_grad():
        module[0].weight.mul_(size)
        module[0].bias.zero_()
    q = made(module)
    for node in q.graph.nodes:
        x, y = q.activations[node.op.x].scale, q.activations[node.name].scale
        products = x * q.weights[node.op.weight].scales
        assert (products >= np.finfo(np.float32).tiny).all()
        assert (products / y < 256).all()
    value = q.graph.outputs[0].value
    got = q.activations[value].dequantize(execute_integer(q, integers(q, [samples()]))[value])
    assert np.abs(got - module(torch.from_numpy(samples())).detach().numpy()).max() < 0.02


def test_a_layer_too_wide_for_int32_is_refused_by_name() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(70_000, 1))
    with torch.no_grad():
        module[1].weight.fill_(1.0)
    with pytest.raises(QuantizationError, match=r"1 \(Linear\).*int32"):
        made(module, x=samples(2, (70_000,)))


def test_a_division_needs_float() -> None:
    class Ratio(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x / y

    graph = prepare(capture(Ratio().eval(), [torch.zeros(1, *SHAPE), torch.zeros(1, *SHAPE)]))
    observers = observe(graph, [[samples(), np.abs(samples(seed=1)) + 1]])
    with pytest.raises(QuantizationError, match="division"):
        quantize(graph, observers)
    floats = Recipe(name="r", overrides=(Override(layers=graph.nodes[0].name, precision="float"),))
    assert quantize(graph, observers, floats).skipped == {graph.nodes[0].name}


# x86 without VNNI.


def test_saturation_is_bounded_and_counted_and_cured() -> None:
    module, x = saturating()
    found = find_saturation(made(module, x=x), [x])
    assert found.possible
    assert [layer.layer for layer in found.layers] == ["0", "2", "4"]
    assert found.layers[0].wrong > 0.9 * found.layers[0].observed > 0
    assert found.rate > 0.1
    assert "can saturate in" in found.summary()
    cured = find_saturation(made(module, RECIPES["int8-7bit"], x), [x])
    assert not cured.possible
    assert cured.rate == 0
    assert max(abs(layer.worst) for layer in cured.layers) <= 2 * 255 * 63 < 2**15
    assert json.dumps(cured.summary())


def test_pairs_are_counted_as_brute_force_counts_them() -> None:
    torch.manual_seed(1)
    module, x = nn.Conv2d(3, 4, 3, stride=2, padding=1), samples(3, (3, 7, 7))
    q = made(module, x=x)
    (layer,) = find_saturation(q, [x]).layers
    (node,) = q.graph.nodes
    zero = q.activations["input" if "input" in q.activations else q.graph.inputs[0].name].zero_point + 128
    a = q.activations[q.graph.inputs[0].name].quantize(x).astype(int) + 128
    a = np.pad(a, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=zero)
    w = q.weights[node.op.weight].integers.astype(int)
    wrong = observed = 0
    for n, o, r, c in np.ndindex(3, 4, 4, 4):
        rows = a[n, :, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3].transpose(1, 2, 0).ravel()
        products = np.append(rows * w[o].transpose(1, 2, 0).ravel(), 0).reshape(-1, 2).sum(axis=1)
        observed += 1
        wrong += bool(((products > 32767) | (products < -32768)).any())
    assert (layer.observed, layer.wrong) == (observed, wrong)
    rows = np.pad(w.transpose(0, 2, 3, 1).reshape(4, -1), ((0, 0), (0, 1))).reshape(4, -1, 2)
    highest, lowest = 255 * np.maximum(rows, 0).sum(2), 255 * np.minimum(rows, 0).sum(2)
    assert layer.risky == ((highest > 32767) | (lowest < -32768)).sum()
    assert layer.pairs == rows[..., 0].size


def test_depthwise_and_float_layers_have_no_pairs() -> None:
    module = nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 4, 3))
    q = made(module, Recipe(name="r", overrides=(Override(layers="1", precision="float"),)))
    assert find_saturation(q, [samples()]).layers == ()
