"""The experiments behind the sheets: the command that runs each, and the numbers and figures that its report needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hw_cnn.sweep_report import row_name
from hw_report.collect import FIGURE_SUFFIX, Collector, RecordCollector


@dataclass(frozen=True, eq=False)
class Command:
    """The command of one or several experiments, `python -m <words> --profile …`; it skips finished runs."""

    words: tuple[str, ...]  # module and flags
    options: tuple[str, ...]  # flags of `hw_report build` that are passed on to the command
    minutes: Mapping[str, float]  # rough duration on two cores, by profile

    def shown(self, profile: str) -> str:
        """The command line as the reports print it, without the paths of this machine."""
        return " ".join(["python", "-m", *self.words, "--profile", profile])


@dataclass(frozen=True)
class Experiment:
    """The runs behind a part of a report."""

    name: str  # key of the main numbers
    title: str  # title of the part, with the questions of the sheet
    homework: str  # package whose run folders are read
    command: Command  # makes the run folders
    head: str  # beginning of the names of the run folders, with a place for the profile
    collect: Callable[[Collector], None]  # reads the run folders
    # The records of these runs, as folders below results/record. The keys are the ends of the run folders' names, after
    # `head`, or the whole names. A record also holds the training runs of a comparison.
    records: Mapping[str, str]

    def folder(self, results_dir: Path, profile: str) -> Path:
        """The common beginning of the paths of the run folders."""
        return results_dir / self.homework / self.head.format(profile=profile)


def _first_seed(comparison: Mapping[str, Any]) -> int:
    """The first seed of a comparison's summary, which is empty if the comparison was not recorded."""
    seeds: Sequence[int] = comparison.get("seeds", [0])
    return seeds[0]


def _sweep(collector: Collector, key: str, layers: Mapping[int, str]) -> str:
    """Collects a sweep and its run with the chosen learning rate and first seed; returns the key of that run."""
    sweep = collector.run(key)
    best = f"{key}.best"
    if sweep:
        collector.run(best, f"-{row_name(sweep['choice']['lr'])}-seed{sweep['seeds'][0]}")
    collector.figures(key, "curves")
    collector.figures(best, "curves")
    _kernels(collector, best, layers)
    return best


def _kernels(collector: Collector, run: str, layers: Mapping[int, str]) -> None:
    """Collects two figures of the kernels of each of `layers` (names by number): grey, and in colour (<key>.heat)."""
    for number, layer in layers.items():
        collector.figure(f"{run}.kernels{number}", run, f"kernels-{layer}-grey")
        collector.figure(f"{run}.kernels{number}.heat", run, f"kernels-{layer}-heat")


def _fashion(collector: Collector) -> None:
    best = _sweep(collector, "fashion", {1: "convblock1.0", 2: "convblock2.0"})
    command = "python -m hw_cnn.explain equivariance"
    collector.file("fashion.equivariance", best, "equivariance.json", command)
    collector.figures(best, "equivariance", command=command)


def _oct(collector: Collector) -> None:
    _sweep(collector, "oct", {1: "conv1", 2: "conv2"})
    collector.run("oct.no-maxpool", "-no_maxpool")
    collector.figures("oct.no-maxpool", "curves")


def _cifar(collector: Collector) -> None:
    best = _sweep(collector, "cifar", {1: "conv1", 2: "conv2"})
    collector.file("cifar.layers", best, "compare_layers.json", "python -m hw_cnn.compare_layers")
    collector.file("cifar.grad-cam", best, "grad_cam.json", "python -m hw_cnn.explain grad_cam")
    for figure in ("feature_maps", "grad_cam"):
        collector.figures(best, figure, command=f"python -m hw_cnn.explain {figure}")


def _digits(collector: Collector) -> None:
    seed = _first_seed(collector.run("digits"))
    for model in ("softmax", "cnn"):
        collector.run(model, f"-{model}-seed{seed}")
        collector.figures(model, "curves", "selection")


