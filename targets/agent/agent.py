"""The program that runs on the device: it opens artifacts on a runtime and answers requests on stdin and stdout.

One file on purpose, since it is copied to boards as it is. It needs Python 3.9 or newer, numpy and the one runtime that
is asked for; nothing of edgecnn. The host side imports it for `read_message` and `write_message`.

A message is a fixed prefix, a JSON header and the bytes of its arrays; all numbers are little-endian:

    offset  bytes  meaning
    0       4      b"ECNN"
    4       2      protocol version
    6       2      reserved, 0
    8       4      header length in bytes, at most MAX_HEADER
    12      8      payload length in bytes, at most MAX_PAYLOAD

The header is ``{"kind": str, "fields": {...}, "arrays": [{"dtype": str, "shape": [int, ...]}, ...]}``; the payload is
the arrays' elements in C order, one array after the other. Every request gets one reply: of the request's kind, or
``error`` with the fields ``kind`` (protocol, input, no-runtime, need-artifact, runtime), ``message`` and ``traceback``.
After an error the agent goes on, unless the request was so malformed that the place of the next one is not known.

The requests are ``hello``, ``probe``, ``open``, ``infer``, ``count``, ``bind``, ``bench``, ``profile``, ``close`` and
``shutdown``. Any of them may have the field ``limit``: seconds after which the host has given up; the agent ends itself
soon after, even where native code holds on to Python. It also ends when its stdin or stdout hang up, whatever it is
doing.
"""

# ruff: noqa: B905 - zip has no argument strict in Python 3.9

from __future__ import annotations

import contextlib
import faulthandler
import functools
import gc
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import queue
import re
import select
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    BinaryIO,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    TypeVar,
    Union,
)

import numpy as np

if TYPE_CHECKING:
    from io import FileIO

    from numpy.typing import NDArray

T = TypeVar("T")

PROTOCOL = 1
MAGIC = b"ECNN"
MAX_HEADER = 2**20  # bytes
MAX_PAYLOAD = 2**30  # bytes; below 2**31, so that every size fits a 32-bit board's intp
MAX_ARRAYS = 1024
MAX_RANK = 16
MAX_DEPTH = 8  # levels of nesting in the JSON header
MAX_DIGITS = 20  # of a JSON integer: enough for 64 bits, short enough for int() to be quick
CHUNK = 2**20  # bytes asked for at once, so that memory follows what arrives and not what is announced
MAX_REPEAT = 1000  # inferences of one ``count``
MARK = -424242  # the descriptor that marks a point, see ``count``
NO_THREADS = "--no-threads"  # where instructions are counted: those of another thread would be, too, whenever it runs
MAX_TEXT = 16_000  # characters of a message or traceback in an error reply
MAX_LIMIT = 604_800.0  # seconds of a request's ``limit``: a week
GRACE = 5.0  # seconds past ``limit``: the host gives up first, and tells its user so
HANG_UP_GRACE = 0.3  # seconds for an agent that is idle to end in the ordinary way
MEMORY_CACHE = 2**26  # bytes of artifacts that are kept in memory
DISK_CACHE = 2**28  # bytes of artifacts that are kept on disk: an SD card is no data centre

_PREFIX = struct.Struct("<HHIQ")  # what follows the magic
_DTYPE_NAMES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
DTYPES: Mapping[str, np.dtype[Any]] = {name: np.dtype(name) for name in _DTYPE_NAMES.split()}


class ProtocolError(ValueError):
    """Bytes that are no message, or a message that cannot be written."""


class CutShortError(ProtocolError):
    """The stream ends inside a message."""


class VersionError(ProtocolError):
    """A message of another version of the protocol, which is `theirs`."""

    def __init__(self, theirs: int) -> None:
        super().__init__(f"the other side speaks protocol {theirs}, this side {PROTOCOL}")
        self.theirs = theirs


class RefusalError(Exception):
    """A request that the agent understands and cannot serve; `kind` goes into the error reply."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Message(NamedTuple):
    """One request or reply."""

    kind: str
    fields: Dict[str, Any]
    arrays: Tuple[NDArray[Any], ...]


class Readable(Protocol):
    """What messages are read from: like a binary file; short reads are fine, 0 bytes are the end."""

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` from its beginning, and return how many bytes it got."""


class Writable(Protocol):
    """What messages are written to: like a buffered binary file, which takes all it is given."""

    def write(self, data: Any, /) -> Any:
        """Take all of `data`."""

    def flush(self) -> Any:
        """Send on what was taken."""


# --- messages ---------------------------------------------------------------------------------------------------------


