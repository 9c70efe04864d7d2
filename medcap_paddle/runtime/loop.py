"""The one training loop. It takes a module and a `Task` (batches and a loss), and writes to a folder:

    weights.safetensors      of the best epoch
    history.csv              a row an epoch: epoch, the task's figures, seconds
    visualdl/                the same curves for VisualDL
    previous.safetensors     weights of other settings or data, set aside when training began anew
    checkpoint.safetensors   while it trains: weights, their mean, moments of the optimizer, history, at an epoch's end

If interrupted, training resumes at the last epoch and gives identical weights. On R ranks (`distributed`) gradients are
averaged by `paddle.DataParallel`; the first rank writes.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
from paddle import nn
from paddle.optimizer import lr

from ..config import TrainingSettings
from . import cache, distributed, precision, stages
from .averaging import Average
from .files import MedcapError, digest, lock, read_tensors, write_table, write_tensors
from .settings import for_digest

if TYPE_CHECKING:
    import pandas as pd

WEIGHTS, HISTORY, PREVIOUS = "weights.safetensors", "history.csv", "previous.safetensors"
LR_HINT = "train with a lower learning_rate or clip"
WAIT, DROP = 2, 0.1  # epochs without a better figure before the rate drops, and by what factor
Figures = Callable[[], list[float]]  # the task's best figure, epoch by epoch


def drops(figures: list[float], wait: int = WAIT) -> int:
    """How often `wait` epochs in a row, counted anew after each drop, brought no smaller figure."""
    least, since, count = math.inf, 0, 0
    for value in figures:
        since = 0 if value < least else since + 1
        least = min(least, value)
        if since == wait:
            since, count = 0, count + 1
    return count


# rate, steps of the whole training, figures -> the learning rate, whose `step(k)` sets that of step k
SCHEDULES: dict[str, Callable[[float, int, Figures], lr.LRScheduler]] = {
    "cosine": lambda rate, steps, _: lr.CosineAnnealingDecay(rate, max(steps, 1)),
    "constant": lambda rate, *_: lr.LambdaDecay(rate, lambda _: 1.0),
    "step": lambda rate, steps, _: lr.StepDecay(rate, max(steps // 3, 1), DROP),
    "plateau": lambda rate, _, figures: lr.LambdaDecay(rate, lambda _: DROP ** drops(figures())),
}
Rows = tuple[int, Any, float]  # rows of a batch, the batch itself, its share: R times its part of all ranks' rows


class Task:
    """What is trained: a subclass says how."""

    best = ""  # the figure whose minimum is kept and decides when to stop; "": the last epoch is kept
    steps: int  # batches of an epoch, the same on every rank
    at_once = sys.maxsize  # rows of a batch whose loss is computed together, on one rank

    def inputs(self) -> list[object]:
        """What the result depends on beside settings and first weights, for `files.digest`."""
        raise NotImplementedError

    def batches(self, epoch: int) -> Iterator[Rows]:
        """This rank's batches; the same epoch gives the same ones."""
        raise NotImplementedError

    def network(self, module: nn.Layer) -> nn.Layer:
        """What `loss` is given: the module, or a layer around it with the same parameters."""
        return module

    def groups(self, module: nn.Layer, epoch: int) -> stages.Groups:
        """Parameters that learn at a factor of the learning rate in that epoch, 0 for not at all; all others at 1."""
        return []

    def loss(self, network: nn.Layer, batch: Any, part: slice, share: float) -> tuple[paddle.Tensor, paddle.Tensor]:
        """The loss of the rows `part`, such that the losses of parts and ranks add up to R times the batch's; and
        numbers [n] that are summed over the epoch. They must not be finite where the loss is not.
        """
        raise NotImplementedError

    def figures(self, sums: np.ndarray) -> dict[str, float]:
        """Figures of an epoch from the numbers of `loss`, summed over its batches and all ranks."""
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        """Figures on val after an epoch; {} without val."""
        return {}

    def keep(self, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The weights to store, from those that training has come to."""
        return weights


def fit(
    module: nn.Layer,
    task: Task,
    folder: str | Path,
    settings: TrainingSettings,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """Train until `patience` epochs bring no better `task.best`; load the kept weights and return the history.

    `on_epoch` is called with the history so far: a notebook draws it. A finished training is not repeated while
    module, task and settings are the same. MedcapError when a loss or a figure is not a number, or when another process
    trains in the same folder.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    folder = Path(folder)
    weights, checkpoint = folder / WEIGHTS, folder / "checkpoint.safetensors"
    rank, history, steps = distributed.world()[0], [], settings.epochs * task.steps
    optimizer, rate = optimizer_of(module, settings, steps, lambda: _figures(task, history))
    inputs = digest(for_digest(settings), *task.inputs(), *tensors(module).values())
    with ExitStack() as stack:
        if not rank:
            stack.enter_context(lock(weights))
        if (folder / HISTORY).exists() and cache.is_current(weights, inputs, quiet=rank > 0):
            load_weights(module, weights, "train again")
            return pd.read_csv(folder / HISTORY)
        average = Average(module, settings.averaging * task.steps)
        history += restore(checkpoint, inputs, average, optimizer)
        distributed.barrier()  # before the first rank may remove the checkpoint
        record = stack.enter_context(_recorder(folder, fresh=not history)) if not rank else None
        learn, done = _learner(module, task, optimizer, settings.precision), len(history) * task.steps
        rate.step(done)
        bar = stack.enter_context(tqdm(total=steps, desc="train", unit="batch", initial=done, disable=rank > 0))
        while len(history) < settings.epochs and len(history) - best_epoch(history, task.best) < settings.patience:
            history.append(_epoch(average, task, len(history) + 1, settings.seed, learn, rate, bar))
            if rank:
                continue
            if best_epoch(history, task.best) == len(history):
                write_tensors(weights, task.keep(average.weights()))
            record(history, bar)  # first: what the checkpoint holds is not written again
            store(checkpoint, inputs, average, optimizer, history)
            if on_epoch:
                on_epoch(pd.DataFrame(history))
        if not rank:
            cache.mark_done(weights, inputs)
            checkpoint.unlink(missing_ok=True)
        distributed.barrier()  # for the weights
    load_weights(module, weights, "train again")
    return pd.DataFrame(history)


def _figures(task: Task, history: list[dict[str, float]]) -> list[float]:
    if not task.best:
        raise MedcapError("this schedule follows a figure on val: give val, or choose another schedule")
    return [row[task.best] for row in history]


def optimizer_of(
    module: nn.Layer, settings: TrainingSettings, steps: int, figures: Figures = list
) -> tuple[paddle.optimizer.Optimizer, lr.LRScheduler]:
    """Adam (Kingma and Ba, ICLR 2015), or AdamW (Loshchilov and Hutter, ICLR 2019) where there is weight decay; and
    its learning rate, whose `step(k)` sets that of step k. MedcapError on settings that cannot be had here.
    """
    precision.check(settings.precision)
    if settings.schedule not in SCHEDULES:
        raise MedcapError(f"schedule is {settings.schedule!r}: use {' or '.join(SCHEDULES)}")
    rising = round(settings.warmup * steps)
    rate = SCHEDULES[settings.schedule](settings.learning_rate, steps - rising, figures)
    if rising:
        rate = lr.LinearWarmup(rate, rising, settings.learning_rate / (rising + 1), settings.learning_rate)
    options = {"parameters": module.parameters(), "grad_clip": nn.ClipGradByGlobalNorm(settings.clip)}
    if settings.weight_decay:
        return paddle.optimizer.AdamW(rate, weight_decay=settings.weight_decay, **options), rate
    return paddle.optimizer.Adam(rate, **options), rate


def best_epoch(history: list[dict[str, float]], best: str) -> int:
    """The epoch with the least `best`; the last one where that is ""; 0 before the first."""
    return 1 + min(range(len(history)), key=lambda k: history[k][best]) if best and history else len(history)


def _learner(module: nn.Layer, task: Task, optimizer, numeric: str = "float32") -> Callable[..., paddle.Tensor]:
    """A function of `Rows` that makes one step and returns the numbers of the batch.

    The batch is computed in parts where the memory does not hold it. `paddle.DataParallel` waits for one backward pass
    of every rank, so there it is computed whole.
    """
    several = distributed.world()[1] > 1
    network = paddle.DataParallel(task.network(module)) if several else task.network(module)

    def gradients(part: slice, batch: Any, share: float) -> paddle.Tensor:
        with precision.autocast(numeric):
            loss, numbers = task.loss(network, batch, part, share)
        loss.backward()
        return numbers

    halving = cache.halve_batch_on_oom(gradients, optimizer.clear_grad, task.at_once)

    def learn(rows: int, batch: Any, share: float) -> paddle.Tensor:
        numbers = gradients(slice(0, rows), batch, share) if several else sum(halving(rows, batch, share))
        optimizer.step()
        optimizer.clear_grad()
        return numbers

    return learn


def _epoch(average: Average, task: Task, epoch: int, seed: int, learn: Callable, rate, bar) -> dict[str, float]:
    """One pass over the batches: the row of the history."""
    module, start = average.module, time.perf_counter()
    sums = []  # the numbers of each batch: read once an epoch, not once a step
    # An epoch's dropout is the same whether or not training was interrupted, and another one on each rank.
    paddle.seed(seed * 1000 + epoch + distributed.world()[0] * 1_000_000)
    module.train()
    stages.apply(task.groups(module, epoch))
    for step, rows in enumerate(task.batches(epoch), (epoch - 1) * task.steps + 1):
        sums.append(learn(*rows))
        average.update()
        rate.step(step)
        bar.update()
    sums = distributed.all_reduce_sum(paddle.stack(sums).numpy())
    broken = np.flatnonzero(~np.isfinite(sums).all(1))
    if len(broken):
        raise MedcapError(
            f"the loss of batch {broken[0] + 1} of {len(sums)} is not a number in epoch {epoch}; the best weights "
            f"before it are kept: {LR_HINT}"
        )
    with average.in_place():
        row = {"epoch": epoch, **task.figures(sums.astype("float64").sum(0)), **task.validate()}
    for name, value in row.items():
        if not math.isfinite(value):
            raise MedcapError(f"{name} is not a number in epoch {epoch}; the best weights are kept: {LR_HINT}")
    return {**row, "seconds": time.perf_counter() - start}


class _recorder:
    """Writes history.csv and visualdl/; called with the history after each epoch."""

    def __init__(self, folder: Path, fresh: bool):
        from visualdl import LogWriter

        if fresh:
            set_aside(folder / WEIGHTS)
            shutil.rmtree(folder / "visualdl", ignore_errors=True)
        self.folder, self.log = folder, LogWriter(str(folder / "visualdl"))

    def __call__(self, history: list[dict[str, float]], bar) -> None:
        import pandas as pd

        write_table(self.folder / HISTORY, pd.DataFrame(history))
        shown = {name: value for name, value in history[-1].items() if name not in ("epoch", "seconds")}
        for name, value in shown.items():
            self.log.add_scalar(name, value, len(history))
        bar.set_postfix(epoch=len(history), **{name: f"{value:.4g}" for name, value in shown.items()})

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.log.close()


# Weights and checkpoint -----------------------------------------------------------------------------------------------


def tensors(module: nn.Layer) -> dict[str, np.ndarray]:
    """Parameters and buffers by name."""
    # A copy: numpy() of an nn.LSTM weight holds on to a flat array of all its layers, gigabytes where there are 32.
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def load_weights(module: nn.Layer, path: str | Path, remedy: str) -> None:
    """Put the weights of `path` into `module`; MedcapError when they are damaged or of another architecture."""
    weights, _ = read_tensors(path, remedy)
    own = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if own != {name: value.shape for name, value in weights.items()}:
        raise MedcapError(f"{path} holds the weights of another model than the settings describe: {remedy}")
    module.set_state_dict(weights)


def set_aside(weights: Path) -> None:
    """Rename weights of other settings or data, so that a later stage does not take them for those of this run."""
    with suppress(FileNotFoundError):
        weights.replace(weights.with_name(PREVIOUS))


def store(path: str | Path, inputs: str, average: Average, optimizer, history: list[dict[str, float]]) -> None:
    """The checkpoint after an epoch."""
    module, memory, state = average.module, average.tensors(), optimizer.state_dict()
    for k, parameter in enumerate(module.parameters()):  # a parameter's own name counts what else the process has built
        for name in (name for name in state if name.startswith(parameter.name + "_")):
            memory[f"adam {k} {name[len(parameter.name) :]}"] = state[name].numpy()
    write_tensors(path, {**tensors(module), **memory}, {"inputs": inputs, "history": history})


def restore(path: str | Path, inputs: str, average: Average, optimizer) -> list[dict[str, float]]:
    """Put a checkpoint of the same inputs into network, mean and optimizer; its history, or [] where there is none."""
    from tqdm.auto import tqdm

    if not Path(path).exists():
        return []
    try:
        values, facts = read_tensors(path, "training begins anew")
        if facts.get("inputs") != inputs:
            raise MedcapError(f"{path} is of other settings or data: training begins anew")
    except MedcapError as reason:
        tqdm.write(str(reason))
        return []
    module = average.module
    module.set_state_dict({name: values[name] for name in module.state_dict()})
    average.restore(values)
    # Paddle wants the schedule's state too; `fit` sets its step.
    state, parameters = {"LR_Scheduler": optimizer.state_dict()["LR_Scheduler"]}, list(module.parameters())
    for name in (name for name in values if name.startswith("adam ")):
        _, k, moment = name.split(" ")
        state[parameters[int(k)].name + moment] = paddle.to_tensor(values[name])
    optimizer.set_state_dict(state)
    return facts["history"]
