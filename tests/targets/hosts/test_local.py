"""What this machine started ends with it: closed, forgotten, interrupted, killed or forked."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.agent_programs import HANG
from support.processes import running, wait_until_gone

from edgecnn.errors import TargetError
from edgecnn.targets.agent import messages
from edgecnn.targets.hosts.local import LocalHost


def test_closing_twice(started):
    connection = LocalHost().start()
    connection.hello()
    connection.close()
    connection.close()
    assert not running(connection.pid)
    assert not connection.alive
    with pytest.raises(TargetError, match="the connection to local is closed"):
        connection.hello()


def test_an_exception_in_the_block_ends_it(started):
    with pytest.raises(ZeroDivisionError), LocalHost().start():
        raise ZeroDivisionError
    assert not running(started[0])


def test_a_connection_that_is_forgotten_ends(started):
    LocalHost().start()
    assert not running(started[0])


HOST = """
import os, sys
from edgecnn.targets.hosts.connection import Connection
from edgecnn.targets.hosts.local import LocalHost
{start}
print(connection.pid, flush=True)
{then}
"""
AGENT_HOST = "connection = LocalHost().start(); connection.hello()"
HUNG_HOST = f"connection = Connection([sys.executable, '-c', {HANG!r}], name='hung')"
# A child that interrupts its host once a request has reached it, and then hangs.
INTERRUPT = f"import os, signal; os.read(0, 1); os.kill(os.getppid(), signal.SIGINT); {HANG}"
INTERRUPTED_HOST = f"connection = Connection([sys.executable, '-c', {INTERRUPT!r}], name='hung')"


@pytest.fixture
def host():
    """Start a program that holds a connection; returns it and its agent's process id."""
    programs = []

    def start(setup, then):
        source = HOST.format(start=setup, then=then)
        program = subprocess.Popen(
            [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        programs.append(program)
        return program, int(program.stdout.readline())

    yield start
    for program in programs:
        program.kill()
        program.communicate()


@pytest.mark.parametrize("setup", [AGENT_HOST, HUNG_HOST], ids=["idle", "hung"])
@pytest.mark.parametrize("then", ["", "raise ValueError", "sys.exit(1)"])
def test_the_hosts_end_ends_it(host, setup, then):
    program, pid = host(setup, then)
    program.communicate(timeout=60)
    assert not running(pid)


def test_an_interrupt_ends_a_hung_child(host):
    program, pid = host(INTERRUPTED_HOST, "connection.hello()")
    assert "KeyboardInterrupt" in program.communicate(timeout=60)[1]
    assert not running(pid)


def test_an_interrupt_can_be_survived(host):
    then = """
try:
    connection.hello()
except KeyboardInterrupt:
    print(connection.alive, flush=True)
"""
    program, pid = host(INTERRUPTED_HOST, then)
    assert program.communicate(timeout=60)[0].strip() == "False"
    assert not running(pid)


def test_an_idle_agent_ends_when_its_host_is_killed(host):
    program, pid = host(AGENT_HOST, "connection._channel.child.read(1)\n" + HANG)
    program.kill()
    wait_until_gone(pid)


def test_a_fork_does_not_take_the_agent_along(host):
    then = """
if os.fork() == 0:
    connection.close()
    sys.exit()
os.wait()
print(connection.hello().protocol, flush=True)
"""
    program, pid = host(AGENT_HOST, then)
    assert program.communicate(timeout=60)[0].strip() == str(messages.PROTOCOL)
    assert not running(pid)
