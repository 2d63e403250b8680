"""From what the user writes for MODEL to a module with its weights, in eval mode."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.loading.arguments import Shape
from edgecnn.loading.files import file_name
from edgecnn.loading.programs import load_program, program_shapes
from edgecnn.loading.usercode import build_from_code
from edgecnn.loading.weights import load_weights
from edgecnn.models import ZOO, create_model

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model, ready to be exported.

    Attributes:
        module: The module, in eval mode (the module of ``program``, where that is given).
        name: A name for files made from it: letters, digits, ``_``, ``-``.
        input_shapes: The shape of each input without the batch, where the model says so, else None.
        notes: What the user should hear.
        program: What a ``.pt2`` file held, else None.
    """

    module: nn.Module
    name: str
    input_shapes: tuple[Shape, ...] | None
    notes: list[str] = field(default_factory=list)
    program: torch.export.ExportedProgram | None = None


def load_module(
    spec: str,
    *,
    arguments: Mapping[str, object] | None = None,
    weights: Path | None = None,
    seed: int = 0,
    folder: Path = Path(),
) -> LoadedModel:
    """Build the model that ``spec`` names. Code and ``.pt2`` files are run: load only what you trust.

    Args:
        spec: A zoo name; ``path/to/file.py:callable`` or ``package.module:callable``, where callable is a class or
            function that gives an ``nn.Module``, or a module itself; or a ``.pt2`` file of ``torch.export.save``.
        arguments: Passed to the class or function.
        weights: A state dict: ``.pt`` or ``.pth`` (read with ``weights_only=True``), or ``.safetensors``.
        folder: Where relative paths start, and where ``package.module`` is looked for first.
        seed: Of torch's generator while the model is built. The global state is left as it was.

    Raises:
        UsageError: if ``spec`` is none of these, or is combined with what it cannot take.
        ModelError: if the user's code fails, or the weights cannot be read or do not fit.
    """
    import torch

    arguments = arguments or {}
    if spec.endswith(".pt2"):
        path = folder / spec
        program = load_program(path, arguments, weights)
        return LoadedModel(
            module=program.module(), name=file_name(path.stem), input_shapes=program_shapes(program), program=program
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = create_model(spec, **arguments) if spec in ZOO else build_from_code(spec, arguments, folder)
    notes = load_weights(module, weights) if weights else [_unweighted(spec, seed)]
    name = spec if spec in ZOO else file_name(spec.rpartition(":")[2])
    return LoadedModel(module=module.eval(), name=name, input_shapes=_declared_shapes(module), notes=notes)


def _unweighted(spec: str, seed: int) -> str:
    if spec in ZOO:
        return f"no --weights: random weights, seed {seed}"
    return f"no --weights: the weights are as {spec.rpartition(':')[2]} makes them, seed {seed}"


def _declared_shapes(module: Any) -> tuple[Shape, ...] | None:
    """What ``input_shapes`` or ``input_shape`` of the module says, when that can be shapes without a batch."""
    shapes: Any = getattr(module, "input_shapes", None)
    with contextlib.suppress(TypeError, AttributeError):  # an attribute of that name may be anything
        found = tuple(tuple(shape) for shape in (shapes if shapes is not None else [module.input_shape]))
        if found and all(1 <= len(shape) <= 3 and all(type(n) is int and n > 0 for n in shape) for shape in found):
            return found
    return None
