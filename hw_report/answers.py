"""What the README says of every question: the command that answers it, its figure, our number, the published one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """A line of the table of answers.

    Attributes:
        question: sheet and number of the question.
        command: what answers it.
        figure: what the command draws.
        what: which number.
        record: name of the record that holds it; "" where there is none.
        number: reads it from the record's summary.
        published: key of the published number; "" where there is none.
    """

    question: str
    command: str
    figure: str = ""
    what: str = ""
    record: str = ""
    number: Callable[[Summary], str] | None = None
    published: str = ""


def mean(row: Summary, metric: str) -> str:
    """`metric` of a table's row: mean ± standard deviation; the number alone where there was one seed, or a count."""
    value, deviation = row[metric], row.get(f"{metric}_std")
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" + (f" ± {deviation:.4f}" if deviation else "")


def _in_row(metric: str, table: str = "table", **which: Any) -> Callable[[Summary], str]:
    """Reads a number from the row of the summary's table that has the values `which`."""

    def read(summary: Summary) -> str:
        [row] = [row for row in summary[table] if which.items() <= row.items()]
        return mean(row, metric)

    return read


def answers() -> Iterator[Answer]:
    """All lines, sheet by sheet in the order of their questions."""
    yield from _ist_2021_22()
    yield from _ist_2023_24()
    yield from _convnets()
    yield from _eecs545()
    yield from _dsl()


def _ist_2021_22() -> Iterator[Answer]:
    sheet = "ist-2021-22-hw2"
    counts, record = "python -m hw_attention_theory.parameter_counts", "hw_attention_theory-parameter_counts"
    for question in ("1.1", "1.2"):
        number = _in_row("parameters", "networks", question=f"Q{question}")
        yield Answer(f"{sheet} {question}", counts, "", "parameters", record, number)
    yield Answer(f"{sheet} 1.3", "python -m hw_attention_theory.verify")
    yield Answer(f"{sheet} 2.1", "python -m hw_cnn.explain equivariance RUN", "equivariance")
    sweep, record = "python -m hw_cnn.sweep --seeds 42 43 44", "hw_cnn-sweep-fashion-mnist-fashion-plain"
    for lr in (0.001, 0.01, 0.1):
        number = _in_row("final_validation_accuracy", lr=lr)
        what = f"Fashion-MNIST, validation accuracy at {lr:g}"
        yield Answer(f"{sheet} 2.2", sweep, "curves", what, record, number, f"fashion.lr{lr:g}")
    kernels = 'python -m hw_cnn.train --lr 0.01 -conv_1_name "convblock1[0]" -conv_2_name "convblock2[0]"'
    yield Answer(f"{sheet} 2.3", kernels, "kernels-*")
    compare = "python -m hw_caption.compare --weights WEIGHTS --seeds 42 43 44"
    record = "hw_caption-compare-sydney-cifar10"
    for question, decoder in (("3.1(a)", "vanilla"), ("3.1(b)", "attention")):
        number = _in_row("final_test_bleu4", decoder=decoder, way="greedy")
        what = f"Sydney, test BLEU-4, {decoder}, from CIFAR-10's weights"
        yield Answer(f"{sheet} {question}", compare, "curves", what, record, number, f"caption.{decoder}")
    best, record = f"{compare} --only vanilla --recipe best", "hw_caption-best-sydney-cifar10"
    number = _in_row("final_test_bleu4", way="consensus")
    what = "Sydney, test BLEU-4, recommended, from CIFAR-10's weights"
    yield Answer(f"{sheet} 3.1", best, "curves", what, record, number, "caption.attention")
    yield Answer(f"{sheet} 3.1(c)", "python -m hw_caption.train --use_attention", "captions")


def _ist_2023_24() -> Iterator[Answer]:
    sheet = "ist-2023-24-hw2"
    yield Answer(f"{sheet} 1.1–1.4", "python -m hw_attention_theory.verify", "approximation")
    yield Answer(f"{sheet} 1.4", "python -m hw_attention_theory.scaling", "scaling")
    sweep = "python -m hw_cnn.sweep --dataset octmnist --seeds 42 43 44"
    what = "OCTMNIST, test accuracy on the course's 529 images"
    yield Answer(f"{sheet} 2.1", sweep, "curves", what, published="oct.maxpool")
    without = "python -m hw_cnn.train --dataset octmnist -no_maxpool --lr 0.01"
    yield Answer(f"{sheet} 2.2", without, "curves", what, published="oct.no-maxpool")
    yield Answer(f"{sheet} 2.3", "python -m hw_cnn.train --dataset octmnist --dry_run")
    for question, decoder in (("3.1", "lstm"), ("3.2", "transformer")):
        command = f"python -m hw_asr.train --preset notebook --decoder {decoder}"
        drawn = "curves, similarities, predictions, alignment"
        yield Answer(
            f"{sheet} {question}",
            command,
            drawn,
            "LJSpeech, test loss, padding counted",
            published=f"asr.{decoder}.loss",
        )
    yield Answer(f"{sheet} 3.3", "python -m hw_asr.compare --seeds 42 43 44", "curves, similarities")
    yield Answer(f"{sheet} 3.4", "python -m hw_asr.compare_similarities")