def write_message(stream: Writable, kind: str, fields: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
    """Write one message.

    Args:
        stream: Where to.
        kind: The request, or the request that is answered, or ``error``.
        fields: JSON values by name.
        arrays: Arrays of the types in `DTYPES`, in any memory order.

    Raises:
        ProtocolError: The message exceeds a limit or holds what JSON or `DTYPES` cannot; nothing was written then.
    """
    for part in encode_message(kind, fields, arrays):
        stream.write(part)
    stream.flush()


def encode_message(kind: str, fields: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> List[Any]:
    """Return the message as buffers to be written one after the other; arrays in C order are not copied.

    Raises:
        ProtocolError: As `write_message`.
    """
    plain = [_little_endian(array) for array in arrays]
    specs = [{"dtype": array.dtype.name, "shape": list(array.shape)} for array in plain]
    try:
        header = _ENCODER.encode({"kind": kind, "fields": fields, "arrays": specs}).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"{kind}: the fields cannot be written as JSON: {error}") from error
    _parse_header(header)  # the reader's own rules, so that nothing is sent that would be refused
    payload = sum(array.nbytes for array in plain)
    _check_lengths(len(header), payload)
    prefix = MAGIC + _PREFIX.pack(PROTOCOL, 0, len(header), payload)
    return [prefix + header, *(array.reshape(-1).view(np.uint8) for array in plain if array.nbytes)]


def read_message(stream: Readable) -> Optional[Message]:
    """Read one message.

    Returns:
        The message, or None where the stream ends before one begins.

    Raises:
        ProtocolError: What arrives is no message of this protocol version, exceeds a limit, or is cut short.
    """
    magic = _read_up_to(stream, len(MAGIC)).tobytes()
    if not magic:
        return None
    if magic != MAGIC:
        raise ProtocolError(f"a message begins with {MAGIC!r}, this with {magic!r}")
    version, reserved, header_length, payload_length = _PREFIX.unpack(
        _read_exact(stream, _PREFIX.size, "prefix").tobytes()
    )
    if version != PROTOCOL:
        raise VersionError(version)
    if reserved:
        raise ProtocolError(f"the reserved field of the prefix is {reserved}, not 0")
    _check_lengths(header_length, payload_length)
    kind, fields, specs = _parse_header(_read_exact(stream, header_length, "header").tobytes())
    described = sum(spec.nbytes for spec in specs)
    if described != payload_length:
        raise ProtocolError(f"{kind}: the arrays take {described} bytes, the payload has {payload_length}")
    return Message(kind, dict(fields), tuple(_read_array(stream, spec) for spec in specs))


class _ArraySpec(NamedTuple):
    dtype: np.dtype[Any]
    shape: Tuple[int, ...]
    nbytes: int


def _check_lengths(header: int, payload: int) -> None:
    if header > MAX_HEADER:
        raise ProtocolError(f"a header of {header} bytes exceeds the limit of {MAX_HEADER}")
    if payload > MAX_PAYLOAD:
        raise ProtocolError(f"a payload of {payload} bytes exceeds the limit of {MAX_PAYLOAD}")


def _read_up_to(stream: Readable, size: int) -> NDArray[np.uint8]:
    data, done = np.empty(min(size, CHUNK), np.uint8), 0
    while done < size:
        if done == len(data):
            data = np.concatenate([data, np.empty(min(size - done, done), np.uint8)])
        count = stream.readinto(data[done:])
        if not count:
            break
        done += count
    return data[:done]


def _read_exact(stream: Readable, size: int, what: str) -> NDArray[np.uint8]:
    data = _read_up_to(stream, size)
    if len(data) != size:
        raise CutShortError(f"the stream ends after {len(data)} of {size} bytes of the {what}")
    return data


@functools.lru_cache(maxsize=8)  # whoever sends many messages sends the same header: what is returned is not changed
def _parse_header(raw: bytes) -> Tuple[str, Dict[str, Any], List[_ArraySpec]]:
    try:
        text = raw.decode("utf-8")
        header = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the header is not JSON: {error}") from error
    if not isinstance(header, dict) or header.keys() != {"kind", "fields", "arrays"}:
        raise ProtocolError("the header is not an object of kind, fields and arrays")
    kind, fields, arrays = header["kind"], header["fields"], header["arrays"]
    if not isinstance(kind, str) or not isinstance(fields, dict) or not isinstance(arrays, list):
        raise ProtocolError("kind is not a string, fields not an object, or arrays not a list")
    if _deeper_than(MAX_DEPTH, header):
        raise ProtocolError(f"the header nests deeper than {MAX_DEPTH}")
    if len(arrays) > MAX_ARRAYS:
        raise ProtocolError(f"{len(arrays)} arrays exceed the limit of {MAX_ARRAYS}")
    return kind, fields, [_parse_spec(item) for item in arrays]


def _parse_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ProtocolError(f"an integer of {len(text)} digits")
    return int(text)


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ProtocolError(f"{text[:40]} exceeds float64")
    return value


def _refuse_constant(text: str) -> float:
    raise ProtocolError(f"{text} is not JSON")


_ENCODER = json.JSONEncoder(allow_nan=False)
_DECODER = json.JSONDecoder(parse_int=_parse_int, parse_float=_parse_float, parse_constant=_refuse_constant)


def _deeper_than(limit: int, value: Any) -> bool:
    level = [value]
    for _ in range(limit):
        inner = [item for item in level if isinstance(item, (dict, list))]
        level = [child for item in inner for child in (item.values() if isinstance(item, dict) else item)]
    return bool(level)


def _parse_spec(item: Any) -> _ArraySpec:
    if not isinstance(item, dict) or item.keys() != {"dtype", "shape"}:
        raise ProtocolError("an array is not described by dtype and shape")
    name, shape = item["dtype"], item["shape"]
    if not isinstance(name, str) or name not in DTYPES:
        raise ProtocolError(f"arrays of type {str(name)[:40]!r} are not allowed, only {_DTYPE_NAMES}")
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise ProtocolError(f"an array's shape is not a list of at most {MAX_RANK} dimensions")
    if not all(type(size) is int and 0 <= size <= MAX_PAYLOAD for size in shape):
        raise ProtocolError(f"an array's dimension is not an integer from 0 to {MAX_PAYLOAD}")
    dtype = DTYPES[name]
    # numpy refuses shapes whose other dimensions overflow even where one dimension is 0.
    if _product([size for size in shape if size]) * dtype.itemsize > MAX_PAYLOAD:
        raise ProtocolError(f"an array of shape {shape} and type {name} exceeds the limit of {MAX_PAYLOAD} bytes")
    return _ArraySpec(dtype, tuple(shape), _product(shape) * dtype.itemsize)


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def _read_array(stream: Readable, spec: _ArraySpec) -> NDArray[Any]:
    raw = _read_exact(stream, spec.nbytes, "payload")
    if not len(raw):
        return np.zeros(spec.shape, spec.dtype)
    if spec.dtype == np.bool_ and raw.max() > 1:
        raise ProtocolError("a bool array holds bytes other than 0 and 1")
    array = raw.view(spec.dtype.newbyteorder("<")).reshape(spec.shape)
    return array.astype(spec.dtype, copy=False)  # a copy only where the machine is big-endian


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.name not in DTYPES:
        raise ProtocolError(f"arrays of type {array.dtype} cannot be sent, only {_DTYPE_NAMES}")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


# --- runtimes ---------------------------------------------------------------------------------------------------------


class Tensor(NamedTuple):
    """An input or output of an artifact; None in `shape` is a dimension that may have any size."""

    name: str
    shape: List[Optional[int]]
    dtype: str
    quantization: Optional[Dict[str, Any]]  # {"scale": float, "zero_point": int}


class Bound(NamedTuple):
    """An artifact with its inputs in place: the runtime's own call and nothing else, and what the first one took."""

    run: Callable[[], Any]
    first_ns: int


class Session(Protocol):
    """An artifact, opened on a runtime."""

    version: str
    inputs: List[Tensor]
    outputs: List[Tensor]
    arena_bytes: Optional[int]  # of memory for tensors, where the runtime tells
    debug: bool  # whether the runtime says that it was built without optimization
    delegates: Optional[int]  # parts that a delegate has taken over, where the runtime has delegates

    def infer(self, arrays: Sequence[NDArray[Any]]) -> List[NDArray[Any]]:
        """Return the outputs for inputs that match `inputs` in number, type and rank; both in the artifact's order."""

    def bind(self, arrays: Sequence[NDArray[Any]]) -> Bound:
        """Put such inputs in place and run once."""


_ONNX_DTYPES = {
    **{f"tensor({name})": name for name in DTYPES},
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}
_ONNX_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


class OnnxSession:
    """ONNX Runtime on its CPU provider, with nothing left to a default that depends on the machine."""

    arena_bytes: Optional[int] = None
    debug = False
    delegates: Optional[int] = None

    def __init__(self, module: str, artifact: bytes, options: Mapping[str, Any]) -> None:
        ort = importlib.import_module(module)
        self.version = str(ort.__version__)
        self.debug = "build type=Debug" in ort.get_build_info()
        self._session = ort.InferenceSession(
            artifact, self._session_options(ort, options), providers=["CPUExecutionProvider"]
        )
        self.inputs = [self._tensor(value) for value in self._session.get_inputs()]
        self.outputs = [self._tensor(value) for value in self._session.get_outputs()]

    def infer(self, arrays: Sequence[NDArray[Any]]) -> List[NDArray[Any]]:
        """Return the outputs; see `Session`."""
        names = [tensor.name for tensor in self.outputs]
        feed = {tensor.name: array for tensor, array in zip(self.inputs, arrays)}
        return list(self._session.run(names, feed))

    def bind(self, arrays: Sequence[NDArray[Any]]) -> Bound:
        """Bind inputs, and outputs to the memory that the first run gave them; see `Session`."""
        binding = self._session.io_binding()
        for tensor, array in zip(self.inputs, arrays):
            binding.bind_cpu_input(tensor.name, array)
        for tensor in self.outputs:
            binding.bind_output(tensor.name)
        run = functools.partial(self._session.run_with_iobinding, binding)
        first_ns = time_once(run)
        for tensor, value in zip(self.outputs, binding.get_outputs()):
            binding.bind_ortvalue_output(tensor.name, value)
        return Bound(run, first_ns)

    def profile(self, run: Callable[[], Any], calls: int) -> Tuple[List[Dict[str, str]], NDArray[np.int64]]:
        """Return the operators that ran and their times in ns, (calls, operators); the runtime counts in us.

        The runtime's profiler runs once, from the opening of a session with the option profile to the end of this.
        """
        for _ in range(calls):
            run()
        path = self._session.end_profiling()
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - the name is the runtime's own, a string
            events = json.load(file)
        os.remove(path)  # noqa: PTH107
        return _onnx_events(events, calls)

    def _session_options(self, ort: Any, options: Mapping[str, Any]) -> Any:
        level = options["graph_optimization"]
        if level not in _ONNX_LEVELS:
            raise RefusalError("input", f"graph_optimization is {level!r}, not one of {', '.join(_ONNX_LEVELS)}")
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options["threads"]
        settings.inter_op_num_threads = 1
        settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        settings.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _ONNX_LEVELS[level])
        settings.log_severity_level = 2  # warnings and worse
        settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(options["spinning"])))
        # Without it kernels for x86 with AVX2 and no VNNI add pairs of products in int16, which overflow.
        settings.add_session_config_entry("session.x64quantprecision", str(int(options["precision"])))
        if options["profile"]:
            settings.enable_profiling = True
            settings.profile_file_prefix = os.path.join(tempfile.gettempdir(), f"edgecnn-{os.getpid()}")  # noqa: PTH118
        return settings

    def _tensor(self, value: Any) -> Tensor:
        if value.type not in _ONNX_DTYPES:
            raise RefusalError("input", f"{value.name} has the type {value.type}, which is not supported")
        shape = [size if isinstance(size, int) and size >= 0 else None for size in value.shape]
        return Tensor(value.name, shape, _ONNX_DTYPES[value.type], None)


