"""The agent's messages: whatever bytes arrive, a valid message or a ProtocolError comes out, in bounded memory."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.exporters import SEARCH

from edgecnn.targets.agent import messages, serving
from edgecnn.targets.agent.refusal_error import RefusalError
from edgecnn.targets.agent.runtime_session import infer_in_batches
from edgecnn.targets.hosts import replies

MANY = settings(max_examples=5000 if SEARCH else 500, deadline=None, suppress_health_check=list(HealthCheck))
SOME = settings(MANY, max_examples=100)

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8)
values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
field_sets = st.dictionaries(st.text(max_size=8), values, max_size=3)
dtypes = st.sampled_from(sorted(messages.DTYPES))
shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)
arrays = st.tuples(dtypes, shapes, st.sampled_from("<>=")).flatmap(
    lambda drawn: hnp.arrays(np.dtype(drawn[0]).newbyteorder(drawn[2]), drawn[1])
)


def message(kind="infer", fields=None, arrays=()):
    stream = io.BytesIO()
    messages.write_message(stream, kind, fields or {}, arrays)
    return stream.getvalue()


def framed(
    header, payload=b"", *, magic=b"ECNN", version=messages.PROTOCOL, reserved=0, header_length=None, length=None
):
    """A message from parts that may be wrong; `header` is bytes, or a value to be written as JSON."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    sizes = (len(raw) if header_length is None else header_length, len(payload) if length is None else length)
    return magic + struct.pack("<HHIQ", version, reserved, *sizes) + raw + payload


def described(*specs, payload=b""):
    return framed({"kind": "infer", "fields": {}, "arrays": list(specs)}, payload)


def spec(dtype, *shape):
    return {"dtype": dtype, "shape": list(shape)}


def read(data):
    return messages.read_message(io.BytesIO(data))


class Drip(io.BytesIO):
    """A stream whose reads are short, as a pipe's are."""

    def readinto(self, buffer, /):
        return super().readinto(memoryview(buffer)[:3])


@settings(deadline=None)
@given(st.text(max_size=10), field_sets, st.lists(arrays, max_size=4))
def test_round_trip(kind, fields, sent):
    stream = Drip(message(kind, fields, sent))
    received = messages.read_message(stream)
    assert (received.kind, received.fields) == (kind, fields)
    assert messages.read_message(stream) is None
    for before, after in zip(sent, received.arrays, strict=True):
        assert (after.dtype, after.shape) == (before.dtype.newbyteorder("="), before.shape)
        np.testing.assert_array_equal(after, before)
        assert after.flags.writeable


@pytest.mark.parametrize("dtype", sorted(messages.DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3)])
def test_every_type_keeps_its_bits(dtype, shape):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.resize(np.array([0, 1] if dtype == "bool" else [255, 127, 1, 200], np.uint8), size)
    array = raw.view(dtype).reshape(shape) if size else np.zeros(shape, dtype)
    (received,) = read(message(arrays=[array])).arrays
    assert (received.dtype, received.shape, received.tobytes()) == (array.dtype, shape, array.tobytes())


@pytest.mark.parametrize("order", ["transposed", "strided", "big-endian", "read-only"])
def test_memory_order_does_not_matter(order):
    array = np.arange(24, dtype=np.int16).reshape(4, 6)
    sent = {"transposed": array.T, "strided": array[::2, ::-3], "big-endian": array.astype(">i2"), "read-only": array}
    array.flags.writeable = order != "read-only"
    np.testing.assert_array_equal(read(message(arrays=[sent[order]])).arrays[0], sent[order])


def test_messages_follow_each_other():
    stream = io.BytesIO(message("hello") + message("infer", {"session": 1}, [np.zeros(3)]) + message("close"))
    assert [messages.read_message(stream).kind for _ in range(3)] == ["hello", "infer", "close"]
    assert messages.read_message(stream) is None


