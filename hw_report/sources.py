"""The experiments behind the sheets: the command that makes each, and what the sheets' sources read of it, by key."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hw_cnn.sweep_report import row_name
from hw_report.collect import Collector


@dataclass(frozen=True, eq=False)
class Command:
    """What makes an experiment's run folders: `python -m <words> --profile …`; it does what is missing of them.

    Attributes:
        words: module and flags.
        options: flags of `hw_report build` that it knows too.
        minutes: about how long it takes on two cores, by profile, when nothing is there yet.
    """

    words: tuple[str, ...]
    options: tuple[str, ...]
    minutes: Mapping[str, float]

    def shown(self, profile: str) -> str:
        """The command line without places of one machine."""
        return " ".join(["python", "-m", *self.words, "--profile", profile])


@dataclass(frozen=True)
class Experiment:
    """Part of a sheet's answers.

    Attributes:
        name: the key of its main numbers.
        title: what it is, with the questions of the sheet that names it.
        homework: whose run folders it has.
        command: makes them.
        head: what the names of its run folders begin with.
        collect: reads them.
    """

    name: str
    title: str
    homework: str
    command: Command
    head: str
    collect: Callable[[Collector], None]

    def folder(self, results_dir: Path, profile: str) -> Path:
        """Path of its run folders, as far as they have it in common."""
        return results_dir / self.homework / self.head.format(profile=profile)


def _swept(collector: Collector, key: str) -> str:
    """Collects a sweep and its run with the chosen learning rate and first seed; returns that run's key."""
    sweep = collector.run(key)
    best = f"{key}.best"
    collector.run(best, f"-{row_name(sweep['choice']['lr'])}-seed{sweep['seeds'][0]}")
    collector.figure(f"{key}.curves", key, "curves")
    collector.figure(f"{best}.curves", best, "curves")
    return best


def _kernels(collector: Collector, run: str, layers: Mapping[int, str]) -> None:
    """Collects the kernels of `layers`, names by number: in grey and, under <key>.heat, with a colour bar."""
    for number, layer in layers.items():
        collector.figure(f"{run}.kernels{number}", run, f"kernels-{layer}-grey")
        collector.figure(f"{run}.kernels{number}.heat", run, f"kernels-{layer}-heat")


def _fashion(collector: Collector) -> None:
    best = _swept(collector, "fashion")
    _kernels(collector, best, {1: "convblock1.0", 2: "convblock2.0"})
    command = "python -m hw_cnn.explain equivariance"
    collector.file("fashion.equivariance", best, "equivariance.json", command)
    collector.figure("fashion.best.equivariance", best, "equivariance", command)


def _oct(collector: Collector) -> None:
    best = _swept(collector, "oct")
    _kernels(collector, best, {1: "conv1", 2: "conv2"})
    collector.run("oct.no-maxpool", "-no_maxpool")
    collector.figure("oct.no-maxpool.curves", "oct.no-maxpool", "curves")


def _cifar(collector: Collector) -> None:
    best = _swept(collector, "cifar")
    _kernels(collector, best, {1: "conv1", 2: "conv2"})
    collector.file("cifar.layers", best, "compare_layers.json", "python -m hw_cnn.compare_layers")
    collector.figure("cifar.best.feature-maps", best, "feature_maps", "python -m hw_cnn.explain feature_maps")
    collector.file("cifar.grad-cam", best, "grad_cam.json", "python -m hw_cnn.explain grad_cam")
    collector.figure("cifar.best.grad-cam", best, "grad_cam", "python -m hw_cnn.explain grad_cam")


def _digits(key: str) -> Callable[[Collector], None]:
    def collect(collector: Collector) -> None:
        collector.run(key)
        for figure in ("curves", "selection"):
            collector.figure(f"{key}.{figure}", key, figure)

    return collect


def _captions(collector: Collector) -> None:
    collector.run("captions")
    for figure in ("curves", "captions"):
        collector.figure(f"captions.{figure}", "captions", figure)


def _transfer(collector: Collector) -> None:
    seed = collector.run("transfer")["seeds"][0]
    collector.figure("transfer.curves", "transfer", "curves")
    for scenario in ("finetune", "freeze"):
        key = f"transfer.{scenario}"
        collector.run(key, f"-{scenario}-seed{seed}")
        for figure in ("curves", "predictions", "confusion"):
            collector.figure(f"{key}.{figure}", key, figure)


def _ocr(collector: Collector) -> None:
    rows: dict[str, int] = {}  # to the first seed
    for what in ("layers", "sequences"):
        key = f"ocr.{what}"
        summary = collector.run(key, f"-{what}")
        collector.figure(f"{key}.comparison", key, "comparison")
        rows |= {row["row"]: summary["seeds"][0] for row in summary["table"]}
    for row, seed in rows.items():
        key = f"ocr.{row}"
        collector.run(key, f"-{row}-seed{seed}")
        for figure in ("curves", "confusion", "misread"):
            collector.figure(f"{key}.{figure}", key, figure)
        if row.startswith("conv"):
            _kernels(collector, key, {1: "layer1"})
        if row.startswith("cnn"):
            last = row.removeprefix("cnn").removesuffix("-crf")
            _kernels(collector, key, {number: f"layer{number}" for number in (1, int(last))})
        if row.endswith("crf"):
            collector.figure(f"{key}.transitions", key, "transitions")
    for row in ("cnn2", "conv-bilstm"):
        key, command = f"ocr.{row}", "python -m hw_ocr.invariance"
        collector.file(f"{key}.invariance", key, "invariance.json", command)
        collector.figure(f"{key}.invariance", key, "invariance", command)


