"""Mutations of good files, seeded, and what becomes of each: a clear error, or a verdict; never anything else."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import resource
import shutil
import struct
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import edgecnn
from edgecnn.compare import Options, compare_files
from edgecnn.errors import EdgecnnError
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.target import installed_targets

TIME_LIMIT = 10.0
"""Seconds for one answer of a runtime."""
LONGEST = TIME_LIMIT + 20.0
"""Seconds that any one case may take: two answers at most run into their limit, and the agent starts anew."""
MEMORY = 3 * 2**30
"""Bytes that this process may have resident at its peak, with what tests have loaded before."""
OPENED = 150
"""Artifacts that one agent opens before the next one starts."""
SUBJECTS = ("onnx", "tflite", "onnx in a bundle", "tflite in a bundle", "manifest", "golden")
SIZES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
ODD = (None, True, -1, 0, 1.5, 2**31, 2**63, 1e308, "", "x", "\x1b[2J", [], {}, [[]], "9" * 400)
PATHS = ("../../etc/passwd", "/etc/passwd", "..", "/dev/zero", "a/../../b", "C:\\x", "x\0y", "manifest.json", "\u202ex")


OWN = (
    sys.prefix,
    sys.base_prefix,
    str(Path(__file__).resolve().parent.parent),
    "/proc/",
    "/sys/",
    "/dev/null",
    "/usr/",
)
"""Where Python, its packages and the system lie: modules that are imported late are read from there."""


class Openings:
    """The paths that this process opens, as Python's own audit tells."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str | bytes | Path) and str(args[0])[:1] == "/":
            self.paths.add(os.fsdecode(args[0]))


OPENINGS = Openings()


