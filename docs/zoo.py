"""Write docs/zoo.md: every model of the zoo exported in both formats, float and int8, and checked.

``make zoo`` runs it, which takes some minutes. ``python docs/zoo.py MODEL ...`` exports these only, and keeps the rows
of the others. ``python docs/zoo.py --train MODEL ...`` trains these as ``edgecnn train`` does without options, on one
thread, and keeps all else; that is a matter of minutes for each.

Weights are random (seed 0). Calibration and golden inputs are what the model trains on: 64 and 32 digits or scenes.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgecnn.bundle import Artifact
    from edgecnn.parity.verdict import Verdict

PAGE = Path(__file__).parent / "zoo.md"
CALIBRATION = 64
PRECISIONS = ("fp32", "int8")
FORMATS = ("onnx", "tflite")
HEADS = {
    "size": "| model | fp32 ONNX | fp32 TFLite | int8 ONNX | int8 TFLite |\n| --- | --- | --- | --- | --- |",
    "parity": "| model | fp32 ONNX | fp32 TFLite | int8 ONNX | int8 TFLite |\n| --- | --- | --- | --- | --- |",
    "operators": "| model | fp32 TFLite | int8 TFLite |\n| --- | --- | --- |",
    "onnx": "| model | fp32 ONNX | int8 ONNX |\n| --- | --- | --- |",
    "trained": "| model | data | on held-out images | after half of the epochs |\n| --- | --- | --- | --- |",
}
Rows = dict[str, str]


def page(tables: Mapping[str, Mapping[str, str]]) -> str:
    """The page, from the rows of its tables by model."""
    return f"""# The zoo

Made by `make zoo`, which exports every model in both formats, float and int8, and checks each file on its runtime.

{models_table()}

`edgecnn train MODEL --data digits -o FILE` trains the classifiers (`mobilenet_v1` with `--arg num_classes=10`);
`edgecnn train fomo --data scenes --picture found.png -o FILE` and the same with `tiny_unet` train the other two, and
draw what they find. Digits and scenes take the size and channels that the model has. Constructor arguments
(`--arg image_size=64`, `--arg width=0.5`) are in each class's docstring.

The scenes are 1,000 images of up to eight of the digits each, on a noisy ground. A fifth of them, composed of digits
that the others do not have, is held out. A detector's centre is right when it is of the object's class and within one
cell of its middle; F1 is the harmonic mean of precision and recall. Segmentation is scored by the mean intersection
over union of the 11 classes, background included.

## Size in bytes

Random weights, defaults.

{_table("size", tables["size"])}

## Parity

fp32: the largest error against torch as a share of the output's range, which must be below 1e-5. int8: the largest and
mean difference from the integer reference in steps of the output; 0 is demanded where every operator's rule is exact in
all runtimes, and a mean below 0.5 elsewhere. `FAILED` marks a file that its check refuses. On 32 images each.

{_table("parity", tables["parity"])}

## Operators in TFLite

{_table("operators", tables["operators"])}

## Operators in ONNX

Quantization around them apart.

{_table("onnx", tables["onnx"])}

## Trained

What `edgecnn train MODEL --data DATA` comes to without options: {epochs()} epochs, seed 0, one thread. By `python
docs/zoo.py --train MODEL ...`; models without a row have not been measured. `tiny_unet` takes 200 s of one core of a
server, and its int8 files come to a mIoU of 84.46 %. The numbers are the same at every run on the same machine.

