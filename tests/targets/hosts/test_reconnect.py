"""A connection that is cut is opened once more; what crashes is not run twice."""

from __future__ import annotations

import threading
import time

import pytest
from support.processes import wait_until_gone
from support.ssh_device import X, artifact, noted, refusal
from support.sshd import needs_sshd, sshd

from edgecnn.errors import TargetError
from edgecnn.targets.hosts import ssh_master
from edgecnn.targets.hosts.channel import LostError
from edgecnn.targets.hosts.reconnect import open_reconnecting

pytestmark = needs_sshd


def test_a_cut_line_is_told_from_a_crash(device, note):
    with device.host().start() as connection:
        session = connection.open("tflite-runtime", artifact(note, "time.sleep(1000)"), "net")
        timer = threading.Timer(0, lambda: (noted(note), device.cut()))
        timer.start()
        with pytest.raises(LostError, match="net on tflite-runtime: the line to kitchen was cut"):
            session.infer([X])
        timer.join()
    wait_until_gone(noted(note))


CUT_FIRST = """
count = int(open({counter!r}).read() or 0) + 1
open({counter!r}, 'w').write(str(count))
if count <= {times}:
    time.sleep(1000)
"""


@pytest.fixture
def cutter(device, tmp_path):
    """Cuts the line whenever an artifact has begun to run, up to so many times."""
    counter = tmp_path / "counter"
    counter.write_text("")
    threads = []

    def start(times):
        def cut():
            for wanted in range(1, times + 1):
                for _ in range(1000):
                    if counter.read_text() == str(wanted):
                        device.cut()
                        break
                    time.sleep(0.02)

        threads.append(threading.Thread(target=cut))
        threads[0].start()
        return CUT_FIRST.format(counter=str(counter), times=times)

    yield start
    for thread in threads:
        thread.join()


def test_a_line_cut_once_is_mended(device, note, cutter):
    code = artifact(note, cutter(1))
    with open_reconnecting(device.host(), "", "tflite-runtime", code, "net", threads=1) as session:
        assert session.notes == ()
        assert session.infer([X]) == [X]
        assert session.infer({"x": X}) == [X]
        assert session.notes == ("net on tflite-runtime: the line to kitchen was cut; started over",)
        assert session.options["threads"] == 1
        assert (session.version, session.arena_bytes) == ("0", None)
        assert session.inputs == session.outputs


def test_a_line_cut_twice_is_reported(device, note, cutter):
    code = artifact(note, cutter(2))
    with (
        pytest.raises(LostError) as caught,
        open_reconnecting(device.host(), "", "tflite-runtime", code, "net") as session,
    ):
        session.infer([X])
    assert caught.value.message == "net on tflite-runtime: the line to kitchen was cut, twice"


def test_crashes_are_not_repeated(device, note, tmp_path):
    log = tmp_path / "log"
    code = artifact(note, f"open({str(log)!r}, 'a').write('once'); os.abort()")
    steady = open_reconnecting(device.host(), "", "tflite-runtime", code, "net")
    with steady as session, pytest.raises(TargetError, match="SIGABRT"):
        session.infer([X])
    assert log.read_text() == "once"


def test_a_server_that_is_gone_for_good(note):
    with sshd() as server:
        with server.host().start() as connection:
            connection.hello()
            server.stop()
            with pytest.raises(LostError):
                connection.hello()
        assert refusal(server).message == "kitchen: it refuses connections: no ssh server listens there"
        server.start()
        with server.host().start() as connection:
            assert connection.hello()


def test_a_stale_socket_is_replaced(device):
    host = device.host(connect_timeout=13)
    with host.start():
        pass
    master = ssh_master.master_of(host._ssh(), host.destination)
    before = device.logins()
    device.cut()
    time.sleep(0.2)
    master.socket.unlink(missing_ok=True)
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(master.socket))  # a socket file on which no process listens
    with host.start() as connection:
        assert connection.hello()
    assert device.logins() == before + 1
