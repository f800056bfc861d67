"""Training with stochastic gradients (eecs545-w20-hw4). The loop over the sizes of Q2c and Q3c is in experiment.py."""

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy import ndarray

if __package__:  # the course's scripts import these files by bare names
    from . import optim
else:
    import optim

UPDATE_RULES = ("sgd", "sgd_momentum", "rmsprop", "adam")


class BaseSolver:
    """The training loop. A subclass defines the batches and the evaluation after each epoch.

    Args:
        model: network with the arrays `params` by name, and `loss(*batch)`, which returns the batch's mean loss and
            the gradients of this mean by the same names.
        data: arrays by name.
        update_rule: name of a function in optim.py.
        optim_config: settings of the update rule, such as `learning_rate`.
        lr_decay: factor of the learning rate after every epoch.
        batch_size: samples per step.
        num_epochs: number of epochs that `train` trains.
        print_every: number of steps between two printed losses.
        verbose: whether to print losses and accuracies.
        seed: seed of the samples' order; None to draw it from NumPy's global generator, as in the course's scripts.
        threads: number of slices of a batch that are computed in parallel, element-wise operations included. This is
            faster if a step takes several milliseconds and if NumPy's matrix products are limited to one thread.

    Raises:
        ValueError: the update rule is unknown.
    """

    def __init__(
        self,
        model: Any,
        data: Mapping[str, Any],
        *,
        update_rule: str = "sgd",
        optim_config: Mapping[str, Any] | None = None,
        lr_decay: float = 1.0,
        batch_size: int = 100,
        num_epochs: int = 10,
        print_every: int = 10,
        verbose: bool = True,
        seed: int | None = None,
        threads: int = 1,
    ) -> None:
        if update_rule not in UPDATE_RULES:
            raise ValueError(f"there is no update rule {update_rule!r}, expected one of {', '.join(UPDATE_RULES)}")
        self.model, self.data = model, data
        self.update_rule = getattr(optim, update_rule)
        self.lr_decay = lr_decay
        self.batch_size = batch_size
        self.num_epochs = num_epochs
        self.print_every, self.verbose = print_every, verbose
        self.seed = np.random.randint(2**31) if seed is None else seed
        self.threads, self._pool = threads, ThreadPoolExecutor(threads)  # starts no threads before they are needed
        self.optim_configs = {name: dict(optim_config or {}) for name in model.params}
        self.epoch = 0  # number of finished epochs
        self.loss_history: list[float] = []  # loss of every step

    @property
    def num_train(self) -> int:
        """Number of training samples."""
        raise NotImplementedError

    def batch(self, rows: ndarray) -> tuple:
        """The training samples at `rows`, as the arguments of `model.loss`."""
        raise NotImplementedError

    def batches(self) -> Iterator[tuple]:
        """Yields every training sample once, in an order that depends only on the seed and the epoch."""
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.num_train)
        for begin in range(0, self.num_train, self.batch_size):
            yield self.batch(order[begin : begin + self.batch_size])

    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch; the last one may be smaller."""
        return -(-self.num_train // self.batch_size)

    def epoch_losses(self) -> list[float]:
        """For each finished epoch, the mean of the losses of its steps, weighted by their numbers of samples."""
        begins = np.arange(0, self.num_train, self.batch_size)
        sizes = np.minimum(self.batch_size, self.num_train - begins)
        losses = np.reshape(self.loss_history[: self.epoch * len(sizes)], (self.epoch, len(sizes)))
        return (losses @ sizes / self.num_train).tolist()

    def finish_epoch(self) -> None:
        """Runs after every epoch; a subclass can evaluate the model here."""

    def train(self, after_epoch: Callable[[], None] = lambda: None) -> None:
        """Trains until `num_epochs` epochs are finished; calls `after_epoch` after each, for example to save `state`.

        Raises:
            FloatingPointError: the loss is not finite; the parameters are those before this step.
            ValueError: data and model do not fit together.
        """
        keep_freed_memory()
        while self.epoch < self.num_epochs:
            for batch in self.batches():
                self.step(batch)
            self.epoch += 1
            for config in self.optim_configs.values():
                config["learning_rate"] *= self.lr_decay  # set by the update rule if not given
            self.finish_epoch()
            after_epoch()

    @np.errstate(over="ignore", invalid="ignore")  # this method checks the loss itself
    def step(self, batch: tuple) -> None:
        """Computes loss and gradients of one batch, and updates every parameter once.

        Raises:
            FloatingPointError: the loss is not finite; no parameter is changed.
        """
        loss, gradients = self._loss(batch) if self.threads == 1 else self._shared_loss(batch)
        step = len(self.loss_history)
        if not math.isfinite(loss):
            where = f"epoch {self.epoch + 1}, step {step % self.steps_per_epoch() + 1}"
            raise FloatingPointError(f"the loss is {loss} at {where}; try a smaller learning rate")
        if self.verbose and step % self.print_every == 0:
            print(f"(step {step + 1} of {self.num_epochs * self.steps_per_epoch()}) loss {loss:.6f}")
        self.loss_history.append(loss)
        for name, gradient in gradients.items():
            w, config = self.model.params[name], self.optim_configs[name]
            self.model.params[name], self.optim_configs[name] = self.update_rule(w, gradient, config)

    def _loss(self, batch: tuple) -> tuple[float, dict[str, ndarray]]:
        with np.errstate(over="ignore", invalid="ignore"):  # NumPy keeps this setting per thread
            return self.model.loss(*batch)

    def _shared_loss(self, batch: tuple) -> tuple[float, dict[str, ndarray]]:
        """Computes slices of a batch in parallel; loss and gradients are the weighted means over the slices.

        The slices and the order of the sums depend only on `threads`, so the bits of the result do not vary.
        """
        count = len(batch[0])
        size = -(-count // self.threads)
        slices = [tuple(array[begin : begin + size] for array in batch) for begin in range(0, count, size)]
        weights = [len(part[0]) / count for part in slices]
        losses, gradients = zip(*self._pool.map(self._loss, slices), strict=True)
        loss = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
        total = {name: weights[0] * gradient for name, gradient in gradients[0].items()}
        for weight, part in zip(weights[1:], gradients[1:], strict=True):
            for name, gradient in part.items():
                total[name] += weight * gradient
        return loss, total

    def state(self) -> dict[str, ndarray]:
        """Arrays by name, from which `load_state` resumes with bit-identical results; valid after whole epochs."""
        arrays = {"epoch": np.array(self.epoch), "loss_history": np.array(self.loss_history, dtype=np.float64)}
        for name, value in self.model.params.items():
            arrays[f"params/{name}"] = value
            for setting, remembered in self.optim_configs[name].items():
                arrays[f"optim/{name}/{setting}"] = np.asarray(remembered)
        return arrays

    def load_state(self, arrays: Mapping[str, ndarray]) -> None:
        """Restores the result of `state` in a new solver with the same arguments.

        Raises:
            KeyError: an array is missing.
            ValueError: a parameter does not have the model's shape and type, or a history has the wrong length.
        """
        self.epoch = arrays["epoch"].item()
        self.loss_history = _load_history(arrays, "loss_history", self.epoch * self.steps_per_epoch())
        self.model.params = _load_params(self.model.params, arrays, "params/")
        for name in self.model.params:
            prefix = f"optim/{name}/"
            found = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
            self.optim_configs[name] = {key: value if value.ndim else value.item() for key, value in found.items()}


class Solver(BaseSolver):
    """Trains a classifier and keeps the parameters of the epoch with the best validation accuracy.

    Args:
        model: network like SoftmaxClassifier or ConvNet, whose `loss` returns the scores if it is called without y.
        data: samples `X_train` and `X_val` (N, …), and their classes `y_train` and `y_val` (N,).
        **kwargs: arguments of `BaseSolver`.

    Raises:
        KeyError: `data` lacks an array.
        ValueError: samples and classes differ in number, there are none, or a sample is not finite.
    """

    def __init__(self, model: Any, data: Mapping[str, ndarray], **kwargs: Any) -> None:
        super().__init__(model, data, **kwargs)
        for part in ("train", "val"):
            _check_samples(part, data[f"X_{part}"], data[f"y_{part}"])
        self.train_acc_history: list[float] = []  # accuracy on up to 1 000 training samples after each epoch
        self.val_acc_history: list[float] = []  # accuracy on the validation samples after each epoch
        self.best_val_acc = -1.0  # largest of val_acc_history
        self.best_params: dict[str, ndarray] = {}

    @property
    def num_train(self) -> int:
        """Number of training samples."""
        return len(self.data["y_train"])

    def batch(self, rows: ndarray) -> tuple[ndarray, ndarray]:
        """The training samples at `rows` and their classes."""
        return self.data["X_train"][rows], self.data["y_train"][rows]

    def finish_epoch(self) -> None:
        """Measures both accuracies, and keeps a copy of the parameters if they are the best so far."""
        self.train_acc_history.append(self.check_accuracy(self.data["X_train"], self.data["y_train"], 1000))
        self.val_acc_history.append(self.check_accuracy(self.data["X_val"], self.data["y_val"]))
        if self.verbose:
            accuracies = f"train {self.train_acc_history[-1]:.4f}, validation {self.val_acc_history[-1]:.4f}"
            print(f"(epoch {self.epoch} of {self.num_epochs}) accuracy: {accuracies}")
        if self.val_acc_history[-1] > self.best_val_acc:
            self.best_val_acc = self.val_acc_history[-1]
            self.best_params = {name: value.copy() for name, value in self.model.params.items()}

    def train(self, after_epoch: Callable[[], None] = lambda: None) -> None:
        """Trains like `BaseSolver.train`, then sets `model.params` to the parameters of the (first) best epoch."""
        super().train(after_epoch)
        if self.best_params:
            self.model.params = {name: value.copy() for name, value in self.best_params.items()}

    def check_accuracy(self, X: ndarray, y: ndarray, num_samples: int | None = None, batch_size: int = 100) -> float:
        """Share of the samples whose class gets the highest score.

        Args:
            X: (N, …) samples.
            y: (N,) classes of the samples.
            num_samples: number of samples to draw at random and measure; None for all.
            batch_size: number of samples per call of the model.
        """
        if num_samples is not None and num_samples < len(y):  # the draw does not change the order of `batches`
            rows = np.random.default_rng((self.seed, self.epoch)).choice(len(y), num_samples, replace=False)
            X, y = X[rows], y[rows]
        right = 0
        for begin in range(0, len(y), batch_size):
            scores = self.model.loss(X[begin : begin + batch_size])  # (batch_size, number of classes)
            right += int((scores.argmax(axis=1) == y[begin : begin + batch_size]).sum())
        return right / len(y)

    def state(self) -> dict[str, ndarray]:
        """`BaseSolver.state`, accuracies and best parameters. After `train`, `params` are those of the best epoch."""
        accuracies = {"train_acc_history": self.train_acc_history, "val_acc_history": self.val_acc_history}
        return {
            **super().state(),
            **{name: np.array(values, dtype=np.float64) for name, values in accuracies.items()},
            **{f"best/{name}": value for name, value in self.best_params.items()},
        }

    def load_state(self, arrays: Mapping[str, ndarray]) -> None:
        """Restores the result of `state`, with the errors of `BaseSolver.load_state`."""
        super().load_state(arrays)
        self.train_acc_history = _load_history(arrays, "train_acc_history", self.epoch)
        self.val_acc_history = _load_history(arrays, "val_acc_history", self.epoch)
        if self.val_acc_history:
            self.best_val_acc = max(self.val_acc_history)
            self.best_params = _load_params(self.model.params, arrays, "best/")


def _check_samples(part: str, X: ndarray, y: ndarray) -> None:
    if y.ndim != 1 or len(X) != len(y) or not len(y):
        raise ValueError(f"X_{part} of shape {X.shape} and y_{part} of shape {y.shape} do not fit together")
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        total = X.sum(dtype=np.float64)  # finite only if all terms are, and needs no memory for a mask
    if not math.isfinite(total):
        raise ValueError(f"X_{part} holds values that are not finite")


def _load_history(arrays: Mapping[str, ndarray], name: str, length: int) -> list[float]:
    if arrays[name].shape != (length,):
        raise ValueError(f"{name} has the shape {arrays[name].shape}, expected {(length,)}")
    return arrays[name].tolist()


def _load_params(own: Mapping[str, ndarray], arrays: Mapping[str, ndarray], prefix: str) -> dict[str, ndarray]:
    """The arrays whose names begin with `prefix`, checked against the shapes and types of `own`."""
    loaded = {name: arrays[prefix + name] for name in own}
    for name, value in loaded.items():
        if (value.shape, value.dtype) != (own[name].shape, own[name].dtype):
            found, expected = (f"{array.shape} {array.dtype}" for array in (value, own[name]))
            raise ValueError(f"{prefix}{name} is {found}, expected {expected}")
    return loaded


def keep_freed_memory() -> None:
    """Makes the GNU C library keep up to 64 MB of freed memory for the next step; has no effect on other libraries.

    The library keeps at most twice the size of the largest block freed so far, and returns the rest. If each ConvNet
    step had to get its 30 MB again, page faults would take a third of its time. Freeing 31 MiB here raises the limit.
    """
    np.empty(31 * 2**20, dtype=np.uint8)