def _onnx_events(events: Sequence[Mapping[str, Any]], calls: int) -> Tuple[List[Dict[str, str]], NDArray[np.int64]]:
    """Return the last `calls` times of each operator in ONNX Runtime's trace, in running order; see `OnnxSession`."""
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    times: Dict[Tuple[str, str], List[int]] = {}
    for event in kernels:
        key = (event["name"][: -len("_kernel_time")], event["args"]["op_name"])
        times.setdefault(key, []).append(int(event["dur"]) * 1000)
    columns = [values[-calls:] for values in times.values()]
    if not columns or min(map(len, columns)) < calls:
        raise RefusalError("runtime", "the runtime's profiler stopped before the last call: ask for fewer calls")
    return [{"name": name, "operator": operator} for name, operator in times], np.array(columns, np.int64).T


class TfliteSession:
    """A TFLite interpreter: LiteRT's or tflite-runtime's, which differ in nothing used here but the module's name."""

    arena_bytes: Optional[int] = None
    debug = False
    delegates: Optional[int] = None

    def __init__(self, module: str, artifact: bytes, options: Mapping[str, Any]) -> None:
        package = importlib.import_module(module)
        api = importlib.import_module(module + ".interpreter")
        self.version = str(getattr(package, "__version__", None) or _installed_version(module) or "unknown")
        self._interpreter = api.Interpreter(
            model_content=artifact,
            num_threads=options["threads"],
            experimental_op_resolver_type=self._resolver(api.OpResolverType, options),
        )
        self._interpreter.allocate_tensors()
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        signature = self._signature()
        self.inputs = [self.describe(item, name) for item, name in _named(inputs, signature.get("inputs", {}))]
        self.outputs = [self.describe(item, name) for item, name in _named(outputs, signature.get("outputs", {}))]
        self._input_indices = [int(item["index"]) for item in inputs]
        self._output_indices = [int(item["index"]) for item in outputs]
        self._allocated: Optional[List[Tuple[int, ...]]] = [tuple(item["shape"].tolist()) for item in inputs]

    def infer(self, arrays: Sequence[NDArray[Any]]) -> List[NDArray[Any]]:
        """Return copies of the outputs; see `Session`. Tensors are allocated anew only where a shape changes."""
        self._resize([array.shape for array in arrays])
        for index, array in zip(self._input_indices, arrays):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._output_indices]

    def bind(self, arrays: Sequence[NDArray[Any]]) -> Bound:
        """Fill the input tensors, which the interpreter keeps as they are; see `Session`."""
        self._resize([array.shape for array in arrays])
        for index, array in zip(self._input_indices, arrays):
            self._interpreter.set_tensor(index, array)
        # Not public, and the same from TensorFlow 2.5 to LiteRT 2: nothing public tells whether XNNPACK has started.
        tell = getattr(self._interpreter, "_get_ops_details", None)
        self.delegates = tell and sum("delegate" in str(item["op_name"]).lower() for item in tell())
        return Bound(self._interpreter.invoke, time_once(self._interpreter.invoke))

    def _resize(self, shapes: List[Tuple[int, ...]]) -> None:
        if shapes == self._allocated:
            return
        if any(size == 0 for shape in shapes for size in shape):
            raise RefusalError("input", f"TFLite cannot run on empty inputs (shapes {shapes})")
        self._allocated = None  # until all went well, so that a failure here is mended by the next call
        for index, shape in zip(self._input_indices, shapes):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._allocated = shapes

    @staticmethod
    def _resolver(types: Any, options: Mapping[str, Any]) -> Any:
        if options["reference_kernels"] and options["xnnpack"]:
            raise RefusalError("input", "reference_kernels run without XNNPACK: give xnnpack=False with it")
        if options["reference_kernels"]:
            return types.BUILTIN_REF
        return types.BUILTIN if options["xnnpack"] else types.BUILTIN_WITHOUT_DEFAULT_DELEGATES

    def _signature(self) -> Mapping[str, Mapping[str, int]]:
        # The only call that gives names with tensor indices and builds no second runner; the public
        # get_signature_list leaves the indices out. Its name is the same from TensorFlow 2.5 to LiteRT 2.
        signatures: Mapping[str, Mapping[str, Mapping[str, int]]] = self._interpreter._get_full_signature_list()  # noqa: SLF001
        if len(signatures) == 1:
            return next(iter(signatures.values()))
        return signatures.get("serving_default", {})

    @staticmethod
    def describe(details: Mapping[str, Any], name: str) -> Tensor:
        """Return what an interpreter says of an input or output."""
        dtype = np.dtype(details["dtype"]).name
        if dtype not in DTYPES:
            raise RefusalError("input", f"{name} has the type {dtype}, which is not supported")
        scales = details["quantization_parameters"]["scales"]
        zero_points = details["quantization_parameters"]["zero_points"]
        if len(scales) > 1:
            raise RefusalError("input", f"{name} is quantized per channel; inputs and outputs are per tensor")
        quantization = {"scale": float(scales[0]), "zero_point": int(zero_points[0])} if len(scales) else None
        shape = [size if size >= 0 else None for size in details["shape_signature"].tolist()]
        return Tensor(name, shape, dtype, quantization)


