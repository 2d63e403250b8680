"""Two files of any origin: what is reconciled, what is refused and with which option, and what is measured."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from support.hostile import Reused, rewrite

import edgecnn
from edgecnn.cli import cli
from edgecnn.compare import Options, compare_files
from edgecnn.compare.layout import AmbiguousError, Fit, UnfitError, fit
from edgecnn.compare.limits import METRICS, broken, parse_limit
from edgecnn.compare.matching import match
from edgecnn.compare.numbers import Numbers
from edgecnn.compare.places import places
from edgecnn.compare.reconcile import Side
from edgecnn.compare.source import read_source
from edgecnn.errors import BundleError, EdgecnnError, TargetError, UsageError
from edgecnn.export.file_facts import Affine
from edgecnn.export.onnx.wire import Wire, WireError, check_self_contained
from edgecnn.targets.target import Target

FLOAT, UINT8, INT8, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8, TensorProto.INT64


@pytest.fixture(scope="module")
def targets():
    """Both runtimes, with one agent for all."""
    host = Reused()
    yield [Target(runtime=name, host=host, name=f"{name}@local", asked_for=False) for name in ("onnxruntime", "litert")]
    host.end()


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle


@pytest.fixture
def alone(bundle, tmp_path):
    """The bundle's artifacts without its manifest."""
    return {f"{a.format} {a.precision}": shutil.copy(a.path, tmp_path / a.path.name) for a in bundle.artifacts}


@pytest.fixture
def write(tmp_path):
    """Write an ONNX file of some nodes."""

    def save(name, nodes, inputs, outputs, constants=()):
        graph = helper.make_graph(
            [helper.make_node(*args, **attributes) for *args, attributes in nodes],
            "g",
            [helper.make_tensor_value_info(*value) for value in inputs],
            [helper.make_tensor_value_info(*value) for value in outputs],
            [numpy_helper.from_array(array, key) for key, array in dict(constants).items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return save


@pytest.fixture
def compare(targets):
    def run(a, b, /, **options):
        return compare_files(a, b, options=Options(**options), targets=targets)

    return run


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "order", "whole_a", "whole_b"),
    [
        ((1, 3, 8, 9), (1, 8, 9, 3), (0, 2, 3, 1), (1, 3, 8, 9), (1, 8, 9, 3)),
        ((1, 8, 9, 3), (1, 3, 8, 9), (0, 3, 1, 2), (1, 8, 9, 3), (1, 3, 8, 9)),
        ((1, 5, 7), (1, 7, 5), (0, 2, 1), (1, 5, 7), (1, 7, 5)),
        ((None, 3, None, None), (1, 8, 9, 3), (0, 2, 3, 1), (1, 3, 8, 9), (1, 8, 9, 3)),
        ((None, 10), (None, 10), (0, 1), (1, 10), (1, 10)),
        ((1, 10), (10,), (0, 1), (1, 10), (10,)),
        ((3, 8, 9), (1, 3, 8, 9), (0, 1, 2, 3), (3, 8, 9), (1, 3, 8, 9)),
        ((), (1,), (0,), (), (1,)),
    ],
)
def test_shapes_that_go_together_in_one_way(a, b, order, whole_a, whole_b) -> None:
    one = fit(a, b)
    assert (one.order, one.shape_a, one.shape_b) == (order, whole_a, whole_b)


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        ((1, 3, 3, 3), (1, 3, 3, 3), AmbiguousError),
        ((1, 5, 5), (1, 5, 5), AmbiguousError),
        ((None, 3, None, None), (None, 3, None, None), UnfitError),
        ((1, 3, 8, 8), (1, 3, 8, 9), UnfitError),
        ((1, 49), (1, 7, 7, 1), UnfitError),
        ((10, 1), (1, 10), UnfitError),
    ],
)
def test_shapes_that_do_not(a, b, error) -> None:
    with pytest.raises(error):
        fit(a, b)


