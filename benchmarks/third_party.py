"""Files of other tools: each is loaded, run, and compared with itself.

``python benchmarks/third_party.py [NAME=FOLDER ...]`` takes the ONNX files that the installed onnx and onnxruntime
contain, and every .onnx and .tflite file below the given folders. It prints a Markdown table of files, inputs and
outcomes, then the number of each outcome. A refusal is printed as a user would read it. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.hostile import Reused

from edgecnn.compare import Options, compare_files
from edgecnn.errors import EdgecnnError
from edgecnn.targets.target import Target, installed_targets

INSTALLED = {"onnx": "backend/test/data", "onnxruntime": "datasets"}
"""Dependencies of edgecnn, and the folder in which each has models for its own tests."""


@dataclass(frozen=True)
class Row:
    """A file and its outcome."""

    package: str
    file: str
    inputs: str
    outcome: str
    detail: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--only-given", action="store_true", help="without the files of installed packages")
    given = parser.parse_args()
    places = [] if given.only_given else [(f"{n} {importlib.metadata.version(n)}", f) for n, f in installed_folders()]
    places += [(name, Path(folder)) for name, _, folder in (text.partition("=") for text in given.folders)]
    host = Reused()
    targets = [replace(t, host=host, time_limit=120.0) for t in installed_targets()]
    rows = [one_file(package, path, folder, targets) for package, folder in places for path in models(folder)]
    host.end()
    print("| from | file | inputs | outcome |\n| --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row.package} | {row.file} | {row.inputs} | {row.outcome}{': ' * bool(row.detail)}{row.detail} |")
    print()
    for (package, outcome), count in sorted(Counter((row.package, row.outcome) for row in rows).items()):
        print(f"{count:4} {package}: {outcome}")
    return 0


def installed_folders() -> Iterator[tuple[str, Path]]:
    for package, inside in INSTALLED.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None and (folder := Path(spec.origin).parent / inside).is_dir():
            yield package, folder


def models(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".onnx", ".tflite") and path.is_file())


def one_file(package: str, path: Path, folder: Path, targets: list[Target]) -> Row:
    name = str(path.relative_to(folder)).removesuffix("/model.onnx")
    try:
        report = compare_files(path, path, options=Options(samples=2, limits={"max_abs_error": 0.0}), targets=targets)
    except EdgecnnError as err:
        message = err.message.partition(": ")[2] or err.message
        if "crashed with" in message:
            return Row(package, name, "", f"the runtime {message}, the command says so")
        lines = [" ".join(text.split()) for text in (message, err.why) if text]
        return Row(package, name, "", "refused", "; ".join(lines)[:240].replace("|", "/"))
    inputs = ", ".join(
        line.partition(": ")[2].replace(" in both", "").replace("; ", " ").replace("|", "/")
        for line in report.reconciled
        if line.startswith("input ")
    )
    if report.passed:
        return Row(package, name, inputs, "runs, equal to itself")
    return Row(package, name, inputs, "runs, differs", report.comparisons[0].reason)


if __name__ == "__main__":
    sys.exit(main())
