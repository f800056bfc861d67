"""Speed of the speech recognizer compared with the course's code, as ratios within one run.

    python benchmarks/asr.py [--preset notebook sheet] [--part training generation memory] [--rounds 5] [--threads 1]
        [--dataset_dir FOLDER]

The course's code pads every clip to 2 754 frames and every text to 98 characters, has no padding mask in attention,
and computes the whole text again for each generated character. Our code is what `hw_asr.train` runs. Both compute the
same network with the same number of threads. The measurements of the two alternate, and the median of the rounds'
ratios is printed.

Times are per clip. Our code computes three batches of 64: one of short, one of medium and one of long clips. The
course's code computes 16 clips in training (--course_batch), which takes 2 GB, and 4 in generation, which is fastest
for it. In generation, both write 98 characters for each clip: no text ends early.

The clips are noise of the durations of LJSpeech's clips, or the clips of --dataset_dir (`hw_asr.synthesize` makes such
datasets). Peak memory is measured in a process that trains on eleven random batches and one with the 64 longest clips.
Batches of many sizes raise this peak to one and a half times the memory of the largest step alone.
"""

import functools
import itertools
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import harness
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hw_asr import data, train
from hw_asr.audio import SPECTROGRAMS
from hw_asr.evaluation import LABEL_SMOOTHING
from hw_asr.experiment import training_loss
from hw_asr.generation import InferenceSettings, generate
from hw_asr.kernels import build_model
from hw_asr.models import SpeechToText, TextDecoderRecurrent
from hw_asr.presets import NOTEBOOK_FRAMES, PRESETS, TITLES, Settings
from hw_asr.spectrograms import Spectrograms
from hw_asr.text import EMPTY, START, STOP, UNKNOWN
from hw_common.training.batches import SequenceBatches, Tensors, batches_of_similar_length, generator_for
from hw_common.training.experiment import make_optimizer
from hw_common.training.memory import keep_freed_memory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
import asr_notebook  # noqa: E402

CPU = torch.device("cpu")
BATCH, CHARACTERS = 64, 98
GOALS = {"fp32": 8.0, "bf16": 12.0, "transformer": 10.0, "lstm": 8.0}


class Noise(Spectrograms):
    """Noise in place of the spectrograms of clips with `frames` frames."""

    def __init__(self, frames: list[int]) -> None:
        self.frames = frames
        # Reading a real clip takes less time than drawing its noise, so the noise of the latest clips is kept.
        self.take = functools.lru_cache(256)(self._draw)

    def _draw(self, clip: int) -> np.ndarray:
        return np.random.default_rng(clip).standard_normal((80, self.frames[clip]), dtype=np.float32).T


def like_ljspeech(max_text: int) -> data.Split:
    """As many clips as LJSpeech has for training: 1.1 to 10.1 s, 6.6 s on average, with 15 characters per second."""
    torch.manual_seed(0)
    seconds = (1.1 + 9.0 * torch.distributions.Beta(1.84, 1.19).sample((9825,))).tolist()
    letters = [torch.randint(UNKNOWN, 35, (min(max_text, round(15.2 * second)),)).tolist() for second in seconds]
    tokens = tuple([START, *some, STOP] for some in letters)
    return data.Split(("",) * len(seconds), tokens, Noise([round(137.8 * second) for second in seconds]))


class Chosen:
    """One batch for each list of clips in `groups`, with the interface that `fit` expects."""

    def __init__(self, batches: SequenceBatches, groups: list[list[int]]) -> None:
        self.batches, self.groups = batches, groups

    def __len__(self) -> int:
        return len(self.groups)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tensors]:  # noqa: D102
        for group in self.groups[start:]:
            yield self.batches.collate(group, generator_for(0))