def test_a_cube_is_settled_by_layouts() -> None:
    cube = (1, 3, 3, 3)
    assert fit(cube, cube, layout_a="nchw", layout_b="nhwc").order == (0, 2, 3, 1)
    assert fit(cube, cube, layout_a="nhwc", layout_b="nchw").order == (0, 3, 1, 2)
    assert fit(cube, cube, layout_a="nhwc", layout_b="nhwc").order == (0, 1, 2, 3)
    with pytest.raises(AmbiguousError):
        fit(cube, cube, layout_a="nchw")


def test_sizes_of_one_are_no_ambiguity() -> None:
    assert fit((1, 7, 1, 1), (1, 7, 1, 1)).order == (0, 1, 2, 3)
    assert fit((1, 7, 1, 1), (1, 1, 1, 7)).order == (0, 2, 3, 1)
    assert fit((1, 1000), (1, 1, 1, 1000)).to_b(np.zeros((4, 1000))).shape == (4, 1, 1, 1000)
    assert fit((1, 1000, 1, 1), (1, 1000)).to_a(np.zeros((4, 1000))).shape == (4, 1000, 1, 1)


@settings(max_examples=80)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from(["nchw", "nhwc"]), st.integers(1, 3))
def test_there_and_back_is_the_same(shape, layout, samples) -> None:
    rank = len(shape)
    order = (0, *range(2, rank), 1) if layout == "nhwc" and rank > 2 else tuple(range(rank))
    there = tuple(shape[i] for i in order)
    one = fit(tuple(shape), there, layout_a="nchw", layout_b=layout)
    array = np.random.default_rng(0).random((samples, *shape[1:]))
    assert np.array_equal(one.to_b(array), array.transpose(order))
    assert np.array_equal(one.to_a(one.to_b(array)), array)


# --- names ------------------------------------------------------------------------------------------------------------


def paired(a, b, mapping=None, fits=lambda _i, _j: True, *, all_of_them=True):
    pairs = match(a, b, mapping or {}, fits, what="output", all_of_them=all_of_them)
    return [(a[p.a], b[p.b], p.how) for p in pairs]


def test_names_that_tell() -> None:
    assert paired(["x", "y"], ["y", "x"]) == [("x", "x", "by name"), ("y", "y", "by name")]
    wrapped = "by name, without TensorFlow's wrapping"
    assert paired(["x", "y"], ["serving_default_y:0", "x:0"]) == [
        ("x", "x:0", wrapped),
        ("y", "serving_default_y:0", wrapped),
    ]
    assert paired(["x"], ["input_1"]) == [("x", "input_1", "the only output")]
    assert paired(["x", "y"], ["x", "z"])[1] == ("y", "z", "the only output left")
    assert paired(["a", "b"], ["c", "d"], {"a": "d"})[0] == ("a", "d", "by --output-map")


def test_shapes_that_tell() -> None:
    assert paired(["a", "b"], ["c", "d"], fits=lambda i, j: i != j) == [("a", "d", "by shape"), ("b", "c", "by shape")]


@pytest.mark.parametrize("fits", [lambda _i, _j: True, lambda _i, _j: False, lambda i, _j: i == 0])
def test_names_that_do_not_tell(fits) -> None:
    with pytest.raises(UsageError) as caught:
        paired(["a", "b"], ["c", "d"], fits=fits)
    assert "--output-map a=c" in caught.value.hint


def test_outputs_may_be_left_over_where_names_tell() -> None:
    assert paired(["a"], ["a", "b"], all_of_them=False) == [("a", "a", "by name")]
    with pytest.raises(UsageError):
        paired(["a"], ["a", "b"], all_of_them=True)
    with pytest.raises(UsageError):
        paired(["a"], ["c", "b"], all_of_them=False)


@pytest.mark.parametrize("mapping", [{"z": "c"}, {"a": "z"}, {"a": "c", "b": "c"}])
def test_maps_that_are_wrong(mapping) -> None:
    with pytest.raises(UsageError, match="--output-map"):
        paired(["a", "b"], ["c", "d"], mapping)


# --- numbers and limits -----------------------------------------------------------------------------------------------


