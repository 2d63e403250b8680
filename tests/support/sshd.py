"""A real OpenSSH server on 127.0.0.1 with throwaway keys, whose device is a folder, or an emulated board in proot.

It runs as whoever runs the tests. Keys, configurations and the device's home folder live in one temporary folder, so
neither ~/.ssh nor any known host of the person who tests is touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from support.processes import children

from edgecnn.targets.hosts.ssh import SshHost

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None, reason="needs OpenSSH's server: apt install openssh-server"
)


class Sshd:
    """A running server; made by `sshd`.

    Attributes:
        folder: All its files.
        home: The home folder on the device.
        port: Where it listens.
        config: ssh's configuration for it: `SshHost(config=...)`. The host is called ``device`` there.
    """

    def __init__(self, folder, command_prefix, shell, variables):
        self.folder, self.home, self.port = folder, folder / "home", _free_port()
        self.config, self._log = folder / "ssh_config", folder / "sshd.log"
        self.home.mkdir()
        for name in ("host_key", "key", "other_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
            subprocess.run(command, check=True)
        shutil.copy(folder / "key.pub", folder / "authorized_keys")
        self.know(folder / "host_key.pub")
        force = folder / "force.sh"
        force.write_text(f'#!/bin/sh\nexec {command_prefix} {shell} -c "$SSH_ORIGINAL_COMMAND"\n')
        force.chmod(0o755)
        own = {"PYTHONPATH": os.environ["PYTHONPATH"]} if os.environ.get("PYTHONPATH") else {}  # of the device's python
        settings = {"HOME": self.home, "XDG_CACHE_HOME": self.home / ".cache", **own, **variables}
        # ssh of the client and the server's own session must not meet what the person who tests has configured.
        self.config.write_text(
            textwrap.dedent(f"""\
                Host device
                    HostName 127.0.0.1
                    Port {self.port}
                    IdentityFile {folder}/key
                    IdentitiesOnly yes
                    IdentityAgent none
                Host *
                    UserKnownHostsFile {folder}/known_hosts
                    GlobalKnownHostsFile /dev/null
                """)
        )
        (folder / "sshd_config").write_text(
            textwrap.dedent(f"""\
                Port {self.port}
                ListenAddress 127.0.0.1
                HostKey {folder}/host_key
                AuthorizedKeysFile {folder}/authorized_keys
                AuthenticationMethods publickey
                StrictModes no
                UsePAM no
                UseDNS no
                PidFile none
                PermitRootLogin yes
                LogLevel VERBOSE
                ForceCommand {force}
                SetEnv {" ".join(f'"{name}={value}"' for name, value in settings.items())}
                """)
        )
        self._server = None
        self.start()

    def start(self):
        """Start the server, again if it was stopped."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # a server that runs as root insists on it
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")], stdin=subprocess.DEVNULL, stderr=log
            )
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as line:
                line.recv(1)
                return
            if self._server.poll() is not None:
                break
            time.sleep(0.02)
        pytest.fail(f"sshd does not start:\n{self.log()}")

    def stop(self):
        """End the server and cut its sessions."""
        sessions = self._sessions()
        self._server.kill()
        self._server.wait()
        self._kill(sessions)

    def cut(self):
        """Cut all sessions, as a cable that is pulled out does; the server goes on."""
        self._kill(self._sessions())

    def know(self, *keys):
        """Let clients know these host keys as the server's."""
        rows = [f"[127.0.0.1]:{self.port} {' '.join(key.read_text().split()[:2])}\n" for key in keys]
        (self.folder / "known_hosts").write_text("".join(rows))

    def log(self):
        """What the server has said."""
        return self._log.read_text()

    def logins(self):
        """How many connections have logged in."""
        return len(re.findall("Accepted publickey", self.log()))

    def host(self, **kwargs):
        """A host for this server, whose interpreter is the one that runs the tests."""
        return SshHost("device", **{"config": str(self.config), "python": sys.executable, "label": "kitchen", **kwargs})

    def _sessions(self):
        """The server's own processes for its sessions, and none of the device's programs.

        A session of root has one, that of another user two, of which the second holds the line.
        """
        first = children(self._server.pid)
        second = [pid for parent in first for pid in children(parent) if _name(pid).startswith("sshd")]
        return first + second

    @staticmethod
    def _kill(pids):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def sshd(command_prefix="", *, shell="/bin/sh", variables=None):
    """Run a server.

    Args:
        command_prefix: What runs the device's shell, as a shell reads it. For an emulated board whose userland is ROOT
            (with dash and coreutils beside Python), whose own files are in BOARD and whose packages are in SITE::

                proot -q 'qemu-aarch64 -cpu cortex-a72' -r ROOT -w / -b /dev -b /proc -b /sys
                    -b BOARD/proc/cpuinfo:/proc/cpuinfo -b BOARD/proc/device-tree:/proc/device-tree
                    -b BOARD/sys/devices/system/cpu:/sys/devices/system/cpu -b SITE:/opt/site -b HOME:/home/pi

            with ``shell="/bin/dash"`` and the variables HOME, XDG_CACHE_HOME and PYTHONPATH=/opt/site.
        shell: The device's login shell, by its path there.
        variables: Environment variables on the device; HOME and XDG_CACHE_HOME lie in the server's folder otherwise.
    """
    # Not pytest's folder: its path may be too long for the sockets that the device may make.
    with tempfile.TemporaryDirectory(prefix="edgecnn-sshd-") as folder:
        server = Sshd(Path(folder), command_prefix, shell, variables or {})
        try:
            yield server
        finally:
            server.stop()


def _name(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
