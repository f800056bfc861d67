"""Speed of the speech recognizer against the course's way, as ratios within one run.

    python benchmarks/asr.py [--preset notebook sheet] [--part training generation memory] [--rounds 1] [--threads 1]
        [--dataset_dir FOLDER]

The course's way: every clip padded to 2 754 frames and every text to 98 characters, attention written out, no masks;
generation that computes keys, values and the whole prefix again for each character. Ours is what `hw_asr.train` runs.
Same network, same weights, same threads; the two take turns, and the medians of the rounds' ratios are printed.

Times are per utterance: ours with batches of 64, one of short, one of middling and one of long clips; the course's with
its 64 in training (--course_batch), which takes 7 GB, and with 4 in generation, in its favour. In generation both write
98 characters for each clip, so that stopping early does not count.

Clips are noise, as long as LJSpeech's, or those of --dataset_dir (`hw_asr.synthesize` makes such). Peak memory is that
of a process that trains on twelve batches in random order, the 64 longest clips among them: after batches of many sizes
a process holds half as much again as the largest step needs.
"""

import argparse
import contextlib
import functools
import io
import itertools
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_asr import data, generation, train
from hw_asr.audio import SETTINGS
from hw_asr.evaluation import LABEL_SMOOTHING, Listening
from hw_asr.experiment import training_loss
from hw_asr.kernels import build_model
from hw_asr.models import SpeechToText
from hw_asr.presets import NOTEBOOK_FRAMES, PRESETS, TITLES
from hw_asr.text import EMPTY, START, STOP, UNKNOWN
from hw_common.training.batches import SequenceBatches, Tensors, batches_of_similar_length, generator_for
from hw_common.training.experiment import make_optimizer
from hw_common.training.loop import fit
from hw_common.training.memory import keep_freed_memory
from hw_common.training.precision import autocast
from hw_common.training.timing import Worker, ratio, time_interleaved

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
import asr_notebook  # noqa: E402

CPU = torch.device("cpu")
BATCH, CHARACTERS = 64, 98
GOALS = {"fp32": 8.0, "bf16": 12.0, "transformer": 10.0, "lstm": 8.0}
GIGABYTES = 6.0


@dataclass(frozen=True)
class Noise:
    """Stands in for a `data.Split`: as many clips as LJSpeech trains on, as long as its clips, of noise."""

    frames: list[int]
    tokens: list[list[int]]

    @classmethod
    def like_ljspeech(cls, longest_text: int) -> "Noise":
        """1.1 to 10.1 seconds, 6.6 on average, with 15 characters a second, of which `longest_text` are kept."""
        torch.manual_seed(0)
        seconds = (1.1 + 9.0 * torch.distributions.Beta(1.84, 1.19).sample((9825,))).tolist()
        letters = [
            torch.randint(UNKNOWN, 35, (min(longest_text, round(15.2 * second)),)).tolist() for second in seconds
        ]
        return cls([round(137.8 * second) for second in seconds], [[START, *some, STOP] for some in letters])

    def spectrogram(self, clip: int) -> np.ndarray:
        """(80, frames) float32."""
        return np.random.default_rng(clip).standard_normal((80, self.frames[clip]), dtype=np.float32)


class Chosen:
    """The batches of `groups`, out of an epoch's: what `fit` wants."""

    def __init__(self, batches: SequenceBatches, groups: list[list[int]]) -> None:
        self.batches, self.groups = batches, groups

    def __len__(self) -> int:
        return len(self.groups)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tensors]:  # noqa: D102
        for group in self.groups[start:]:
            yield self.batches.collate(group, generator_for(0))


def clips_for(preset: str, dataset_dir: Path | None, results: Path) -> data.Split | Noise:
    """Clips with texts that the network can read; what is computed of those in `dataset_dir` goes to `results`."""
    longest_text = PRESETS[preset].text_positions - 1
    if dataset_dir is None:
        return Noise.like_ljspeech(longest_text)
    settings = SETTINGS[preset]
    return data.load(
        "ljspeech", Path(), dataset_dir, results_dir=results, settings=settings, longest_text=longest_text
    ).train


