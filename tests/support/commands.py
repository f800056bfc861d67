"""Every command of the repository, and the smallest training runs of each training command.

A command is a file with a `__main__` block. `COMMANDS` finds them all, so that a new one is tested by itself.
"""

import contextlib
import importlib
import io
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asr_files
import caption_files
import cnn_files
import numpy as np
import numpy_files
import ocr_files
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from hw_common.commands import cli
from hw_common.commands.training_command import ResumableCommand
from hw_common.runs import figures
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run
from hw_common.training.updates import Updater
from hw_numpy.solver import BaseSolver, Solver

ROOT = Path(__file__).resolve().parents[2]
FILES = [path for path in sorted(ROOT.glob("hw_*/*.py")) if '__name__ == "__main__"' in path.read_text()]
COMMANDS = [path.parent.name if path.stem == "__main__" else f"{path.parent.name}.{path.stem}" for path in FILES]
_MODULES = {name: importlib.import_module(name if "." in name else f"{name}.__main__") for name in COMMANDS}
MAINS = {name: module.main for name, module in _MODULES.items() if hasattr(module, "main")}
TRAININGS = [
    name for name, module in _MODULES.items() if isinstance(getattr(module, "COMMAND", None), ResumableCommand)
]


@dataclass(frozen=True)
class Tiny:
    """The smallest training runs of one command.

    Attributes:
        write: writes data into an empty folder; returns the flags that name it.
        flags: flags of every training.
        variants: for each kind of network its further flags; the first one stands for all where one is enough.
        patch: makes the networks smaller than any flag can.
    """

    write: Callable[[Path], Sequence[str]]
    flags: str
    variants: Mapping[str, str] = field(default_factory=lambda: {"plain": ""})
    patch: Callable[[pytest.MonkeyPatch], None] = lambda patch: None


def in_data_dir(write: Callable[[Path], Any]) -> Callable[[Path], Sequence[str]]:
    """`write` puts its files where --data_dir has to point."""
    return lambda folder: (write(folder), ["--data_dir", str(folder)])[1]


def in_dataset_dir(write: Callable[[Path], Any]) -> Callable[[Path], Sequence[str]]:
    """`write` returns the folder to which --dataset_dir has to point."""
    return lambda folder: ["--dataset_dir", str(write(folder))]


def narrow_speech_networks(patch: pytest.MonkeyPatch) -> None:
    """Makes networks of width 4, and shortens the notebook's padding."""
    from hw_asr import generation, presets
    from hw_asr.presets import Sizes

    sizes = {
        "sheet": Sizes(encoder_blocks=1, width=4, text_positions=100),
        "notebook": Sizes(encoder_blocks=1, outer_norm=False, width=4, text_positions=98),
    }
    patch.setattr(presets, "PRESETS", sizes)
    patch.setattr(generation, "NOTEBOOK_FRAMES", 40)