def _captions(collector: Collector) -> None:
    collector.run("captions")
    collector.figures("captions", "curves", "captions")


def _transfer(collector: Collector) -> None:
    seed = _first_seed(collector.run("transfer"))
    collector.figures("transfer", "curves")
    for scenario in ("finetune", "freeze"):
        collector.run(f"transfer.{scenario}", f"-{scenario}-seed{seed}")
        collector.figures(f"transfer.{scenario}", "curves", "predictions", "confusion")


def _ocr(collector: Collector) -> None:
    rows: dict[str, int] = {}  # the first seed of each row
    for comparison in ("pairs", "layers", "sequences"):
        summary = collector.run(f"ocr.{comparison}", f"-{comparison}")
        seed = _first_seed(summary)
        collector.figures(f"ocr.{comparison}", "comparison")
        rows |= {row["row"]: seed for row in summary.get("table", ())}
    for row, seed in rows.items():
        key = f"ocr.{row}"
        collector.run(key, f"-{row}-seed{seed}")
        collector.figures(key, "curves", "confusion", "misread", *(["transitions"] if row.endswith("crf") else []))
        if row.startswith("conv"):
            _kernels(collector, key, {1: "layer1"})
        if row.startswith("cnn"):
            last = row.removeprefix("cnn").removesuffix("-crf")
            _kernels(collector, key, {number: f"layer{number}" for number in (1, int(last))})
    command = "python -m hw_ocr.invariance"
    collector.file("ocr.cnn2.invariance", "ocr.cnn2", "invariance.json", command)
    collector.figures("ocr.cnn2", "invariance", "invariance-accuracy", command=command)


def _caption(collector: Collector) -> None:
    seed = _first_seed(collector.run("caption"))
    collector.figures("caption", "curves")
    for decoder in ("vanilla", "attention"):
        collector.run(f"caption.{decoder}", f"-{decoder}-seed{seed}")
        collector.figures(f"caption.{decoder}", "captions")
    key = "caption.attention"
    collector.file("caption.captions", key, "caps_generated_enc_dec_w_attention.json", select=_by_image)
    if key in collector.numbers:
        folder = collector.numbers[key].run.folder
        for number, path in enumerate(sorted(folder.glob(f"attention-*{FIGURE_SUFFIX}")), start=1):
            collector.figure(f"{key}.weights{number}", key, path.stem)


