"""The smallest artifacts: two inputs, a sum and a relu, in both formats."""

from __future__ import annotations

import numpy as np


def onnx_model():
    """left + right and relu(left), of shape (N, 4)."""
    from onnx import TensorProto, helper

    def value(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4])

    nodes = [helper.make_node("Relu", ["left"], ["relu"]), helper.make_node("Add", ["left", "right"], ["sum"])]
    graph = helper.make_graph(nodes, "two", [value("right"), value("left")], [value("sum"), value("relu")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def tflite_tensor(name, shape, dtype="FLOAT32", quantization=None):
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name, shape, getattr(schema.TensorType, dtype)
    if quantization:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [quantization[0]], [quantization[1]]
    return tensor


def tflite_file(tensors, operators, inputs, outputs, signature=()):
    """A TFLite file of operators without options: rows of (name, input tensors, output tensors)."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    graph.tensors, graph.inputs, graph.outputs = tensors, inputs, outputs
    model.operatorCodes, graph.operators, model.signatureDefs = [], [], []
    for name, reads, writes in operators:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = 2 if name == "DEQUANTIZE" else 1
        operator.opcodeIndex, operator.inputs, operator.outputs = len(model.operatorCodes), reads, writes
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    for key, names in signature:
        definition = schema.SignatureDefT()
        definition.signatureKey, definition.subgraphIndex = key, 0
        definition.inputs = [tensor_map(name, index) for name, index in names.items() if index in inputs]
        definition.outputs = [tensor_map(name, index) for name, index in names.items() if index in outputs]
        model.signatureDefs.append(definition)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def tensor_map(name, index):
    from ai_edge_litert import schema_py_generated as schema

    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


NAMES = {"relu": 3, "sum": 2, "left": 0, "right": 1}


def tflite_model(signature=(("serving_default", NAMES),)):
    """As `onnx_model`, of shape (1, 4); the tensors are named t0 to t3."""
    tensors = [tflite_tensor(f"t{index}", [1, 4]) for index in range(4)]
    return tflite_file(tensors, [("ADD", [0, 1], [2]), ("RELU", [0], [3])], [1, 0], [2, 3], signature)


def dequantize_model():
    """int8 to float32 at scale 0.5 and zero point 3."""
    tensors = [tflite_tensor("q", [1, 4], "INT8", (0.5, 3)), tflite_tensor("real", [1, 4])]
    return tflite_file(tensors, [("DEQUANTIZE", [0], [1])], [0], [1])


MODELS = {"onnxruntime": onnx_model, "litert": tflite_model}


GOOD = [np.zeros((1, 4), np.float32)] * 2