{_table("trained", tables["trained"])}
"""


def epochs() -> int:
    """What training runs for by default."""
    from edgecnn.training.fit import DEFAULT_EPOCHS

    return DEFAULT_EPOCHS


def models_table() -> str:
    """The models, from the table that the command line reads."""
    from edgecnn.models import ZOO

    lines = ["| model | input | parameters | MACs | trains on | what it is | source |", "| --- " * 7 + "|"]
    for e in ZOO.values():
        shape = "x".join(map(str, e.input_shape))
        lines.append(f"| {e.name} | {shape} | {e.parameters:,} | {e.macs:,} | {e.data} | {e.summary} | {e.source} |")
    return "\n".join(lines)


def measure(name: str) -> dict[str, str]:
    """A model's row in each table."""
    import torch

    import edgecnn
    from edgecnn.data.calibration import of_samples
    from edgecnn.data.sources import load_dataset
    from edgecnn.loading import load_module
    from edgecnn.models import ZOO

    module = load_module(name).module
    data = load_dataset(ZOO[name].data, input_shape=ZOO[name].input_shape, split="train")
    samples = of_samples((data.batch(data.spread(CALIBRATION)),), data.name)
    with tempfile.TemporaryDirectory() as folder:
        bundle = edgecnn.export_model(
            module,
            torch.zeros(1, *ZOO[name].input_shape),
            Path(folder) / name,
            precisions=PRECISIONS,
            calibration=samples,
            name=name,
        )
        verdicts = {v.artifact: v for v in edgecnn.check_bundle(bundle).verdicts if v.runtime in _RUNTIMES}
        files = {(p, f): bundle.artifact(f, p) for p in PRECISIONS for f in FORMATS}
        size = [f"{a.bytes:,}" for a in files.values()]
        parity = [_verdict(verdicts[a.path.name]) for a in files.values()]
        tflite, onnx = ([_operators(files[p, f]) for p in PRECISIONS] for f in ("tflite", "onnx"))
    cells = {"size": size, "parity": parity, "operators": tflite, "onnx": onnx}
    return {kind: _row(name, row) for kind, row in cells.items()}


def train(name: str) -> dict[str, str]:
    """A model's row in the table of trained models."""
    import torch
    from click.testing import CliRunner

    from edgecnn.cli import cli
    from edgecnn.models import ZOO
    from edgecnn.training.tasks import described

    torch.set_num_threads(1)
    classes = ["--arg", "num_classes=10"] if name == "mobilenet_v1" else []
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said.json"
        weights = str(Path(folder) / "weights.pt")
        command = ["train", name, *classes, "--data", ZOO[name].data, "-o", weights, "--json", str(said)]
        CliRunner().invoke(cli, command, catch_exceptions=False)
        told = json.loads(said.read_text(encoding="utf-8"))
    history = [{k: v for k, v in e.items() if k not in ("epoch", "loss")} for e in told["history"]]
    cells = [ZOO[name].data, described(history[-1]), described(history[len(history) // 2])]
    return {"trained": _row(name, cells)}


_RUNTIMES = ("onnxruntime", "litert")
_AROUND = ("QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear")


def _verdict(v: Verdict) -> str:
    said = f"{v.relative_error:.1e}" if v.lsb_max is None else f"{v.lsb_max:.0f}, {v.lsb_mean:.3f}"
    return said if v.passed else f"FAILED: {said}"


def _operators(artifact: Artifact) -> str:
    counted = {k: n for k, n in artifact.operators.items() if k not in _AROUND}
    return ", ".join(f"{n} {k}" for k, n in sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _table(kind: str, rows: Mapping[str, str]) -> str:
    return "\n".join([HEADS[kind], *rows.values()])


def kept() -> dict[str, Rows]:
    """The rows that the page has already."""
    tables: dict[str, Rows] = {kind: {} for kind in HEADS}
    if PAGE.exists():
        parts = re.split(r"^## .*$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
        for kind, part in zip(HEADS, parts, strict=False):
            lines = [line for line in part.splitlines() if line.startswith("| ")][2:]
            tables[kind] = {line.split(" | ")[0].removeprefix("| "): line for line in lines}
    return tables


def main(arguments: Sequence[str]) -> None:
    """Measure these models, or all, and write the page after each."""
    from edgecnn.models import ZOO

    tables = kept()
    names = [a for a in arguments if a != "--train"]
    measured = train if "--train" in arguments else measure
    for name in names or list(ZOO):
        for kind, row in measured(name).items():
            tables[kind][name] = row
        ordered = {kind: {n: rows[n] for n in ZOO if n in rows} for kind, rows in tables.items()}
        PAGE.write_text(page(ordered), encoding="utf-8")
        print(f"{name}: done", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
