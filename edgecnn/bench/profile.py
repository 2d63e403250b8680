"""Time per operator, attributed to the model's modules.

ONNX Runtime has a profiler, which counts in whole us and adds some us to each operator. OpenVINO has one too, which
knows the names of operators in ONNX files only. No package of the TFLite
interpreters offers one to Python (LiteRT 2.3's C library has one for its other interface, which its Python package does
not expose). For them the artifact is truncated after each operator, and the time of an operator is the difference
between two consecutive truncations, measured in turns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.bench.bench_job import BenchJob
from edgecnn.bench.records import OperatorShare, Profile
from edgecnn.errors import TargetError
from edgecnn.targets.hosts.timing import OperatorTimes
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.targets.runtimes.runtime_descriptor import Profiler

CALLS = 200
_WARMUP_CALLS = 20
_ROUNDS = 15
_SLICE = 0.004  # seconds
_NO_MODULE = "(added by the runtime)"
_CUT_METHOD = "the artifact cut after each operator; the first row has the interpreter's own time in it"


def profile_job(job: BenchJob) -> Profile:
    """Profile one call of an artifact.

    Raises:
        TargetError: The artifact cannot be opened or run.
    """
    profiler = RUNTIMES[job.target.runtime].profiler
    if profiler is None or job.artifact.format not in profiler.formats:
        return _cut_profile(job)
    return _own_profile(job, profiler)


def module_of(name: str, known: Collection[str]) -> str:
    """The module of the model that an operator comes from, by the operator's name.

    If a module was exported as several operators, one has the module's name, and the others append a word to it
    (``conv1`` and ``conv1.padded``).

    Args:
        name: Name of the operator or of its output.
        known: All names in the file.
    """
    while (base := name.rpartition(".")[0]) and base in known:
        name = base
    return name


def _own_profile(job: BenchJob, profiler: Profiler) -> Profile:
    """Where the time goes by the runtime's own profiler."""
    import onnx

    model = onnx.load_from_string(job.artifact.read())
    graph, intended = model.graph, _intended(model)
    names = {item.name for item in (*graph.node, *graph.input, *graph.output)}
    connection, session = job.open(profile=True)
    with connection:
        session.bind(job.inputs)
        session.bench(_WARMUP_CALLS, 1.0)
        found = session.profile(CALLS)
    integers = job.artifact.precision == "int8"
    rows = []
    for o in found:
        name = profiler.plain_name(o.name)
        floats = integers and o.operator in profiler.float_operators and not _is_intended(name, intended)
        rows.append((o, module_of(name, names) if name in names else _NO_MODULE, floats))
    return _shares(profiler.method, rows)


def _intended(model: Any) -> Mapping[str, Sequence[str]]:
    """The layers and tensors that are float by design and hold integers exactly."""
    from edgecnn.export.onnx.int8.exact import METADATA

    marked = next((entry.value for entry in model.metadata_props if entry.key == METADATA), None)
    return {"layers": (), "tensors": ()} if marked is None else json.loads(marked)


def _is_intended(name: str, intended: Mapping[str, Sequence[str]]) -> bool:
    return name in intended["tensors"] or any(name.startswith(f"{layer}.") for layer in intended["layers"])


def _cut_profile(job: BenchJob) -> Profile:
    """Where the time goes by what each further operator of a TFLite file adds."""
    cuts = tflite_cuts(job.artifact.read())
    target = job.target
    with target.host.start(target.environment, time_limit=target.time_limit) as connection:
        takes: list[Callable[[], float]] = []
        for cut in cuts:
            session = connection.open(
                target.runtime, cut.data, f"{job.artifact.path.name} up to {cut.name}", time_limit=None, **job.options
            )
            session.bind(job.inputs)
            session.bench(_WARMUP_CALLS, 1.0)
            takes.append(lambda session=session: float(np.median(session.bench(CALLS, _SLICE).samples)))  # type: ignore[misc]
        levels = np.array([[take() for take in takes] for _ in range(_ROUNDS)])
    steps = np.diff(levels, axis=1, prepend=0.0)
    integers = job.artifact.precision == "int8"
    rows = [
        OperatorTimes(name=cut.name, operator=cut.operator, samples=np.maximum(steps[:, i], 0).astype(np.int64))
        for i, cut in enumerate(cuts)
    ]
    modules = [module_of(cut.name, cut.known) for cut in cuts]
    return _shares(_CUT_METHOD, [(r, m, integers and c.floats) for r, m, c in zip(rows, modules, cuts, strict=True)])


def _shares(method: str, rows: Sequence[tuple[OperatorTimes, str, bool]]) -> Profile:
    medians = [float(np.median(times.samples)) for times, _, _ in rows]
    total = sum(medians) or 1.0
    return Profile(
        method=method,
        operators=tuple(
            OperatorShare(
                name=times.name, module=module, operator=times.operator, ns=ns, share=ns / total, floats=floats
            )
            for (times, module, floats), ns in zip(rows, medians, strict=True)
        ),
    )


@dataclass(frozen=True, slots=True)
class Cut:
    """A TFLite file that is truncated after one of its operators.

    Attributes:
        name: Name of the operator's output.
        operator: Kind of the operator.
        floats: Whether the operator computes in float.
        known: Names of all tensors.
        data: The truncated file.
    """

    name: str
    operator: str
    floats: bool
    known: frozenset[str]
    data: bytes


def tflite_cuts(data: bytes) -> list[Cut]:
    """The file truncated after its first operator, after its second, and so on; the last one is the whole file.

    A truncated file outputs all values that later operators would read, so that no runtime removes unused operators.

    Raises:
        TargetError: The file has several graphs, or none.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    whole = schema.ModelT.InitFromPackedBuf(data, 0)
    if len(whole.subgraphs) != 1 or not whole.subgraphs[0].operators:
        raise TargetError("a TFLite file with several graphs cannot be profiled", hint="export the model with edgecnn")
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    graph = whole.subgraphs[0]
    operators, outputs = list(graph.operators), [int(i) for i in graph.outputs]
    known = frozenset(_name(tensor) for tensor in graph.tensors)
    whole.signatureDefs = None  # they name the outputs of the whole file
    cuts = []
    for count, last in enumerate(operators, 1):
        made = {int(i) for op in operators[:count] for i in op.outputs}
        read = [int(i) for op in operators[count:] for i in op.inputs] + outputs
        graph.operators, graph.outputs = (
            operators[:count],
            np.array([i for i in dict.fromkeys(read) if i in made], np.int32),
        )
        builder = flatbuffers.Builder(len(data))
        builder.Finish(whole.Pack(builder), b"TFL3")
        code = whole.operatorCodes[last.opcodeIndex]
        kind = names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM")
        result = graph.tensors[int(last.outputs[0])]
        floats = kind != "DEQUANTIZE" and _is_float(schema, result)
        cuts.append(Cut(_name(result), kind, floats, known, bytes(builder.Output())))
    return cuts


def _name(tensor: Any) -> str:
    return bytes(tensor.name or b"").decode("utf-8", "replace")


def _is_float(schema: Any, tensor: Any) -> bool:
    return bool(tensor.type == schema.TensorType.FLOAT32)