def _by_image(captions: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Captions by image name, from the course's format."""
    return {row["image_name"]: " ".join(row["caption"]) for row in captions}


def _theory(collector: Collector) -> None:
    collector.run("theory", name="verify", data="random numbers")
    collector.figures("theory", "approximation")
    collector.run("theory.counts", name="parameter_counts", data="computed exactly")
    collector.run("theory.scaling", "-attention-times", data="random sequences")
    collector.figure("theory.scaling", "theory.scaling", "scaling")
    for attention in ("softmax", "taylor"):
        collector.run(f"theory.{attention}", f"-{attention}")
        collector.figures(f"theory.{attention}", "curves")


def _asr(collector: Collector) -> None:
    seed = _first_seed(collector.run("asr"))
    collector.run("asr.pairs", name="similarities", data="chosen pairs of texts")
    collector.figures("asr", "curves", "similarities")
    for decoder in ("lstm", "transformer"):
        collector.run(f"asr.{decoder}", f"-{decoder}-seed{seed}")
        collector.figures(f"asr.{decoder}", "predictions", "alignment")
    if isinstance(collector, RecordCollector):  # AN4 is only in the records; no profile trains on it
        collector.run("asr.an4", "an4")
        collector.figures("asr.an4", "alignment")


_TRAINING = ("data_dir", "jobs")
_NUMPY = Command(("hw_numpy.reproduce",), ("data_dir", "captions_dir", "jobs"), {"sample": 0.8, "full": 60})
_FASHION = Command(("hw_cnn.reproduce", "--only", "fashion"), _TRAINING, {"sample": 0.4, "full": 25})
_OCT = Command(("hw_cnn.reproduce", "--only", "oct"), _TRAINING, {"sample": 0.4, "full": 60})
_CIFAR = Command(("hw_cnn.reproduce", "--only", "cifar"), _TRAINING, {"sample": 0.6, "full": 40})
_TRANSFER = Command(("hw_transfer.reproduce",), ("data_dir", "weights", "jobs"), {"sample": 0.6, "full": 120})
_OCR = Command(("hw_ocr.reproduce",), _TRAINING, {"sample": 1.5, "full": 90})
_THEORY = Command(("hw_attention_theory.reproduce",), _TRAINING, {"sample": 1, "full": 30})
_CAPTION = Command(("hw_caption.reproduce",), ("data_dir", "weights", "jobs"), {"sample": 1.2, "full": 30})
_ASR = Command(("hw_asr.reproduce",), _TRAINING, {"sample": 3, "full": 600})

_THEORY_RECORDS = {
    "verify": "hw_attention_theory-verify",
    "parameter_counts": "hw_attention_theory-parameter_counts",
    "-attention-times": "hw_attention_theory-scaling",
    "-softmax": "hw_attention_theory-compare-mnist14/runs/softmax-seed42",
    "-taylor": "hw_attention_theory-compare-mnist14/runs/taylor-seed42",
}
_OCT_RECORDS = {
    "": "hw_cnn-pneumonia-pool",
    "-no_maxpool": "hw_cnn-pneumonia-no-maxpool/runs/lr0.1-seed42",
}
_OCR_RECORDS = {
    "-pairs": "hw_ocr-compare-ocr-pairs",
    "-layers": "hw_ocr-compare-ocr-layers",
    "-sequences": "hw_ocr-compare-ocr-sequences",
}
_ASR_RECORDS = {
    "": "hw_asr-compare-digits-sheet-plain",
    "similarities": "hw_asr-similarities",
    "an4": "hw_asr-compare-an4-best/runs/transformer-seed42",
}
_EXPERIMENTS = (
    Experiment("theory", "attention, Question 1", "hw_attention_theory", _THEORY, "{profile}", _theory,
               _THEORY_RECORDS),
    Experiment("fashion", "image classification, Question 2", "hw_cnn", _FASHION, "{profile}-fashion", _fashion,
               {"": "hw_cnn-sweep-fashion-mnist-fashion-plain"}),
    Experiment("oct", "image classification, Question 2", "hw_cnn", _OCT, "{profile}-oct", _oct, _OCT_RECORDS),
    Experiment("cifar", "image classification, Tasks 1 to 3", "hw_cnn", _CIFAR, "{profile}-cifar", _cifar,
               {"": "hw_cnn-cifar-plain"}),
    Experiment("digits", "digits, Questions 2 and 3", "hw_numpy", _NUMPY, "{profile}", _digits,
               {"": "hw_numpy-compare-mnist"}),
    Experiment("captions", "captioning, Question 4", "hw_numpy", _NUMPY, "{profile}-captions", _captions,
               {"": "hw_numpy-caption-flickr1k-rnn-seed42"}),
    Experiment("transfer", "transfer learning, Question 5", "hw_transfer", _TRANSFER, "{profile}", _transfer,
               {"": "hw_transfer-bees-mobilenet"}),
    Experiment("ocr", "letters and words, Questions 1 and 2", "hw_ocr", _OCR, "{profile}", _ocr, _OCR_RECORDS),
    Experiment("asr", "speech recognition, Question 3", "hw_asr", _ASR, "{profile}", _asr, _ASR_RECORDS),
    Experiment("caption", "captioning, Question 3", "hw_caption", _CAPTION, "{profile}", _caption,
               {"": "hw_caption-sydney-mobilenet"}),
)  # fmt: skip
EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType({experiment.name: experiment for experiment in _EXPERIMENTS})
