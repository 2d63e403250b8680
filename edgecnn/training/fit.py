"""Fit a model to a data set, the same way every time, and save its weights."""

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
"""Enough for conv_pool and lenet5 to recognise 98 % of the held-out digits; resnet8 needs 5 only."""

DEFAULT_LEARNING_RATE = 3e-3
DEFAULT_BATCH = 64
"""Images per step."""
SCENES_LEARNING_RATE = 1e-2
SCENES_BATCH = 16
"""For scenes, which hold several objects each: fomo comes to an F1 of 88 %, with the values above in the same time to
35 %."""
WEIGHT_ENDINGS = (".pt", ".pth", ".safetensors")
"""How a file of weights may be named."""

_IN_MEMORY = 512 * 2**20
"""Training images of up to this many bytes are decoded once and kept, instead of once per epoch."""

_EVALUATED = 2**22
"""Values of images that are evaluated at a time."""


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
    """One pass over the training part: its number from 1, mean cross-entropy, and scores (0..1) on the test part."""

    number: int
    loss: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What came of it: the scores (0..1) on the test part after the last epoch, and every epoch before.

    The first score is the one that counts: ``accuracy`` of classes, ``F1`` of centres, ``mIoU`` of pixels.
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
    progress: Callable[[Progress], None] | None = None,
) -> TrainingResult:
    """Fit ``module`` in place with AdamW and a one-cycle learning rate; it is left in eval mode.

    The same seed gives the same weights to the last bit, on the same machine with the same number of threads. The
    global random state is left as it was. The weights of the last epoch are kept, not those of the best one: choosing
    by the test part would make its accuracy look better than it is.

    Args:
        module: Takes float32 images of shape (N, C, H, W), gives logits of shape (N, classes), or for scenes
            (N, 1 + classes, rows, columns): see :mod:`edgecnn.training.tasks`.
        train: Images to learn from, labelled or with what is where.
        test: Such images to measure on, none of which is in ``train``.
        epochs: How many times all training images are seen.
        seed: Of shuffling, shifts and dropout; the initial weights are the module's own.
        batch_size: Images per step, by default 64 labelled images or 16 scenes. A smaller rest of an epoch is left out,
            and comes in another one.
        learning_rate: The highest of the cycle, by default 0.003, and 0.01 for scenes.
        augment: Shift every image at random by up to 1/14 of its side (2 of 28 pixels). Not done with scenes, whose
            targets would move too; their objects lie anywhere already.
        progress: Called after every step.

    Raises:
        UsageError: if epochs, batch size or learning rate have no meaning.
        DataError: if labels are missing, or an image cannot be read.
        ModelError: if the module cannot run or be trained on the images, or the loss becomes NaN or infinite.
    """
    batch, rate = _defaults(train)
    batch_size = batch if batch_size is None else batch_size
    learning_rate = rate if learning_rate is None else learning_rate
    _check_numbers(epochs, batch_size, learning_rate)
    tasks = [task_of(data, _output_shape(module, data)) for data in (train, test)]
    run = _Run(
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
    """How well the module does on a data set, by the scores of its task. It is left in eval mode.

    Raises:
        DataError: if nothing is known of the images, or one cannot be read.
        ModelError: if the module cannot run on them, or its output fits no task on them.
    """
    scorer = task_of(data, _output_shape(module, data)).scorer()
    size = max(1, min(256, _EVALUATED // math.prod(data.input_shape)))
    for start in range(0, len(data), size):
        places = np.arange(start, min(start + size, len(data)))
        scorer.add(predict(module, data, places), data, places)
    return scorer.scores()


def predict(module: nn.Module, data: Dataset, places: Indices) -> npt.NDArray[np.float32]:
    """What the module, left in eval mode, says to the images at these places.

    Raises:
        ModelError: if that is not one tensor.
    """
    module.eval()
    with torch.inference_mode():
        outputs = module(torch.from_numpy(data.batch(places)))
    if not isinstance(outputs, torch.Tensor):
        raise ModelError(f"the model gives a {type(outputs).__name__}", hint="one tensor of logits")
    values: npt.NDArray[np.float32] = outputs.numpy()
    return values


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
        task: Task,
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
            raise ModelError("the model has nothing to train", why="no parameter of it requires a gradient")
        self.optimizer = torch.optim.AdamW(parameters, lr=learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=learning_rate, total_steps=epochs * self.steps
        )

    def epoch(self, number: int) -> float:
        """One pass over the shuffled images; the mean loss."""
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
            logits = self.module(images)
            loss = _cross_entropy(logits, self.targets[torch.from_numpy(places)], self.weights)
            torch.autograd.backward(loss)
        except (RuntimeError, ValueError) as error:
            raise ModelError("the model cannot be trained on these images", why=str(error).split("\n")[0]) from error
        self.optimizer.step()
        self.schedule.step()
        return loss.item()


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Over all images and cells. Cells as rows of one long list: for maps torch has no deterministic form."""
    if logits.dim() == 4:
        logits, targets = logits.movedim(1, -1).flatten(0, 2), targets.flatten()
    if weights is not None:
        weights = nn.functional.pad(weights, (0, logits.shape[1] - len(weights)), value=1.0)
    return nn.functional.cross_entropy(logits, targets, weights)


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


def _defaults(train: Dataset) -> tuple[int, float]:
    """Images per step and learning rate."""
    if train.truth is None:
        return DEFAULT_BATCH, DEFAULT_LEARNING_RATE
    return SCENES_BATCH, SCENES_LEARNING_RATE


def _check_numbers(epochs: int, batch_size: int, learning_rate: float) -> None:
    if epochs < 1 or batch_size < 1:
        raise UsageError(f"{epochs} epochs with batches of {batch_size} train nothing", hint="1 or more of each")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise UsageError(f"a learning rate of {learning_rate} trains nothing", hint=f"{DEFAULT_LEARNING_RATE}")


def _output_shape(module: nn.Module, data: Dataset) -> tuple[int, ...]:
    """Run two images, to fail before training instead of within it."""
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