def _convnets() -> Iterator[Answer]:
    sheet = "convnets-2024-a2"
    yield Answer(f"{sheet} 1.0, 1.1", "python -m hw_cnn.train --dataset cifar10", "curves")
    for recipe, flags, record, lr in (
        ("plain", "--lrs 0.005", "hw_cnn-cifar-plain", 0.005),
        ("recommended", "--recipe best --lrs 0.05", "hw_cnn-cifar-best", 0.05),
    ):
        data = "--dataset folder --data_dir FOLDER"
        command = f"python -m hw_cnn.sweep {data} {flags} --seeds 42 43 44 --choose_by best"
        number = _in_row("best_test_accuracy", lr=lr)
        yield Answer(
            f"{sheet} 1.2", command, "curves", f"CIFAR-10 (JPEG copies), test accuracy, {recipe}", record, number
        )
    yield Answer(f"{sheet} 2.1, 3.1, 3.2", "python -m hw_cnn.compare_layers RUN")
    yield Answer(f"{sheet} 3.3", "python -m hw_cnn.explain feature_maps RUN", "feature_maps")
    yield Answer(f"{sheet} 3.4", "python -m hw_cnn.explain grad_cam RUN", "grad_cam")


def _eecs545() -> Iterator[Answer]:
    sheet = "eecs545-w20-hw4"
    yield Answer(f"{sheet} 1, 2(a, b), 3(a, b), 4(a–c)", "python -m hw_check")
    for question, model in (("2(c)", "softmax"), ("3(c)", "cnn")):
        train, what = f"python -m hw_numpy.train --model {model}", "MNIST, test accuracy"
        yield Answer(
            f"{sheet} {question}", train, "curves, selection", what, f"hw_numpy-mnist-{model}",
            lambda summary: mean(summary["best"], "test_accuracy"), model,
        )  # fmt: skip
    train, record = "python -m hw_numpy.caption --data_dir CAPTIONS", "hw_numpy-caption-flickr1k-rnn-seed42"
    yield Answer(
        f"{sheet} 4(d)", train, "curves, captions", "Flickr8k's captions, last training loss", record,
        lambda summary: mean(summary, "last_epoch_loss"), "captions.last-loss",
    )  # fmt: skip
    for question, mode in (("5(a–c)", "finetune"), ("5(a, b, d)", "freeze")):
        yield Answer(f"{sheet} {question}", f"python -m hw_transfer.train --mode {mode}", "curves, predictions")
    compare = "python -m hw_transfer.compare --weights WEIGHTS --precision bf16 --seeds 42 43 44"
    record = "hw_transfer-hymenoptera"
    for scenario in ("finetune", "freeze"):
        number = _in_row("best_validation_accuracy", scenario=scenario)
        yield Answer(
            f"{sheet} 5(e)", compare, "curves", f"ants and bees, from CIFAR-10's weights, {scenario}", record, number,
            f"transfer.{scenario}",
        )  # fmt: skip


def _dsl() -> Iterator[Answer]:
    sheet, compare = "dsl-2019-hw3", "python -m hw_ocr.compare --seeds 42 43 44 --only"
    yield Answer(f"{sheet} 1.1", "python -m hw_ocr.invariance RUN", "invariance")
    yield Answer(f"{sheet} 1.2, 1.3", "python -m hw_ocr.train --model cnn", "curves, confusion, kernels-*")
    for layers in (2, 3, 4, 5):
        number = _in_row("final_test_accuracy", row=f"cnn{layers}")
        yield Answer(
            f"{sheet} 1.4", f"{compare} layers", "comparison", f"OCR letters, test accuracy, {layers} convolutions",
            "hw_ocr-compare-ocr-layers", number, f"ocr.cnn{layers}",
        )  # fmt: skip
    for question, row, network in (
        ("2.1", "bilstm", "BiLSTM"),
        ("2.2", "bilstm-crf", "BiLSTM-CRF"),
        ("2.3", "conv-bilstm", "conv-BiLSTM"),
        ("2.3", "best", "recommended"),
    ):
        number = _in_row("final_test_accuracy", row=row)
        yield Answer(
            f"{sheet} {question}", f"{compare} sequences", "comparison", f"OCR letters, test accuracy, {network}",
            "hw_ocr-compare-ocr-sequences", number, f"ocr.{row}" if row != "bilstm-crf" else "",
        )  # fmt: skip
