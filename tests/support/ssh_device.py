"""A device with a runtime whose artifacts are Python statements, and what tests over ssh do with it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgecnn.errors import TargetError

X = np.array([1], np.float32)
FAKE_RUNTIME = '''
"""A runtime whose artifacts are Python statements; they run at each inference."""
import numpy as np
class OpResolverType:
    BUILTIN = BUILTIN_REF = BUILTIN_WITHOUT_DEFAULT_DELEGATES = 0
class Interpreter:
    def __init__(self, model_content, num_threads, experimental_op_resolver_type):
        self.code = compile(bytes(model_content), "artifact", "exec")
    def allocate_tensors(self):
        pass
    def get_input_details(self):
        quantization = {"scales": [], "zero_points": []}
        shape = np.array([1])
        return [{"name": "x", "index": 0, "shape": shape, "shape_signature": shape, "dtype": np.float32,
                 "quantization_parameters": quantization}]
    get_output_details = get_input_details
    def _get_full_signature_list(self):
        return {}
    def set_tensor(self, index, value):
        self.x = value
    def invoke(self):
        exec(self.code)
    def get_tensor(self, index):
        return self.x
'''
STATEMENTS = "import ctypes, os, signal, time\nopen({note!r}, 'w').write(str(os.getpid()))\n"


def artifact(note, statements):
    return (STATEMENTS.format(note=str(note)) + statements).encode()


def noted(note):
    """The process id, once there is one."""
    for _ in range(1000):
        if note.exists() and note.read_text():
            return int(note.read_text())
        time.sleep(0.02)
    return pytest.fail("nothing was noted")


def refusal(server, **kwargs):
    with pytest.raises(TargetError) as caught:
        server.host(**kwargs).start()
    return caught.value


def program(folder, name, text, mode=0o755):
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return str(path)
