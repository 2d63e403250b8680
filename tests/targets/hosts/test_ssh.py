"""Devices reached through a real ssh server: destinations, URLs, and everything that a connection can do."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.artifacts import onnx_model
from support.ssh_device import X
from support.sshd import needs_sshd, sshd

from edgecnn.errors import TargetError, UsageError
from edgecnn.targets.agent import messages
from edgecnn.targets.hosts.host import survey
from edgecnn.targets.hosts.ssh import SshHost

pytestmark = needs_sshd


def test_everything_a_connection_can_do(device):
    with device.host().start() as connection:
        info = connection.hello()
        assert (info.protocol, info.bits) == (messages.PROTOCOL, 64)
        assert {"onnxruntime", "litert", "tflite-runtime"} <= set(info.runtimes)
        probed = connection.probe()
        assert probed.cores == os.cpu_count()
        assert probed.python.endswith(sys.version.split()[0])
        x = np.arange(8, dtype=np.float32).reshape(2, 4)
        with connection.open("onnxruntime", onnx_model(), "two.onnx") as session:
            total, relu = session.infer([x, -x])
        assert (total == 0).all()
        assert (relu == 0).all()
        assert session.notes == ()


def test_survey(device):
    host = device.host(pythons={"tflite-runtime": "no-such-python"})
    found = survey(host)
    assert (host.name, host.kind, host.environments) == ("kitchen", "ssh", ("", "tflite-runtime"))
    assert "onnxruntime" in found.runtimes
    assert found.problems["tflite-runtime"].message == "kitchen: there is no no-such-python"


def test_many_sessions_share_one_connection(device):
    before = device.logins()
    host = device.host(connect_timeout=11)  # a connection of this test's own

    def run(index):
        with host.start() as connection:
            session = connection.open("tflite-runtime", b"pass", "net")
            return float(session.infer([X * index])[0][0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(8))) == list(range(8))
    assert device.logins() == before + 1


def test_more_sessions_than_one_connection_may_have(device):
    with ThreadPoolExecutor(12) as pool:
        connections = list(pool.map(lambda _: device.host().start(), range(12)))
    for connection in connections:
        assert connection.hello()
        connection.close()


def test_many_hosts_at_once(packages):
    with sshd() as one, sshd() as two, ThreadPoolExecutor(4) as pool:
        hosts = [one.host(label="one"), two.host(label="two")] * 2

        def machine(host):
            with host.start() as connection:
                return connection.hello().machine

        assert list(pool.map(machine, hosts)) == [os.uname().machine] * 4
        assert (one.logins(), two.logins()) == (1, 1)


NO_DESTINATIONS = [
    "",
    "-oProxyCommand=touch /tmp/x",
    "-v",
    "pi@-oProxyCommand=x",
    "-l@pi",
    "pi kitchen",
    "pi\nkitchen",
    "pi@",
    "pi;reboot",
    "$(reboot)",
    "`reboot`",
    "pi|cat",
    "pi'",
    "pi\x00",
]


@pytest.mark.parametrize("destination", NO_DESTINATIONS)
def test_no_destinations(destination):
    with pytest.raises(UsageError, match="is no destination"):
        SshHost(destination)


@pytest.mark.parametrize("destination", ["pi", "pi@kitchen", "pi@10.0.0.9", "pi@fe80::1%eth0", "küche", "a@b@jump"])
def test_destinations(destination):
    assert SshHost(destination).name == destination


@pytest.mark.parametrize("python", ["", "-m", "it's", "back\\slash", "new\nline", "hist!ory"])
def test_no_interpreters(python):
    with pytest.raises(UsageError, match="cannot be the path"):
        SshHost("pi", python=python)
    with pytest.raises(UsageError, match="cannot be the path"):
        SshHost("pi", pythons={"litert": python})


URLS = {
    "ssh://pi@raspberrypi.local:22": ("pi@raspberrypi.local", 22),
    "ssh://raspberrypi.local": ("raspberrypi.local", None),
    "ssh://pi@Kitchen/": ("pi@Kitchen", None),
    "ssh://pi@[fe80::1]:2222": ("pi@fe80::1", 2222),
    "ssh://a%40b@pi": ("a@b@pi", None),
}
NO_URLS = [
    "http://pi",
    "ssh:pi",
    "ssh://",
    "ssh://pi:0x16",
    "ssh://pi:99999",
    "ssh://pi:0",
    "ssh://pi/path",
    "ssh://pi?x=1",
    "ssh://-oProxyCommand=x",
    "ssh://-v@pi",
    "ssh://pi%20x",
    "ssh://pi:secret@kitchen",
]


@pytest.mark.parametrize("url", URLS)
def test_urls(url):
    host = SshHost.from_url(url)
    assert (host.destination, host.port) == URLS[url]


@pytest.mark.parametrize("url", NO_URLS)
def test_no_urls(url):
    with pytest.raises(UsageError) as caught:
        SshHost.from_url(url)
    assert "secret" not in str(caught.value)


def test_no_such_environment(device):
    with pytest.raises(TargetError, match="kitchen has no environment 'litert'"):
        device.host().start("litert")
