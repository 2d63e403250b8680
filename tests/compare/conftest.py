"""Both runtimes in one agent, and files to compare on them."""

from __future__ import annotations

import pytest
from onnx import helper, numpy_helper
from support.hostile import Reused

from edgecnn.compare import Options, compare_files
from edgecnn.targets.target import Target


@pytest.fixture(scope="session")
def targets():
    """Both runtimes, with one agent for all."""
    host = Reused()
    yield [Target(runtime=name, host=host, name=f"{name}@local", asked_for=False) for name in ("onnxruntime", "litert")]
    host.end()


@pytest.fixture
def write(tmp_path):
    """Write an ONNX file of some nodes."""

    def save(name, nodes, inputs, outputs, constants=()):
        graph = helper.make_graph(
            [helper.make_node(*args, **attributes) for *args, attributes in nodes],
            "g",
            [helper.make_tensor_value_info(*value) for value in inputs],
            [helper.make_tensor_value_info(*value) for value in outputs],
            [numpy_helper.from_array(array, key) for key, array in dict(constants).items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return save


@pytest.fixture
def compare(targets):
    def run(a, b, /, **options):
        return compare_files(a, b, options=Options(**options), targets=targets)

    return run