def short_middling_long(clips: data.Split | Noise) -> Chosen:
    """Batches from an epoch over `clips`: those in the middle of each third by length."""
    groups = batches_of_similar_length(clips.frames, BATCH, seed=0, epoch=0)
    groups = sorted((group for group in groups if len(group) == BATCH), key=lambda group: clips.frames[group[0]])
    chosen = [groups[len(groups) * third // 6] for third in (1, 3, 5)]
    return Chosen(data.speech_batches(clips, BATCH, CPU), chosen)


def mixed(clips: data.Split | Noise) -> Chosen:
    """Twelve batches of an epoch, with that of the longest clips in the middle."""
    order = sorted(range(len(clips.frames)), key=lambda clip: clips.frames[clip])
    groups = batches_of_similar_length(clips.frames, BATCH, seed=0, epoch=0)[:11]
    return Chosen(data.speech_batches(clips, BATCH, CPU), [*groups[:6], order[-BATCH:], *groups[6:]])


def course_batch(clips: data.Split | Noise, count: int) -> tuple[Tensor, Tensor]:
    """Spectrograms (count, 80, 2 754) and tokens (count, 99)."""
    batches = data.speech_batches(clips, count, CPU, pad_to=(NOTEBOOK_FRAMES, CHARACTERS + 1))
    spectrograms, _, tokens, _ = batches.collate(list(range(count)), generator_for(0))
    return spectrograms, tokens


def course_lstm(model: SpeechToText) -> asr_notebook.LSTM | None:
    return (lambda x: model.decoder.lstm(x)[0]) if hasattr(model.decoder, "lstm") else None


def course_training(model: SpeechToText, batch: tuple[Tensor, Tensor]) -> None:
    """One step."""
    spectrograms, tokens = batch
    w, optimizer = dict(model.named_parameters()), torch.optim.AdamW(model.parameters(), lr=1e-3)
    logits = asr_notebook.decode(w, tokens[:, :-1], asr_notebook.encode(w, spectrograms), course_lstm(model))
    loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), label_smoothing=LABEL_SMOOTHING)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    loss.item()


def our_training(model: SpeechToText, batches: Chosen, precision: str) -> None:
    """One step with each batch, with the memory as `hw_asr.train` has it."""
    keep_freed_memory()
    plain = train.COMMAND.parse(["--dataset", "sample"])
    loss = functools.partial(training_loss, plain, Listening(None, CHARACTERS))
    optimizer = make_optimizer("adamw", model.parameters(), 1e-3, 0.01)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        fit(model, optimizer, batches, loss, _nothing, epochs=1, monitor="nothing", precision=precision)


def _nothing(model: nn.Module) -> dict[str, float]:
    return {"nothing": 0.0}


def course_generation(model: SpeechToText, spectrograms: Tensor) -> None:
    w = model.state_dict()
    asr_notebook.generate(w, spectrograms, START, [START, STOP, EMPTY], CHARACTERS, course_lstm(model))


@torch.inference_mode()
def our_generation(model: SpeechToText, batches: Chosen, precision: str) -> None:
    with autocast(CPU, precision):
        for spectrograms, frames, _, _ in batches.epoch(0):
            generation.generate([model], spectrograms, frames, CHARACTERS)


def compare(title: str, seconds: dict[str, list[float]], ours: str, per_call: tuple[int, int], goal: float) -> None:
    """Prints how many times as fast an utterance is; per_call: utterances of a call, the course's and ours."""
    faster = ratio(seconds, of="course", to=ours) * per_call[1] / per_call[0]
    each = [1000 * statistics.median(seconds[name]) / n for name, n in zip(("course", ours), per_call, strict=True)]
    verdict = "reached" if faster >= goal else "MISSED"
    print(
        f"{title:45} {faster:5.1f} times as fast ({each[0]:.0f} → {each[1]:.1f} ms)  goal {goal:g}: {verdict}",
        flush=True,
    )


def course_step(preset: str, decoder: str, batch: tuple[Tensor, Tensor]) -> Callable[[], None]:
    model = build_model(preset, decoder)
    return lambda: course_training(model, batch)


