"""The C array compiles, and is the file byte for byte; the header says what the file says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cases import CASES
from cases.base import captured

from edgecnn.errors import UsageError
from edgecnn.export.carray import CTensor, carray, identifier, tensors_of
from edgecnn.export.tflite.export import export_tflite

STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
COMPILERS = pytest.mark.skipif(not (shutil.which("g++") and shutil.which("gcc")), reason="needs g++ and gcc")
SCALE, ODD = float(np.float32(1 / 3)), 'tab\t "quote" \\ ??/ //*é\n'
IMAGE = CTensor(name=ODD, shape=(1, 8, 8, 1), dtype="int8", scale=SCALE, zero_point=-128)
SCORES = CTensor(name="scores", shape=(1, 10), dtype="int8", scale=2.0, zero_point=3)
LABELS = ("zero", ODD, "")
MAIN = """
#include "{stem}.h"
#include <cinttypes>
#include <cstdio>
#include <type_traits>
static_assert(std::is_same<{stem}_input_0_t, int8_t>::value, "type");
int main() {{
  std::printf("%zu %zu ", {stem}_tflite_len, reinterpret_cast<uintptr_t>({stem}_tflite) % 16);
  std::printf("%d %d %.9g %d ", {P}_INPUT_0_RANK, {P}_INPUT_0_SIZE, double({P}_INPUT_0_SCALE), {P}_INPUT_0_ZERO_POINT);
  std::printf("%" PRId32 " %.9g %d ", {stem}_output_0_shape[1], double({P}_OUTPUT_0_SCALE), {P}_ARENA_BYTES);
  for (const char *label : {stem}_labels) std::printf("%s|", label);
  std::printf("%s|", {stem}_input_0_name);
  std::fwrite({stem}_tflite, 1, {stem}_tflite_len, stdout);
  return {P}_LABEL_COUNT == 3 ? 0 : 1;
}}
"""


@pytest.fixture(scope="module")
def data() -> bytes:
    case = next(c for c in CASES if c.name == "flatten, two heads")
    return export_tflite(captured(case), version="1.2.3").data


def write(folder: Path, data: bytes, name: str, **changed) -> str:
    given = {"arena_bytes": 10_272, "inputs": [IMAGE], "outputs": [SCORES], "labels": LABELS} | changed
    stem = identifier(name)
    header, source = carray(data, name, **given)
    (folder / f"{stem}.h").write_text(header, encoding="ascii")
    (folder / f"{stem}.cc").write_text(source, encoding="ascii")
    return stem


def compile_with(compiler: str, folder: Path, *arguments: str) -> None:
    done = subprocess.run([compiler, *STRICT, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@COMPILERS
def test_the_program_holds_the_file(tmp_path: Path, data: bytes) -> None:
    stem = write(tmp_path, data, "my net/2 ??/")
    (tmp_path / "main.cc").write_text(MAIN.format(stem=stem, P=stem.upper()))
    compile_with("g++", tmp_path, "-std=c++17", f"{stem}.cc", "main.cc", "-o", "program")
    printed = subprocess.run([tmp_path / "program"], capture_output=True, check=True).stdout
    words = f"{len(data)} 0 4 64 {SCALE:.9g} -128 10 2 10272 zero|{ODD}||{ODD}|"
    assert printed == words.encode() + data


@COMPILERS
@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("int", {}),
        ("8x8", {"labels": ()}),
        ("__x__", {"arena_bytes": None}),
        ("été", {"inputs": [IMAGE, CTensor(name="k", shape=(), dtype="float32")]}),
        ("*/", {"outputs": [CTensor(name="\\", shape=(1, 2), dtype="bool")]}),
        ("ends in a backslash \\", {}),
        ("x" * 255, {}),
    ],
    ids=lambda v: v[:8] if isinstance(v, str) else "",
)
def test_it_compiles_whatever_the_names(tmp_path: Path, data: bytes, name: str, changed) -> None:
    stem = write(tmp_path, data[:99], name, **changed)
    compile_with("g++", tmp_path, "-std=c++17", "-c", f"{stem}.cc")
    compile_with("gcc", tmp_path, "-std=c99", "-fsyntax-only", "-x", "c", f"{stem}.h")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lenet5", "lenet5"),
        ("my-net 2", "my_net_2"),
        ("8x8", "model_8x8"),
        ("_a__b_", "a_b"),
        ("été", "t"),
        ("", "model"),
        ("日本", "model"),
        ("x" * 39 + "-" + "y" * 216, "x" * 39),
    ],
)
def test_identifier(name: str, expected: str) -> None:
    assert identifier(name) == expected


def test_an_arena_that_nobody_measured_is_no_number(data: bytes) -> None:
    header, _ = carray(data, "net", arena_bytes=None, inputs=[IMAGE], outputs=[SCORES])
    assert "#define NET_ARENA_BYTES" not in header
    assert "pip install --pre tflite-micro" in header


def test_tensors_of_a_file(data: bytes) -> None:
    inputs, outputs = tensors_of(data)
    assert [(t.shape, t.dtype, t.scale) for t in inputs] == [((1, 9, 8, 3), "float32", None)]
    assert [t.name for t in outputs] == ["map", "scores_0", "scores_1"]
    header, source = carray(data, "net", arena_bytes=1, inputs=inputs, outputs=outputs)
    assert "NET_INPUT_0_SCALE" not in header
    assert 'const char net_output_1_name[] = "scores_0";' in source


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data": b"PK"}, "no TFLite file"),
        ({"arena_bytes": 0}, "an arena of 0 bytes"),
    ],
    ids=str,
)
def test_bad_input(data: bytes, given, words: str) -> None:
    complete = {"data": data, "name": "net", "arena_bytes": 1, "inputs": [IMAGE], "outputs": [SCORES]} | given
    with pytest.raises(UsageError, match=words):
        carray(**complete)


def test_a_type_without_a_c_type_is_refused() -> None:
    with pytest.raises(UsageError, match="complex64 has no C type"):
        CTensor(name="x", shape=(1,), dtype="complex64")