def _named(details: List[Mapping[str, Any]], signature: Mapping[str, int]) -> List[Tuple[Mapping[str, Any], str]]:
    """Pair tensors with their names: the signature's where it speaks of exactly these tensors, else their own."""
    indices = [int(item["index"]) for item in details]
    names = {int(index): name for name, index in signature.items()}
    if set(names) != set(indices):
        return [(item, str(item["name"])) for item in details]
    return [(item, names[index]) for item, index in zip(details, indices)]


class MicroSession:
    """TFLite Micro's interpreter. Its shapes are fixed: a longer batch is run in pieces of the artifact's own size."""

    debug = False
    delegates: Optional[int] = None

    def __init__(self, module: str, artifact: bytes, options: Mapping[str, Any]) -> None:
        _check_micro(artifact, options)
        self.version = str(importlib.import_module(module).__version__)
        api = importlib.import_module(module + ".python.tflite_micro.runtime")
        self._interpreter = _with_words(lambda: api.Interpreter.from_bytes(artifact, arena_size=options["arena_bytes"]))
        self.arena_bytes = _arena(self._interpreter.print_allocations)
        model = api.convert_bytearray_to_object(artifact)  # the interpreter itself tells no names
        graph, signature = model.subgraphs[0], _micro_signature(model.signatureDefs or [])
        self.inputs = self._tensors(graph, graph.inputs, self._interpreter.get_input_details, signature)
        self.outputs = self._tensors(graph, graph.outputs, self._interpreter.get_output_details, signature)
        self._batch = {int(graph.tensors[index].shape[0]) for index in graph.inputs if len(graph.tensors[index].shape)}

    def infer(self, arrays: Sequence[NDArray[Any]]) -> List[NDArray[Any]]:
        """Return the outputs, those of pieces joined; see `Session`."""
        count = self._pieces([array.shape for array in arrays])
        if count == 1:
            return self._invoke(arrays)
        pieces = [self._invoke(piece) for piece in zip(*(np.split(array, count) for array in arrays))]
        return [np.concatenate(parts) for parts in zip(*pieces)]

    def bind(self, arrays: Sequence[NDArray[Any]]) -> Bound:
        """Each run begins with filling the input tensors, since their memory serves other tensors later in a run."""
        if self._pieces([array.shape for array in arrays]) != 1:
            raise RefusalError("input", f"TFLite Micro runs batches of {sorted(self._batch)} only")
        run = functools.partial(self._fill_and_invoke, arrays)
        return Bound(run, _with_words(lambda: time_once(run)))

    def _fill_and_invoke(self, arrays: Sequence[NDArray[Any]]) -> None:
        for index, array in enumerate(arrays):
            self._interpreter.set_input(array, index)
        self._interpreter.invoke()

    def _invoke(self, arrays: Sequence[NDArray[Any]]) -> List[NDArray[Any]]:
        _with_words(lambda: self._fill_and_invoke(arrays))
        return [self._interpreter.get_output(index) for index in range(len(self.outputs))]

    def _pieces(self, shapes: List[Tuple[int, ...]]) -> int:
        lengths = {shape[0] for shape in shapes if shape}
        if any(size == 0 for shape in shapes for size in shape):
            raise RefusalError("input", f"TFLite cannot run on empty inputs (shapes {shapes})")
        if lengths == self._batch:
            return 1
        if len(lengths) != 1 or len(self._batch) != 1 or min(lengths) % min(self._batch):
            raise RefusalError("input", f"batches of {sorted(lengths)} do not divide into the artifact's {self._batch}")
        return min(lengths) // min(self._batch)

    @staticmethod
    def _tensors(graph: Any, indices: Sequence[int], details: Any, signature: Mapping[int, str]) -> List[Tensor]:
        items: List[Mapping[str, Any]] = []
        for position, index in enumerate(int(i) for i in indices):
            tensor = graph.tensors[index]
            signed = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
            name = bytes(tensor.name or b"").decode("utf-8", "replace")
            items.append({**details(position), "shape_signature": np.array(signed), "index": index, "name": name})
        named = {name: index for index, name in signature.items() if index in {item["index"] for item in items}}
        return [TfliteSession.describe(item, name) for item, name in _named(items, named)]


def _check_micro(artifact: bytes, options: Mapping[str, Any]) -> None:
    if options["threads"] != 1:
        raise RefusalError("input", f"TFLite Micro has one thread, not {options['threads']}")
    if not 0 < options["arena_bytes"] <= MAX_PAYLOAD:
        raise RefusalError("input", f"arena_bytes is {options['arena_bytes']}, not from 1 to {MAX_PAYLOAD}")
    if artifact[4:8] != b"TFL3":  # the interpreter would read on, wherever that leads
        raise RefusalError("input", f"the artifact is no TFLite file: it begins with {artifact[:8]!r}")


def _micro_signature(definitions: Sequence[Any]) -> Dict[int, str]:
    """Return names by tensor index, of the same signature that `TfliteSession` reads."""
    chosen = definitions if len(definitions) == 1 else [d for d in definitions if d.signatureKey == b"serving_default"]
    return {int(item.tensorIndex): item.name.decode() for d in chosen[:1] for item in [*d.inputs, *d.outputs]}


def _arena(print_allocations: Callable[[], None]) -> Optional[int]:
    """Return the arena bytes in use, which TFLite Micro tells stderr and nobody else; None where it says nothing."""
    found = re.search(rb"Arena allocation total (\d+) bytes", _stderr_of(print_allocations))
    return int(found[1]) if found else None


def _with_words(call: Callable[[], Any]) -> Any:
    """Return what a call into TFLite Micro gives. One that fails is made again, to hear why: it tells stderr only."""
    try:
        return call()
    except RuntimeError as error:
        words = _stderr_of(lambda: _quietly(call)).decode("utf-8", "replace").replace("\r", "")
        raise RuntimeError(f"{error}\n{words}".strip()) from error


