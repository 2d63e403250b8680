"""A first ``edgecnn.toml`` for a project, and a GitHub workflow that runs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from edgecnn.targets.config import Config
from edgecnn.targets.environments import ENVIRONMENT_SPECS
from edgecnn.targets.names import LOCAL, parse_target
from edgecnn.tomlfile import toml_key, toml_value


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProject:
    """The values of a new ``edgecnn.toml``.

    Attributes:
        name: The model's name.
        model: What to export: a zoo name, ``file.py:callable``, ``package.module:callable`` or a ``.pt2`` file.
        weights: The file of its weights; empty for none.
        shape: The shape of its input; empty if the model or the data has it.
        data: Where samples come from; empty for none.
        precisions: The precisions to export.
        targets: Where to check it; empty for the runtimes installed here.
    """

    name: str
    model: str
    weights: str
    shape: str
    data: str
    precisions: tuple[str, ...]
    targets: tuple[str, ...]


def project_text(project: NewProject) -> str:
    """The text of the file, with a comment on each key."""
    optional = "# " if not project.data else ""
    data = project.data or "folder:photos"
    targets = f"targets = {toml_value(list(project.targets))}"
    if not project.targets:
        targets = '# targets = ["litert", "onnxruntime@pi4"]  # by default the runtimes installed here'
    lines = [
        "# What `edgecnn ci` does: export every model, check it on every target, hold it to its budgets.",
        "# Paths are relative to this file. Keys above the models apply to all of them; a table of a model,",
        "# such as [model.NAME.export], overrides them. docs/ci.md has all keys.",
        "",
        targets,
        f"{optional}data = {toml_value(data)}  # golden inputs, int8 ranges, and the samples of the check",
        "",
        "[export]",
        f"precisions = {toml_value(list(project.precisions))}",
        '# directory = "build"  # each model has a folder in it',
        "",
        "# [limits]  # replace the defaults or add to them",
        "# accuracy_drop = 0.02",
        "# int8.lsb_mean = 0.7",
        "",
        "# [baselines]  # folders; `edgecnn ci --save-baselines` writes them; commit them",
        '# check = "baselines"',
        '# bench = "baselines"',
        "",
        "# [budget]",
        "# size_kb = 200",
        '# [budget."*@pi4"]  # an emulated board counts instructions, a real one is timed',
        "# instructions_m = 2",
        "",
        f"[model.{toml_key(project.name)}]",
        f"model = {toml_value(project.model)}",
        *([f"weights = {toml_value(project.weights)}"] if project.weights else ['# weights = "net.pt"']),
        *([f"input_shape = {toml_value(project.shape)}"] if project.shape else []),
    ]
    return "\n".join(lines) + "\n"


def workflow_text(targets: Sequence[str], config: Config) -> str:
    """A GitHub Actions workflow that runs the project.

    Args:
        targets: Where the project is checked and measured.
        config: The known hosts. Emulated boards are built first.
    """
    names = [parse_target(target, hosts=config.hosts) for target in targets]
    hosts = dict.fromkeys(n.host for n in names if n.host in config.hosts)
    boards = [config.hosts[host].board for host in hosts if config.hosts[host].kind == "emulated"]
    own = [n.runtime for n in names if n.host == LOCAL and n.runtime in ENVIRONMENT_SPECS]
    far = [n.host for n in names if n.host != LOCAL and (n.host not in hosts or config.hosts[n.host].kind == "ssh")]
    runner = f"self-hosted  # one that reaches {', '.join(dict.fromkeys(far))}" if far else "ubuntu-latest"
    lines = [
        "name: edgecnn",
        "on: [push, pull_request]",
        "permissions:",
        "  contents: read",
        "jobs:",
        "  edgecnn:",
        f"    runs-on: {runner}",
        "    steps:",
        "      - uses: actions/checkout@v4",
        "      - uses: actions/setup-python@v5",
        "        with:",
        f'          python-version: "{sys.version_info.major}.{sys.version_info.minor}"',
        "      - run: python -m pip install edgecnn  # as your project installs it",
        *(_boards(boards) if boards else []),
        *(f"      - run: edgecnn targets setup {runtime}" for runtime in dict.fromkeys(own)),
        "      - run: edgecnn ci --json edgecnn.json --junit edgecnn.xml",
        "      - uses: actions/upload-artifact@v4",
        "        if: always()",
        "        with:",
        "          name: edgecnn",
        "          path: |",
        "            edgecnn.json",
        "            edgecnn.xml",
    ]
    return "\n".join(lines) + "\n"


def _boards(boards: Sequence[str]) -> list[str]:
    packages = "qemu-user debian-archive-keyring"
    return [
        f"      - run: sudo apt-get update && sudo apt-get install -y --no-install-recommends {packages}",
        f"      - run: edgecnn targets emulate {' '.join(boards)}",
    ]
