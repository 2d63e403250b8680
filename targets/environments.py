"""Environments for the runtimes that cannot share this interpreter's packages: made, found, removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec

from edgecnn.errors import TargetError, UsageError, near
from edgecnn.targets.runtimes import RUNTIMES
from edgecnn.targets.runtimes.runtime_descriptor import EnvironmentSpec

_RECORD = "environment.json"
_TIME_LIMIT = 900.0
"""Seconds for pip."""
_ABANDONED = 86_400.0
"""Seconds after which an unfinished environment is nobody's."""


ENVIRONMENT_SPECS: Mapping[str, EnvironmentSpec] = MappingProxyType(
    {name: row.environment for name, row in RUNTIMES.items() if row.environment is not None}
)
"""What the environments are made of, by the name of the runtime."""


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    schema: int = 1
    requirements: tuple[str, ...]
    python: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An environment that has been made: the runtime it is for, its folder, and whether its versions are today's."""

    runtime: str
    folder: Path
    requirements: tuple[str, ...]
    current: bool

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "bin" / "python")


def environments_folder() -> Path:
    """Where environments are: ``$XDG_DATA_HOME/edgecnn/environments``, by default below ``~/.local/share``."""
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share") / "edgecnn" / "environments"


def find_environments() -> dict[str, Environment]:
    """The environments that there are, by the runtime they are for."""
    found = {}
    for name, spec in ENVIRONMENT_SPECS.items():
        folder = environments_folder() / name
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            record = msgspec.json.decode((folder / _RECORD).read_bytes(), type=_Record)
            if (folder / "bin" / "python").exists():
                current = record.requirements == spec.requirements
                found[name] = Environment(
                    runtime=name, folder=folder, requirements=record.requirements, current=current
                )
    return found


def setup_environment(
    runtime: str,
    *,
    python: str | None = None,
    progress: Callable[[str], None] | None = None,
    time_limit: float = _TIME_LIMIT,
) -> Environment:
    """Make the environment of a runtime, or replace it: whole and proven to open a model, or not at all.

    Args:
        runtime: A name in `ENVIRONMENT_SPECS`.
        python: The interpreter to make it from; by default the first that fits.
        progress: Told what is being done.
        time_limit: Seconds for pip.

    Raises:
        UsageError: That runtime has no environment of its own.
        TargetError: No Python fits, or pip or the runtime fails. What was there stays then.
    """
    spec, tell = _spec(runtime), progress or (lambda _: None)
    base = python or find_python(runtime)
    with _beside(environments_folder() / runtime) as folder:
        tell(f"making an environment of {base}")
        _run([base, "-m", "venv", str(folder)], f"{runtime}: no environment can be made", time_limit)
        tell(f"installing {', '.join(spec.requirements)}")
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input", "--only-binary=:all:"]
        _run([*pip, "--disable-pip-version-check", *spec.requirements], f"{runtime} cannot be installed", time_limit)
        tell("trying it")
        _prove(runtime, str(folder / "bin" / "python"))
        record = _Record(requirements=spec.requirements, python=base)
        (folder / _RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    return find_environments()[runtime]


def remove_environment(runtime: str) -> bool:
    """Remove the environment of a runtime; whether there was one.

    Raises:
        UsageError: That runtime has no environment of its own.
        TargetError: It cannot be removed.
    """
    _spec(runtime)
    folder = environments_folder() / runtime
    if not folder.exists():
        return False
    doomed = folder.with_name(f".{runtime}.removed-{os.getpid()}")
    try:
        folder.rename(doomed)  # at once, so that nobody meets half of it
        shutil.rmtree(doomed)
    except OSError as error:
        raise TargetError(f"{folder} cannot be removed", why=error.strerror or str(error)) from error
    return True


def find_python(runtime: str) -> str:
    """An interpreter that the runtime has wheels for: this one if it fits, else one on the path.

    Raises:
        TargetError: There is none.
    """
    fitting = _spec(runtime).pythons
    if sys.version_info[:2] in fitting:
        return sys.executable
    for version in fitting:
        name = f"python{version[0]}.{version[1]}"
        path = shutil.which(name)
        if path and _version_of(path) == version:
            return path
    versions = [f"{major}.{minor}" for major, minor in fitting]
    raise TargetError(
        f"no Python here fits {runtime}",
        why=f"its wheels are for Python {', '.join(versions)}; this is {sys.version_info[0]}.{sys.version_info[1]},"
        f" and no python{versions[0]} that runs is on the path",
        hint=f"install Python {versions[0]} (apt, pyenv or uv), or --python /path/to/python{versions[0]}",
    )


def _spec(runtime: str) -> EnvironmentSpec:
    if runtime not in ENVIRONMENT_SPECS:
        raise UsageError(
            f"there is no environment for {runtime!r}",
            why="other runtimes are installed beside edgecnn itself",
            hint=near(runtime, ENVIRONMENT_SPECS),
        )
    return ENVIRONMENT_SPECS[runtime]


def _version_of(python: str) -> tuple[int, int] | None:
    program = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=20, check=True)
        major, minor = done.stdout.split()
        return int(major), int(minor)
    return None


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``folder`` when all went well, and vanishes otherwise."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new-", dir=folder.parent))
    except OSError as error:
        raise TargetError(f"cannot write to {folder.parent}", why=error.strerror or str(error)) from error
    try:
        yield new
        old = new.with_name(new.name + ".old")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what a run that was killed has left beside a folder."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        if left.stat().st_mtime < time.time() - _ABANDONED:
            shutil.rmtree(left, ignore_errors=True)


def _run(command: Sequence[str], failed: str, time_limit: float) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=time_limit, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise TargetError(failed, why=f"no end within {time_limit:g} s", hint="check the network") from error
    except OSError as error:
        raise TargetError(failed, where=command[0], why=error.strerror or str(error)) from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines
        raise TargetError(
            failed,
            where=" ".join(command[:3]),
            why="\n".join(errors[-3:]) or f"exit code {done.returncode}",
            hint="check the network, the disk, and pip's index (--verbose shows all that was said)",
            detail="\n".join(lines),
        )


def _prove(runtime: str, python: str) -> None:
    """Open a model of one operator and run it."""
    import numpy as np

    from edgecnn.targets.hosts.local import LocalHost

    with LocalHost(python, label=f"the new environment for {runtime}").start(time_limit=120) as connection:
        if runtime not in connection.hello().runtimes:
            raise TargetError(f"{runtime} was installed, and cannot be found in its environment", where=python)
        with connection.open(runtime, _tiny_model(), "a model of one operator") as session:
            (answer,) = session.infer([np.array([[-1, 2]], np.float32)])
    if not np.array_equal(answer, [[0, 2]]):
        raise TargetError(f"{runtime} was installed, and says that the ReLU of -1 and 2 is {answer.tolist()}")


def _tiny_model() -> bytes:
    """A TFLite file that holds a ReLU of 1x2."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    model, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    tensors = [schema.TensorT(), schema.TensorT()]
    for index, tensor in enumerate(tensors):
        tensor.name, tensor.shape, tensor.type, tensor.buffer = f"t{index}", [1, 2], schema.TensorType.FLOAT32, 0
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RELU
    code.version = 1
    operator.inputs, operator.outputs, operator.opcodeIndex = [0], [1], 0
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, [operator], [0], [1]
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [schema.BufferT()], [code]
    builder = Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