def our_steps(preset: str, decoder: str, dataset_dir: Path | None, results: Path) -> Callable[[str], None]:
    model, batches = build_model(preset, decoder), short_middling_long(clips_for(preset, dataset_dir, results))
    return lambda precision: our_training(model, batches, precision)


def compare_training(
    preset: str, decoder: str, clips: data.Split | Noise, results: Path, arguments: argparse.Namespace
) -> None:
    with (
        Worker(course_step, preset, decoder, course_batch(clips, arguments.course_batch)) as course,
        Worker(our_steps, preset, decoder, arguments.dataset_dir, results) as ours,
    ):
        calls = {"course": course, **{p: functools.partial(ours, p) for p in arguments.precision}}
        seconds = time_interleaved(calls, arguments.rounds, warm_up=1)
    for precision in arguments.precision:
        title = f"training, {preset}, {decoder}, {precision}"
        compare(title, seconds, precision, (arguments.course_batch, 3 * BATCH), GOALS[precision])


def compare_generation(preset: str, decoder: str, clips: data.Split | Noise, arguments: argparse.Namespace) -> None:
    model, batches = build_model(preset, decoder).eval(), short_middling_long(clips)
    with torch.no_grad():
        model.decoder.classifier.bias[STOP] = -1e4  # no text ends early
    spectrograms, _ = course_batch(clips, 4)
    seconds = time_interleaved(
        {
            "course": lambda: course_generation(model, spectrograms),
            "ours": functools.partial(our_generation, model, batches, "fp32"),
        },
        arguments.rounds,
        warm_up=1,
    )
    title = f"generation, {preset}, {decoder}"
    compare(title, seconds, "ours", (len(spectrograms), BATCH * len(batches)), GOALS[decoder])


def measure_memory(preset: str, decoder: str, arguments: argparse.Namespace) -> None:
    """Trains a while in a process of its own."""
    flags = ["--part", "steps", "--preset", preset, "--decoder", decoder, "--threads", str(arguments.threads)]
    flags += ["--dataset_dir", str(arguments.dataset_dir)] if arguments.dataset_dir else []
    for precision in arguments.precision:
        command = [sys.executable, __file__, *flags, "--precision", precision]
        peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        verdict = "reached" if peak < GIGABYTES else "MISSED"
        print(
            f"peak memory, {preset}, {decoder}, {precision}: {peak:.2f} GB  goal {GIGABYTES:g}: {verdict}", flush=True
        )


def train_a_while(preset: str, decoder: str, clips: data.Split | Noise, precision: str) -> None:
    our_training(build_model(preset, decoder), mixed(clips), precision)
    # Not getrusage's peak, which a process inherits from the one that started it.
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(int(kilobytes) / 1e6)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("training", "generation", "memory", "steps")
    flags.add_argument("--part", nargs="+", choices=parts, default=parts[:3])
    flags.add_argument("--preset", nargs="+", choices=tuple(PRESETS), default=tuple(PRESETS))
    flags.add_argument("--decoder", nargs="+", choices=tuple(TITLES), default=tuple(TITLES))
    flags.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=("fp32", "bf16"))
    flags.add_argument("--course_batch", type=int, default=64)
    flags.add_argument("--rounds", type=int, default=1)
    flags.add_argument("--threads", type=int, default=torch.get_num_threads())
    flags.add_argument("--dataset_dir", type=Path)
    arguments = flags.parse_args()
    torch.set_num_threads(arguments.threads)
    for preset in arguments.preset:
        with tempfile.TemporaryDirectory() as results:
            clips = clips_for(preset, arguments.dataset_dir, Path(results))
            for part, decoder in itertools.product(arguments.part, arguments.decoder):
                if part == "training":
                    compare_training(preset, decoder, clips, Path(results), arguments)
                elif part == "generation":
                    compare_generation(preset, decoder, clips, arguments)
                elif part == "memory":
                    measure_memory(preset, decoder, arguments)
                else:
                    train_a_while(preset, decoder, clips, arguments.precision[0])


if __name__ == "__main__":
    main()
