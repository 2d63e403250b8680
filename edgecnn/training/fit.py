"""Fit a model to a data set, reproducibly, and save its weights."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgecnn.data.dataset import Dataset, Indices
from edgecnn.errors import ModelError, UsageError
from edgecnn.training.tasks import Task, task_of

DEFAULT_EPOCHS = 15
"""Enough for conv_pool and lenet5 to recognise 98 % of the held-out digits; resnet8 needs only 5."""

DEFAULT_LEARNING_RATE = 3e-3
DEFAULT_BATCH = 64
"""Images per step."""
SCENES_LEARNING_RATE = 1e-2
SCENES_BATCH = 16
"""For scenes, which hold several objects each. fomo reaches an F1 of 88 %; with the values above 35 % in equal time."""
WEIGHT_ENDINGS = (".pt", ".pth", ".safetensors")
"""Endings of files of weights."""

_IN_MEMORY = 512 * 2**20
"""Most bytes of training images that are decoded once and stay in memory, instead of once per epoch."""

_EVALUATED = 2**22
"""Most values of images that are evaluated at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """The state of training after a step. Epochs and steps count from 1; ``loss`` is the step's cross-entropy."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the training part: its number from 1, mean cross-entropy, and scores (0..1) on the test part."""

    number: int
    loss: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """The scores (0..1) on the test part after the last epoch, and the history of all epochs.

    The first score is the main one: ``accuracy`` of classes, ``F1`` of centres, ``mIoU`` of pixels.
    """

    scores: Mapping[str, float]
    history: tuple[Epoch, ...]


