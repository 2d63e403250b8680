"""What tests share: agents that run artifacts, one process per runtime for the whole session."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# One thread in each worker, told before numpy and torch are there: threads of theirs wait for each other by turning in
# circles, which with a worker on every core is most of what they do.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings
from support.boards import Boards
from support.command import Command
from support.environments import Agents
from support.exporters import RUNTIMES, SEARCH
from support.shared_host import shared_target

from edgecnn.export.written import Written
from edgecnn.graph.graph import Graph
from edgecnn.targets.hosts.local import LocalHost
from edgecnn.targets.target import Target

# The same examples in every run, so that CI fails for a change and for nothing else; EDGECNN_SEARCH=1 draws new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile("search" if SEARCH else "repeatable")

# What is tested here is not what the job that tests it should say of itself.
for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
    os.environ.pop(name, None)

# In a shell's background Ctrl-C is ignored, and would be in every program that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Keep what will not end before the tests do (modules, items) from being searched at every collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def shared_graphs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Workers have the graphs of cases from each other."""
    from cases import base as cases_base

    own = tmp_path_factory.getbasetemp()
    cases_base.SHARED = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "graphs"
    cases_base.SHARED.mkdir(exist_ok=True)


@pytest.fixture(scope="session")
def agent() -> Iterator[Any]:
    """An agent in a process of its own."""
    with LocalHost().start() as connection:
        yield connection


@pytest.fixture(scope="session")
def agent_for(agent: Any) -> Iterator[Agents]:
    """The agent that has a runtime: ``agent_for("tflite-micro")``. Where there is none, the test is skipped."""
    with ExitStack() as stack:
        yield Agents(agent, stack)


@pytest.fixture(scope="session")
def boards() -> Iterator[Boards]:
    """Agents on emulated boards: ``boards("pi4", "litert")``."""
    with ExitStack() as stack:
        yield Boards(stack)


@pytest.fixture(scope="session")
def here(agent: Any) -> list[Target]:
    """Both runtimes beside edgecnn in that agent, where a process for each artifact is not what is tested."""
    return [shared_target(agent, runtime) for runtime in RUNTIMES.values()]


@pytest.fixture(scope="session")
def infer(agent: Any) -> Callable[..., list[np.ndarray]]:
    """Run an artifact on inputs in torch's layout; outputs come back in it."""

    def run(form: str, graph: Graph, written: Written, inputs: Sequence[Any]) -> list[np.ndarray]:
        with agent.open(RUNTIMES[form], written.data, f"case.{form}") as session:
            stored = [
                np.ascontiguousarray(np.asarray(x).transpose(written.axes[i.name]))
                for x, i in zip(inputs, graph.inputs, strict=True)
            ]
            outputs = session.infer(stored)
        return [
            o.transpose(np.argsort(written.axes[name.name])) for o, name in zip(outputs, graph.outputs, strict=True)
        ]

    return run


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A net of one convolution in fp32 and int8, in both formats. Not to be changed."""
    from support.hostile import good_bundle

    return good_bundle(tmp_path_factory.mktemp("small") / "net")


@pytest.fixture
def alone(small_bundle: Any, tmp_path: Path) -> dict[str, Path]:
    """The artifacts of ``small_bundle`` in a folder without its manifest, by ``FORMAT PRECISION``."""
    return {f"{a.format} {a.precision}": shutil.copy(a.path, tmp_path / a.path.name) for a in small_bundle.artifacts}


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A bundle of one file, in fp32 and TFLite, for tests to which the net does not matter. Not to be changed."""
    import torch
    from support.nets import small_net

    import edgecnn

    folder = tmp_path_factory.mktemp("single") / "net"
    return edgecnn.export_model(small_net().eval(), torch.zeros(1, 1, 8, 8), folder, name="net", formats=["tflite"])


@pytest.fixture(scope="session")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A net that says whether the left or the right half of an image is brighter. Not to be changed."""
    import torch
    from torch import nn

    import edgecnn
    from edgecnn.data.preprocessing import Preprocessing

    module = nn.Sequential(nn.Conv2d(1, 2, 8, bias=False), nn.Flatten()).eval()
    with torch.no_grad():
        module[0].weight.zero_()
        module[0].weight[0, 0, :, :4] = module[0].weight[1, 0, :, 4:] = 9 / 32
    return edgecnn.export_model(
        module,
        torch.zeros(1, 1, 8, 8),
        tmp_path_factory.mktemp("sides") / "b",
        name="sides",
        preprocessing=Preprocessing(scale=1 / 255),
        class_labels=("left", "right"),
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of the user's own, empty, and a project to stand in."""
    for name in ("CONFIG", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "edgecnn"))
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process."""
    return Command(monkeypatch, capfd)
