"""Whole comparisons: what is reconciled, what is refused and with which option, and what is measured."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper
from support.compare_files import FLOAT, INT8, INT64, UINT8, relu
from support.hostile import Reused

from edgecnn.compare import Options, compare_files
from edgecnn.compare.reconcile import Side
from edgecnn.compare.source import read_source
from edgecnn.errors import TargetError, UsageError
from edgecnn.export.file_facts import Affine


def test_layouts_and_numbers_of_a_bundle_come_from_its_manifest(small_bundle, compare) -> None:
    report = compare(
        small_bundle.artifact("onnx", "fp32").path,
        small_bundle.artifact("tflite", "fp32").path,
        limits={"relative_error": 1e-5},
    )
    assert report.passed is True
    assert report.exit_code == 0
    assert report.reconciled[0] == "input x (by name): 1x3x8x8 (NCHW) in A, 1x8x8x3 (NHWC) in B; float32 in both"
    assert report.comparisons[0].samples == 32
    assert json.loads(json.dumps(report.as_json()))["comparisons"][0]["metrics"]["top1_disagreement"] == 0


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


def test_inputs_too_large_are_refused_before_they_are_made(write, compare) -> None:
    path = relu(write, "big.onnx", [1, 2**20, 2**10])
    with pytest.raises(UsageError, match="takes 8,589,934,592 bytes"):
        compare(path, path)


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
