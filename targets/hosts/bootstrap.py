"""The few lines of Python that start the agent. They read its source from stdin, so that no file is needed.

On this machine that is all they do. At the far end of ssh they also leave a supervisor, which reads and imports almost
nothing, so that it outlives whatever a runtime does to the agent. It reports how the agent ended, which ssh itself does
not, and it kills the agent once nobody listens any more: an agent that hangs in native code, or is stopped, cannot.

Their own words begin with a random marker, since a login shell's start-up files may print before them, and a runtime at
any time:

    stdout  MARKER 3.11.2        once the interpreter runs
    stderr  MARKER signal 11     once the agent has ended, or MARKER exit 1
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

# With -c, sys.path begins with an empty name for the current folder, whose files could shadow modules.
_NO_CURRENT_FOLDER = "import sys; sys.path[:] = [folder for folder in sys.path if folder]"

# Python 2 must be able to parse these, up to the line that ends it.
_FUNCTIONS = f"""
{_NO_CURRENT_FOLDER}
import os
def read_agent(size):
    source = b""
    while len(source) < size:
        part = os.read(0, size - len(source))
        if not part:
            sys.exit(0)
        source += part
    return source
def run_agent(source):
    import linecache
    linecache.cache["<agent>"] = (len(source), None, source.decode().splitlines(True), "<agent>")
    sys.argv[:] = ["<agent>"]
    exec(compile(source, "<agent>", "exec"), globals())
    sys.exit(0)
"""

LOCAL_BOOTSTRAP = f"""{_FUNCTIONS}
run_agent(read_agent(int(sys.argv[1])))
"""

BOOTSTRAP = f"""{_FUNCTIONS}
marker, size = sys.argv[1], int(sys.argv[2])
os.write(1, ("\\n%s %d.%d.%d\\n" % ((marker,) + tuple(sys.version_info[:3]))).encode())
if sys.version_info < (3, 9):
    sys.exit(0)
source = read_agent(size)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    run_agent(source)
import select, signal, threading, time
def kill():
    try:
        os.killpg(child, signal.SIGKILL)
    except OSError:
        pass
def watch():
    poll = select.poll()
    poll.register(0, select.POLLRDHUP)
    poll.register(1, select.POLLRDHUP)
    poll.poll()
    time.sleep(0.5)
    kill()
threading.Thread(target=watch, daemon=True).start()
status = os.waitpid(child, 0)[1]
kill()
how = "signal %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) else "exit %d" % os.WEXITSTATUS(status)
os.write(2, ("\\n%s %s\\n" % (marker, how)).encode())
os._exit(0)
"""


def remote_command(python: str, marker: str, size: int, environment: dict[str, str]) -> str:
    """Return the command, for any login shell: sh, bash, zsh, fish or csh.

    Args:
        python: The interpreter: a name, a path, or one that begins with ``~/``; see `is_quotable`.
        marker: Letters and digits.
        size: Bytes of source that will be sent.
        environment: Variables: plain names and values.
    """
    settings = " ".join(f"{name}={value}" for name, value in environment.items())
    code = base64.b64encode(BOOTSTRAP.encode()).decode()  # has no character that any shell interprets
    return (
        f"exec env {settings} {_quoted(python)} -c"
        f" '{_NO_CURRENT_FOLDER}; import base64; exec(base64.b64decode(\"{code}\"))' {marker} {size}"
    )


def is_quotable(python: str) -> bool:
    """Whether every shell reads the interpreter's path unchanged when it stands in single quotes."""
    return bool(python) and python.isprintable() and not set(python) & set("'\\!") and not python.startswith("-")


def _quoted(python: str) -> str:
    return f"~/'{python[2:]}'" if python.startswith("~/") else f"'{python}'"


@dataclass(frozen=True, slots=True)
class Report:
    """How the agent ended: by a signal or with an exit code."""

    signal: int | None
    code: int | None


def split_report(words: str, marker: str) -> tuple[str, Report | None]:
    """Return stderr without the supervisor's report, and the report, if there is one."""
    found = re.search(rf"\n?^{marker} (signal|exit) (\d{{1,3}})$\n?", words, re.MULTILINE)
    if found is None:
        return words, None
    number = int(found[2])
    report = Report(number, None) if found[1] == "signal" else Report(None, number)
    return words[: found.start()] + words[found.end() :], report


def split_start(noise: bytes, marker: str) -> tuple[bytes, tuple[int, int, int]] | None:
    """Return what was printed before the interpreter ran, and its version; None while no version has been printed."""
    found = re.search(rb"\n?^" + marker.encode() + rb" (\d{1,3})\.(\d{1,3})\.(\d{1,3})\r?\n", noise, re.MULTILINE)
    if found is None:
        return None
    return noise[: found.start()], (int(found[1]), int(found[2]), int(found[3]))
