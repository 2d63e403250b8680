"""Fit a model to a data set, the same way every time, and save its weights."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgecnn.data.dataset import Dataset, Indices
from edgecnn.errors import DataError, ModelError, UsageError

DEFAULT_EPOCHS = 15
"""Enough for conv_pool and lenet5 to recognise 98 % of the held-out digits; resnet8 needs 5 only."""

DEFAULT_LEARNING_RATE = 3e-3
WEIGHT_ENDINGS = (".pt", ".pth", ".safetensors")
"""How a file of weights may be named."""

_IN_MEMORY = 512 * 2**20
"""Training images of up to this many bytes are decoded once and kept, instead of once per epoch."""

_EVALUATION_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where training is, after each step. Epochs and steps count from 1; ``loss`` is that step's cross-entropy."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the training part: its number from 1, mean cross-entropy, and accuracy (0..1) on the test part."""

    number: int
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What came of it: the accuracy (0..1) on the test part after the last epoch, and every epoch before."""

    accuracy: float
    history: tuple[Epoch, ...]


def train_model(
    module: nn.Module,
    train: Dataset,
    test: Dataset,
    *,
    epochs: int = DEFAULT_EPOCHS,
    seed: int = 0,
    batch_size: int = 64,
    learning_rate: float = DEFAULT_LEARNING_RATE,
    augment: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingResult:
    """Fit ``module`` in place with AdamW and a one-cycle learning rate; it is left in eval mode.

    The same seed gives the same weights to the last bit, on the same machine with the same number of threads. The
    global random state is left as it was. The weights of the last epoch are kept, not those of the best one: choosing
    by the test part would make its accuracy look better than it is.

    Args:
        module: Takes float32 images of shape (N, C, H, W), gives logits of shape (N, classes).
        train: Labelled images to learn from.
        test: Labelled images to measure on, none of which is in ``train``.
        epochs: How many times all training images are seen.
        seed: Of shuffling, shifts and dropout; the initial weights are the module's own.
        batch_size: Images per step. A smaller rest of an epoch is left out, and comes in another one.
        learning_rate: The highest of the cycle.
        augment: Shift every image at random by up to 1/14 of its side (2 of 28 pixels).
        progress: Called after every step.

    Raises:
        UsageError: if epochs, batch size or learning rate have no meaning.
        DataError: if labels are missing, or an image cannot be read.
        ModelError: if the module cannot run or be trained on the images, or the loss becomes NaN or infinite.
    """
    _check_numbers(epochs, batch_size, learning_rate)
    labels = _labels(train)
    _check_outputs(module, test, classes=max(int(labels.max()), int(_labels(test).max())) + 1)
    run = _Run(
        module,
        train,
        labels,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        rng=np.random.default_rng(seed),
        augment=augment,
        progress=progress,
    )
    history = []
    with _deterministic(seed):
        for number in range(1, epochs + 1):
            loss = run.epoch(number)
            history.append(Epoch(number=number, loss=loss, accuracy=evaluate_model(module, test)))
    _check_finite_weights(module)
    return TrainingResult(accuracy=history[-1].accuracy, history=tuple(history))


def evaluate_model(module: nn.Module, data: Dataset) -> float:
    """The share (0..1) of the images whose highest logit is at their label. The module is left in eval mode.

    Raises:
        DataError: if the images have no labels, or one cannot be read.
    """
    labels = torch.from_numpy(_labels(data))
    module.eval()
    right = 0
    with torch.inference_mode():
        for start, (images, _) in enumerate(data.batches(_EVALUATION_BATCH)):
            best = module(torch.from_numpy(images)).argmax(1)
            right += int((best == labels[start * _EVALUATION_BATCH :][: len(best)]).sum())
    return right / len(labels)


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the module's state dict: the whole file or none, and the same bytes for the same weights.

    Args:
        module: Whose parameters and buffers are saved.
        path: Ends in ``.pt`` or ``.pth`` (torch) or ``.safetensors``. Its folder is made if need be; a file that is
            there is replaced at once.

    Raises:
        UsageError: if the ending is another one.
        ModelError: if the file cannot be written.
    """
    check_weights_path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(_encoded(module.state_dict(), path.suffix))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ModelError("the weights cannot be written", where=str(path), why=error.strerror or str(error)) from error
    finally:
        with suppress(OSError):  # it is gone already, or its folder never was
            temporary.unlink()


def check_weights_path(path: Path) -> None:
    """Refuse a path that :func:`save_weights` could not write to, before hours of training are spent on it.

    Raises:
        UsageError: if it does not end as a file of weights does, or is a folder.
    """
    if path.suffix not in WEIGHT_ENDINGS:
        raise UsageError(
            f"weights are not written as {path.suffix or 'a file without ending'}",
            where=str(path),
            hint=f"{path.with_suffix('.pt').name} or {path.with_suffix('.safetensors').name}",
        )
    if path.is_dir():
        raise UsageError("this is a folder", where=str(path), hint=f"{path}/weights.pt")


def _encoded(state: dict[str, torch.Tensor], ending: str) -> bytes:
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    if ending == ".safetensors":
        from safetensors.torch import save

        return bytes(save(copies))
    buffer = io.BytesIO()  # given a path, torch.save would write its name into the file
    torch.save(copies, buffer)
    return buffer.getvalue()