def train_model(
    module: nn.Module,
    train: Dataset,
    test: Dataset,
    *,
    epochs: int = DEFAULT_EPOCHS,
    seed: int = 0,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    augment: bool = True,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> TrainingResult:
    """Fit ``module`` in place with AdamW and a one-cycle learning rate, and leave it in eval mode.

    Equal seeds give equal weights to the last bit, on one machine with one number of threads. The global random state
    stays unchanged. The result has the weights of the last epoch, not of the best one: to choose by the test part would
    make its accuracy look better than it is.

    Args:
        module: Takes float32 images of shape (N, C, H, W), gives logits of shape (N, classes), or for scenes
            (N, 1 + classes, rows, columns): see :mod:`edgecnn.training.tasks`.
        train: Images to train on, with labels or with the objects in them.
        test: Such images to measure on, none of which is in ``train``.
        epochs: Passes over all training images.
        seed: Seed of shuffling, shifts and dropout; the initial weights are the module's own.
        batch_size: Images per step, by default 64 labelled images or 16 scenes. An incomplete last batch of an epoch is
            skipped; shuffling brings its images into other epochs.
        learning_rate: The highest rate of the cycle, by default 0.003, and 0.01 for scenes.
        augment: Shift every image at random by up to 1/14 of its side (2 of 28 pixels). Scenes are never shifted: their
            targets would move too, and their objects lie anywhere already.
        progress: Called after every step.

    Raises:
        UsageError: if epochs, batch size or learning rate are out of range.
        DataError: if labels are missing, or an image cannot be read.
        ModelError: if the module cannot run or be trained on the images, or the loss becomes NaN or infinite.
    """
    batch, rate = _defaults(train)
    batch_size = batch if batch_size is None else batch_size
    learning_rate = rate if learning_rate is None else learning_rate
    _check_numbers(epochs, batch_size, learning_rate)
    tasks = [task_of(data, _output_shape(module, data)) for data in (train, test)]
    run = _TrainingRun(
        module,
        train,
        tasks[0],
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        rng=np.random.default_rng(seed),
        augment=augment and tasks[0].shifts,
        progress=progress,
    )
    history = []
    with _deterministic(seed):
        for number in range(1, epochs + 1):
            loss = run.epoch(number)
            history.append(Epoch(number=number, loss=loss, scores=evaluate_model(module, test)))
    _check_finite_weights(module)
    return TrainingResult(scores=history[-1].scores, history=tuple(history))


def evaluate_model(module: nn.Module, data: Dataset) -> dict[str, float]:
    """The scores of the module on a data set, by its task. Leaves the module in eval mode.

    Raises:
        DataError: if the images have neither labels nor objects, or one cannot be read.
        ModelError: if the module cannot run on them, or its output fits no task on them.
    """
    scorer = task_of(data, _output_shape(module, data)).scorer()
    size = max(1, min(256, _EVALUATED // math.prod(data.input_shape)))
    for start in range(0, len(data), size):
        places = np.arange(start, min(start + size, len(data)))
        scorer.add(predict(module, data, places), data, places)
    return scorer.scores()


def predict(module: nn.Module, data: Dataset, places: Indices) -> npt.NDArray[np.float32]:
    """The outputs of the module for the images at these places. Leaves the module in eval mode.

    Raises:
        ModelError: if the output is not one tensor.
    """
    module.eval()
    with torch.inference_mode():
        outputs = module(torch.from_numpy(data.batch(places)))
    if not isinstance(outputs, torch.Tensor):
        raise ModelError(f"the model gives a {type(outputs).__name__}", hint="one tensor of logits")
    values: npt.NDArray[np.float32] = outputs.numpy()
    return values


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the module's state dict: the whole file or nothing, and equal bytes for equal weights.

    Args:
        module: The module whose parameters and buffers to save.
        path: A file that ends in ``.pt`` or ``.pth`` (torch) or ``.safetensors``. Its folder is created if missing; an
            existing file is replaced atomically.

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
        with suppress(OSError):  # it has been moved, or its folder was never created
            temporary.unlink()


def check_weights_path(path: Path) -> None:
    """Refuse a path that :func:`save_weights` could not write to, before hours of training.

    Raises:
        UsageError: if it has another ending, or is a folder.
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


class _TrainingRun:
    """The optimiser, the learning rate schedule and the images of one training."""

    def __init__(
        self,
        module: nn.Module,
        train: Dataset,
        task: Task,
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        rng: np.random.Generator,
        augment: bool,
        progress: Callable[[TrainingProgress], None] | None,
    ) -> None:
        self.module = module
        self.images = _images(train)
        self.targets = torch.from_numpy(task.targets(train, np.arange(len(train))))
        self.weights = None if task.weights is None else torch.tensor(task.weights)
        self.batch_size = min(batch_size, len(train))
        self.steps = len(train) // self.batch_size
        self.epochs = epochs
        self.augment = augment
        self.rng = rng
        self.progress = progress
        parameters = [p for p in module.parameters() if p.requires_grad]
        if not parameters:
            raise ModelError("the model has nothing to train", why="none of its parameters requires a gradient")
        self.optimizer = torch.optim.AdamW(parameters, lr=learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=learning_rate, total_steps=epochs * self.steps
        )

    def epoch(self, number: int) -> float:
        """Make one pass over the shuffled images; returns the mean loss."""
        self.module.train()
        order = self.rng.permutation(len(self.targets))
        losses = []
        for step in range(self.steps):
            loss = self.step(order[step * self.batch_size :][: self.batch_size])
            if not math.isfinite(loss):
                raise _diverged(f"the loss became {loss} in epoch {number}, step {step + 1}")
            losses.append(loss)
            if self.progress is not None:
                self.progress(
                    TrainingProgress(epoch=number, epochs=self.epochs, step=step + 1, steps=self.steps, loss=loss),
                )
        return sum(losses) / len(losses)

    def step(self, places: Indices) -> float:
        """Make one step on the images at these places; returns its loss."""
        images = self.images(places)
        if self.augment:
            images = _shifted(images, self.rng)
        self.optimizer.zero_grad(set_to_none=True)
        try:
            logits = self.module(images)
            loss = _cross_entropy(logits, self.targets[torch.from_numpy(places)], self.weights)
            torch.autograd.backward(loss)
        except (RuntimeError, ValueError) as error:
            raise ModelError("the model cannot be trained on these images", why=str(error).split("\n")[0]) from error
        self.optimizer.step()
        self.schedule.step()
        return loss.item()


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """The mean over all images and cells. Cells become rows, since torch has no deterministic version for maps."""
    if logits.dim() == 4:
        logits, targets = logits.movedim(1, -1).flatten(0, 2), targets.flatten()
    if weights is not None:
        weights = nn.functional.pad(weights, (0, logits.shape[1] - len(weights)), value=1.0)
    return nn.functional.cross_entropy(logits, targets, weights)


def _images(data: Dataset) -> Callable[[Indices], torch.Tensor]:
    if len(data) * math.prod(data.input_shape) * 4 > _IN_MEMORY:
        return lambda places: torch.from_numpy(data.batch(places))
    images = torch.from_numpy(data.batch(np.arange(len(data))))
    return lambda places: images[torch.from_numpy(places)]


def _shifted(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """The images, each shifted by its own random offset; edge pixels fill the gap."""
    count, _, height, width = images.shape
    rows, columns = (_source_places(size, count, rng) for size in (height, width))
    each = torch.arange(count)[:, None, None]
    return images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def _source_places(size: int, count: int, rng: np.random.Generator) -> torch.Tensor:
    """For each of ``count`` images, the places along one axis that its pixels come from, shape (count, size)."""
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


def _defaults(train: Dataset) -> tuple[int, float]:
    """The default images per step and learning rate."""
    if train.truth is None:
        return DEFAULT_BATCH, DEFAULT_LEARNING_RATE
    return SCENES_BATCH, SCENES_LEARNING_RATE


def _check_numbers(epochs: int, batch_size: int, learning_rate: float) -> None:
    if epochs < 1 or batch_size < 1:
        raise UsageError(f"{epochs} epochs with batches of {batch_size} train nothing", hint="1 or more of each")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise UsageError(f"a learning rate of {learning_rate} trains nothing", hint=f"{DEFAULT_LEARNING_RATE}")


def _output_shape(module: nn.Module, data: Dataset) -> tuple[int, ...]:
    """The shape of the output for two images; fails before training if the module does not run."""
    try:
        outputs = predict(module, data, data.spread(2))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(
            f"the model does not run on images of {'x'.join(map(str, data.input_shape))}",
            why=str(error).split("\n")[0],
            hint="check --input-shape, and --arg in_channels=... for a model of the zoo",
        ) from error
    return tuple(outputs.shape)


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
