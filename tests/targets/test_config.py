"""targets.toml: hosts of a project and of the user, what is refused with its line, and how a host is added."""

from __future__ import annotations

import pytest

from edgecnn.errors import UsageError
from edgecnn.targets.config import load_config
from edgecnn.targets.config_file import add_host

pytestmark = pytest.mark.usefixtures("home")

GOOD = """# the kitchen
[hosts.kitchen]
ssh = "pi@raspberrypi.local"
python = "/home/pi/venv/bin/python"
port = 2222
cache = false

[hosts.kitchen.pythons]
tflite-runtime = "/home/pi/tfl/bin/python"

[hosts.kitchen.options.litert]
threads = 4

[hosts.old]
python = "venv/bin/python"

[hosts.mine]
board = "pi4"
"""


def test_hosts_of_a_project(home) -> None:
    (home / "project" / "targets.toml").write_text(GOOD)
    found = load_config()
    kitchen, old, mine = (found.hosts[name] for name in ("kitchen", "old", "mine"))
    assert (kitchen.kind, kitchen.place, kitchen.options["litert"]["threads"]) == ("ssh", "pi@raspberrypi.local", 4)
    host = kitchen.make()
    assert (host.name, host.environments) == ("kitchen", ("", "tflite-runtime"))
    assert (host.port, host.cache, host.python) == (2222, False, "/home/pi/venv/bin/python")
    assert old.make().python == str(home / "project" / "venv" / "bin" / "python")
    assert (mine.kind, mine.board) == ("emulated", "pi4")
    assert {"local", "pi4", "pi5"} <= set(found.hosts)


def test_the_projects_hosts_count_before_the_users(home) -> None:
    (home / "config" / "edgecnn").mkdir(parents=True)
    (home / "config" / "edgecnn" / "targets.toml").write_text('[hosts.a]\nssh = "user"\n[hosts.b]\nssh = "user"\n')
    (home / "project" / "targets.toml").write_text('[hosts.a]\nssh = "project"\n')
    found = load_config()
    assert (found.hosts["a"].place, found.hosts["b"].place) == ("project", "user")


def test_the_search_ends_at_the_repository(home) -> None:
    (home / "targets.toml").write_text('[hosts.outside]\nssh = "x"\n')
    assert "outside" not in load_config().hosts


WRONG = [
    ("[hosts.a", "", "is not valid TOML"),
    ("[host.a]\nssh='x'", "line 1", "no 'host'"),
    ("[hosts.a]\nssh='x'\nprot=22", "line 3", "port"),
    ("\n[hosts.a]\nssh=5", "line 3", "a text"),
    ("[hosts.a]\nssh='x'\nport='22'", "line 3", "a whole number"),
    ("[hosts.a]\nssh='x'\nport=99999", "line 3", "1 to 65535"),
    ("[hosts.a]\nssh='-oProxyCommand=x'", "line 2", "no destination"),
    ("[hosts.a]", "line 1", "nothing about where it is"),
    ("[hosts.a]\nssh='x'\nboard='pi4'", "line 1", "ssh and board"),
    ("[hosts.a]\npython='x'\nport=22", "line 3", "belongs to ssh"),
    ("[hosts.a]\nboard='pi44'", "line 2", "pi4"),
    ("[hosts.a]\nssh='x'\n[hosts.a.pythons]\ntflite='y'", "line 3", "tflite-"),
    ("[hosts.a]\nssh='x'\n[hosts.a.options.litert]\nthread=2", "line 4", "threads"),
    ("[hosts.a]\nssh='x'\n[hosts.a.options.litert]\nthreads=true", "line 4", "a number from 1"),
    ("[hosts.local]\nssh='x'", "line 1", "this interpreter"),
    ("[hosts.litert]\nssh='x'", "line 1", "is a runtime"),
    ("[hosts.\"a b\"]\nssh='x'", "line 1", "cannot name a host"),
    ("hosts=3", "targets.toml", "hosts are tables"),
]


@pytest.mark.parametrize(("text", "line", "words"), WRONG, ids=lambda v: str(v)[:30])
def test_a_wrong_file_is_refused_with_its_line(home, text: str, line: str, words: str) -> None:
    path = home / "project" / "targets.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_config()
    assert str(path) in caught.value.where
    assert line in caught.value.where
    assert words in str(caught.value)


def test_a_host_is_added_and_what_is_there_stays(home) -> None:
    path = home / "project" / "targets.toml"
    path.write_text(GOOD)
    add_host(path, "new.host", ssh="ssh://pi@x:22", python='/a "b"')
    assert path.read_text().startswith(GOOD)
    assert load_config().hosts["new.host"].place == "ssh://pi@x:22"
    with pytest.raises(UsageError, match="already"):
        add_host(path, "kitchen", ssh="pi@other")
    add_host(path, "kitchen", ssh="pi@other", force=True)
    again = load_config().hosts
    assert again["kitchen"].place == "pi@other"
    assert set(again) >= {"old", "mine", "new.host"}
    assert "# the kitchen" in path.read_text()


def test_what_cannot_be_replaced_is_left_alone(home) -> None:
    path = home / "project" / "targets.toml"
    path.write_text('hosts = { a = { ssh = "x" } }\n')
    with pytest.raises(UsageError):
        add_host(path, "a", ssh="y", force=True)
    with pytest.raises(UsageError):
        add_host(path, "b", ssh="y")
    assert path.read_text() == 'hosts = { a = { ssh = "x" } }\n'