class _Run:
    """One training: the optimiser, the schedule, and where images come from."""

    def __init__(
        self,
        module: nn.Module,
        train: Dataset,
        labels: Indices,
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        rng: np.random.Generator,
        augment: bool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.module = module
        self.images = _images(train)
        self.labels = torch.from_numpy(labels)
        self.batch_size = min(batch_size, len(train))
        self.steps = len(train) // self.batch_size
        self.epochs = epochs
        self.augment = augment
        self.rng = rng
        self.progress = progress
        parameters = [p for p in module.parameters() if p.requires_grad]
        if not parameters:
            raise ModelError("the model has nothing to train", why="no parameter of it requires a gradient")
        self.optimizer = torch.optim.AdamW(parameters, lr=learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=learning_rate, total_steps=epochs * self.steps
        )

    def epoch(self, number: int) -> float:
        """One pass over the shuffled images; the mean loss."""
        self.module.train()
        order = self.rng.permutation(len(self.labels))
        losses = []
        for step in range(self.steps):
            loss = self.step(order[step * self.batch_size :][: self.batch_size])
            if not math.isfinite(loss):
                raise _diverged(f"the loss became {loss} in epoch {number}, step {step + 1}")
            losses.append(loss)
            if self.progress is not None:
                self.progress(
                    Progress(epoch=number, epochs=self.epochs, step=step + 1, steps=self.steps, loss=loss),
                )
        return sum(losses) / len(losses)

    def step(self, places: Indices) -> float:
        """One step on the images at these places; its loss."""
        images = self.images(places)
        if self.augment:
            images = _shifted(images, self.rng)
        self.optimizer.zero_grad(set_to_none=True)
        try:
            loss = nn.functional.cross_entropy(self.module(images), self.labels[torch.from_numpy(places)])
            torch.autograd.backward(loss)
        except (RuntimeError, ValueError) as error:
            raise ModelError("the model cannot be trained on these images", why=str(error).split("\n")[0]) from error
        self.optimizer.step()
        self.schedule.step()
        return loss.item()


def _images(data: Dataset) -> Callable[[Indices], torch.Tensor]:
    if len(data) * math.prod(data.input_shape) * 4 > _IN_MEMORY:
        return lambda places: torch.from_numpy(data.batch(places))
    kept = torch.from_numpy(data.batch(np.arange(len(data))))
    return lambda places: kept[torch.from_numpy(places)]


def _shifted(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Each image moved by its own random offset; its edge is repeated where it moved away from."""
    count, _, height, width = images.shape
    rows, columns = (_moved(size, count, rng) for size in (height, width))
    each = torch.arange(count)[:, None, None]
    return images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def _moved(size: int, count: int, rng: np.random.Generator) -> torch.Tensor:
    """For each of ``count`` images, the places along one axis that its pixels come from: shape (count, size)."""
    furthest = size // 14
    offsets = rng.integers(-furthest, furthest, size=(count, 1), endpoint=True)
    return torch.from_numpy(np.clip(np.arange(size) + offsets, 0, size - 1))


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)


def _labels(data: Dataset) -> Indices:
    if data.labels is None:
        raise DataError(
            f"{data.name} has no labels",
            why="training and accuracy need the class of every image",
            hint="npz: add an array y; idx:IMAGES,LABELS; folder: one folder per class",
        )
    return data.labels


def _check_numbers(epochs: int, batch_size: int, learning_rate: float) -> None:
    if epochs < 1 or batch_size < 1:
        raise UsageError(f"{epochs} epochs with batches of {batch_size} train nothing", hint="1 or more of each")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise UsageError(f"a learning rate of {learning_rate} trains nothing", hint=f"{DEFAULT_LEARNING_RATE}")


def _check_outputs(module: nn.Module, data: Dataset, classes: int) -> None:
    """Run two images, to fail before training instead of within it."""
    module.eval()
    images = torch.from_numpy(data.batch(data.spread(2)))
    try:
        with torch.inference_mode():
            logits = module(images)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(
            f"the model does not run on images of {'x'.join(map(str, data.input_shape))}",
            why=str(error).split("\n")[0],
            hint="check --input-shape, and --arg in_channels=... for a model of the zoo",
        ) from error
    shape = tuple(getattr(logits, "shape", ()))
    if len(shape) != 2 or shape[1] < classes:
        raise ModelError(
            f"the model's output is {'x'.join(map(str, shape)) or type(logits).__name__} for {len(images)} images, "
            f"but there are {classes} classes",
            hint=f"a model that ends in {classes} logits per image (zoo: --arg num_classes={classes})",
        )


def _check_finite_weights(module: nn.Module) -> None:
    for name, value in module.state_dict().items():
        if not torch.isfinite(value).all():
            raise _diverged(f"the weights {name} became NaN or infinite")


def _diverged(message: str) -> ModelError:
    return ModelError(
        message,
        why="training diverged",
        hint="a lower --learning-rate; images scaled to about 0..1 (--scale, --mean, --std)",
    )