GOOD = {"kind": "infer", "fields": {}, "arrays": []}
HUGE = messages.MAX_PAYLOAD
MALFORMED = {
    "another program's words": (b"Welcome to Raspbian\n", "begins with"),
    "cut in the magic": (b"EC", "begins with"),
    "cut in the prefix": (framed(GOOD)[:10], "of the prefix"),
    "cut in the header": (framed(GOOD)[:-1], "of the header"),
    "cut in the payload": (described(spec("int8", 4), payload=bytes(4))[:-1], "of the payload"),
    "another version": (framed(GOOD, version=2), "speaks protocol 2"),
    "reserved field": (framed(GOOD, reserved=1), "reserved"),
    "long header": (framed(GOOD, header_length=messages.MAX_HEADER + 1), "exceeds the limit"),
    "long payload": (framed(GOOD, length=HUGE + 1), "exceeds the limit"),
    "longest payload": (framed(GOOD, length=2**64 - 1), "exceeds the limit"),
    "empty header": (framed(b""), "not JSON"),
    "not JSON": (framed(b"{'kind': 1}"), "not JSON"),
    "not UTF-8": (framed(b'{"kind": "\xff"}'), "not JSON"),
    "UTF-16": (framed(json.dumps(GOOD).encode("utf-16")), "not JSON"),
    "NaN": (framed(b'{"kind": "a", "fields": {"x": NaN}, "arrays": []}'), "NaN"),
    "endless integer": (framed(b'{"kind": "a", "fields": {"x": ' + b"9" * 10**6 + b'}, "arrays": []}'), "digits"),
    "endless float": (framed(b'{"kind": "a", "fields": {"x": 1e999}, "arrays": []}'), "exceeds float64"),
    "deep lists": (framed(b"[" * 10**5), "not JSON"),
    "deep balanced lists": (framed(b"[" * 10**5 + b"]" * 10**5), "not JSON"),
    "deep objects": (framed(b'{"a":' * 10**5), "not JSON"),
    "nine levels": (framed({**GOOD, "fields": {"x": [[[[[[[[0]]]]]]]]}}), "deeper than"),
    "a list": (framed([GOOD]), "not an object of"),
    "a key too many": (framed({**GOOD, "more": 1}), "not an object of"),
    "a key too few": (framed({"kind": "a", "fields": {}}), "not an object of"),
    "kind is a number": (framed({**GOOD, "kind": 1}), "kind is not a string"),
    "fields is a list": (framed({**GOOD, "fields": []}), "fields not an object"),
    "arrays is an object": (framed({**GOOD, "arrays": {}}), "arrays not a list"),
    "too many arrays": (described(*[spec("int8", 0)] * (messages.MAX_ARRAYS + 1)), "arrays exceed"),
    "array is a string": (described("int8"), "not described"),
    "array with a key too many": (described({**spec("int8", 1), "order": "F"}), "not described"),
    "pickled objects": (described(spec("object", 1), payload=bytes(8)), "not allowed"),
    "strings": (described(spec("S8", 1), payload=bytes(8)), "not allowed"),
    "records": (described({"dtype": [["a", "int8"]], "shape": [1]}), "not allowed"),
    "byte order in the type": (described(spec(">f4", 1), payload=bytes(4)), "not allowed"),
    "shape is a number": (described({"dtype": "int8", "shape": 1}, payload=b"1"), "shape is not a list"),
    "negative size": (described(spec("int8", -1)), "dimension is not"),
    "two negative sizes": (described(spec("int8", -1, -4), payload=bytes(4)), "dimension is not"),
    "size is a float": (described(spec("int8", 1.0), payload=b"1"), "dimension is not"),
    "size is a boolean": (described(spec("int8", True), payload=b"1"), "dimension is not"),
    "size beyond 64 bits": (described(spec("int8", 2**70)), "digits"),
    "rank": (described(spec("int8", *[1] * (messages.MAX_RANK + 1)), payload=b"1"), "at most 16"),
    "overflow": (described(*[spec("int64", 2**16, 2**16, 2**16, 2**16)]), "exceeds the limit"),
    "overflow beside 0": (described(spec("int64", 0, 2**30, 2**30, 2**30)), "exceeds the limit"),
    "more described than sent": (described(spec("float32", 3), payload=bytes(8)), "take 12 bytes"),
    "more sent than described": (described(spec("float32", 3), payload=bytes(16)), "take 12 bytes"),
    "sum beyond the limit": (described(spec("int8", HUGE), spec("int8", HUGE)), "the payload has 0"),
    "a bool of 2": (described(spec("bool", 2), payload=b"\1\2"), "other than 0 and 1"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(case):
    data, words = MALFORMED[case]
    with pytest.raises(messages.ProtocolError, match=words):
        read(data)


ORIGINALS = [
    message("hello"),
    message("open", {"runtime": "litert", "sha256": "00", "options": {"threads": 1}}, [np.arange(9, dtype=np.uint8)]),
    message("infer", {"session": 1, "names": ["a", "b"]}, [np.ones((1, 2, 3), np.float32), np.zeros(4, np.bool_)]),
    message("open", {"inputs": [{"name": "x", "shape": [1, None], "quantization": {"scale": 0.5, "zero_point": 3}}]}),
]
changes = st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), min_size=1, max_size=6)


def outcome(data):
    """What reading gives: a message that can be written again, or None for a ProtocolError."""
    try:
        received = read(data)
    except messages.ProtocolError:
        return None
    if received is not None:
        message(*received)
    return received