def _quietly(call: Callable[[], Any]) -> None:
    with contextlib.suppress(RuntimeError):
        call()


def _stderr_of(call: Callable[[], Any]) -> bytes:
    """Return what a call writes to stderr, native code's words too; what exceeds a pipe is dropped."""
    kept, (reader, writer) = os.dup(2), os.pipe()
    os.set_blocking(writer, False)
    try:
        os.dup2(writer, 2)
        call()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read()


class Runtime(NamedTuple):
    """How a runtime is found and opened; the type of an option's default is the option's type."""

    module: str
    distribution: str
    options: Dict[str, Any]
    open: Callable[[str, bytes, Mapping[str, Any]], Session]


_ONNX_OPTIONS = {"threads": 1, "graph_optimization": "all", "spinning": False, "precision": True}
_TFLITE_OPTIONS = {"threads": 1, "xnnpack": True, "reference_kernels": False}
_MICRO_OPTIONS = {"threads": 1, "arena_bytes": 2**24}
RUNTIMES: Dict[str, Runtime] = {
    "onnxruntime": Runtime("onnxruntime", "onnxruntime", _ONNX_OPTIONS, OnnxSession),
    "litert": Runtime("ai_edge_litert", "ai-edge-litert", _TFLITE_OPTIONS, TfliteSession),
    "tflite-runtime": Runtime("tflite_runtime", "tflite-runtime", _TFLITE_OPTIONS, TfliteSession),
    "tflite-micro": Runtime("tflite_micro", "tflite-micro", _MICRO_OPTIONS, MicroSession),
}


def _installed_version(distribution: str) -> Optional[str]:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


# --- timing -----------------------------------------------------------------------------------------------------------

MAX_CALLS = 1_000_000  # of one bench request
_OVERHEAD_CALLS = 1000


class Timed(NamedTuple):
    """Calls that were timed, all in ns: each call, the loop as a whole, and the processor time it had."""

    samples: NDArray[np.int64]
    wall_ns: int
    cpu_ns: int


def time_once(run: Callable[[], Any]) -> int:
    """Return the ns of one call."""
    start = time.perf_counter_ns()
    run()
    return time.perf_counter_ns() - start


def time_calls(run: Callable[[], Any], calls: int, seconds: float) -> Timed:
    """Time so many calls one by one, or fewer where the seconds are over, but one at least; garbage is not collected.

    What a call is charged with beside its own time is one reading of the clock and one Python call: see `overhead_ns`.
    """
    clock = time.perf_counter_ns
    samples: List[int] = []
    keep = samples.append
    collecting = gc.isenabled()
    gc.disable()
    try:
        begun_cpu, begun = time.thread_time_ns(), clock()
        end = begun + int(seconds * 1e9)
        for _ in range(calls):
            start = clock()
            run()
            stop = clock()
            keep(stop - start)
            if stop > end:
                break
        wall, cpu = clock() - begun, time.thread_time_ns() - begun_cpu
    finally:
        if collecting:
            gc.enable()
    return Timed(np.array(samples, np.int64), wall, cpu)


def overhead_ns() -> int:
    """Return what `time_calls` charges to a call that does nothing: the median."""
    return int(np.median(time_calls(_nothing, _OVERHEAD_CALLS, 1.0).samples))


def _nothing() -> None:
    """Take the place of a runtime."""


def processor_khz() -> int:
    """Return the highest frequency of all processors right now; 0 where Linux does not tell."""
    found = [_first_int(f"/sys/devices/system/cpu/cpu{i}/cpufreq/scaling_cur_freq") for i in range(os.cpu_count() or 1)]
    return max((khz for khz in found if khz is not None), default=0)


def memory_kb(what: str) -> Optional[int]:
    """Return ``VmRSS`` (now) or ``VmHWM`` (the most so far) of this process in kB; None where Linux does not tell."""
    return _first_int("/proc/self/status", what + ":")


def forget_peak() -> None:
    """Let ``VmHWM`` begin anew from what is in use now, where the kernel allows it."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("5")
    except OSError:
        pass


def _first_int(path: str, label: str = "") -> Optional[int]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123
            for line in file:
                if line.startswith(label):
                    return int(line[len(label) :].split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return None


# --- artifacts that have been sent before -----------------------------------------------------------------------------


class Artifacts:
    """Artifacts by their SHA-256: in memory, and on disk for a host that asks for it.

    The folder is the user's own, the files' names are digests that were computed here, and what is read is checked
    again. A file appears whole or not at all.
    """

    def __init__(self, memory: int = MEMORY_CACHE, disk: int = DISK_CACHE) -> None:
        self._memory, self._disk = memory, disk
        self._kept: Dict[str, bytes] = {}

    def find(self, digest: str, *, disk: bool) -> Optional[bytes]:
        """Return the artifact, or None where it has to be sent."""
        data = self._kept.get(digest)
        if data is None and disk:
            with contextlib.suppress(OSError, RuntimeError):
                data = self._read(digest)
        if data is not None:
            self._remember(digest, data)
        return data

    def keep(self, digest: str, data: bytes, *, disk: bool) -> Optional[str]:
        """Keep an artifact whose digest has been checked; return why it could not be kept on disk."""
        self._remember(digest, data)
        if not disk:
            return None
        try:
            folder = cache_folder()
        except RuntimeError as error:  # no home folder
            return str(error)
        try:
            self._write(folder, digest, data)
        except OSError as error:
            return f"{error.strerror or error}: {folder}"
        return None

    def _remember(self, digest: str, data: bytes) -> None:
        self._kept.pop(digest, None)
        self._kept[digest] = data  # last, since dictionaries keep their order: what was used longest ago goes first
        while sum(map(len, self._kept.values())) > self._memory:
            del self._kept[next(iter(self._kept))]

    def _read(self, digest: str) -> Optional[bytes]:
        path = cache_folder() / digest
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            data = file.read(MAX_PAYLOAD + 1)
        if hashlib.sha256(data).hexdigest() != digest:
            path.unlink()
            return None
        os.utime(path)  # so that the least used goes first
        return data

    def _write(self, folder: Path, digest: str, data: bytes) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise PermissionError(1, "not a folder that only this user can write to")
        self._make_room(folder, len(data))
        descriptor, path = tempfile.mkstemp(prefix=_UNFINISHED, dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(path).replace(folder / digest)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(path).unlink()
            raise

    def _make_room(self, folder: Path, size: int) -> None:
        """Remove what an agent that was killed left unfinished, and what was used longest ago beyond the limit."""
        files = [(path.lstat(), path) for path in folder.iterdir()]
        for status, path in files:
            if path.name.startswith(_UNFINISHED) and status.st_mtime < time.time() - _ABANDONED:
                path.unlink()
        kept = sorted((status.st_mtime, status.st_size, path) for status, path in files if _DIGEST.fullmatch(path.name))
        total = sum(item[1] for item in kept)
        for _, freed, path in kept:
            if total + size <= self._disk:
                return
            path.unlink()
            total -= freed
        if size > self._disk:
            raise OSError(27, f"larger than the {self._disk} bytes that are kept")


_DIGEST = re.compile("[0-9a-f]{64}")
_UNFINISHED = ".unfinished-"
_ABANDONED = 600.0  # seconds after which an unfinished file is nobody's


def cache_folder() -> Path:
    """Return where artifacts are kept on disk: a folder in the user's cache folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "edgecnn-agent"


