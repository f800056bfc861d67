"""Training speed of hw_cnn compared with a straightforward loop, as ratios within one run.

    python benchmarks/cnn.py [--batch_size 8 64 256] [--rounds 7] [--images 2048] [--threads 2] [--accuracy]

The straightforward loop is written as in a first solution: TensorDataset of floats, DataLoader, contiguous tensors,
fp32, nn.Dropout, zero_grad / backward / step / loss.item(). Ours is `hw_common.training.loop.fit`, called as in
`hw_cnn.train`. Both train FashionCNN on the same images with the same number of threads, alternately, each in a process
of its own; the median of the rounds' ratios is printed. `--accuracy` also trains both to the end on the built-in
sample data, with five seeds, to show that the accuracies are equal.
"""

import functools
import math
import statistics
from collections.abc import Callable

import harness
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hw_cnn import data, experiment, train
from hw_cnn.data import ImageData, Split
from hw_cnn.models import FashionCNN
from hw_cnn.presets import NETWORKS, Settings
from hw_common.training.experiment import make_optimizer
from hw_common.training.memory import keep_freed_memory

GOALS = {(8, "fp32"): 1.2, (64, "fp32"): 1.2, (64, "bf16"): 1.7, (256, "bf16"): 2.0}
CPU = torch.device("cpu")
PRECISIONS = ("fp32", "bf16")
CLASSES = 10
EPOCHS = 15  # number of epochs after which accuracies are compared
FASHION = NETWORKS["fashion"]


def straightforward_loop(
    images: Split, batch_size: int, lr: float, device: torch.device = CPU
) -> tuple[nn.Module, Callable[[], None]]:
    """A network, and a function that trains it for an epoch."""
    dataset = TensorDataset(images.images.float() / 256, images.labels)
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True)
    model = FashionCNN().to(device)
    model.dropout = nn.Dropout(model.dropout.p)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    criterion = nn.NLLLoss()

    def epoch() -> None:
        for batch, labels in loader:
            harness.plain_step(optimizer, criterion(model(batch.to(device)), labels.to(device)))

    return model, epoch


def our_loop(
    images: Split, batch_size: int, lr: float, seed: int = 42, device: torch.device = CPU
) -> tuple[nn.Module, Callable[..., None]]:
    """A network, and a function that trains it in a precision, by default for an epoch."""
    flags = ["--dataset", "sample", "--batch_size", str(batch_size), "--lr", str(lr), "--seed", str(seed)]
    settings = Settings.from_arguments(train.COMMAND.parse(flags))
    model = experiment.build_model(settings, CLASSES).to(device)
    batches = experiment.training_batches(settings, images, device)

    def train_epochs(precision: str, epochs: int = 1) -> None:
        optimizer = make_optimizer("sgd", model.parameters(), settings.lr, l2_decay=0)
        harness.train(model, optimizer, batches, experiment.loss_function, epochs=epochs, precision=precision)

    return model, train_epochs


def straightforward(images: ImageData, batch_size: int, epochs: int, lr: float, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model, epoch = straightforward_loop(images.train, batch_size, lr)
    for _ in range(epochs):
        epoch()
    return model


def ours(images: ImageData, batch_size: int, epochs: int, lr: float, seed: int, precision: str) -> nn.Module:
    torch.manual_seed(seed)
    model, train_epochs = our_loop(images.train, batch_size, lr, seed)
    train_epochs(precision, epochs)
    return model


def accuracy(model: nn.Module, split: Split) -> float:
    with torch.inference_mode():
        predicted = model.eval()(data.to_input(split.images, FASHION)).argmax(1)
    return (predicted == split.labels).double().mean().item()


def compare_accuracy(images: ImageData) -> None:
    trainers = {
        "straightforward": lambda seed: straightforward(images, 64, EPOCHS, 0.05, seed),
        "ours, fp32": lambda seed: ours(images, 64, EPOCHS, 0.05, seed, "fp32"),
        "ours, bf16": lambda seed: ours(images, 64, EPOCHS, 0.05, seed, "bf16"),
    }
    results = {name: [accuracy(train(seed), images.test) for seed in range(42, 47)] for name, train in trainers.items()}
    naive = results["straightforward"]
    for name, values in results.items():
        gap = abs(statistics.mean(values) - statistics.mean(naive))
        error = math.sqrt((statistics.variance(values) + statistics.variance(naive)) / len(values))
        print(f"{name:16} test accuracy {statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}, five seeds")
        if name != "straightforward":
            title = f"difference of test accuracy, straightforward code and {name}, after {EPOCHS} epochs on the sample"
            harness.print_value(title, gap / error, "standard errors", at_most=2)


def repeated_sample(count: int) -> ImageData:
    """Returns the sample with its training images repeated until there are `count` of them."""
    sample = data.load("sample", None, FASHION, seed=42)
    rows = torch.arange(count) % len(sample.train)
    split = Split(sample.train.images[rows], sample.train.labels[rows])
    return ImageData(sample.name, split, sample.val, sample.test, sample.classes, {})


def naive_trainer(batch_size: int, count: int) -> Callable[[], nn.Module]:
    return functools.partial(straightforward, repeated_sample(count), batch_size, 1, 0.01, 42)


def our_trainer(batch_size: int, count: int) -> Callable[[str], nn.Module]:
    keep_freed_memory()  # every training command calls this, too
    return functools.partial(ours, repeated_sample(count), batch_size, 1, 0.01, 42)


def main() -> None:
    flags = harness.parser(__doc__, rounds=7)
    flags.add_argument("--batch_size", nargs="+", type=int, default=[8, 64, 256])
    flags.add_argument("--images", type=int, default=2048, help="images per round at batch 8; otherwise twice this")
    flags.add_argument("--accuracy", action="store_true")
    arguments = harness.parse(flags)
    for batch_size in arguments.batch_size:
        count = arguments.images * (1 if batch_size == 8 else 2)
        naive, our = (functools.partial(make, batch_size, count) for make in (naive_trainer, our_trainer))
        seconds = harness.time_trainings(naive, our, PRECISIONS, arguments.rounds)
        for precision in PRECISIONS:
            goal = GOALS.get((batch_size, precision))
            title, images = f"training FashionCNN, batch {batch_size}", (count, count)
            harness.print_ratio(title, seconds, "baseline", precision, images, at_least=goal)
    if arguments.accuracy:
        compare_accuracy(data.load("sample", None, FASHION, seed=42))


if __name__ == "__main__":
    main()