def test_quantized_numbers_go_there_and_back() -> None:
    numbers = Numbers(dtype="int8", affine=Affine(scale=0.5, zero_point=-3))
    assert numbers.limits() == (-62.5, 65.0)
    stored = numbers.stored(np.array([0.0, 0.24, 0.25, 0.75, 1e9, -1e9, np.nan]))
    assert stored.tolist() == [-3, -3, -2, -2, 127, -128, 0]  # half to even
    assert stored.dtype == np.int8
    assert numbers.real(np.array([-3, 127], np.int8)).tolist() == [0.0, 65.0]


def test_limits() -> None:
    assert parse_limit("snr_db=40") == ("snr_db", 40.0)
    values = dict.fromkeys(METRICS, 0.5)
    assert not broken(values, {"max_abs_error": 0.5, "snr_db": 0.5})
    assert "at most 0.4" in broken(values, {"max_abs_error": 0.4})
    assert "at least 0.6" in broken(values, {"cosine": 0.6})
    assert broken({**values, "max_abs_error": np.nan}, {"max_abs_error": np.inf})
    assert "no row" in broken({**values, "top1_disagreement": None}, {"top1_disagreement": 0.0})
    for text in ("max_abs_error", "nonsense=1", "max_abs_error=x", "max_abs_error=nan", "="):
        with pytest.raises(UsageError, match="METRIC=VALUE"):
            parse_limit(text)
    for text, said in (("cosine=2", "more than all"), ("rmse=-1", "is no limit"), ("rmse=inf", "is no limit")):
        with pytest.raises(UsageError, match=said):
            parse_limit(text)


# --- whole comparisons ------------------------------------------------------------------------------------------------


def test_layouts_and_numbers_of_a_bundle_come_from_its_manifest(bundle, compare) -> None:
    report = compare(
        bundle.artifact("onnx", "fp32").path, bundle.artifact("tflite", "fp32").path, limits={"relative_error": 1e-5}
    )
    assert report.passed is True
    assert report.exit_code == 0
    assert report.reconciled[0] == "input x (by name): 1x3x8x8 (NCHW) in A, 1x8x8x3 (NHWC) in B; float32 in both"
    assert report.comparisons[0].samples == 32
    assert json.loads(json.dumps(report.as_json()))["comparisons"][0]["metrics"]["top1_disagreement"] == 0


def test_a_changed_file_is_not_described_by_the_manifest(bundle, tmp_path) -> None:
    folder = shutil.copytree(bundle.directory, tmp_path / "b")
    path = folder / "net.fp32.onnx"
    path.write_bytes((folder / "net.int8.onnx").read_bytes())
    facts = read_source(path).facts
    assert not facts.layouts
    assert "not the file that manifest.json describes" in facts.notes[0]


def test_foreign_files_of_both_formats(alone, compare) -> None:
    report = compare(alone["onnx fp32"], alone["tflite fp32"], limits={"relative_error": 1e-5})
    assert report.passed
    assert compare(alone["onnx int8"], alone["tflite int8"], limits={"max_abs_error": 0.0}).passed
    worse = compare(alone["onnx fp32"], alone["tflite int8"], limits={"snr_db": 60.0})
    assert worse.exit_code == 1
    assert "snr_db is" in worse.comparisons[0].reason
    assert compare(alone["onnx fp32"], alone["tflite int8"]).exit_code == 0


def test_samples_do_not_depend_on_batches(alone, compare) -> None:
    free = compare(alone["onnx fp32"], alone["tflite int8"], samples=5)
    single = compare(alone["onnx fp32"], alone["tflite int8"], samples=5, shapes={"x": (1, 3, 8, 8)})
    assert free.comparisons[0].metrics["max_abs_error"] == single.comparisons[0].metrics["max_abs_error"] > 0
    other = compare(alone["onnx fp32"], alone["tflite int8"], samples=5, seed=1)
    assert other.comparisons[0].metrics["max_abs_error"] != free.comparisons[0].metrics["max_abs_error"]


def relu(write, name, shape, operator="Relu"):
    return write(name, [(operator, ["x"], ["y"], {})], [("x", FLOAT, shape)], [("y", FLOAT, shape)])