# --- the machine ------------------------------------------------------------------------------------------------------


def probe() -> Dict[str, Any]:
    """Return what the machine tells of itself; None for what it does not tell."""
    return {name: _told(tell) for name, tell in PROBES.items()}


def _told(tell: Callable[[], Any]) -> Any:
    try:
        return tell()
    except Exception:  # noqa: BLE001 - files of /proc and /sys are there or not, and look as the kernel likes
        return None


def _read_text(*parts: str) -> str:
    with Path(*parts).open("rb") as file:
        return file.read(2**16).decode("utf-8", "replace").strip("\0\n ")


def _board() -> Optional[str]:
    for path in ("/proc/device-tree/model", "/sys/class/dmi/id/product_name"):
        with contextlib.suppress(OSError):
            return _read_text(path)
    return None


def _cpuinfo(*keys: str) -> Optional[str]:
    """Return the first value of the first key that /proc/cpuinfo has."""
    rows = [line.partition(":") for line in _read_text("/proc/cpuinfo").splitlines()]
    for key in keys:
        for name, _, value in rows:
            if name.strip() == key:
                return value.strip()
    return None


# ARM's own processors by their part number, for kernels that give no name.
_ARM_PARTS = {
    "0xb76": "ARM1176",
    "0xc07": "Cortex-A7",
    "0xc08": "Cortex-A8",
    "0xc09": "Cortex-A9",
    "0xc0f": "Cortex-A15",
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd41": "Cortex-A78",
}


def _cpu() -> Optional[str]:
    part = _cpuinfo("CPU part")
    named = _ARM_PARTS.get(part) if part and _cpuinfo("CPU implementer") == "0x41" else None
    return named or _cpuinfo("model name", "Hardware")


def _cpu_features() -> Optional[List[str]]:
    found = _cpuinfo("Features", "flags")
    return None if found is None else found.split()[:512]


