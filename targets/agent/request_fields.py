"""Checks of what a request brings: fields, options, the artifact, inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.targets.agent.messages import Message
from edgecnn.targets.agent.refusal_error import RefusalError
from edgecnn.targets.agent.runtime_session import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray


def required_field(request: Message, name: str, expected: type) -> Any:
    """Return a field of exactly the expected type.

    Raises:
        RefusalError: It is missing or of another type.
    """
    value = request.fields.get(name)
    if type(value) is not expected:
        raise RefusalError("protocol", f"{request.kind}: {name} is missing or not of type {expected.__name__}")
    return value


def check_options(runtime: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a runtime's options: the given ones, and the defaults of the others.

    Raises:
        RefusalError: The runtime has no such option, or a value is of the wrong type or out of range.
    """
    for name, value in given.items():
        if name not in defaults:
            raise RefusalError("input", f"{runtime} has no option {name!r}, only {', '.join(defaults)}")
        if type(value) is not type(defaults[name]):
            raise RefusalError("input", f"{name} is {value!r}, not of type {type(defaults[name]).__name__}")
    options = {**defaults, **given}
    if not 1 <= options.get("threads", 1) <= 256:
        raise RefusalError("input", f"threads is {options['threads']}, not from 1 to 256")
    return options


def received_artifact(request: Message, expected: str) -> bytes:
    """Return the artifact that a request brings.

    Raises:
        RefusalError: There is none, or its SHA-256 is not the expected one.
    """
    if len(request.arrays) != 1 or request.arrays[0].dtype != np.uint8 or request.arrays[0].size == 0:
        raise RefusalError("protocol", "open: the artifact is not one array of uint8 with at least one byte")
    artifact = request.arrays[0].tobytes()
    actual = hashlib.sha256(artifact).hexdigest()
    if actual != expected:
        raise RefusalError("protocol", f"open: the artifact arrived with SHA-256 {actual}, not {expected}")
    return artifact


def ordered_inputs(request: Message, inputs: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Return the arrays of a request in the artifact's order; without the field ``names`` they already are.

    Raises:
        RefusalError: Their number or names do not match the artifact's inputs.
    """
    wanted = [tensor.name for tensor in inputs]
    names = request.fields.get("names", wanted)
    if len(request.arrays) != len(wanted):
        raise RefusalError("input", f"{len(request.arrays)} inputs are given, the artifact has {len(wanted)}: {wanted}")
    if names == wanted:
        return list(request.arrays)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RefusalError("protocol", "infer: names is not a list of strings")
    if sorted(names) != sorted(wanted):
        raise RefusalError("input", f"the inputs are named {wanted}, not {names}")
    by_name = dict(zip(names, request.arrays))
    return [by_name[name] for name in wanted]


def check_inputs(inputs: Sequence[Tensor], arrays: Sequence[NDArray[Any]]) -> None:
    """Compare arrays with the artifact's inputs. The first axis is the batch: only the runtime can judge it.

    Raises:
        RefusalError: A type or shape does not match.
    """
    for tensor, array in zip(inputs, arrays):
        if array.dtype.name != tensor.dtype:
            raise RefusalError("input", f"input {tensor.name} is {tensor.dtype}; {array.dtype.name} is given")
        fits = len(array.shape) == len(tensor.shape) and all(
            want is None or want == got for want, got in zip(tensor.shape[1:], array.shape[1:])
        )
        if not fits:
            shape = ", ".join("any" if size is None else str(size) for size in tensor.shape)
            raise RefusalError("input", f"input {tensor.name} has the shape ({shape}); {array.shape} is given")
