"""Errors for the failures of OpenSSH's client, with hints what to do, in one table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgecnn.errors import TargetError
from edgecnn.targets.printable import printable


@dataclass(frozen=True, slots=True)
class Failure:
    """A row: a pattern for ssh's message in the C locale, and the error. ``{ssh}`` is the command to try by hand."""

    pattern: str
    message: str
    hint: str


_REACH = "is it on, and in the same network? try `{ssh}`"
FAILURES = (
    Failure(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed",
        "it shows another host key than the known one",
        "if the device was reinstalled, `ssh-keygen -R {known}` and then `{ssh}` once by hand, comparing fingerprints;"
        " if it was not, somebody may be in between: do not connect",
    ),
    Failure(
        r"No .* host key is known for|Host key verification failed",
        "its host key is not known here",
        "`{ssh}` once by hand, and compare the fingerprint it shows with that of the device"
        " (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there) before you accept it",
    ),
    Failure(
        r"Permissions .* are too open|UNPROTECTED PRIVATE KEY FILE",
        "ssh refuses the private key's file: others can read it",
        "chmod 600 the file that the last words name",
    ),
    Failure(
        r"Too many authentication failures",
        "it refuses after too many keys",
        "name the one key: identity in targets.toml, or IdentityFile with IdentitiesOnly yes in ~/.ssh/config",
    ),
    Failure(
        r"Permission denied \(.*\)|Permission denied, please try again|No more authentication methods",
        "it refuses the keys it was offered",
        "`ssh-copy-id {destination}` brings yours there; a key with a passphrase goes into `ssh-add` first",
    ),
    Failure(
        r"Could not resolve hostname",
        "its name cannot be resolved",
        "check the spelling; names that end in .local need mDNS (libnss-mdns); or give its address",
    ),
    Failure(
        r"Connection refused",
        "it refuses connections: no ssh server listens there",
        "`sudo systemctl enable --now ssh` on the device, or another port",
    ),
    Failure(r"[Cc]onnect.* timed out|Operation timed out|banner exchange", "it does not answer", _REACH),
    Failure(r"No route to host|Network is unreachable|Host is down", "it cannot be reached", _REACH),
    Failure(
        r"Bad owner or permissions on|Bad configuration option|[Bb]ad configuration options|Can't open user config file"
        r"|no argument after keyword|missing argument|unsupported option",
        "ssh cannot use its own configuration",
        "correct the file and line that the last words name",
    ),
    Failure(
        r"no matching (host key|key exchange|cipher|MAC)",
        "it and ssh here have no cryptographic method in common",
        "`{ssh}` says more; update the older of both",
    ),
    Failure(
        r"kex_exchange_identification|Connection (closed|reset) by|Connection to .* closed",
        "it closed the connection before anybody logged in",
        "it may be busy or limit how often one connects: try again, and see `journalctl -u ssh` there",
    ),
)


def failure(name: str, destination: str, port: int | None, words: str) -> TargetError | None:
    """Return the error for what ssh said, or None if no row matches.

    Args:
        name: What errors call the host.
        destination: The destination as ssh accepts it.
        port: The port; None for the one in ssh's configuration.
        words: What ssh said.
    """
    for row in FAILURES:
        if re.search(row.pattern, words):
            host = destination.rpartition("@")[2]
            ssh = f"ssh {destination}" if port is None else f"ssh -p {port} {destination}"
            known = host if port in (None, 22) else f"'[{host}]:{port}'"
            hint = row.hint.format(ssh=ssh, destination=destination, known=known)
            return TargetError(f"{name}: {row.message}", where=destination, hint=hint, detail=printable(words).strip())
    return None
