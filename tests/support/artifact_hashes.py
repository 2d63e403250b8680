"""The SHA-256 of every file that the exporters write for the zoo and for every case of the operator table.

From the checkout's root::

    PYTHONPATH=tests python -m support.artifact_hashes            # compare with the list
    PYTHONPATH=tests python -m support.artifact_hashes --write    # make the list; so does `make hashes`

``tests/house/test_artifact_hashes.py`` compares a part of it in every run of the tests.

Weights are seeded. Quantized files depend on ranges that torch measures in float32, and so on the processor and on the
versions of torch and numpy: the list names the machine that it was made on, and what depends on it is compared only
there (`comparable`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from cases import CASES, Case
from support.int8 import images, network

import edgecnn
from edgecnn.capture.capture import capture
from edgecnn.data.calibration import of_samples
from edgecnn.data.preprocessing import Preprocessing
from edgecnn.errors import EdgecnnError
from edgecnn.export.formats import FORMATS, PRECISIONS
from edgecnn.exporting.export_options import IO
from edgecnn.exporting.precisions import plan_precisions
from edgecnn.graph.verify import batch_is_free
from edgecnn.models import ZOO

LIST = Path(__file__).with_name("artifact_hashes.json")
SAMPLES = 4
GOLDEN_SAMPLES = 2
ZOO_SAMPLES = 8
PORTABLE = ("fp32", "fp16", "int8-dynamic")
"""Precisions whose files hold nothing that was measured on a processor, and so are equal on every machine."""
NO_FILE = "refused"
Hashes = dict[str, str]


def machine() -> dict[str, str]:
    """What quantized files depend on besides the code."""
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
    }


def comparable(key: str, listed: Mapping[str, str]) -> bool:
    """Whether an entry of a list made on another machine must be the same here."""
    return listed == machine() or (".golden." not in key and key.rpartition(".")[2].split("@")[0] in PORTABLE)


def case_hashes(case: Case) -> Hashes:
    """Every precision, format and io of one case: ``case:NAME.FORMAT.PRECISION@IO``."""
    torch.set_num_threads(1)
    graph = capture(case.module(), case.inputs())
    arrays = tuple(x.numpy() for x in case.inputs(SAMPLES if batch_is_free(graph) else 1))
    golden = [a[:GOLDEN_SAMPLES] for a in arrays]
    found: Hashes = {}
    for precision in PRECISIONS:
        for io in IO if precision == "int8" else IO[:1]:
            key = f".{precision}@{io}"
            try:
                (plan,) = plan_precisions(
                    graph,
                    (precision,),
                    of_samples(arrays, "samples"),
                    recipe="int8",
                    opset=17,
                    golden_inputs=golden,
                    io=io,
                )
            except (EdgecnnError, KeyError, RuntimeError, TypeError, ValueError, IndexError):
                found[f"case:{case.name}.plan{key}"] = NO_FILE
                continue
            for form in FORMATS:
                if (form, precision) in (("onnx", "int8-dynamic"), ("onnx", "int16x8")):
                    continue
                try:
                    found[f"case:{case.name}.{form}{key}"] = digest(plan.write(form).data)
                except (EdgecnnError, KeyError, RuntimeError, TypeError, ValueError, IndexError):
                    found[f"case:{case.name}.{form}{key}"] = NO_FILE
            if plan.golden is not None:
                rules = {"reference": plan.golden, **plan.other_golden}
                values = [f"{r}:{o}".encode() + a.tobytes() for r, v in rules.items() for o, a in sorted(v.items())]
                found[f"case:{case.name}.golden{key}"] = digest(b"".join(values))
    return found


def zoo_hashes(name: str) -> Hashes:
    """Every file of a model's bundles but the manifest, whose words may change: ``zoo:NAME.FILE.PRECISION@IO``."""
    torch.set_num_threads(1)
    module = network(name)
    shape = module.input_shape
    preprocessing = Preprocessing(scale=1 / 255)
    inputs = preprocessing.apply(np.rint(images(shape, ZOO_SAMPLES) * 255))
    found: Hashes = {}
    for io, precisions, formats in (
        ("float32", ("fp32", "fp16", "int8"), ("onnx", "tflite")),
        ("float32", ("int8-dynamic", "int16x8"), ("tflite",)),
        ("int8", ("int8",), ("onnx", "tflite")),
        ("uint8", ("int8",), ("onnx", "tflite")),
    ):
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder) / "bundle"
            try:
                edgecnn.export_model(
                    module,
                    torch.zeros(1, *shape),
                    bundle,
                    name="net",
                    formats=formats,
                    precisions=precisions,
                    calibration=inputs,
                    io=io,
                    preprocessing=preprocessing,
                    c_array="int8" in precisions,
                )
            except (EdgecnnError, KeyError, RuntimeError, TypeError, ValueError, IndexError):
                found[f"zoo:{name}.{'+'.join(precisions)}.all@{io}"] = NO_FILE
                continue
            for file in sorted(bundle.iterdir()):
                if file.name == "manifest.json":
                    continue
                precision = next((p for p in sorted(precisions, key=len, reverse=True) if f".{p}." in file.name), "all")
                found[f"zoo:{name}.{file.name}.{precision}@{io}"] = digest(file.read_bytes())
    return found


def digest(data: bytes) -> str:
    """The SHA-256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def _job(job: tuple[str, str]) -> Hashes:
    kind, name = job
    return zoo_hashes(name) if kind == "zoo" else case_hashes(next(c for c in CASES if c.name == name))


def all_hashes(workers: int = 2) -> Iterator[Hashes]:
    """The hashes of each model and case, as they become known."""
    jobs = [*(("zoo", name) for name in ZOO), *(("case", case.name) for case in CASES)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_job, jobs, chunksize=4)


def differences(found: Mapping[str, str], listed: Mapping[str, str], made_on: Mapping[str, str]) -> list[str]:
    """Keys whose files are not those of the list."""
    return [
        key
        for key in sorted(found.keys() | listed.keys())
        if found.get(key) != listed.get(key) and comparable(key, made_on)
    ]


def listed_of(subject: str, listed: Mapping[str, str]) -> Hashes:
    """The entries of the list for one model or case, by its name in the keys: ``zoo:NAME`` or ``case:NAME``."""

    def subject_of(key: str) -> str:  # names of cases and of models' files may hold dots
        return key.rsplit(".", 2)[0] if key.startswith("case:") else key.split(".", 1)[0]

    return {key: value for key, value in listed.items() if subject_of(key) == subject}


def main() -> int:
    """Compare with the list, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the list instead of comparing with it")
    arguments = parser.parse_args()
    found: Hashes = {}
    for hashes in all_hashes():
        found |= hashes
    if arguments.write:
        LIST.write_text(json.dumps({"machine": machine(), "sha256": dict(sorted(found.items()))}, indent=0) + "\n")
        print(f"{len(found)} entries written")
        return 0
    listed = json.loads(LIST.read_text())
    differing = differences(found, listed["sha256"], listed["machine"])
    print(*differing, f"{len(found)} entries, {len(differing)} differ", sep="\n")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