def test_a_cube_is_refused_with_the_option_that_settles_it(write, compare) -> None:
    a = relu(write, "a.onnx", [1, 3, 3, 3])
    b = relu(write, "b.onnx", [1, 3, 3, 3], "Abs")
    with pytest.raises(UsageError) as caught:
        compare(a, b)
    assert "--layout-a x=nchw --layout-b x=nhwc" in caught.value.hint
    sides = {"a": Side(layouts={"": "nchw"}), "b": Side(layouts={"": "nhwc"})}
    report = compare(a, b, **sides)
    assert report.reconciled[0].startswith("input x (by name): 1x3x3x3 (NCHW) in A, 1x3x3x3 (NHWC) in B")
    assert report.comparisons[0].metrics["max_abs_error"] > 0
    assert compare(a, a, limits={"max_abs_error": 0.0}).passed  # the same file needs no option


def test_the_layout_is_really_used(write, compare) -> None:
    scale = np.array([1, 2, 3], np.float32)
    common = {"inputs": [("x", FLOAT, [1, 3, 3, 3])], "outputs": [("y", FLOAT, [1, 3, 3, 3])]}
    nodes = [("Mul", ["x", "s"], ["y"], {})]
    a = write("a.onnx", nodes, constants={"s": scale[:, None, None]}, **common)
    b = write("b.onnx", nodes, constants={"s": scale}, **common)
    right = {"a": Side(layouts={"": "nchw"}), "b": Side(layouts={"": "nhwc"})}
    wrong = {"a": Side(layouts={"": "nchw"}), "b": Side(layouts={"": "nchw"})}
    assert compare(a, b, limits={"max_abs_error": 0.0}, **right).passed
    assert not compare(a, b, limits={"max_abs_error": 0.0}, **wrong).passed


def test_two_outputs_of_one_shape(write, compare) -> None:
    def two(name, first, second, operators):
        nodes = [(op, ["x"], [out], {}) for op, out in zip(operators, (first, second), strict=True)]
        return write(name, nodes, [("x", FLOAT, [1, 4])], [(o, FLOAT, [1, 4]) for o in (first, second)])

    a, b = two("a.onnx", "p", "q", ("Relu", "Neg")), two("b.onnx", "r", "s", ("Neg", "Relu"))
    with pytest.raises(UsageError, match="which output of B is which of A's") as caught:
        compare(a, b)
    assert "--output-map p=r" in caught.value.hint
    assert compare(a, b, output_map={"p": "s"}, limits={"max_abs_error": 0.0}).passed
    assert not compare(a, b, output_map={"p": "r"}, limits={"max_abs_error": 0.0}).passed


def test_open_sizes_are_settled_by_the_other_file_or_by_option(write, compare) -> None:
    open_ = relu(write, "a.onnx", ["N", 3, "H", "W"])
    fixed = relu(write, "b.onnx", [1, 8, 9, 3])
    assert compare(open_, fixed, limits={"max_abs_error": 0.0}).passed
    other = relu(write, "c.onnx", ["N", 3, "H", "W"], "Abs")
    with pytest.raises(UsageError, match="leave a size open") as caught:
        compare(open_, other)
    assert "--shape x=" in caught.value.hint
    assert "1x3x5x6" in compare(open_, other, shapes={"x": (1, 3, 5, 6)}).reconciled[0]
    with pytest.raises(UsageError, match=r"--shape x=1x4x5x6 does not fit"):
        compare(open_, other, shapes={"x": (1, 4, 5, 6)})
    with pytest.raises(UsageError, match="no such value as 'z'"):
        compare(open_, other, shapes={"z": (1, 3, 5, 6)})


def test_outputs_whose_shapes_differ_fail(write, compare) -> None:
    a = write("a.onnx", [("NonZero", ["x"], ["y"], {})], [("x", FLOAT, [1, 6])], [("y", INT64, [2, "n"])])
    nodes = [("Relu", ["x"], ["r"], {}), ("NonZero", ["r"], ["y"], {})]
    b = write("b.onnx", nodes, [("x", FLOAT, [1, 6])], [("y", INT64, [2, "n"])])
    one = compare_or_error(compare, a, b)
    assert "shape" in one or "are not the shapes of one value" in one


