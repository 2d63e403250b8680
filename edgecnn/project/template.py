"""An ``edgecnn.toml`` to begin with, and the lines that run it on GitHub."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from edgecnn.targets.config import Config
from edgecnn.targets.environments import ENVIRONMENT_SPECS
from edgecnn.targets.names import LOCAL, parse_target
from edgecnn.tomlfile import toml_key, toml_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a new project says of itself.

    Attributes:
        name: The model's name.
        model: What it is.
        weights: Its weights' file; empty for none.
        shape: Of its input, where the model does not say; empty for that.
        data: Where samples come from; empty for none.
        precisions: What is exported.
        targets: Where it is checked; empty for the runtimes beside edgecnn.
    """

    name: str
    model: str
    weights: str
    shape: str
    data: str
    precisions: tuple[str, ...]
    targets: tuple[str, ...]


def project_text(answers: Answers) -> str:
    """The file, with a word on each key."""
    optional = "# " if not answers.data else ""
    data = answers.data or "folder:photos"
    targets = f"targets = {toml_value(list(answers.targets))}"
    if not answers.targets:
        targets = '# targets = ["litert", "onnxruntime@pi4"]  # by default the runtimes beside edgecnn'
    lines = [
        "# What `edgecnn ci` does: export every model, check it on every target, hold it to its budgets.",
        "# Paths are relative to this file. What stands above the models holds for all of them; a table of a model,",
        "# such as [model.NAME.export], says what is different for it. docs/ci.md has all keys.",
        "",
        targets,
        f"{optional}data = {toml_value(data)}  # golden inputs, int8 ranges, and the samples of the check",
        "",
        "[export]",
        f"precisions = {toml_value(list(answers.precisions))}",
        '# directory = "build"  # each model has a folder in it',
        "",
        "# [limits]  # instead of the defaults, or besides",
        "# accuracy_drop = 0.02",
        "# int8.lsb_mean = 0.7",
        "",
        "# [baselines]  # folders; `edgecnn ci --save-baselines` writes them, and they belong into the repository",
        '# check = "baselines"',
        '# bench = "baselines"',
        "",
        "# [budget]",
        "# size_kb = 200",
        '# [budget."*@pi4"]  # an emulated board counts instructions, a real one is timed',
        "# instructions_m = 2",
        "",
        f"[model.{toml_key(answers.name)}]",
        f"model = {toml_value(answers.model)}",
        *([f"weights = {toml_value(answers.weights)}"] if answers.weights else ['# weights = "net.pt"']),
        *([f"input_shape = {toml_value(answers.shape)}"] if answers.shape else []),
    ]
    return "\n".join(lines) + "\n"


def workflow_text(targets: Sequence[str], config: Config) -> str:
    """A GitHub Actions workflow that runs the project.

    Args:
        targets: Where it is checked and measured.
        config: The hosts there are: boards that are emulated are built first.
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
