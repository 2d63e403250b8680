"""The common part of integer writers: inputs and outputs of another type, which operators convert."""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgecnn.export.tflite.write import StoredTensor, TfliteWriter
from edgecnn.graph.graph import Input
from edgecnn.graph.ops import ValueName


class QuantizedWriter(TfliteWriter):
    """The float writer with integer tensors. Inputs and outputs are float32, quantized and dequantized by operators."""

    def to_outside(self) -> tuple[str, str] | None:
        """The operator, and its options, that makes integers an output; None where outputs are the integers."""
        return "DEQUANTIZE", "DequantizeOptions"

    def make_outside(self, tensor: StoredTensor) -> None:
        """Give an input or output its public type."""
        self._model_tensors[tensor.index].type = schema.TensorType.FLOAT32
        self._model_tensors[tensor.index].quantization = None

    def _place_input(self, value: Input) -> StoredTensor:
        given = super()._place_input(value)
        if self.to_outside() is None:
            return given
        self.make_outside(given)
        tensor = self._value_tensor(f"{value.name}.q", value.shape, given.axes, public=False, value=value.name)
        self._append("QUANTIZE", [given.index], tensor.index, ("QuantizeOptions", {}), 1)
        self._stored[value.name] = [tensor]
        return given

    def _output_tensor(self, value: ValueName) -> StoredTensor:
        integers = super()._output_tensor(value)
        conversion = self.to_outside()
        if conversion is None:
            return integers
        self._model_tensors[integers.index].shapeSignature = None
        name = next(o.name for o in self.graph.outputs if o.value == value)
        given = self._value_tensor(name, self.graph.shapes[value], integers.axes, public=True, value=value)
        self.make_outside(given)
        operator, options = conversion
        self._append(operator, [integers.index], given.index, (options, {}), 1)
        return given