def compare_or_error(compare, a, b) -> str:
    try:
        report = compare(a, b, samples=4)
    except UsageError as err:
        return err.message
    assert report.exit_code == 1
    return report.comparisons[0].reason


def quantized(write, name, dtype, info, scale, zero_point, *, edges):
    """``y = x`` on integers, with or without Quantize- and DequantizeLinear to tell what they stand for."""
    constants = {"s": np.float32(scale).reshape(()), "z": np.array(zero_point, dtype)}
    nodes = [("DequantizeLinear", ["x", "s", "z"], ["f"], {}), ("QuantizeLinear", ["f", "s", "z"], ["y"], {})]
    if not edges:
        nodes, constants = [("Identity", ["x"], ["y"], {})], {}
    return write(name, nodes, [("x", info, [1, 50])], [("y", info, [1, 50])], constants)


def test_quantization_at_the_edges_of_onnx(write, compare) -> None:
    float_ = write("f.onnx", [("Identity", ["x"], ["y"], {})], [("x", FLOAT, [1, 50])], [("y", FLOAT, [1, 50])])
    told = quantized(write, "q.onnx", np.uint8, UINT8, 0.25, 100, edges=True)
    affine = Affine(scale=0.25, zero_point=100)
    assert read_source(told).facts.quantization == {"x": affine, "y": affine}
    report = compare(float_, told, limits={"max_abs_error": 0.125})
    assert report.passed
    assert report.comparisons[0].metrics["max_abs_error"] > 0.1
    assert "x even in -25 to 38.75, what its quantization can store" in report.samples_from
    untold = quantized(write, "u.onnx", np.uint8, UINT8, 0.25, 100, edges=False)
    with pytest.raises(UsageError, match="uint8 without parameters") as caught:
        compare(float_, untold)
    assert "--quantization-b x=SCALE,ZERO_POINT" in caught.value.hint
    side = Side(quantization={"x": affine, "y": affine})
    assert compare(float_, untold, b=side, limits={"max_abs_error": 0.125}).passed
    assert compare(untold, untold, limits={"max_abs_error": 0.0}).samples_from.endswith("x integers from 0 to 255")


def test_integers_need_a_range(write, compare) -> None:
    path = write("i.onnx", [("Identity", ["x"], ["y"], {})], [("x", INT64, [1, 5])], [("y", INT64, [1, 5])])
    with pytest.raises(UsageError, match="how large they may be is not known") as caught:
        compare(path, path)
    assert "--range x=0,9" in caught.value.hint
    assert compare(path, path, ranges={"x": (0, 9)}, limits={"max_abs_error": 0.0}).passed
    with pytest.raises(UsageError, match="does not suit integers"):
        compare(path, path, ranges={"x": (0.5, 9)})


def test_signed_and_unsigned_bytes_are_not_taken_for_one_another(write, compare) -> None:
    a, b = (
        write(f"{name}.onnx", [("Identity", ["x"], ["y"], {})], [("x", kind, [1, 50])], [("y", kind, [1, 50])])
        for name, kind in (("a", INT8), ("b", UINT8))
    )
    with pytest.raises(UsageError, match="int8 in A and uint8 in B, both without parameters") as caught:
        compare(a, b)
    assert "--quantization-a x=1,0 --quantization-b x=1,128" in caught.value.hint
    signed, unsigned = ({"x": Affine(scale=1, zero_point=z), "y": Affine(scale=1, zero_point=z)} for z in (0, 128))
    sides = {"a": Side(quantization=signed), "b": Side(quantization=unsigned)}
    assert compare(a, b, limits={"max_abs_error": 0.0}, **sides).passed


