"""A Debian userland, unpacked into a folder: no root, no chroot, nothing installed on this machine.

apt works in a state folder of its own, so that it neither reads nor changes what this machine has installed. It
verifies the release's signature and every package as usual. Only the plain release suite is used, since the updates of
different architectures on a mirror may not match.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgecnn.targets.boards import Emulation
from edgecnn.targets.emulation.host_programs import KEYRING, run_program

ARCHITECTURES: Mapping[str, str] = {"aarch64": "arm64", "armv7l": "armhf", "x86_64": "amd64"}
"""Debian's names of architectures."""

MIRROR = "http://deb.debian.org/debian"  # apt verifies signatures, not connections
_TIME_LIMIT = 600.0
_HINT = "check the network, and the sources in /etc/apt, then try again"
# Clear other programs' hooks, which empty the machine's own caches or inform its software centre.
_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear APT::Architectures;
#clear Acquire::Languages;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "";
Acquire::Languages {{ "none"; }};
Acquire::Retries "3";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Debug::NoLocking "true";
Dir::State "{state}";
Dir::State::Lists "{state}/lists";
Dir::State::status "{state}/status";
Dir::State::extended_states "{state}/extended_states";
Dir::Cache "{state}/cache";
Dir::Cache::Archives "{state}/cache/archives";
Dir::Etc::SourceList "{state}/debian.sources";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
"""
_RELEASE = 'PRETTY_NAME="Debian GNU/Linux ({suite})"\nNAME="Debian GNU/Linux"\nID=debian\nVERSION_CODENAME={suite}\n'


@dataclass(frozen=True, slots=True)
class AptSource:
    """A mirror for packages, and the keyring or key to verify them with."""

    uri: str = MIRROR
    signed_by: str = str(KEYRING)

    def stanza(self, suite: str) -> str:
        """Return the source in apt's format."""
        return f"Types: deb\nURIs: {self.uri}\nSuites: {suite}\nComponents: main\nSigned-By: {self.signed_by}\n"


def unpack_userland(architecture: str, emulation: Emulation, folder: Path) -> None:
    """Download packages and their dependencies and unpack them into an empty folder.

    Raises:
        TargetError: apt or dpkg-deb failed.
        OSError: The folder cannot be written.
    """
    subject = f"the {architecture} userland"
    with tempfile.TemporaryDirectory(prefix="apt-", dir=folder.parent) as text:
        state = Path(text)
        _write_state(state, ARCHITECTURES[architecture], debian_source().stanza(emulation.suite))
        apt = ["apt-get", "--quiet=2", "--config-file", str(state / "apt.conf")]
        run_program(subject, [*apt, "update", "--error-on=any"], time_limit=_TIME_LIMIT, hint=_HINT)
        install = [*apt, "--assume-yes", "--download-only", "install", *emulation.packages]
        run_program(subject, install, time_limit=_TIME_LIMIT, hint=_HINT)
        packages = sorted((state / "cache" / "archives").glob("*.deb"))
        for package in packages:
            run_program(subject, ["dpkg-deb", "--extract", str(package), str(folder)], time_limit=_TIME_LIMIT)
    _finish(folder, emulation, [package.name for package in packages])


def _write_state(state: Path, architecture: str, source: str) -> None:
    for inner in ("lists/partial", "cache/archives/partial"):
        (state / inner).mkdir(parents=True)
    (state / "status").touch()
    (state / "debian.sources").write_text(source)
    (state / "apt.conf").write_text(_CONFIGURATION.format(architecture=architecture, state=state))


def _finish(folder: Path, emulation: Emulation, packages: list[str]) -> None:
    for path, target in emulation.links.items():
        (folder / path).unlink(missing_ok=True)
        (folder / path).symlink_to(target)
    (folder / "etc").mkdir(exist_ok=True)
    (folder / "etc" / "ld.so.cache").touch()  # empty: without it the host's file, for other libraries, would be found
    (folder / "etc" / "os-release").write_text(_RELEASE.format(suite=emulation.suite))
    (folder / ".packages").write_text("".join(f"{name}\n" for name in packages))


def debian_source(etc: Path = Path("/etc")) -> AptSource:
    """Return this machine's own mirror if it runs Debian, else Debian's.

    Only the address and the key are used, and no options such as ``Trusted: yes``.
    """
    if not _is_debian(etc / "os-release"):
        return AptSource()
    return next(_sources(etc / "apt"), AptSource())


def _is_debian(release: Path) -> bool:
    try:
        return "ID=debian" in release.read_text().splitlines()
    except OSError:
        return False


def _sources(apt: Path) -> Iterator[AptSource]:
    parts = sorted((apt / "sources.list.d").glob("*")) if (apt / "sources.list.d").is_dir() else []
    for file in [apt / "sources.list", *parts]:
        try:
            text = file.read_text()
        except OSError:
            continue
        found = _deb822(text) if file.suffix == ".sources" else _one_line(text) if file.suffix == ".list" else ()
        yield from (source for source in found if _is_plain(source.uri))


def _is_plain(uri: str) -> bool:
    """Whether an address is a mirror of the archive itself, and not of security updates or other packages."""
    return uri.startswith(("http://", "https://", "file:", "mirror+")) and uri.rstrip("/").endswith("/debian")


def _deb822(text: str) -> Iterable[AptSource]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in "\n".join(lines).split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1].isspace() and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() in {"yes", "true"}:
            for uri in fields.get("uris", "").split():
                yield AptSource(uri, fields.get("signed-by") or str(KEYRING))


def _one_line(text: str) -> Iterable[AptSource]:
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if words[:1] != ["deb"]:
            continue
        options, rest = "", words[1:]
        if rest and rest[0].startswith("["):
            options, _, after = " ".join(rest)[1:].partition("]")
            rest = after.split()
        keys = dict(option.partition("=")[::2] for option in options.split())
        if len(rest) > 1:
            yield AptSource(rest[0], keys.get("signed-by") or str(KEYRING))