def clips_for(preset: str, dataset_dir: Path | None, results: Path) -> data.Split:
    """Noise, or the training clips of `dataset_dir`, whose spectrograms are stored in `results`."""
    max_text = PRESETS[preset].text_positions - 1
    if dataset_dir is None:
        return like_ljspeech(max_text)
    settings = SPECTROGRAMS[preset]
    return data.load("ljspeech", Path(), dataset_dir, results_dir=results, settings=settings, max_text=max_text).train


def short_medium_long(clips: data.Split, device: torch.device = CPU) -> Chosen:
    """One batch from the middle of each third of an epoch's batches, ordered by length."""
    groups = batches_of_similar_length(clips.frames, BATCH, seed=0, epoch=0)
    groups = sorted((group for group in groups if len(group) == BATCH), key=lambda group: clips.frames[group[0]])
    chosen = [groups[len(groups) * third // 6] for third in (1, 3, 5)]
    return Chosen(data.speech_batches(clips, BATCH, device), chosen)


def mixed(clips: data.Split) -> Chosen:
    """Eleven batches of an epoch and, in the middle, a twelfth one with the longest clips."""
    order = sorted(range(len(clips.frames)), key=lambda clip: clips.frames[clip])
    groups = batches_of_similar_length(clips.frames, BATCH, seed=0, epoch=0)[:11]
    return Chosen(data.speech_batches(clips, BATCH, CPU), [*groups[:6], order[-BATCH:], *groups[6:]])


def course_batch(clips: data.Split, count: int) -> tuple[Tensor, Tensor]:
    """Spectrograms (count, 80, 2 754) and tokens (count, 99)."""
    batches = data.speech_batches(clips, count, CPU, pad_to=(NOTEBOOK_FRAMES, CHARACTERS + 1))
    spectrograms, _, tokens, _ = batches.collate(list(range(count)), generator_for(0))
    return spectrograms, tokens


def course_lstm(model: SpeechToText) -> asr_notebook.LSTM | None:
    """The decoder's LSTM, which the course's code calls; None for the Transformer decoder."""
    decoder = model.decoder
    return (lambda x: decoder.lstm(x)[0]) if isinstance(decoder, TextDecoderRecurrent) else None


def course_training(model: SpeechToText, batch: tuple[Tensor, Tensor]) -> None:
    """One training step of the course's code."""
    spectrograms, tokens = batch
    w, optimizer = dict(model.named_parameters()), torch.optim.AdamW(model.parameters(), lr=1e-3)
    logits = asr_notebook.decode(w, tokens[:, :-1], asr_notebook.encode(w, spectrograms), course_lstm(model))
    loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), label_smoothing=LABEL_SMOOTHING)
    harness.plain_step(optimizer, loss)


def our_training(model: SpeechToText, batches: Chosen, precision: str) -> None:
    """Trains one step with each batch, with the memory allocator set up as in `hw_asr.train`."""
    keep_freed_memory()
    settings = Settings.from_arguments(train.COMMAND.parse(["--dataset", "sample"]))
    loss = partial(training_loss, settings, InferenceSettings(None, CHARACTERS))
    optimizer = make_optimizer("adamw", model.parameters(), 1e-3, 0.01)
    harness.train(model, optimizer, batches, loss, precision=precision)


def course_generation(model: SpeechToText, spectrograms: Tensor) -> None:
    w = model.state_dict()
    asr_notebook.generate(w, spectrograms, START, [START, STOP, EMPTY], CHARACTERS, course_lstm(model))


@torch.inference_mode()
def our_generation(model: SpeechToText, batches: Chosen) -> None:
    for spectrograms, frames, _, _ in batches.epoch(0):
        generate(model, spectrograms, frames, InferenceSettings(None, CHARACTERS))


def course_step(preset: str, decoder: str, batch: tuple[Tensor, Tensor]) -> Callable[[], None]:
    return partial(course_training, build_model(preset, decoder), batch)


def our_steps(preset: str, decoder: str, dataset_dir: Path | None, results: Path) -> Callable[[str], None]:
    batches = short_medium_long(clips_for(preset, dataset_dir, results))
    return partial(our_training, build_model(preset, decoder), batches)