def test_a_layout_of_all_is_that_of_images(write, compare) -> None:
    """Boxes of three axes beside an image are no images."""
    inputs = {"a": [1, 3, 8, 9], "b": [1, 8, 9, 3]}
    nodes = [("ReduceMax", ["x"], ["y"], {"keepdims": 0}), ("Expand", ["y", "s"], ["boxes"], {})]
    constants = {"s": np.array([1, 25, 4])}
    a, b = (
        write(f"{n}.onnx", nodes, [("x", FLOAT, shape)], [("boxes", FLOAT, [1, 25, 4])], constants)
        for n, shape in inputs.items()
    )
    sides = {"a": Side(layouts={"": "nchw"}), "b": Side(layouts={"": "nhwc"})}
    assert compare(a, b, limits={"max_abs_error": 0.0}, **sides).passed


def test_nan_breaks_every_limit(write, compare) -> None:
    nodes = [("Sqrt", ["x"], ["y"], {})]
    path = write("n.onnx", nodes, [("x", FLOAT, [1, 9])], [("y", FLOAT, [1, 9])])
    report = compare(path, path, limits={"max_abs_error": 1e30})
    assert report.exit_code == 1
    assert report.comparisons[0].metrics["nans"] > 0


def test_inputs_too_large_are_refused_before_they_are_made(write, compare) -> None:
    path = relu(write, "big.onnx", [1, 2**20, 2**10])
    with pytest.raises(UsageError, match="takes 8,589,934,592 bytes"):
        compare(path, path)


# --- targets ----------------------------------------------------------------------------------------------------------


def test_where_the_two_run(alone, targets) -> None:
    sources = {key: read_source(path) for key, path in alone.items()}
    onnx_, tflite = sources["onnx fp32"], sources["tflite fp32"]
    others = [replace(t, name=t.name.replace("local", "there")) for t in targets]

    def pairs(a, b, *given):
        return [(p.a.name, p.b.name) for p in places(a, b, *given).pairs]

    both = [*targets, *others]
    assert pairs(onnx_, onnx_, both, (), ()) == [("onnxruntime@local",) * 2, ("onnxruntime@there",) * 2]
    assert len(pairs(onnx_, tflite, both, (), ())) == 4
    assert pairs(tflite, tflite, targets, (), [others[1]]) == [("litert@local", "litert@there")]
    assert pairs(onnx_, tflite, (), (), ()) == [("onnxruntime@local", "litert@local")]
    named = [replace(t, asked_for=True) for t in targets]
    with pytest.raises(UsageError, match=r"litert@local does not run net\.fp32\.onnx"):
        places(onnx_, onnx_, named, (), ())
    with pytest.raises(UsageError, match="runs on none of litert@local"):
        places(onnx_, tflite, (), [targets[1]], ())
    with pytest.raises(UsageError, match="--target with both"):
        places(onnx_, tflite, targets, targets, targets)


def test_a_target_that_fails_does_not_lose_the_others(alone, targets) -> None:
    crash = replace(targets[0], name="onnxruntime@broken", options={"graph_optimization": "nonsense"})
    report = compare_files(alone["onnx fp32"], alone["onnx int8"], targets=[targets[0], crash])
    assert [c.target_a for c in report.comparisons] == ["onnxruntime@local"]
    assert report.exit_code == 2
    assert report.passed is False
    assert "graph_optimization is 'nonsense'" in report.unjudged[0].error.message


# --- files that are refused -------------------------------------------------------------------------------------------


def test_a_file_too_large_is_refused_unread(tmp_path) -> None:
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(BundleError, match=r"large.onnx is larger than 1,073,741,824 bytes"):
        read_source(tmp_path / "large.onnx")


