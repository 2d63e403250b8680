"""Load the module that MODEL names, with its weights, in eval mode."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.loading.arguments import Shape
from edgecnn.loading.pt2_files import load_program, program_shapes
from edgecnn.loading.user_files import file_name
from edgecnn.loading.usercode import build_from_code
from edgecnn.loading.weights import load_weights
from edgecnn.models import ZOO, create_model

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that is ready to export.

    Attributes:
        module: The module in eval mode; the module of ``program`` if there is one.
        name: A name for its files: letters, digits, ``_``, ``-``.
        input_shapes: The shape of each input without the batch, if the model declares it, else None.
        notes: Notes for the user.
        program: The program of a ``.pt2`` file, else None.
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
    """Build the model that ``spec`` names. This runs code and ``.pt2`` files: load only what you trust.

    Args:
        spec: A zoo name; ``path/to/file.py:callable`` or ``package.module:callable``, where callable is a class or
            function that returns an ``nn.Module``, or a module itself; or a ``.pt2`` file of ``torch.export.save``.
        arguments: Arguments of the class or function.
        weights: A state dict: ``.pt`` or ``.pth`` (read with ``weights_only=True``), or ``.safetensors``.
        folder: Where relative paths start, and where ``package.module`` is searched first.
        seed: Seed of torch's generator while the model is built. The global state stays unchanged.

    Raises:
        UsageError: if ``spec`` is none of these, or does not accept the arguments or weights.
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
    notes = load_weights(module, weights) if weights else [_no_weights_note(spec, seed)]
    name = spec if spec in ZOO else file_name(spec.rpartition(":")[2])
    return LoadedModel(module=module.eval(), name=name, input_shapes=_declared_shapes(module), notes=notes)


def _no_weights_note(spec: str, seed: int) -> str:
    if spec in ZOO:
        return f"no --weights: random weights, seed {seed}"
    return f"no --weights: the weights are as {spec.rpartition(':')[2]} makes them, seed {seed}"


def _declared_shapes(module: Any) -> tuple[Shape, ...] | None:
    """The module's ``input_shapes`` or ``input_shape``, if the value can be shapes without a batch."""
    shapes: Any = getattr(module, "input_shapes", None)
    with contextlib.suppress(TypeError, AttributeError):  # an attribute of that name may be anything
        found = tuple(tuple(shape) for shape in (shapes if shapes is not None else [module.input_shape]))
        if found and all(1 <= len(shape) <= 3 and all(type(n) is int and n > 0 for n in shape) for shape in found):
            return found
    return None