def thin_resnet(patch: pytest.MonkeyPatch) -> None:
    """An eighth of the channels, and a handful of sample pictures.

    With fewer than eight channels, PyTorch 2.11 corrupts its memory in convolutions on processors that have AVX2 only.
    """
    from hw_transfer import data
    from hw_transfer.models import ResNet18

    if ResNet18._make_layer.__name__ == "<lambda>":  # patched already
        return
    make_layer, features = ResNet18._make_layer, ResNet18.features
    patch.setattr(data, "_INSECTS", {"train": 3, "val": 2})
    patch.setattr(data, "_SHAPES", {"train": 2, "val": 1})
    patch.setattr(
        ResNet18, "_make_layer", lambda self, block, planes, *a, **k: make_layer(self, block, planes // 8, *a, **k)
    )
    patch.setattr(ResNet18, "features", lambda self, images: features(self, images).repeat(1, 8))  # 512 again


TINY = {
    "hw_asr.train": Tiny(
        in_dataset_dir(asr_files.write),
        "--batch_size 4",
        {
            "transformer": "--decoder transformer --join --beam 2",
            "lstm": "--recipe best --dropout 0.1",
            "notebook": "--preset notebook --decoder transformer",
        },
        narrow_speech_networks,
    ),
    "hw_attention_theory.train": Tiny(
        in_data_dir(cnn_files.write_idx),
        "--side 7 --n 4 --d 2 --batch_size 3",
        {"softmax": "--attention softmax", "taylor": "--attention taylor"},
    ),
    "hw_caption.train": Tiny(
        in_dataset_dir(caption_files.write_json),
        "--weights none --backbone squeezenet1_1 --image_size 32 --lr 0.01 --batch_size 4",
        {
            "attention": "-use_attention",
            "vanilla": "",
            "best": "-use_attention --augment --members 2 --schedule cosine --decoding consensus --beam 2",
            "finetuned": "--finetune_encoder --augment",
        },
    ),
    "hw_cnn.train": Tiny(
        in_data_dir(cnn_files.write_npz),
        "--dataset octmnist --batch_size 2",
        {
            "oct": "--lr 0.1",
            "fashion": "--network fashion -conv_1_name convblock1[0]",
            "cifar": "--network cifar --recipe best",
        },
    ),
    "hw_numpy.caption": Tiny(
        in_data_dir(numpy_files.write_course_files),
        "--max_train 3 --batch_size 2 --hidden_dim 24 --wordvec_dim 8",
        {"rnn": "--cell_type rnn", "lstm": "--cell_type lstm"},
    ),
    "hw_numpy.train": Tiny(
        in_data_dir(numpy_files.write_mnist),
        "--batch_size 8 --hidden_dims 2 3",
        {"cnn": "--model cnn --filter_sizes 25 27", "softmax": "--model softmax --grow 1"},
    ),
    "hw_ocr.train": Tiny(
        in_data_dir(ocr_files.write),
        "--batch_size 3",
        {
            "cnn": "--model cnn",
            "pairwise": "--model pairwise",
            "bilstm": "--model bilstm --hidden 4 --dropout 0.2 --augment",
            "conv-bilstm-crf": "--model conv_bilstm --hidden 4 --crf",
        },
    ),
    "hw_transfer.train": Tiny(
        lambda folder: [],
        "--dataset sample --weights none --batch_size 2",
        {"finetune": "", "freeze": "--mode freeze", "cached": "--mode freeze --cache_features"},
        thin_resnet,
    ),
}


# Commands on a finished run: which training made it, and the words around the run's folder.
IMAGE, SOUND = object(), object()
FINISHED = {
    "hw_asr.transcribe": ("hw_asr.train", "transformer", [], [SOUND]),
    "hw_caption.caption": ("hw_caption.train", "attention", [], [IMAGE]),
    "hw_cnn.compare_layers": ("hw_cnn.train", "cifar", [], []),
    "hw_cnn.explain": ("hw_cnn.train", "oct", ["feature_maps"], []),
    "hw_cnn.predict": ("hw_cnn.train", "oct", [], [IMAGE]),
    "hw_ocr.invariance": ("hw_ocr.train", "cnn", [], []),
    "hw_ocr.read": ("hw_ocr.train", "bilstm", [], [IMAGE]),
}
# Comparisons: the flags with which they train the fewest runs.
COMPARISONS = {
    "hw_attention_theory.compare": "",
    "hw_asr.compare": "",
    "hw_caption.compare": "--only vanilla",
    "hw_cnn.sweep": "--lrs 0.01 0.1",
    "hw_numpy.compare": "",
    "hw_ocr.compare": "--only layers",
    "hw_transfer.compare": "--scenarios freeze cached",
}


@dataclass(frozen=True)
class Trained:
    """A command, its data and the folder of its runs."""

    command: str
    data_flags: Sequence[str]
    words: Sequence[str]
    results_dir: Path

    @property
    def main(self) -> Callable[[Sequence[str]], None]:
        """Trains."""
        return MAINS[self.command]

    @property
    def parent(self) -> Path:
        """The folder of all run folders."""
        return self.results_dir / self.command.partition(".")[0]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.parent / "run"

    @property
    def flags(self) -> list[str]:
        """All flags but the results folder, those of the data first."""
        return [*self.data_flags, *self.words]

    def flags_into(self, results_dir: Path, *more: str) -> list[str]:
        """The flags of the same training in another results folder."""
        return [*self.flags, "--results_dir", str(results_dir), *more]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The one line of an error message; the test fails if there are more lines or if the status is not 2."""
        assert self.status == 2, (self.status, self.out, self.err)
        assert re.fullmatch(r"error: [^\n]+\n", self.err), self.err
        return self.err


def run_command(main: Callable[[Sequence[str]], int | None], *argv: object) -> Ended:
    """Runs a command in this process as its `__main__` block does."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.run_command(lambda: main([*map(str, argv)]))
    return Ended(ended.value.code or 0, out.getvalue(), err.getvalue())


def refusal(main: Callable[[Sequence[str]], object], *argv: object) -> str:
    """The message of the UserError with which `main` ends; the test fails if it has more than one line."""
    with pytest.raises(UserError) as caught:
        main([*map(str, argv)])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_image(folder: Path) -> Path:
    """An image of the letter a."""
    Image.fromarray(255 - 255 * ocr_files.image("a")).save(folder / "image.png")
    return folder / "image.png"


def write_sound(folder: Path) -> Path:
    """A short recording."""
    (folder / "sound.wav").write_bytes(asr_files.encoded(asr_files.sound()))
    return folder / "sound.wav"


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Figures become empty files, and all images of a grid share their axes: drawing takes longer than a tiny run."""

    def subplots(figure: Figure, rows: int = 1, columns: int = 1, **options: Any) -> Any:
        if rows * columns <= 3:  # such as the panels of curves
            return real(figure, rows, columns, **options)
        grid = np.full((rows, columns), figure.add_subplot(), object)
        return grid if options.get("squeeze") is False else grid.squeeze()

    real = Figure.subplots
    patch.setattr(Figure, "subplots", subplots)
    patch.setattr(figures, "save", _save_nothing)


def _save_nothing(figure: Figure, folder: Path, stem: str) -> list[Path]:
    paths = [folder / f"{stem}.{suffix}" for suffix in ("png", "pdf")]
    for path in paths:
        path.touch()
    return paths


def parsers_of(command: str) -> list[tuple[list[str], cli.Parser]]:
    """The parsers that `command` makes, each with the words that lead to it: none, or the name of a subcommand."""
    made: list[cli.Parser] = []
    make = cli.Parser.__init__

    def remember(self: cli.Parser, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        made.append(self)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(cli.Parser, "__init__", remember)
        with pytest.raises(SystemExit):
            MAINS[command](["--help"])
    return [(parser.prog.partition(command)[2].split(), parser) for parser in made if parser._subparsers is None]


@contextlib.contextmanager
def interrupted(point: str, number: int = signal.SIGINT) -> Iterator[None]:
    """Sends this process a signal at one point of the training inside; the test fails if the point is never reached.

    Args:
        point: "step 4": in the fourth optimizer step. "validation 2": in the second network call of the validation
            (NumPy: the second validation). "metrics 1": when metrics.csv is about to be written for the first time.
            "drawing 1": when the first figure is about to be written.
        number: of the signal.
    """
    calls: dict[str, int] = {}

    def count(kind: str) -> None:
        calls[kind] = calls.get(kind, 0) + 1
        if point == f"{kind} {calls[kind]}":
            os.kill(os.getpid(), number)

    def count_before(owner: Any, name: str, kind: str) -> None:
        function = getattr(owner, name)
        patch.setattr(owner, name, lambda *arguments, **options: (count(kind), function(*arguments, **options))[1])

    def on_forward(module: torch.nn.Module, _: object) -> None:
        if "step" in calls and not module.training and torch.is_inference_mode_enabled():
            count("validation")

    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as hooks:
        for solver in (BaseSolver, Solver):
            count_before(solver, "finish_epoch", "validation")
        count_before(BaseSolver, "step", "step")
        count_before(Run, "write_metrics", "metrics")
        count_before(figures, "save", "drawing")
        count_before(Updater, "update", "step")
        hooks.callback(register_module_forward_pre_hook(on_forward).remove)
        yield
    kind, _, which = point.partition(" ")
    assert calls.get(kind, 0) >= int(which), f"{point} was not reached: {calls}"
