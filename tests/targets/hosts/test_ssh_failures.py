"""Who an ssh server lets in, and what the user is told where a connection cannot be made."""

from __future__ import annotations

import time

import pytest
from support.ssh_device import refusal
from support.sshd import needs_sshd, sshd

from edgecnn.errors import TargetError
from edgecnn.targets.hosts.ssh import SshHost
from edgecnn.targets.hosts.ssh_failures import FAILURES

pytestmark = needs_sshd


@pytest.fixture(scope="module")
def door():
    """A server for tests that change its keys."""
    with sshd() as server:
        yield server


def test_an_unknown_host_key_is_not_accepted(door):
    door.know()
    error = refusal(door)
    assert error.message == "kitchen: its host key is not known here"
    assert "`ssh device` once by hand, and compare the fingerprint" in error.hint
    assert "Host key verification failed" in error.detail
    assert (door.folder / "known_hosts").read_text() == ""
    door.know(door.folder / "host_key.pub")


def test_a_changed_host_key_is_not_accepted(door):
    door.know(door.folder / "other_key.pub")
    error = refusal(door)
    assert error.message == "kitchen: it shows another host key than the known one"
    assert "ssh-keygen -R device" in error.hint
    door.know(door.folder / "host_key.pub")


@pytest.mark.parametrize("answer", ["no", "accept-new"])
def test_a_lax_configuration_does_not_hold(door, tmp_path, answer):
    door.know()
    config = tmp_path / "config"
    config.write_text(f"Host *\n StrictHostKeyChecking {answer}\n{door.config.read_text()}")
    assert refusal(door, config=str(config)).message == "kitchen: its host key is not known here"
    door.know(door.folder / "host_key.pub")


def test_a_key_that_is_refused(door, tmp_path):
    config = tmp_path / "config"
    config.write_text(door.config.read_text().replace("/key\n", "/other_key\n"))
    error = refusal(door, config=str(config))
    assert error.message == "kitchen: it refuses the keys it was offered"
    assert "ssh-copy-id device" in error.hint
    assert "Permission denied (publickey)" in error.detail


def test_an_identity_of_ones_own(door, tmp_path):
    config = tmp_path / "config"
    config.write_text(door.config.read_text().replace("/key\n", "/other_key\n"))
    # Given on the command line, it goes first; IdentityFile of the configuration is still there.
    with door.host(config=str(config), identity=str(door.folder / "key")).start() as connection:
        assert connection.hello()


def test_an_address_and_a_port_instead_of_a_name(door):
    host = SshHost.from_url(f"ssh://127.0.0.1:{door.port}")
    host = SshHost(host.destination, port=host.port, config=str(door.config), identity=str(door.folder / "key"))
    door.know()
    with pytest.raises(TargetError) as caught:
        host.start()
    assert f"`ssh -p {door.port} 127.0.0.1` once by hand" in caught.value.hint
    door.know(door.folder / "host_key.pub")


def test_a_jump_host(door, tmp_path):
    config = tmp_path / "config"
    proxy = f"ProxyCommand ssh -F {door.config} -W 127.0.0.1:{door.port} device"
    config.write_text(door.config.read_text().replace("Host device\n", f"Host device\n    {proxy}\n"))
    with door.host(config=str(config)).start() as connection:
        assert connection.hello()


def test_nothing_listens(door):
    from support.sshd import _free_port

    error = refusal(door, port=_free_port())
    assert error.message == "kitchen: it refuses connections: no ssh server listens there"


def test_a_name_that_cannot_be_resolved(door):
    with pytest.raises(TargetError) as caught:
        SshHost("pi@nobody.invalid", config=str(door.config)).start()
    assert caught.value.message == "pi@nobody.invalid: its name cannot be resolved"


def test_a_server_that_says_nothing(door, tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        error = refusal(door, port=silent.getsockname()[1], connect_timeout=1)
    assert error.message == "kitchen: it does not answer"
    assert time.monotonic() - started < 10


def test_a_proxy_that_hangs_is_killed(door, tmp_path, monkeypatch, note):
    monkeypatch.setattr("edgecnn.targets.hosts.ssh._LOGIN", 0.0)
    config = tmp_path / "config"
    hang = f"ProxyCommand sh -c 'echo $$ > {note}; exec sleep 1000'"
    config.write_text(f"Host device\n {hang}\n ConnectTimeout 100\n{door.config.read_text()}")
    error = refusal(door, config=str(config), connect_timeout=2)
    assert error.message in ("kitchen: no login within 2 s", "kitchen: it does not answer")


def test_a_configuration_that_ssh_cannot_use(door, tmp_path):
    config = tmp_path / "config"
    config.write_text("NoSuchOption yes\n")
    error = refusal(door, config=str(config))
    assert error.message == "kitchen: ssh cannot use its own configuration"
    assert f"{config}" in error.detail


def test_no_ssh_here(door, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refusal(door, connect_timeout=12)
    assert error.message == "ssh cannot be started here"
    assert error.hint == "sudo apt install openssh-client"


UNREACHABLE = {
    "ssh: connect to host 10.0.0.9 port 22: Connection timed out": "it does not answer",
    "Connection timed out during banner exchange": "it does not answer",
    "ssh: connect to host 10.0.0.9 port 22: No route to host": "it cannot be reached",
    "ssh: connect to host 10.0.0.9 port 22: Network is unreachable": "it cannot be reached",
    "Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures": "after too many keys",
    "Permissions 0644 for '/home/me/key' are too open.\nme@pi: Permission denied (publickey).": "others can read it",
    "kex_exchange_identification: read: Connection reset by peer": "before anybody logged in",
    "Unable to negotiate with 1.2.3.4 port 22: no matching host key type found.": "no cryptographic method",
}


@pytest.mark.parametrize("words", UNREACHABLE)
def test_what_ssh_says(words):
    from edgecnn.targets.hosts.ssh_failures import failure

    error = failure("kitchen", "pi@kitchen", 2222, words + "\x1b[2J")
    assert UNREACHABLE[words] in error.message
    assert error.hint
    assert "{" not in error.hint
    assert "\x1b" not in error.detail


def test_words_that_nobody_knows():
    from edgecnn.targets.hosts.ssh_failures import failure

    assert failure("kitchen", "pi", None, "the moon is full") is None
    assert len({row.message for row in FAILURES}) == len(FAILURES)