def _caption(collector: Collector) -> None:
    seed = collector.run("caption")["seeds"][0]
    collector.figure("caption.curves", "caption", "curves")
    for decoder in ("vanilla", "attention"):
        key = f"caption.{decoder}"
        collector.run(key, f"-{decoder}-seed{seed}")
        collector.figure(f"{key}.captions", key, "captions")
    key = "caption.attention"
    collector.file("caption.captions", key, "caps_generated_enc_dec_w_attention.json", select=_by_image)
    for number, path in enumerate(sorted(collector.numbers[key].run.folder.glob("attention-*.pdf")), start=1):
        collector.figure(f"{key}.weights{number}", key, path.stem)


def _by_image(captions: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Caption by image, from the course's format."""
    return {row["image_name"]: " ".join(row["caption"]) for row in captions}


def _theory(collector: Collector) -> None:
    collector.run("theory", name="verify", data="random numbers")
    collector.figure("theory.approximation", "theory", "approximation")
    collector.run("theory.counts", name="parameter_counts", data="computed exactly")
    collector.run("theory.scaling", "-scaling", data="random sequences")
    collector.figure("theory.scaling", "theory.scaling", "scaling")
    for attention in ("softmax", "taylor"):
        collector.run(f"theory.{attention}", f"-{attention}")
        collector.figure(f"theory.{attention}.curves", f"theory.{attention}", "curves")


def _asr(collector: Collector) -> None:
    seed = collector.run("asr")["seeds"][0]
    collector.run("asr.pairs", name="similarities", data="chosen pairs of texts")
    for figure in ("curves", "similarities"):
        collector.figure(f"asr.{figure}", "asr", figure)
    for decoder in ("lstm", "transformer"):
        key = f"asr.{decoder}"
        collector.run(key, f"-{decoder}-seed{seed}")
        for figure in ("predictions", "alignment"):
            collector.figure(f"{key}.{figure}", key, figure)


_TRAINING = ("data_dir", "jobs")
_NUMPY = Command(("hw_numpy.reproduce",), ("data_dir", "captions_dir"), {"sample": 0.8, "full": 15})
_FASHION = Command(("hw_cnn.reproduce", "--only", "fashion"), _TRAINING, {"sample": 0.4, "full": 25})
_OCT = Command(("hw_cnn.reproduce", "--only", "oct"), _TRAINING, {"sample": 0.4, "full": 60})
_CIFAR = Command(("hw_cnn.reproduce", "--only", "cifar"), _TRAINING, {"sample": 0.6, "full": 40})
_TRANSFER = Command(("hw_transfer.reproduce",), ("data_dir", "weights", "jobs"), {"sample": 0.6, "full": 120})
_OCR = Command(("hw_ocr.reproduce",), _TRAINING, {"sample": 1.5, "full": 90})
_THEORY = Command(("hw_attention_theory.reproduce",), _TRAINING, {"sample": 1, "full": 30})
_CAPTION = Command(("hw_caption.reproduce",), ("data_dir", "weights", "jobs"), {"sample": 1.2, "full": 30})
_ASR = Command(("hw_asr.reproduce",), _TRAINING, {"sample": 3, "full": 600})

EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType({
    experiment.name: experiment
    for experiment in (
        Experiment("theory", "attention, Question 1", "hw_attention_theory", _THEORY, "{profile}", _theory),
        Experiment("fashion", "image classification, Question 2", "hw_cnn", _FASHION, "{profile}-fashion", _fashion),
        Experiment("oct", "image classification, Question 2", "hw_cnn", _OCT, "{profile}-oct", _oct),
        Experiment("cifar", "image classification, Tasks 1 to 3", "hw_cnn", _CIFAR, "{profile}-cifar", _cifar),
        Experiment("softmax", "two layers, Question 2", "hw_numpy", _NUMPY, "{profile}-softmax", _digits("softmax")),
        Experiment("cnn", "convolutions, Question 3", "hw_numpy", _NUMPY, "{profile}-cnn", _digits("cnn")),
        Experiment("captions", "captioning, Question 4", "hw_numpy", _NUMPY, "{profile}-captions", _captions),
        Experiment("transfer", "transfer learning, Question 5", "hw_transfer", _TRANSFER, "{profile}", _transfer),
        Experiment("ocr", "letters and words, Questions 1 and 2", "hw_ocr", _OCR, "{profile}", _ocr),
        Experiment("asr", "speech recognition, Question 3", "hw_asr", _ASR, "{profile}", _asr),
        Experiment("caption", "captioning, Question 3", "hw_caption", _CAPTION, "{profile}", _caption),
    )
})  # fmt: skip