def test_what_is_no_file_is_refused(tmp_path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"\x1c\0\0\0nope")
    (tmp_path / "x.bin").write_bytes(b"text")
    (tmp_path / "x.onnx").write_bytes(b"\xff" * 40)
    (tmp_path / "x.ort").write_bytes(b"\0\0\0\0ORTMxxxx")
    for name, words in (
        ("x.tflite", "no TFLite file"),
        ("x.bin", "is of no known format"),
        ("x.onnx", "no ONNX file"),
        ("x.ort", "ONNX Runtime's own format"),
        ("missing.onnx", "cannot read missing.onnx"),
        ("", "is a folder"),
    ):
        with pytest.raises(BundleError, match=words):
            read_source(tmp_path / name)
    with pytest.raises(BundleError, match="not an ordinary file"):
        read_source("/dev/zero")


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "beside.bin"])
@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph"])
def test_weights_in_other_files_are_refused(path, place) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", path
    node = helper.make_node("Constant", [], ["w"], value=tensor)
    inner = helper.make_graph([node], "inner", [], [])
    nodes = {"initializer": [], "attribute": [node], "subgraph": [helper.make_node("If", ["c"], [], then_branch=inner)]}
    graph = helper.make_graph(nodes[place], "g", [], [], [tensor] if place == "initializer" else [])
    data = helper.make_model(graph).SerializeToString()
    with pytest.raises(BundleError, match="lie in another file") as caught:
        check_self_contained(data, where="x.onnx")
    assert path in caught.value.message
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.DEFAULT


def test_a_bundle_with_weights_elsewhere_is_not_run(bundle, tmp_path) -> None:
    folder = shutil.copytree(bundle.directory, tmp_path / "b")
    model = onnx.load(folder / "net.fp32.onnx")
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "manifest.json"
    rewrite(folder, "net.fp32.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match="lie in another file"):
        edgecnn.load_bundle(folder).artifact("onnx", "fp32").read()


@pytest.mark.parametrize(
    "data",
    [b"\x3a\xff\xff\xff\xff\x0f", b"\x3b", b"\x08" + b"\xff" * 11, b"\x02\x01x", b"\x3a\x05abc"],
    ids=["longer than the file", "group", "number without end", "field 0", "cut short"],
)
def test_bytes_that_are_no_protobuf(data) -> None:
    with pytest.raises(BundleError, match="no ONNX file"):
        check_self_contained(data, where="x")


def test_nesting_and_fields_are_bounded(monkeypatch) -> None:
    data = b""
    for number in [6, 5, 1] * 20:  # graph, attribute, node, from the inside
        data = bytes([number << 3 | 2]) + _varint(len(data)) + data
    with pytest.raises(BundleError, match="nest deeper"):
        check_self_contained(b"\x3a" + _varint(len(data)) + data, where="x")
    monkeypatch.setattr("edgecnn.export.onnx.wire.MAX_FIELDS", 100)
    with pytest.raises(WireError, match="more than 100 fields"):
        list(Wire(b"\x08\x01" * 101).fields(memoryview(b"\x08\x01" * 101)))


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def test_texts_and_sequences_are_refused(write) -> None:
    text = write("t.onnx", [("Identity", ["x"], ["y"], {})], [("x", TensorProto.STRING, [1])], [("y", 8, [1])])
    with pytest.raises(BundleError, match="'x' is a tensor of texts"):
        read_source(text)


def test_several_signatures_are_refused(bundle, tmp_path) -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bundle.artifact("tflite", "fp32").path.read_bytes(), 0)
    second = schema.SignatureDefT()
    second.signatureKey, second.subgraphIndex = "train", 1
    model.signatureDefs = [*model.signatureDefs, second]
    model.subgraphs = [*model.subgraphs, model.subgraphs[0]]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "two.tflite"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(BundleError, match="2 signatures, each with a graph of its own: 'serving_default', 'train'"):
        read_source(path)


def test_custom_operators_are_named(write, compare) -> None:
    path = relu(write, "c.onnx", [1, 4])
    model = onnx.load(path)
    model.graph.node[0].domain, model.graph.node[0].op_type = "acme", "Magic"
    model.opset_import.add(domain="acme", version=1)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(TargetError) as caught:
        compare(path, path)
    assert "operators of its own: acme.Magic" in caught.value.why