def _meminfo(key: str) -> Optional[int]:
    found = re.search(rf"^{key}:\s+(\d+) kB$", _read_text("/proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _number(*parts: str) -> Optional[int]:
    try:
        return int(_read_text(*parts))
    except (OSError, ValueError):
        return None


def _word(*parts: str) -> Optional[str]:
    try:
        return _read_text(*parts)[:80]
    except OSError:
        return None


def _clocks() -> List[Dict[str, Any]]:
    """Return the clocks that cores share, one for each cpufreq policy; kHz."""
    base = Path("/sys/devices/system/cpu")
    policies = sorted(map(str, Path(base, "cpufreq").glob("policy*"))) or sorted(map(str, base.glob("cpu0/cpufreq")))
    return [
        {
            "cores": _word(policy, "affected_cpus"),
            "governor": _word(policy, "scaling_governor"),
            "now": _number(policy, "scaling_cur_freq"),
            "min": _number(policy, "scaling_min_freq"),
            "max": _number(policy, "scaling_max_freq"),
        }
        for policy in policies[:64]
    ]


def _temperature() -> Optional[float]:
    """Return the highest of all zones, in degrees Celsius."""
    base = Path("/sys/class/thermal")
    numbers = [_number(str(path), "temp") for path in base.glob("thermal_zone*")]
    told = [value for value in numbers if value is not None]
    return max(told) / 1000 if told else None


def _throttled() -> Optional[int]:
    """Return the bits that the firmware of a Raspberry Pi tells; None on other boards."""
    told = subprocess.run(
        ["/usr/bin/env", "vcgencmd", "get_throttled"],
        capture_output=True,
        text=True,
        timeout=2,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    found = re.fullmatch(r"throttled=0x([0-9a-fA-F]{1,8})\s*", told.stdout)
    return int(found[1], 16) if found else None


def _os_name() -> Optional[str]:
    found = re.search(r"^PRETTY_NAME=\"?([^\"\n]*)\"?$", _read_text("/etc/os-release"), re.MULTILINE)
    return found[1] if found else None


PROBES: Mapping[str, Callable[[], Any]] = {
    "board": _board,
    "cpu": _cpu,
    "cores": os.cpu_count,
    "features": _cpu_features,
    "memory": lambda: _meminfo("MemTotal"),
    "memory_available": lambda: _meminfo("MemAvailable"),
    "swap": lambda: _meminfo("SwapTotal"),
    "clocks": _clocks,
    "temperature": _temperature,
    "throttled": _throttled,
    "os": _os_name,
    "kernel": lambda: f"{platform.system()} {platform.release()}",
    "python": lambda: f"{platform.python_implementation()} {platform.python_version()}",
    "libc": lambda: " ".join(platform.libc_ver()).strip() or None,
    "load": lambda: [float(value) for value in os.getloadavg()],
}


# --- requests ---------------------------------------------------------------------------------------------------------


class Agent:
    """Serves requests; holds the open sessions.

    Args:
        watchdog: Whether to end the process when a request's ``limit`` is long past.
    """

    def __init__(self, *, watchdog: bool = False) -> None:
        self._sessions: Dict[int, Session] = {}
        self._bound: Dict[int, Bound] = {}
        self._opened = 0
        self._artifacts = Artifacts()
        self._watchdog = watchdog

    def answer(self, request: Message) -> Message:
        """Return the reply to `request`; whatever Python exception comes up becomes an ``error`` reply."""
        limit: Any = request.fields.get("limit")
        if not self._watchdog or type(limit) not in (int, float) or not 0 < limit <= MAX_LIMIT:
            return self._answer(request)
        signal.setitimer(signal.ITIMER_REAL, limit + GRACE)
        try:
            return self._answer(request)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _answer(self, request: Message) -> Message:
        handlers = {
            "hello": self._hello,
            "probe": self._probe,
            "open": self._open,
            "infer": self._infer,
            "count": self._count,
            "bind": self._bind,
            "bench": self._bench,
            "profile": self._profile,
            "close": self._close,
        }
        try:
            if request.kind not in handlers:
                raise RefusalError("protocol", f"unknown request {request.kind!r}")
            fields, arrays = handlers[request.kind](request)
        except RefusalError as error:
            return error_reply(error.kind, error)
        except Exception as error:  # noqa: BLE001 - runtimes raise anything; the host judges it
            return error_reply("runtime", error)
        return Message(request.kind, fields, tuple(arrays))

    def _hello(self, _: Message) -> Tuple[Dict[str, Any], List[NDArray[Any]]]:
        here = {name: item for name, item in RUNTIMES.items() if importlib.util.find_spec(item.module)}
        return {
            "protocol": PROTOCOL,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "machine": platform.machine(),
            "bits": struct.calcsize("P") * 8,  # 32 under a 64-bit kernel is what Raspberry Pi OS often is
            "numpy": np.__version__,
            "runtimes": {name: _installed_version(item.distribution) for name, item in here.items()},
        }, []

    def _probe(self, _: Message) -> Tuple[Dict[str, Any], List[NDArray[Any]]]:
        return probe(), []

    def _open(self, request: Message) -> Tuple[Dict[str, Any], List[NDArray[Any]]]:
        name, given = _field(request, "runtime", str), _field(request, "options", dict)
        if name not in RUNTIMES:
            raise RefusalError("input", f"unknown runtime {name!r}; this agent knows {', '.join(RUNTIMES)}")
        runtime = RUNTIMES[name]
        options = _checked_options(name, runtime.options, given)
        if importlib.util.find_spec(runtime.module) is None:
            raise RefusalError(
                "no-runtime", f"{name} is not installed ({sys.executable} has no module {runtime.module})"
            )
        artifact, not_kept = self._artifact(request)
        importlib.import_module(runtime.module)  # beforehand, so that neither time nor memory of it is the artifact's
        forget_peak()
        resident, started = memory_kb("VmRSS"), time.perf_counter_ns()
        session = runtime.open(runtime.module, artifact, {**options, "profile": request.fields.get("profile") is True})
        load_ns = time.perf_counter_ns() - started
        self._opened += 1
        self._sessions[self._opened] = session
        return {
            "session": self._opened,
            "version": session.version,
            "options": options,
            "inputs": [tensor._asdict() for tensor in session.inputs],
            "outputs": [tensor._asdict() for tensor in session.outputs],
            "arena_bytes": session.arena_bytes,
            "load_ns": load_ns,
            "resident_kb": resident,
            "not_kept": not_kept,
        }, []

    def _artifact(self, request: Message) -> Tuple[bytes, Optional[str]]:
        """Return the artifact, sent now or before, and why it could not be kept."""
        digest, disk = _field(request, "sha256", str), request.fields.get("cache") is True
        if not _DIGEST.fullmatch(digest):
            raise RefusalError("protocol", "open: sha256 is not 64 hexadecimal digits")
        if request.arrays:
            artifact = _sent_artifact(request, digest)
            return artifact, self._artifacts.keep(digest, artifact, disk=disk)
        found = self._artifacts.find(digest, disk=disk)
        if found is None:
            raise RefusalError("need-artifact", f"open: there is no artifact with SHA-256 {digest} here")
        return found, None

    def _infer(self, request: Message) -> Tuple[Dict[str, Any], List[NDArray[Any]]]:
        session = self._session(request)
        arrays = _in_order(request, session.inputs)
        _check_inputs(session.inputs, arrays)
        if "batch" not in request.fields:
            return {}, session.infer(arrays)
        return {}, _infer_by(_field(request, "batch", int), session, arrays)

    def _count(self, request: Message) -> Tuple[Dict[str, Any], List[NDArray[Any]]]:
        """Infer ``repeat`` times, marked before the first and after each, for a counter of instructions to see."""
        session, repeat = self._session(request), _field(request, "repeat", int)
        if not 1 <= repeat <= MAX_REPEAT:
            raise RefusalError("input", f"repeat is {repeat}, not from 1 to {MAX_REPEAT}")
        arrays = _in_order(request, session.inputs)
        _check_inputs(session.inputs, arrays)
        outputs: List[NDArray[Any]] = []
        _mark()
        for _ in range(repeat):
            outputs = session.infer(arrays)
            _mark()
        return {}, outputs

    def _close(self, request: Message) -> Tuple[Dict[str, Any], List[NDArray[Any]]]:
        self._session(request)
        del self._sessions[request.fields["session"]]
        self._bound.pop(request.fields["session"], None)
        return {}, []

    def _bind(self, request: Message) -> Tuple[Dict[str, Any], List[NDArray[Any]]]:
        session = self._session(request)
        arrays = _in_order(request, session.inputs)
        _check_inputs(session.inputs, arrays)
        bound = session.bind(arrays)
        self._bound[request.fields["session"]] = bound
        debug = session.debug or hasattr(sys, "gettotalrefcount")
        fields = {"first_ns": bound.first_ns, "overhead_ns": overhead_ns()}
        return {**fields, "debug": debug, "delegates": session.delegates}, []

    def _bench(self, request: Message) -> Tuple[Dict[str, Any], List[NDArray[Any]]]:
        run, calls = self._bound_call(request)
        seconds = _field(request, "seconds", float)
        if not 0 <= seconds <= 3600:
            raise RefusalError("input", f"seconds is {seconds}, not from 0 to 3600")
        timed = time_calls(run, calls, seconds)
        fields = {"wall_ns": timed.wall_ns, "cpu_ns": timed.cpu_ns, "khz": processor_khz()}
        return {**fields, "peak_kb": memory_kb("VmHWM")}, [timed.samples]

    def _profile(self, request: Message) -> Tuple[Dict[str, Any], List[NDArray[Any]]]:
        session = self._session(request)
        run, calls = self._bound_call(request)
        if not isinstance(session, OnnxSession):
            raise RefusalError("input", "this runtime has no profiler that Python can reach")
        operators, times = session.profile(run, calls)
        return {"operators": operators}, [times]

    def _bound_call(self, request: Message) -> Tuple[Callable[[], Any], int]:
        self._session(request)
        calls, session = _field(request, "calls", int), request.fields["session"]
        if not 1 <= calls <= MAX_CALLS:
            raise RefusalError("input", f"calls is {calls}, not from 1 to {MAX_CALLS}")
        if session not in self._bound:
            raise RefusalError("protocol", f"{request.kind}: session {session} has no inputs bound")
        return self._bound[session].run, calls

    def _session(self, request: Message) -> Session:
        number = _field(request, "session", int)
        if number not in self._sessions:
            raise RefusalError("protocol", f"{request.kind}: there is no session {number}")
        return self._sessions[number]


def _mark() -> None:
    """Close a descriptor that never is open: nothing happens, and who watches system calls sees it."""
    with contextlib.suppress(OSError):
        os.close(MARK)


def _field(request: Message, name: str, expected: type) -> Any:
    value = request.fields.get(name)
    if type(value) is not expected:
        raise RefusalError("protocol", f"{request.kind}: {name} is missing or not of type {expected.__name__}")
    return value


def _checked_options(runtime: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Dict[str, Any]:
    for name, value in given.items():
        if name not in defaults:
            raise RefusalError("input", f"{runtime} has no option {name!r}, only {', '.join(defaults)}")
        if type(value) is not type(defaults[name]):
            raise RefusalError("input", f"{name} is {value!r}, not of type {type(defaults[name]).__name__}")
    options = {**defaults, **given}
    if not 1 <= options.get("threads", 1) <= 256:
        raise RefusalError("input", f"threads is {options['threads']}, not from 1 to 256")
    return options


def _sent_artifact(request: Message, expected: str) -> bytes:
    if len(request.arrays) != 1 or request.arrays[0].dtype != np.uint8 or request.arrays[0].size == 0:
        raise RefusalError("protocol", "open: the artifact is not one array of uint8 with at least one byte")
    artifact = request.arrays[0].tobytes()
    actual = hashlib.sha256(artifact).hexdigest()
    if actual != expected:
        raise RefusalError("protocol", f"open: the artifact arrived with SHA-256 {actual}, not {expected}")
    return artifact


def _in_order(request: Message, inputs: Sequence[Tensor]) -> List[NDArray[Any]]:
    """Return the request's arrays in the artifact's order; without the field ``names`` they are in it already."""
    wanted = [tensor.name for tensor in inputs]
    names = request.fields.get("names", wanted)
    if len(request.arrays) != len(wanted):
        raise RefusalError("input", f"{len(request.arrays)} inputs are given, the artifact has {len(wanted)}: {wanted}")
    if names == wanted:
        return list(request.arrays)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RefusalError("protocol", "infer: names is not a list of strings")
    if sorted(names) != sorted(wanted):
        raise RefusalError("input", f"the inputs are named {wanted}, not {names}")
    by_name = dict(zip(names, request.arrays))
    return [by_name[name] for name in wanted]


def _check_inputs(inputs: Sequence[Tensor], arrays: Sequence[NDArray[Any]]) -> None:
    """Refuse what does not fit the artifact. The first axis is the batch, and the runtime's own business."""
    for tensor, array in zip(inputs, arrays):
        if array.dtype.name != tensor.dtype:
            raise RefusalError("input", f"input {tensor.name} is {tensor.dtype}; {array.dtype.name} is given")
        fits = len(array.shape) == len(tensor.shape) and all(
            want is None or want == got for want, got in zip(tensor.shape[1:], array.shape[1:])
        )
        if not fits:
            shape = ", ".join("any" if size is None else str(size) for size in tensor.shape)
            raise RefusalError("input", f"input {tensor.name} has the shape ({shape}); {array.shape} is given")


def _infer_by(batch: int, session: Session, arrays: Sequence[NDArray[Any]]) -> List[NDArray[Any]]:
    """The outputs for all samples, of which the runtime gets so many at a time."""
    if batch < 1:
        raise RefusalError("input", f"a batch is 1 sample or more, not {batch}")
    samples = {array.shape[0] if array.ndim else 0 for array in arrays}
    if len(samples) != 1 or max(samples) <= batch:
        return session.infer(arrays)
    parts = [session.infer([array[i : i + batch] for array in arrays]) for i in range(0, max(samples), batch)]
    return [np.concatenate(column) for column in zip(*parts)]


def error_reply(kind: str, error: BaseException) -> Message:
    """Return the ``error`` reply for an exception; its texts are cut to `MAX_TEXT` characters."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    message = str(error).strip() or type(error).__name__
    return Message("error", {"kind": kind, "message": message[:MAX_TEXT], "traceback": text[-MAX_TEXT:]}, ())


def serve(requests: Readable, replies: Writable, *, watchdog: bool = False, ahead: bool = False) -> int:
    """Answer requests until ``shutdown`` or the end of the stream.

    Args:
        requests: Where from.
        replies: Where to.
        watchdog: Whether to end the process when a request's ``limit`` is long past.
        ahead: Whether to read a request while the one before is being answered, in a thread.

    Returns:
        The exit code: 0, or 2 where a malformed message made the rest of the stream unreadable.
    """
    agent = Agent(watchdog=watchdog)
    for request in _read_ahead(_all_of(requests)) if ahead else _all_of(requests):
        if isinstance(request, ProtocolError):
            write_message(replies, *error_reply("protocol", request))
            return 2
        if request.kind == "shutdown":
            write_message(replies, "shutdown", {})
            return 0
        _reply(replies, agent.answer(request))
    return 0


def _all_of(stream: Readable) -> Iterator[Union[Message, ProtocolError]]:
    """All messages; the last one is ``shutdown``, or an error, behind which nothing can be read."""
    while True:
        try:
            message = read_message(stream)
        except ProtocolError as error:
            yield error
            return
        if message is None:
            return
        yield message
        if message.kind == "shutdown":
            return


def _read_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same, each taken in a thread while the one before is in use."""
    ready: queue.Queue[Tuple[str, Any]] = queue.Queue(maxsize=1)

    def take() -> None:
        try:
            for item in items:
                ready.put(("item", item))
        except BaseException as error:  # noqa: BLE001 - it is raised where the items are asked for
            ready.put(("error", error))
        else:
            ready.put(("end", None))

    threading.Thread(target=take, name="requests", daemon=True).start()
    while True:
        what, item = ready.get()
        if what == "error":
            raise item
        if what == "end":
            return
        yield item


def _reply(replies: Writable, reply: Message) -> None:
    try:
        write_message(replies, *reply)
    except ProtocolError as error:  # an output that cannot be sent; nothing of it was written
        write_message(replies, *error_reply("runtime", error))


def _take_streams() -> Tuple[FileIO, BinaryIO]:
    """Keep stdin and stdout for messages alone: what a runtime prints goes to stderr, what it reads is empty."""
    requests, replies = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr  # so that Python's own prints keep their place among the last words
    return requests, replies


def watch_for_hang_up(*descriptors: int) -> None:
    """End the process soon after a pipe's or socket's other side has gone, whatever this process is doing then."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLRDHUP)  # for sockets; POLLHUP and POLLERR come unasked
    thread = threading.Thread(target=_end_on_hang_up, args=(poll,), name="hang-up", daemon=True)
    thread.start()


def _end_on_hang_up(poll: select.poll) -> None:
    poll.poll()
    time.sleep(HANG_UP_GRACE)
    os._exit(0)


def main() -> int:
    """Serve stdin and stdout; return the exit code."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # works only when set before onnxruntime is imported
    faulthandler.enable()  # a crash in native code leaves Python's stack on stderr
    # A request's limit does too, and ends the process then: by a signal, which native code cannot hold up, and which
    # costs less than a thread for each request.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    faulthandler.register(signal.SIGALRM, chain=True)
    requests, replies = _take_streams()
    watch_for_hang_up(requests.fileno(), replies.fileno())
    try:
        threads = NO_THREADS not in sys.argv[1:]
        return serve(requests, replies, watchdog=threads, ahead=threads)
    except BrokenPipeError:  # the host has gone; there is nobody left to tell
        return 0


if __name__ == "__main__":
    sys.exit(main())