def compare_training(
    preset: str,
    decoder: str,
    batch: tuple[Tensor, Tensor],
    dataset_dir: Path | None,
    results: Path,
    precisions: list[str],
    rounds: int,
) -> None:
    course = partial(course_step, preset, decoder, batch)
    seconds = harness.time_trainings(
        course, partial(our_steps, preset, decoder, dataset_dir, results), precisions, rounds
    )
    for precision in precisions:
        title, clips = f"training on a clip, {preset} network, {decoder}", (len(batch[0]), 3 * BATCH)
        harness.print_ratio(title, seconds, "baseline", precision, clips, at_least=GOALS[precision])


def compare_generation(preset: str, decoder: str, clips: data.Split, rounds: int) -> None:
    model, batches = build_model(preset, decoder).eval(), short_medium_long(clips)
    with torch.no_grad():
        model.decoder.classifier.bias[STOP] = -1e4  # so that no text ends early
    spectrograms, _ = course_batch(clips, 4)
    course, ours = partial(course_generation, model, spectrograms), partial(our_generation, model, batches)
    seconds = harness.time_interleaved({"baseline": course, "ours": ours}, rounds, warm_up=1)
    title, counts = f"transcribing a clip, {preset} network, {decoder}", (len(spectrograms), BATCH * len(batches))
    harness.print_ratio(title, seconds, "baseline", "ours", counts, at_least=GOALS[decoder])


def measure_memory(preset: str, decoder: str, dataset_dir: Path | None, precisions: list[str], rounds: int) -> None:
    """Prints the peak memory of training, each time in a process of its own."""
    flags = ["--part", "steps", "--preset", preset, "--decoder", decoder, "--threads", str(torch.get_num_threads())]
    flags += ["--dataset_dir", str(dataset_dir)] if dataset_dir else []
    for precision in precisions:
        command = [sys.executable, __file__, *flags, "--precision", precision]
        outputs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(rounds)]
        peaks = [float(output.splitlines()[-1]) for output in outputs]
        harness.print_values(
            f"hw_asr, training, {preset} network, {decoder}, {precision}: peak memory", peaks, "GB", at_most=6
        )


def train_a_while(preset: str, decoder: str, clips: data.Split, precision: str) -> None:
    our_training(build_model(preset, decoder), mixed(clips), precision)
    # A process inherits getrusage's peak from its parent, so the kernel's VmHWM is read instead.
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    print(int(kilobytes) / 1e6)


def main() -> None:
    flags = harness.parser(__doc__, rounds=5)
    parts = ("training", "generation", "memory", "steps")
    flags.add_argument("--part", nargs="+", choices=parts, default=parts[:3])
    flags.add_argument("--preset", nargs="+", choices=tuple(PRESETS), default=tuple(PRESETS))
    flags.add_argument("--decoder", nargs="+", choices=tuple(TITLES), default=tuple(TITLES))
    flags.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=("fp32", "bf16"))
    flags.add_argument("--course_batch", type=int, default=16)
    flags.add_argument("--dataset_dir", type=Path)
    arguments = harness.parse(flags)
    dataset_dir, precisions, rounds = arguments.dataset_dir, arguments.precision, arguments.rounds
    for preset in arguments.preset:
        with tempfile.TemporaryDirectory() as results:
            clips = clips_for(preset, dataset_dir, Path(results))
            for part, decoder in itertools.product(arguments.part, arguments.decoder):
                if part == "training":
                    batch = course_batch(clips, arguments.course_batch)
                    compare_training(preset, decoder, batch, dataset_dir, Path(results), precisions, rounds)
                elif part == "generation":
                    compare_generation(preset, decoder, clips, rounds)
                elif part == "memory":
                    measure_memory(preset, decoder, dataset_dir, precisions, rounds)
                else:
                    train_a_while(preset, decoder, clips, precisions[0])


if __name__ == "__main__":
    main()