def test_control_flow_runs_and_an_endless_loop_ends(write, targets) -> None:
    """A loop that would take hours: no answer within the limit, said so, and the next comparison works."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c_out"]), helper.make_node("Add", ["v", "v"], ["v_out"])],
        "body",
        [helper.make_tensor_value_info(*v) for v in (("i", INT64, []), ("c", 9, []), ("v", FLOAT, [1, 4]))],
        [helper.make_tensor_value_info(*v) for v in (("c_out", 9, []), ("v_out", FLOAT, [1, 4]))],
    )

    def loop(name, times):
        constants = {"n": np.array(times), "t": np.array(True)}
        nodes = [("Loop", ["n", "t", "x"], ["y"], {"body": body})]
        return write(name, nodes, [("x", FLOAT, [1, 4])], [("y", FLOAT, [1, 4])], constants)

    host = Reused()
    reused = [replace(t, host=host) for t in targets]
    short, endless = loop("short.onnx", 3), loop("endless.onnx", 2**62)
    same = Options(limits={"max_abs_error": 0.0})
    assert compare_files(short, short, targets=reused, options=same).passed
    host._connection.time_limit = 1.0
    with pytest.raises(TargetError, match="no answer within 1 s"):
        compare_files(endless, endless, targets=reused)
    assert compare_files(short, short, targets=reused, options=same).passed
    assert host.starts == 2
    host.end()


# --- the command ------------------------------------------------------------------------------------------------------


def invoke(*args):
    result = CliRunner().invoke(cli, ["compare", *map(str, args)])
    if isinstance(result.exception, EdgecnnError):
        return SimpleNamespace(exit_code=2, output=str(result.exception))
    return result


def test_the_command(alone, tmp_path) -> None:
    args = [alone["onnx fp32"], alone["tflite int8"], "--samples", "4", "--range", "0,1"]
    result = CliRunner().invoke(cli, ["compare", *map(str, args), "--limit", "snr_db=90"], standalone_mode=False)
    assert result.return_value == 1
    assert "fed with 4 random samples, seed 0: x even in 0 to 1" in result.output
    assert "failed: output output, litert@local against onnxruntime@local: snr_db is" in result.output
    assert result.output.splitlines()[-1] == "compare: 1 of 1 outputs failed"


def test_data_goes_through_both(bundle) -> None:
    paths = [str(bundle.artifact(form, "int8").path) for form in ("tflite", "onnx")]
    args = ["compare", *paths, "--data", "digits", "--limit", "max_abs_error=0"]
    result = CliRunner().invoke(cli, args, standalone_mode=False)
    assert result.return_value == 0, result.exception
    assert "fed with digits (held-out 360 of 1,797)" in result.output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data", "digits", "--samples", "3"], "--samples with --data has no effect"),
        (["--mean", "1"], "--mean without --data has no effect"),
        (["--shape", "x"], "--shape x is not NAME=VALUE"),
        (["--shape", "x=1x0x2"], "sizes are positive"),
        (["--shape", "x=1xa"], "--shape x=1xa"),
        (["--layout-a", "x=nwhc"], "is none of nchw, nhwc"),
        (["--range", "x=3,1"], "the smaller number comes first"),
        (["--quantization-b", "x=0,1"], "a scale is positive"),
        (["--quantization-b", "0.1,1"], "is not NAME=VALUE"),
        (["--limit", "speed=1"], "METRIC=VALUE"),
        (["--shape", "x=1x1", "--shape", "x=1x2"], "speaks of x twice"),
        (["--target", "litert"], "runs on none of litert"),
    ],
)
def test_options_that_are_wrong(alone, args, words) -> None:
    result = invoke(alone["onnx fp32"], alone["onnx int8"], *args)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"a": Side(quantization={"x": Affine(scale=1.0, zero_point=1)})}, "it is float32"),
        ({"b": Side(layouts={"z": "nchw"})}, "no such value as 'z'"),
        ({"input_map": {"x": "q"}}, "B has no input 'q'"),
        ({"ranges": {"q": (0.0, 1.0)}}, "no such value as 'q'"),
    ],
)
def test_options_that_name_what_is_not_there(alone, compare, options, words) -> None:
    with pytest.raises(UsageError, match=words):
        compare(alone["onnx fp32"], alone["onnx int8"], **options)


def test_fit_words() -> None:
    one = Fit(shape_a=(1, 2), shape_b=(1, 2), padded=(1, 2), order=(0, 1))
    assert one.words == "1x2 in both"