@MANY
@given(st.sampled_from(ORIGINALS), changes, st.integers(0, 10**4))
def test_changed_bytes(original, changed, cut):
    data = bytearray(original)
    for place, value in changed:
        data[place % len(data)] = value
    outcome(bytes(data))
    outcome(bytes(data[: cut % len(data)]))


@MANY
@given(st.sampled_from(ORIGINALS), st.integers(0, 10**4), st.binary(max_size=20))
def test_changed_header_in_a_right_frame(original, place, inserted):
    start, length = 20, struct.unpack_from("<I", original, 8)[0]
    header = bytearray(original[start : start + length])
    place %= length
    header[place : place + len(inserted)] = inserted
    outcome(framed(bytes(header), original[start + length :]))


@SOME
@given(st.binary(max_size=200))
def test_random_bytes(data):
    outcome(data)
    outcome(messages.MAGIC + data)
    outcome(framed(data))


@pytest.mark.parametrize("limit", ["header", "payload"])
def test_memory_follows_what_arrives_and_not_what_is_announced(limit):
    header = {**GOOD, "arrays": [spec("uint8", HUGE)]}
    data = framed(header, length=HUGE) if limit == "payload" else framed(b"{", header_length=messages.MAX_HEADER)
    tracemalloc.start()
    with pytest.raises(messages.ProtocolError, match="stream ends"):
        read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


UNWRITABLE = {
    "NaN": ({"x": float("nan")}, []),
    "infinity": ({"x": float("inf")}, []),
    "an object": ({"x": object()}, []),
    "bytes": ({"x": b"bytes"}, []),
    "a long integer": ({"x": 10**30}, []),
    "deep lists": ({"x": [[[[[[[[[0]]]]]]]]]}, []),
    "a long header": ({"x": "a" * messages.MAX_HEADER}, []),
    "strings": ({}, [np.array(["text"])]),
    "objects": ({}, [np.array([object()])]),
    "complex numbers": ({}, [np.zeros(1, np.complex64)]),
    "times": ({}, [np.zeros(1, "datetime64[s]")]),
    "rank": ({}, [np.zeros((1,) * 17)]),
    "too many arrays": ({}, [np.zeros(0, np.int8)] * (messages.MAX_ARRAYS + 1)),
    "a large array": ({}, [np.zeros(1001, np.int8)]),
    "large arrays": ({}, [np.zeros(501, np.int8)] * 2),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_cannot_be_read_is_not_written(case, monkeypatch):
    fields, sent = UNWRITABLE[case]
    monkeypatch.setattr(messages, "MAX_PAYLOAD", 1000)
    stream = io.BytesIO()
    with pytest.raises(messages.ProtocolError):
        messages.write_message(stream, "infer", fields, sent)
    assert stream.getvalue() == b""


TO_OPEN = {"runtime": "litert", "options": {}, "sha256": "0" * 64}


class TestServe:
    """The agent's loop, on streams in memory."""

    def serve(self, *requests):
        found = []
        for ahead in (False, True):
            out = io.BytesIO()
            code = serving.serve(io.BytesIO(b"".join(requests)), out, ahead=ahead)
            out.seek(0)
            found.append((code, list(iter(lambda out=out: messages.read_message(out), None))))
        assert [(code, [a.kind for a in answers]) for code, answers in found] == [
            (code, [a.kind for a in answers]) for code, answers in found[:1] * 2
        ]
        return found[0]

    def test_ends_with_its_input(self):
        assert self.serve() == (0, [])

    def test_ends_when_told(self):
        code, answers = self.serve(message("shutdown"), message("hello"))
        assert (code, [answer.kind for answer in answers]) == (0, ["shutdown"])

    def test_malformed_message_ends_it(self):
        code, answers = self.serve(message("hello"), b"garbage", message("hello"))
        assert (code, [answer.kind for answer in answers]) == (2, ["hello", "error"])
        assert answers[1].fields["kind"] == "protocol"

    @pytest.mark.parametrize(
        ("request_", "kind", "words"),
        [
            (message("dance"), "protocol", "unknown request 'dance'"),
            (message("open"), "protocol", "runtime is missing"),
            (message("open", {"runtime": "litert", "options": 1}), "protocol", "options is missing"),
            (message("open", {"runtime": "magic", "options": {}}), "input", "unknown runtime 'magic'"),
            (message("open", {"runtime": "litert", "options": {"arena": 1}}), "input", "no option 'arena'"),
            (message("open", {"runtime": "litert", "options": {"threads": True}}), "input", "not of type int"),
            (message("open", {"runtime": "litert", "options": {"threads": 0}}), "input", "not from 1 to 256"),
            (message("open", {"runtime": "litert", "options": {}}), "protocol", "sha256 is missing"),
            (message("open", {**TO_OPEN, "sha256": "../00"}), "protocol", "not 64 hexadecimal digits"),
            (message("open", TO_OPEN), "need-artifact", "no artifact with SHA-256 000"),
            (message("open", TO_OPEN, [np.ones(3, np.int8)]), "protocol", "not one array of uint8"),
            (message("open", TO_OPEN, [np.ones(3, np.uint8)]), "protocol", "arrived with SHA-256"),
            (message("infer", {"session": 1}), "protocol", "there is no session 1"),
            (message("infer", {"session": True}), "protocol", "not of type int"),
            (message("infer", {"session": {}}), "protocol", "not of type int"),
            (message("close", {"session": 7}), "protocol", "there is no session 7"),
        ],
    )
    def test_bad_requests_are_refused_and_it_goes_on(self, request_, kind, words):
        code, (answer, after) = self.serve(request_, message("hello"))
        assert (code, answer.kind, answer.fields["kind"], after.kind) == (0, "error", kind, "hello")
        assert words in answer.fields["message"]
        assert "RefusalError" in answer.fields["traceback"]

    @SOME
    @given(st.sampled_from(["hello", "open", "infer", "close", "x"]), field_sets, st.lists(arrays, max_size=2))
    def test_any_request_gets_one_reply(self, kind, fields, sent):
        code, (answer,) = self.serve(message(kind, fields, sent))
        assert code == 0
        assert answer.kind in ("error", "hello")


class FakeSession:
    """Doubles its input, and remembers how many samples it got at a time."""

    def __init__(self):
        self.sizes = []

    def infer(self, arrays):
        self.sizes.append(len(arrays[0]))
        return [2 * arrays[0], arrays[-1] + 1]


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])])
def test_a_runtime_gets_so_many_samples_at_a_time(batch, sizes):
    session, x, y = FakeSession(), np.arange(14).reshape(7, 2), np.arange(7)
    doubled, next_ = infer_in_batches(batch, session, [x, y])
    assert session.sizes == sizes
    np.testing.assert_array_equal(doubled, 2 * x)
    np.testing.assert_array_equal(next_, y + 1)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(RefusalError, match="1 sample or more, not 0"):
        infer_in_batches(0, FakeSession(), [np.zeros(3)])


