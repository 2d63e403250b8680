"""Export and quantize a model of the zoo with litert-torch; `side_by_side.py` runs this under the peers' Python.

``python peer_litert.py MODEL FOLDER``: FOLDER holds ``weights.pt`` (a state dict) and ``calibration.npy``. The script
writes ``peer.fp32.tflite`` and ``peer.int8.tflite`` with litert-torch's defaults (inputs as in torch), and
``peer.fp32.nhwc.tflite`` and ``peer.int8.nhwc.tflite`` with channels-last inputs.
"""

import sys
from pathlib import Path

import litert_torch
import numpy as np
import torch
from ai_edge_quantizer import quantizer, recipe

from edgecnn.models import create_model


def quantize(source, target, inputs):
    from ai_edge_litert.interpreter import Interpreter

    signature, runner = next(iter(Interpreter(str(source)).get_signature_list().items()))
    (name,) = runner["inputs"]
    work = quantizer.Quantizer(str(source))
    work.load_quantization_recipe(recipe.static_wi8_ai8())
    found = work.calibrate({signature: [{name: sample[None]} for sample in inputs]})
    target.unlink(missing_ok=True)
    work.quantize(found).export_model(str(target))


def main():
    name, folder = sys.argv[1], Path(sys.argv[2])
    model = create_model(name)
    model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    inputs = np.load(folder / "calibration.npy")
    sample = torch.from_numpy(inputs[:1])
    forms = {
        "": (model.eval(), sample, inputs),
        ".nhwc": (
            litert_torch.to_channel_last_io(model, args=[0]).eval(),
            sample.permute(0, 2, 3, 1).contiguous(),
            np.ascontiguousarray(inputs.transpose(0, 2, 3, 1)),
        ),
    }
    for form, (module, example, arrays) in forms.items():
        source = folder / f"peer.fp32{form}.tflite"
        litert_torch.convert(module, (example,)).export(str(source))
        quantize(source, folder / f"peer.int8{form}.tflite", arrays)


if __name__ == "__main__":
    main()
