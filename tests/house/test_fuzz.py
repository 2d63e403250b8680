"""At least 10,000 malformed messages in each direction: no crash, no hang, nothing but errors that are meant."""

from __future__ import annotations

import copy
import io
import json
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.agent_file import agent_file

from edgecnn.errors import TargetError
from edgecnn.targets.agent import messages, requests, serving
from edgecnn.targets.agent.runtime_session import Tensor
from edgecnn.targets.hosts import connection, replies
from edgecnn.targets.hosts.session import Session

COUNT = 10_000
BATCH = 10  # messages in one of hypothesis's examples, whose own cost is otherwise most of the time
FUZZ = settings(max_examples=COUNT // BATCH, deadline=None, database=None, suppress_health_check=list(HealthCheck))
ODD = [
    None,
    True,
    -1,
    0,
    2**63,
    2**64 - 1,
    1.5,
    1e308,
    "",
    "x",
    "../../etc/passwd",
    "\x1b[2J\ud800",
    [],
    {},
    [[]],
    "9" * 400,
]


def message(kind, fields=None, arrays=()):
    return b"".join(bytes(part) for part in messages.encode_message(kind, fields or {}, arrays))


def split(data):
    """The JSON header of a message, and its payload."""
    length = struct.unpack_from("<I", data, 8)[0]
    return json.loads(data[20 : 20 + length]), data[20 + length :]


def framed(header, payload):
    raw = json.dumps(header).encode()
    return messages.MAGIC + struct.pack("<HHIQ", messages.PROTOCOL, 0, len(raw), len(payload)) + raw + payload


def changed_bytes(original, draw):
    """Some bytes replaced, some removed, the end cut off, or something put in between."""
    data = bytearray(original)
    for _ in range(1 + draw(4)):
        place, what = draw(len(data) + 1), draw(4)
        if what == 0 and place < len(data):
            data[place] = draw(256)
        elif what == 1:
            del data[place : place + 1 + draw(8)]
        elif what == 2:
            data[place:place] = bytes(draw(256) for _ in range(1 + draw(8)))
        elif place > len(data) // 2:
            del data[place:]
    return bytes(data)


def changed_values(original, draw):
    """A valid frame around a header in which some values are others, or missing, or more."""
    header, payload = split(original)
    for _ in range(1 + draw(3)):
        place, parents = header["fields"] if draw(4) and isinstance(header.get("fields"), dict) else header, []
        while isinstance(place, (dict, list)) and place and (not parents or draw(4)):
            key = sorted(place)[draw(len(place))] if isinstance(place, dict) else draw(len(place))
            parents.append((place, key))
            place = place[key]
        if not parents:
            continue
        parent, key = parents[-1]
        if draw(5):
            parent[key] = copy.deepcopy(ODD[draw(len(ODD))])  # what is put in may itself be changed next
        else:
            del parent[key]
    return framed(header, payload)


def noise(_, draw):
    """Bytes that have nothing of a message, or only its beginning."""
    raw = bytes(draw(256) for _ in range(draw(64)))
    return (b"", messages.MAGIC, messages.MAGIC + struct.pack("<HHIQ", messages.PROTOCOL, 0, 20, 0))[draw(3)] + raw


CHANGES = (changed_bytes, changed_bytes, changed_values, changed_values, changed_values, noise)


def batches(originals, changes=CHANGES):
    """Messages that are valid but for what was changed in them; a seed stands for each batch, which is quick."""

    def batch(random):
        draw = random.randrange
        return [changes[draw(len(changes))](originals[draw(len(originals))], draw) for _ in range(BATCH)]

    return st.randoms(use_true_random=True).map(batch)


# --- what the agent reads ---------------------------------------------------------------------------------------------

TO_OPEN = {"runtime": "litert", "sha256": "0" * 64, "options": {"threads": 1, "xnnpack": True}, "cache": True}
REQUESTS = [
    message("hello", {"limit": 60.0}),
    message("probe", {"limit": 60.0}),
    message("open", {**TO_OPEN, "limit": 1.5}, [np.arange(9, dtype=np.uint8)]),
    message("open", TO_OPEN),
    message("infer", {"session": 1, "names": ["a", "b"]}, [np.ones((1, 2, 3), np.float32), np.zeros(4, np.bool_)]),
    message("close", {"session": 1}),
    message("shutdown"),
]


class Echo:
    """A session that gives back what it is given."""

    version, arena_bytes = "1", None
    inputs = outputs = [Tensor("a", [1, 2, 3], "float32", None), Tensor("b", [None], "bool", None)]  # noqa: RUF012

    def infer(self, arrays):
        return list(arrays)


@pytest.fixture
def plain_agent(monkeypatch, tmp_path):
    """Agents with a session open, which neither run runtimes nor touch this machine's cache."""
    original = requests.Agent.__init__

    def with_a_session(self, **kwargs):
        original(self, **kwargs)
        self._sessions[1] = Echo()

    monkeypatch.setattr(requests.Agent, "__init__", with_a_session)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(requests, "probe", lambda: {"cores": 1})
    monkeypatch.setattr(requests, "installed_version", lambda name: "1")  # a search through all packages
    return tmp_path


def test_the_agent_answers_whatever_it_reads(plain_agent):
    served = 0

    @FUZZ
    @given(batches(REQUESTS))
    def run(batch):
        nonlocal served
        for data in batch:
            out = io.BytesIO()
            assert serving.serve(io.BytesIO(data), out) in (0, 2)
            out.seek(0)
            for answer in iter(lambda: messages.read_message(out), None):  # noqa: B023
                if answer.kind == "error":
                    assert answer.fields["kind"] in ("protocol", "input", "no-runtime", "need-artifact", "runtime")
            served += 1

    run()
    assert served >= COUNT
    assert list(plain_agent.iterdir()) == []


def test_one_agent_goes_on_after_every_request_that_can_be_read(plain_agent):
    """Frames are right here, so that the place of the next request is known."""
    serving, read = requests.Agent(), 0

    @settings(FUZZ, max_examples=COUNT // BATCH // 4)
    @given(batches(REQUESTS))
    def run(batch):
        nonlocal read
        for data in batch:
            try:
                request = messages.read_message(io.BytesIO(data))
            except messages.ProtocolError:
                continue
            if request is not None:
                assert serving.answer(request).kind in (request.kind, "error")
                read += 1

    run()
    assert read > COUNT // 20


def test_an_agent_behind_a_pipe(tmp_path):
    """Bytes that it cannot read end it with an error and code 2, in time."""
    program = [sys.executable, str(agent_file())]
    rng = np.random.default_rng(0)
    for data in (b"Welcome\n", REQUESTS[0][:9], REQUESTS[0][:-1], *(rng.bytes(200) for _ in range(5))):
        done = subprocess.run(program, input=data, capture_output=True, timeout=60, check=False)
        assert (done.returncode, messages.read_message(io.BytesIO(done.stdout)).kind) == (2, "error")
        assert b"Traceback" not in done.stderr


# --- what the host reads ----------------------------------------------------------------------------------------------

OPENED = {
    "session": 1,
    "version": "1.0",
    "options": {"threads": 1, "xnnpack": True},
    "inputs": [{"name": "x", "shape": [1, None], "dtype": "int8", "quantization": {"scale": 0.5, "zero_point": 3}}],
    "outputs": [{"name": "y", "shape": [1, 2], "dtype": "float32", "quantization": None}],
    "arena_bytes": 100,
    "not_kept": "No space left on device: /x",
}
HELLO = {"protocol": 1, "python": "3.11.2", "platform": "L", "machine": "m", "numpy": "2", "runtimes": {"litert": "2"}}
PROBE = {
    "board": "Raspberry Pi 4 Model B Rev 1.4",
    "cpu": None,
    "cores": 4,
    "features": ["fp", "asimd"],
    "memory": 2**32,
    "clocks": [{"cores": "0 1 2 3", "governor": "ondemand", "now": 600000, "min": 600000, "max": 1800000}],
    "temperature": 48.3,
    "throttled": 0x50005,
    "load": [0.1, 0.2, 0.3],
}
REPLIES = [
    message("hello", {**HELLO, "bits": 64}),
    message("probe", PROBE),
    message("open", OPENED),
    message("infer", {}, [np.ones((1, 2), np.float32)]),
    message("close"),
    message("error", {"kind": "no-runtime", "message": "m", "traceback": "t"}),
    message("error", {"kind": "need-artifact", "message": "m", "traceback": "t"}),
]


class Scripted:
    """In the place of a child process: its output is given beforehand."""

    pid, code, output = 1, 0, b""

    def __init__(self, command, environment):
        self.alive, self._stream = True, io.BytesIO(self.output)
        self.readinto, self.read_now = self._stream.readinto, self._stream.read

    def write(self, data):
        pass

    def limit(self, seconds):
        pass

    def autopsy(self):
        self.kill()
        return "ended with exit code 0 and without a whole answer"

    def last_words(self):
        return ""

    def close(self, seconds):
        self.kill()

    def kill(self):
        self.alive = False


def every_call(session_first):
    """All that a host asks an agent, each of whose answers comes from the script."""
    with connection.Connection(["x"], name="device", cache=session_first) as line:
        calls = [line.hello, line.probe, lambda: line.open("litert", b"1", "net")]
        for call in reversed(calls) if session_first else calls:
            result = call()
        if isinstance(result, Session):
            result.infer([np.zeros((1, 2), np.int8)])
            result.close()


def test_the_host_reads_whatever_an_agent_answers(monkeypatch):
    monkeypatch.setattr(connection, "Child", Scripted)
    read, failed = 0, 0

    @FUZZ
    @given(batches(REPLIES), st.lists(st.sampled_from(REPLIES), max_size=3), st.booleans())
    def run(batch, valid, session_first):
        nonlocal read, failed
        for data in batch:
            monkeypatch.setattr(Scripted, "output", b"".join(valid) + data + data)
            try:
                every_call(session_first)
            except TargetError as error:
                assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\x9b\ud800-\udfff]", str(error) + error.detail)  # noqa: PT017
                failed += 1
            read += 1

    run()
    assert read >= COUNT
    assert failed > COUNT // 2


PARSERS = {
    "hello": replies.parse_hello,
    "probe": replies.parse_probe,
    "open": replies.parse_opened,
    "error": replies.parse_refused,
    "close": replies.parse_nothing,
}


def test_every_parser_reads_every_reply():
    """In valid frames, so that what is wrong comes as far as the parsers; and a parser may meet another's reply."""
    parsed = 0

    @FUZZ
    @given(batches([REPLIES[i] for i in (0, 1, 1, 2, 2, 5)], (changed_values,)))
    def run(batch):
        nonlocal parsed
        for data in batch:
            try:
                reply = messages.read_message(io.BytesIO(data))
            except messages.ProtocolError:
                continue
            for parse in PARSERS.values():
                try:
                    text = repr(parse(reply))
                except messages.ProtocolError as error:
                    text = ""
                    assert len(str(error)) < 1000  # noqa: PT017
                assert len(text) < 40_000
                parsed += 1

    run()
    assert parsed >= COUNT


def test_a_program_behind_a_pipe_that_answers_nonsense(tmp_path):
    """A real process: its output is read as it comes, and it does not outlive its nonsense."""
    random = np.random.default_rng(0)
    for index in range(150):
        path = tmp_path / "answer"
        change = CHANGES[index % len(CHANGES)]
        path.write_bytes(change(REPLIES[index % 2], lambda limit: int(random.integers(limit))))
        with connection.Connection(["cat", str(path)], name="device", time_limit=20) as line:
            try:
                line.hello()
                line.probe()
            except TargetError as error:
                assert "no answer within" not in error.message  # noqa: PT017