def test_what_breaks_while_reading_ahead_is_raised():
    class Broken(io.BytesIO):
        def readinto(self, buffer, /):
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        serving.serve(Broken(), io.BytesIO(), ahead=True)


OPENED = {
    "session": 1,
    "version": "1.0",
    "options": {"threads": 1},
    "inputs": [{"name": "x", "shape": [1, None], "dtype": "int8", "quantization": {"scale": 0.5, "zero_point": 3}}],
    "outputs": [{"name": "y", "shape": [], "dtype": "float32", "quantization": None}],
}
HELLO = {"protocol": 1, "python": "3", "platform": "L", "machine": "m", "numpy": "2", "runtimes": {"litert": None}}
REPLIES = [
    (replies.parse_hello, "hello", HELLO),
    (replies.parse_opened, "open", OPENED),
    (replies.parse_refused, "error", {"kind": "input", "message": "m", "traceback": "t"}),
]


def replaced(value, path, new):
    """A copy of `value` in which the place that `path` leads to is `new`."""
    if not path or not isinstance(value, dict | list) or not value:
        return new
    key = sorted(value)[path[0] % len(value)] if isinstance(value, dict) else path[0] % len(value)
    copy = value.copy()
    copy[key] = replaced(value[key], path[1:], new)
    return copy


@pytest.mark.parametrize(("parse", "kind", "fields"), REPLIES)
def test_replies_are_read(parse, kind, fields):
    assert parse(messages.Message(kind, fields, ())) is not None
    for name in fields:
        with pytest.raises(messages.ProtocolError, match=name):
            parse(messages.Message(kind, {key: value for key, value in fields.items() if key != name}, ()))


@SOME
@given(st.sampled_from(REPLIES), st.lists(st.integers(0, 9), max_size=4), values)
def test_hostile_replies(row, path, new):
    parse, kind, fields = row
    changed = replaced(fields, path, new)
    try:
        parsed = parse(messages.Message(kind, changed if isinstance(changed, dict) else {}, ()))
    except messages.ProtocolError:
        return
    assert str(parsed)


def test_terminal_controls_do_not_pass():
    fields = {**HELLO, "machine": "a\x1b[2Jb\ud800\r\u202e", "platform": "line\n\tline é"}
    info = replies.parse_hello(messages.Message("hello", fields, ()))
    assert info.machine == "a\ufffd[2Jb\ufffd\ufffd\ufffd"
    assert info.platform == "line\n\tline é"
