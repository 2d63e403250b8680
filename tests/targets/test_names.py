"""Names of targets: what they mean, that they read back as written, and the errors for those that mean nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.errors import TargetError, UsageError
from edgecnn.targets import target as targets
from edgecnn.targets.agent.messages import PROTOCOL
from edgecnn.targets.config import Config, HostEntry
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.host import FoundRuntimes, Survey
from edgecnn.targets.hosts.machine_info import AgentInfo
from edgecnn.targets.names import HOST_NAME, TargetName, parse_target
from edgecnn.targets.runtimes import RUNTIMES

PARSED = [
    ("litert", "litert", "local", ()),
    ("litert@local", "litert", "local", ()),
    ("@kitchen", "*", "kitchen", ()),
    ("onnxruntime@pi4", "onnxruntime", "pi4", ()),
    ("*@pi*", "*", "pi*", ()),
    ("tflite*", "tflite*", "local", ()),
    ("ssh://pi@raspberrypi.local", "*", "ssh://pi@raspberrypi.local", ()),
    ("litert@ssh://pi@host:2222", "litert", "ssh://pi@host:2222", ()),
    ("litert@ssh://pi@[::1]:22", "litert", "ssh://pi@[::1]:22", ()),
    ("litert[threads=2, xnnpack=off]@pi4", "litert", "pi4", (("threads", 2), ("xnnpack", False))),
    ("[threads=1]@pi4", "*", "pi4", (("threads", 1),)),
    (
        "onnxruntime[graph_optimization=basic]",
        "onnxruntime",
        "local",
        (("graph_optimization", "basic"),),
    ),
    ("tflite-micro[arena_bytes=200000]", "tflite-micro", "local", (("arena_bytes", 200000),)),
]


@pytest.mark.parametrize(("text", "runtime", "host", "options"), PARSED, ids=lambda v: str(v)[:40])
def test_parse(text: str, runtime: str, host: str, options) -> None:
    name = parse_target(text)
    assert (name.runtime, name.host, name.options) == (runtime, host, options)
    assert parse_target(str(name)) == name


REFUSED = [
    ("", "is no target"),
    ("@", "is no target"),
    ("litert@", "no host"),
    ("onxruntime", "onnxruntime"),
    ("pi4", "@pi4 for every runtime there"),
    ("litert@pi@host", "ssh://pi@host"),
    ("litert[thread=2]", "threads"),
    ("litert[threads=two]", "a number from 1 to 256"),
    ("litert[threads=0]", "a number from 1 to 256"),
    ("litert[xnnpack=2]", "on or off"),
    ("litert[threads]", "NAME=VALUE"),
    ("litert[threads=1,threads=2]", "given twice"),
    ("onnxruntime[graph_optimization=most]", "one of disable, basic, extended, all"),
    ("tflite-micro[threads=2]", "from 1 to 1"),
    ("tflite*[arena_bytes=9]", "tflite-runtime has no option 'arena_bytes'"),
    ("litert[threads=1", "is no target"),
    ("x*@pi4", "no runtime is called like x*"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=lambda v: str(v)[:40])
def test_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(text, hosts=["pi4"])
    assert words in str(caught.value)


def _value(option):
    if isinstance(option.default, bool):
        return st.booleans()
    return st.integers(1, option.highest) if isinstance(option.default, int) else st.sampled_from(option.choices)


@st.composite
def names(draw) -> TargetName:
    runtime = RUNTIMES[draw(st.sampled_from(sorted(RUNTIMES)))]
    keys = draw(st.sets(st.sampled_from(sorted(runtime.options))))
    options = tuple((key, draw(_value(runtime.options[key]))) for key in sorted(keys))
    plain = st.from_regex(HOST_NAME, fullmatch=True)
    urls = st.builds("ssh://{}@{}:{}".format, plain, plain, st.integers(1, 65535))
    host = draw(st.one_of(plain, urls, st.just("pi*"), st.just("?i4")))
    return TargetName(runtime=runtime.name, host=host, options=options)


@settings(max_examples=200, deadline=None)
@given(names())
def test_what_is_written_is_read_back(name: TargetName) -> None:
    assert parse_target(str(name)) == name


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"[a-z*@\[\]=,:/-]{0,30}"))
def test_any_text_is_a_name_or_an_error(text: str) -> None:
    try:
        name = parse_target(text)
    except UsageError:
        return
    assert parse_target(str(name)) == name


# --- from names to targets --------------------------------------------------------------------------------------------


class FakeHost:
    """A host that is only talked about."""

    kind = "ssh"
    environments = ("",)

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, environment: str = "", *, time_limit: float = 1) -> Connection:
        raise AssertionError("nothing may be started here")


def _entry(name: str, kind: str = "ssh", options=None, board: str = "") -> HostEntry:
    host = FakeHost(name)
    return HostEntry(
        name=name, kind=kind, origin="x", place=f"pi@{name}", make=lambda: host, options=options or {}, board=board
    )


HAS = {
    "local": ("onnxruntime", "litert"),
    "kitchen": ("onnxruntime", "litert"),
    "pi": ("tflite-runtime",),
    "bare": (),
    "half": ("tflite-runtime",),
}


def _survey(entry: HostEntry, _limit=None) -> Survey:
    if entry.name == "down" or entry.name.startswith("ssh://down"):
        return Survey(agents={}, runtimes={}, problems={"": TargetError(f"{entry.name}: no answer")})
    here = HAS[entry.name]
    agent = AgentInfo(
        protocol=PROTOCOL, python="3.11.2", platform="Linux", machine="armv7l", numpy="1", runtimes=dict.fromkeys(here)
    )
    problems = {"": TargetError("half: no numpy there")} if entry.name == "half" else {}
    if problems:
        runtimes = {"tflite-runtime": FoundRuntimes(environment="tflite-runtime", version="2")}
        return Survey(agents={"tflite-runtime": agent}, runtimes=runtimes, problems=problems)
    return Survey(
        agents={"": agent}, runtimes={n: FoundRuntimes(environment="", version="1.2") for n in here}, problems={}
    )


@pytest.fixture
def config(monkeypatch) -> Config:
    surveyed: list[str] = []

    def once(entry: HostEntry, limit=None) -> Survey:
        assert entry.name not in surveyed, "a host is asked once"
        surveyed.append(entry.name)
        return _survey(entry)

    monkeypatch.setattr(targets, "survey_of", once)
    command = "not built: edgecnn targets emulate"
    monkeypatch.setattr(targets, "unbuilt", lambda e: f"{command} {e.board}" if e.board else "")
    entries = [_entry(name) for name in ("local", "kitchen", "pi", "bare", "down", "half")]
    entries[1] = _entry("kitchen", options={"litert": {"threads": 4}})
    entries += [_entry(f"pi{n}", "emulated", board=f"pi{n}") for n in (4, 5)]
    return Config(hosts={entry.name: entry for entry in entries})


RESOLVED = [
    (["litert"], ["litert@local"]),
    (["@local"], ["onnxruntime@local", "litert@local"]),
    (["litert", "@local", "litert@local"], ["litert@local", "onnxruntime@local"]),
    (["litert@kitchen"], ["litert[threads=4]@kitchen"]),
    (["litert[threads=2]@kitchen", "@pi"], ["litert[threads=2]@kitchen", "tflite-runtime@pi"]),
    (["*@p*"], ["tflite-runtime@pi"]),
    (["onnxruntime@?it*"], ["onnxruntime@kitchen"]),
    (["l*@local"], ["litert@local"]),
    (["tflite-runtime@half"], ["tflite-runtime@half"]),
]


@pytest.mark.parametrize(("specs", "names"), RESOLVED, ids=str)
def test_resolve(config, specs, names) -> None:
    found = targets.resolve_targets(specs, config=config)
    assert [t.name for t in found] == names
    assert [parse_target(t.name).runtime for t in found] == [t.runtime for t in found]


FAILING = [
    ("litert@kitchn", UsageError, "kitchen"),
    ("litert@litert", UsageError, "litert@local"),
    ("pi", UsageError, "@pi for every runtime there"),
    ("*@q*", UsageError, "no host is called like q*"),
    ("*@pi?", UsageError, "edgecnn targets emulate pi4 pi5"),
    ("litert@pi4", TargetError, "edgecnn targets emulate pi4"),
    ("@down", TargetError, "no answer"),
    ("onnxruntime@pi", TargetError, "there is no wheel of onnxruntime for armv7l"),
    ("@bare", TargetError, "has no runtime"),
    ("litert@half", TargetError, "no numpy there"),
    ("@half", TargetError, "no numpy there"),
    ("tflite-micro", TargetError, "edgecnn targets setup tflite-micro"),
]


@pytest.mark.parametrize(("spec", "kind", "words"), FAILING, ids=lambda v: str(v)[:30])
def test_what_cannot_be_resolved(config, spec: str, kind, words: str) -> None:
    with pytest.raises(kind) as caught:
        targets.resolve_targets([spec], config=config)
    assert words in str(caught.value)


def test_a_host_that_fails_does_not_hide_the_others(config) -> None:
    found = targets.find_targets(["@down", "litert", "onnxruntime@pi"], config=config)
    assert [t.name for t in found.targets] == ["litert@local"]
    assert [f.target for f in found.failures] == ["down", "onnxruntime@pi"]


def test_globs_say_what_they_pass_over(config) -> None:
    found = targets.find_targets(["*@pi*", "onnxruntime@*i"], config=config)
    assert [t.name for t in found.targets] == ["tflite-runtime@pi"]
    assert any("edgecnn targets emulate pi4 pi5" in note for note in found.notes)
    assert [f.error.message for f in found.failures] == ["none of pi has onnxruntime"]


def test_time_limits() -> None:
    assert targets.time_limit_of("local", None) == 60
    assert targets.time_limit_of("emulated", None) == 600
    assert targets.time_limit_of("emulated", 5) == 5
