"""Compares the speed of hw_numpy's ConvNet with PyTorch's and with loops over every output pixel, in one run.

    python benchmarks/numpy_layers.py [--rounds 60] [--threads 2]

It times a training step of the sheet's network: batch 100, 32 filters of 7×7, 100 hidden units, single precision, SGD.
As in hw_numpy.train, the solver cuts a batch into slices, one for each of PyTorch's threads.
Goals: at most 2 times PyTorch's time; at least 100 times as fast as the loops; an epoch of 55 000 images with its
evaluation in at most 25 seconds; memory that does not grow with the epochs.
"""

import resource
import time
from unittest import mock

import harness
import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from threadpoolctl import threadpool_limits
from torch import nn

from hw_numpy import layers
from hw_numpy.cnn import ConvNet
from hw_numpy.solver import Solver, keep_freed_memory

LOOP_IMAGES = 2  # images for the loops, which would take most of a minute for a batch of 100


def loop_conv_forward(x: ndarray, w: ndarray) -> tuple[ndarray, tuple]:
    height, width = x.shape[2] - w.shape[2] + 1, x.shape[3] - w.shape[3] + 1
    out = np.zeros((len(x), len(w), height, width), x.dtype)
    for n, f, i, j in np.ndindex(out.shape):
        out[n, f, i, j] = (x[n, :, i : i + w.shape[2], j : j + w.shape[3]] * w[f]).sum()
    return out, (x, w)


def loop_conv_backward_w(dout: ndarray, cache: tuple) -> ndarray:
    x, w = cache
    dw = np.zeros_like(w)
    for n, f, i, j in np.ndindex(dout.shape):
        dw[f] += dout[n, f, i, j] * x[n, :, i : i + w.shape[2], j : j + w.shape[3]]
    return dw


def loop_max_pool_forward(x: ndarray, pool_param: dict[str, int]) -> tuple[ndarray, ndarray]:
    out = np.zeros((*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2), x.dtype)
    for n, c, i, j in np.ndindex(out.shape):
        out[n, c, i, j] = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max()
    return out, x


def loop_max_pool_backward(dout: ndarray, cache: ndarray) -> ndarray:
    x = cache
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(dout.shape):
        window = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        a, b = np.unravel_index(window.argmax(), window.shape)
        dx[n, c, 2 * i + a, 2 * j + b] += dout[n, c, i, j]
    return dx


LOOPS = {
    "conv_forward": loop_conv_forward,
    "conv_backward_w": loop_conv_backward_w,
    "max_pool_forward": loop_max_pool_forward,
    "max_pool_backward": loop_max_pool_backward,
}


def make_solver(X: ndarray, y: ndarray, threads: int, epochs: int = 1) -> Solver:
    data = {"X_train": X, "y_train": y, "X_val": X[:5000], "y_val": y[:5000]}
    settings = {"optim_config": {"learning_rate": 1e-3}, "num_epochs": epochs, "verbose": False, "seed": 0}
    return Solver(ConvNet(seed=0), data, threads=threads, **settings)


def loop_step(solver: Solver, batch: tuple[ndarray, ndarray]) -> None:
    with mock.patch.multiple(layers, **LOOPS):
        solver.step(batch)


def torch_network(model: ConvNet) -> nn.Module:
    """The same network in PyTorch, with the same weights."""
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 7, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(32 * 11 * 11, 100), nn.ReLU(), nn.Linear(100, 10)),
    )
    weights = [model.params["W1"], *(model.params[name].T for name in ("W2", "b2", "W3", "b3"))]
    for parameter, value in zip(network.parameters(), weights, strict=True):
        parameter.data.copy_(torch.from_numpy(value.copy()))
    return network


def compare_steps(X: ndarray, y: ndarray, rounds: int, threads: int) -> None:
    network = torch_network(ConvNet(seed=0))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    images, labels = torch.from_numpy(X), torch.from_numpy(y)

    def torch_step() -> float:
        return harness.plain_step(optimizer, F.cross_entropy(network(images), labels))

    few = X[:LOOP_IMAGES], y[:LOOP_IMAGES]
    ours, ours_with_few, loops = (make_solver(X, y, count) for count in (threads, 1, 1))
    ours.step((X, y))
    ours_with_few.step(few)
    loop_step(loops, few)
    assert abs(ours.loss_history[0] - torch_step()) < 1e-5  # both compute the same loss
    assert abs(ours_with_few.loss_history[0] - loops.loss_history[0]) < 1e-5
    seconds = harness.time_interleaved({"numpy": lambda: ours.step((X, y)), "torch": torch_step}, rounds, warm_up=10)
    harness.print_ratio("a training step of the NumPy CNN", seconds, "numpy", "torch", at_most=2)
    calls = {"loops": lambda: loop_step(loops, few), "numpy": lambda: ours.step((X, y))}
    seconds = harness.time_interleaved(calls, 5, warm_up=1)
    harness.print_ratio(
        "training the NumPy CNN on an image", seconds, "loops", "numpy", (LOOP_IMAGES, len(X)), at_least=100
    )


def compare_pooling(rounds: int) -> None:
    images = np.random.default_rng(0).standard_normal((100, 32, 22, 22)).astype(np.float32)
    pooled, cache = layers.max_pool_forward(images, {"pool_height": 2, "pool_width": 2, "stride": 2})
    x, dout = torch.from_numpy(images).requires_grad_(), torch.from_numpy(np.ones_like(pooled))
    y = F.max_pool2d(x, 2)
    calls = {
        "numpy": lambda: layers.max_pool_backward(dout.numpy(), cache),
        "torch": lambda: torch.autograd.grad(y, x, dout, retain_graph=True),
    }
    assert (calls["numpy"]() == calls["torch"]()[0].numpy()).all()
    seconds = harness.time_interleaved(calls, rounds, warm_up=3)
    harness.print_ratio("backward pass of max-pooling on a batch", seconds, "numpy", "torch")


def time_epochs(X: ndarray, y: ndarray, threads: int) -> None:
    rows = np.random.default_rng(0).integers(len(y), size=55_000)
    peaks, ends = [], [time.perf_counter()]

    def after_epoch() -> None:
        ends.append(time.perf_counter())
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    make_solver(X[rows], y[rows], threads, epochs=5).train(after_epoch)
    harness.print_values("an epoch of the NumPy CNN on 55 000 images", np.diff(ends).tolist(), "s", at_most=25)
    harness.print_value(
        "NumPy CNN: growth of the peak memory after the first epoch", peaks[-1] - peaks[0], "MB", at_most=5
    )


def main() -> None:
    arguments = harness.parse(harness.parser(__doc__, rounds=60))
    threadpool_limits(1)  # one thread for each matrix product, as in hw_numpy.train
    keep_freed_memory()  # hw_numpy.train calls this, too; PyTorch also profits
    generator = np.random.default_rng(0)
    pixels, y = generator.integers(0, 256, (100, 1, 28, 28)), generator.integers(10, size=100)
    compare_steps(pixels.astype(np.float32), y, arguments.rounds, arguments.threads)
    compare_pooling(arguments.rounds)
    time_epochs(pixels.astype(np.uint8), y, arguments.threads)


if __name__ == "__main__":
    main()