class Reused:
    """This machine with one agent for all, started anew where it has ended; it is `Host` and `Connection` in one."""

    name, kind, environments = "local", "local", ("",)

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._opened = 0
        self.starts = 0

    def start(self, environment: str = "", *, time_limit: float = TIME_LIMIT) -> Any:
        if self._connection is None or not self._connection.alive:
            self._connection = LocalHost().start(time_limit=time_limit)
            self._opened = 0
            self.starts += 1
        return self

    def open(self, runtime: str, artifact: bytes, label: str, **options: Any) -> Any:
        assert self._connection is not None
        self._opened += 1
        return self._connection.open(runtime, artifact, label, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Keep the agent for the next."""

    def renew(self) -> None:
        """End an agent that has opened much; between cases only, since one case may have two artifacts open."""
        if self._opened >= OPENED:
            self.end()

    def end(self) -> None:
        if self._connection is not None:
            self._connection.close()


def sort_of(error: EdgecnnError) -> str:
    """What an error that a user is meant to see says."""
    assert error.message
    assert error.exit_code == 2
    for words, sort in ((" crashed with ", "crashed"), ("no answer", "no answer"), (" on ", "refused by the runtime")):
        if words in error.message:
            return sort
    return "refused"


@dataclass
class Tally:
    """What became of the cases, by subject and outcome, and the errors' first words."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0


class Lab:
    """Good files, and a place to try bad ones in.

    Args:
        good: A bundle of fp32 and int8 in both formats.
        folder: An empty folder for the bad ones.
    """

    def __init__(self, good: edgecnn.Bundle, folder: Path) -> None:
        self.good, self.folder, self.host = good, folder, Reused()
        self.targets = [replace(t, host=self.host) for t in installed_targets()]  # type: ignore[arg-type]

    def try_one(self, subject: str, random: Random, tally: Tally) -> None:
        """One mutation of one subject.

        Raises:
            Exception: Whatever is no error that a user is meant to see.
        """
        self.host.renew()
        begun = time.monotonic()
        OPENINGS.paths.clear()
        try:
            outcome = self._run(subject, random)
        except EdgecnnError as err:
            outcome = sort_of(err)
            tally.messages[f"{subject}: {err.message.splitlines()[0][:90]}"] += 1
        tally.outcomes[subject, outcome] += 1
        taken = time.monotonic() - begun
        assert taken < LONGEST, f"{taken:.0f} s"
        outside = {path for path in OPENINGS.paths if not path.startswith((str(self.folder), *OWN))}
        assert not outside, f"opened {outside}"
        tally.longest = max(tally.longest, taken)

    def _run(self, subject: str, random: Random) -> str:
        form = subject.split(maxsplit=1)[0]
        artifacts = [a for a in self.good.artifacts if a.format == form]
        if subject in ("onnx", "tflite"):
            good = random.choice(artifacts).path
            bad = self.folder / f"bad.{form}"
            bad.write_bytes(mutated(good.read_bytes(), random, form))
            report = compare_files(good, bad, options=Options(samples=2), targets=self.targets)
            return "compared" if report.exit_code == 0 else "found different"
        with self._bundle() as folder:
            if form == "manifest":
                path = folder / "manifest.json"
                path.write_bytes(bad_manifest(path.read_bytes(), random))
            else:
                name = "golden.npz" if form == "golden" else random.choice(artifacts).path.name
                data = (folder / name).read_bytes()
                rewrite(folder, name, bad_npz(data, random) if form == "golden" else mutated(data, random, form))
            bundle = edgecnn.load_bundle(folder)
            report = edgecnn.check_bundle(bundle, targets=self.targets, time_limit=TIME_LIMIT)
        if report.unjudged:
            crashed = any(" crashed with " in u.error.message for u in report.unjudged)
            return "crashed" if crashed else "refused by the runtime"
        return "passed" if report.passed else "found wrong"

    @contextmanager
    def _bundle(self) -> Iterator[Path]:
        folder = self.folder / "bundle"
        shutil.copytree(self.good.directory, folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Put other bytes in a bundle's file, and let the manifest vouch for them."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    for entry in (*manifest["artifacts"], manifest["golden"]):
        if entry["file"] == name:
            entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(manifest))
    (folder / name).write_bytes(data)


# --- mutations --------------------------------------------------------------------------------------------------------


def mutated(data: bytes, random: Random, form: str) -> bytes:
    """Bytes that are a little wrong: flipped, cut, doubled, with sizes that cannot be, or with another file's path."""
    if random.random() < 0.4:
        return tflite_fields(data, random) if form == "tflite" else onnx_fields(data, random)
    ways: list[Callable[[bytearray, Random], None]] = [*[flip] * 5, *[huge] * 3, cut, insert, delete, repeat]
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if changed:
            random.choice(ways)(changed, random)
    return external(bytes(changed), random) if form == "onnx" and random.random() < 0.05 else bytes(changed)


NUMBERS = (-(2**31), -1, 0, 1, 2, 7, 1000, 2**16, 2**31 - 1)


def tflite_fields(data: bytes, random: Random) -> bytes:
    """A well-formed file in which sizes, places, types, strides or scales are others."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    graph = model.subgraphs[0]
    for _ in range(random.choice((1, 1, 2, 4))):
        tensor, operator = random.choice(graph.tensors), random.choice(graph.operators)
        holder: Any = random.choice([tensor, operator, graph, operator.builtinOptions, tensor.quantization])
        names = [name for name, value in vars(holder or tensor).items() if _is_numeric(value)]
        if not names:
            continue
        name = random.choice(names)
        value = getattr(holder or tensor, name)
        number = random.choice((*NUMBERS, random.randrange(len(graph.tensors) + 2)))
        if isinstance(value, int | float):
            setattr(holder or tensor, name, type(value)(number))
        else:
            changed = [v.item() if hasattr(v, "item") else v for v in value]
            changed[random.randrange(len(changed))] = type(changed[0])(number)
            setattr(holder or tensor, name, changed[: random.choice((None, None, 1, 2))])
    builder = flatbuffers.Builder(len(data))
    try:
        builder.Finish(model.Pack(builder), b"TFL3")
    except (TypeError, struct.error):  # the number does not fit the field
        return tflite_fields(data, random)
    return bytes(builder.Output())


def _is_numeric(value: Any) -> bool:
    if isinstance(value, int | float):
        return not isinstance(value, bool)
    return isinstance(value, list | np.ndarray) and len(value) > 0 and np.isscalar(value[0])


def onnx_fields(data: bytes, random: Random) -> bytes:
    """A well-formed file in which sizes, types, names or attributes are others."""
    import onnx

    model = onnx.load_from_string(data)
    graph = model.graph
    for _ in range(random.choice((1, 1, 2, 4))):
        number, node, tensor = random.choice(NUMBERS), random.choice(graph.node), random.choice(graph.initializer)
        match random.randrange(8):
            case 0 if tensor.dims:
                tensor.dims[random.randrange(len(tensor.dims))] = number
            case 1:
                tensor.data_type = random.randrange(24)
            case 2:
                tensor.raw_data = tensor.raw_data[: random.randrange(len(tensor.raw_data) + 1)]
            case 3:
                node.op_type = random.choice(("Loop", "If", "Conv", "Gather", "Expand", "Tile", "Resize", "", "Relu"))
            case 4 if node.input:
                node.input[random.randrange(len(node.input))] = random.choice(
                    (*graph.node[0].input, "", node.output[0])
                )
            case 5 if node.attribute:
                attribute = random.choice(node.attribute)
                attribute.i = number
                if attribute.ints:
                    attribute.ints[random.randrange(len(attribute.ints))] = number
            case 6:
                shape = random.choice((*graph.input, *graph.output)).type.tensor_type.shape
                random.choice(shape.dim).dim_value = number
            case _:
                random.choice((*graph.input, *graph.output)).type.tensor_type.elem_type = random.randrange(24)
    return model.SerializeToString()


def flip(data: bytearray, random: Random) -> None:
    for _ in range(random.choice((1, 1, 1, 4, 32))):
        data[_place(data, random)] ^= 1 << random.randrange(8)


def cut(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data)) :]


def huge(data: bytearray, random: Random) -> None:
    size, place = random.choice((1, 2, 4, 8)), _place(data, random)
    data[place : place + size] = struct.pack("<Q", random.choice(SIZES))[:size]


def insert(data: bytearray, random: Random) -> None:
    place = _place(data, random)
    data[place:place] = random.randbytes(random.randrange(1, 64))


def delete(data: bytearray, random: Random) -> None:
    place = _place(data, random)
    del data[place : place + random.randrange(1, 64)]


def repeat(data: bytearray, random: Random) -> None:
    place, size = _place(data, random), random.randrange(1, 4096)
    data[place:place] = data[place : place + size] * random.randrange(1, 8)


def _place(data: bytearray, random: Random) -> int:
    """Anywhere, but half the time among the first bytes, which are no weights in either format's small files."""
    return random.randrange(min(len(data), 600) if random.random() < 0.5 else len(data))


def external(data: bytes, random: Random) -> bytes:
    """A first initializer that says its data are in another file."""
    import onnx

    with contextlib.suppress(Exception):
        model = onnx.load_from_string(data)
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", random.choice(PATHS).replace("\0", "")
        return model.SerializeToString()
    return data


def bad_manifest(data: bytes, random: Random) -> bytes:
    """Wrong bytes, or well-formed JSON in which a value is odd, missing or a path."""
    if random.random() < 0.4:
        changed = bytearray(data)
        random.choice((flip, cut, insert, delete, repeat))(changed, random)
        return bytes(changed)
    manifest = json.loads(data)
    for _ in range(random.choice((1, 1, 3))):
        holder, key = random.choice(list(_places(manifest)))
        way = random.random()
        if way < 0.2:
            del holder[key]
        elif way < 0.4 and isinstance(holder[key], str):
            holder[key] = random.choice(PATHS)
        else:
            holder[key] = random.choice(ODD)
    return json.dumps(manifest).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def bad_npz(data: bytes, random: Random) -> bytes:
    """Wrong bytes, or a well-formed archive with odd members."""
    changed = bytearray(data)
    way = random.choice(("bytes", "bytes", "huge", "bomb", "name", "header"))
    if way == "bytes":
        random.choice((flip, cut, insert, delete, repeat))(changed, random)
        return bytes(changed)
    if way == "huge":
        huge(changed, random)
        return bytes(changed)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(list(members))
    if way == "bomb":
        members[f"input/{random.randrange(9)}.npy"] = bytes(random.choice((1, 64)) << 20)
    elif way == "name":
        members[f"{random.choice(PATHS)}.npy".replace("\0", "")] = members.pop(name)
    else:
        header = bytearray(members[name])
        for _ in range(4):
            header[random.randrange(min(len(header), 128))] = random.choice(b"0123456789()',:{} <f|O\x00\xff")
        members[name] = bytes(header)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return buffer.getvalue()


def peak() -> int:
    """Bytes that this process has had resident at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def good_bundle(folder: Path) -> edgecnn.Bundle:
    """A small net in fp32 and int8, in both formats."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
            self.scores = nn.Linear(4 * 4 * 4, 7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.scores(self.features(x).flatten(1))

    torch.manual_seed(0)
    data = torch.rand(64, 3, 8, 8).numpy()
    return edgecnn.export_model(
        Net().eval(), torch.zeros(1, 3, 8, 8), folder, name="net", precisions=["fp32", "int8"], calibration=data
    )
