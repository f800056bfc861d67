"""Checks and times every homework on one CUDA GPU; `benchmarks/gpu.sh` runs this on a bare machine.

    python benchmarks/gpu.py [--part checks speed] [--rounds 3] [--out results/gpu]

First every homework trains on its sample, on the CPU and on the GPU (`gpu_checks.py`). Then training speed is compared
with the straightforward loop on the same GPU, alternately, each in a process of its own: images of Fashion-MNIST's size
and number, captions of Sydney's lengths, clips of LJSpeech's lengths. The straightforward loops are those of
`cnn.py`, `caption.py` and `asr.py`; they move each batch to the GPU. Ours runs in the deterministic mode of every
training command, in which cuDNN uses no TF32. Finally, linear attention over 65 536 positions is compared with softmax
attention.
"""

import datetime
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asr
import caption
import cnn
import gpu_checks
import harness
import torch
from torch import nn

from hw_asr.kernels import build_model
from hw_attention_theory.fast_linear_attention import FastTaylorLinearAttention
from hw_attention_theory.models import SoftmaxSelfAttention, TaylorLinearAttention
from hw_cnn.data import Split
from hw_common.commands.cli import run_command
from hw_common.training import determinism
from hw_common.training.timing import Worker, time_interleaved

IMAGES = {8: 8192, 256: 60_000, 4096: 60_000}  # number of images per round, by batch size
POSITIONS, D, TERMS = 65_536, 16, 3


def fashion_like(count: int) -> Split:
    """Random images of Fashion-MNIST's size, with labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator)
    return Split(images, torch.randint(0, cnn.CLASSES, (count,), generator=generator))


def straightforward_images(device: torch.device, batch_size: int, count: int) -> Callable[[], None]:
    return cnn.straightforward_loop(fashion_like(count), batch_size, 0.01, device)[1]


def our_images(device: torch.device, batch_size: int, count: int) -> Callable[[str], None]:
    determinism.set_up(42, device.type, threads=None)
    return cnn.our_loop(fashion_like(count), batch_size, 0.01, device=device)[1]


class OnDevice(caption.Examples):
    """Batches that are moved to the device one by one, as in `hw_caption.data`."""

    def __init__(self, examples: caption.Examples, device: torch.device) -> None:
        self.batches, self.device = examples.batches, device

    def epoch(self, epoch: int, start: int = 0) -> Iterator[caption.Batch]:
        """Yields the batches on the device."""
        for regions, words, lengths in self.batches[start:]:
            yield regions.to(self.device), words.to(self.device), lengths.to(self.device)


def straightforward_captions(device: torch.device, kind: str, batch_size: int) -> Callable[[], None]:
    decoder, (examples, _) = caption.PLAIN[kind](caption.VOCABULARY).to(device), caption.like_sydney(batch_size)
    decoder.dropout = nn.Dropout(0.5)
    return partial(caption.course_training, decoder, OnDevice(examples, device))


def our_captions(device: torch.device, kind: str, batch_size: int) -> Callable[[str], None]:
    determinism.set_up(42, device.type, threads=None)
    decoder, (_, examples) = caption.FAST[kind](caption.VOCABULARY).to(device), caption.like_sydney(batch_size)
    return partial(caption.our_training, decoder, OnDevice(examples, device))


def straightforward_speech(device: torch.device, decoder: str) -> Callable[[], None]:
    spectrograms, tokens = asr.course_batch(asr.like_ljspeech(asr.CHARACTERS), asr.BATCH)
    model = build_model("sheet", decoder).to(device)

    def step() -> None:
        asr.course_training(model, (spectrograms.to(device), tokens.to(device)))

    return step


def our_speech(device: torch.device, decoder: str) -> Callable[[str], None]:
    determinism.set_up(42, device.type, threads=None)
    batches = asr.short_medium_long(asr.like_ljspeech(asr.CHARACTERS), device)
    return partial(asr.our_training, build_model("sheet", decoder).to(device), batches)


def workload(of: Callable[..., Any], device: torch.device) -> Callable[..., None]:
    """Returns a function that runs the workload of its arguments; the first call with these arguments makes it."""
    made: dict[tuple[Any, ...], Callable[..., None]] = {}

    def call(arguments: tuple[Any, ...], *precision: str) -> None:
        if arguments not in made:
            made[arguments] = of(device, *arguments)
        made[arguments](*precision)

    return call


def straightforward(device: torch.device, what: str, *arguments: Any) -> Callable[[], None]:
    """The straightforward loop of one workload."""
    makers = {"images": straightforward_images, "captions": straightforward_captions, "speech": straightforward_speech}
    return makers[what](device, *arguments)


def ours(device: torch.device, what: str, *arguments: Any) -> Callable[[str], None]:
    """Our loop of one workload; the function takes the precision."""
    makers = {"images": our_images, "captions": our_captions, "speech": our_speech}
    return makers[what](device, *arguments)


def measure_speed(device: torch.device, rounds: int, most_images: int) -> Iterator[dict[str, Any]]:
    """Times each workload and yields its rows; both loops keep their process for all workloads."""
    sizes = {size: min(count, most_images) for size, count in IMAGES.items()}
    clips = asr.BATCH, 3 * asr.BATCH  # numbers of clips in a call of each loop
    cases: list[tuple[str, tuple[Any, ...], tuple[int, int]]] = [
        *((f"images, batch {size}", ("images", size, n), (n, n)) for size, n in sizes.items()),
        *(
            (f"captions, {kind}, batch 64", ("captions", kind, 64), (caption.CAPTIONS[64],) * 2)
            for kind in caption.FAST
        ),
        *((f"speech of LJSpeech's lengths, {kind}", ("speech", kind), clips) for kind in ("lstm", "transformer")),
    ]
    with Worker(workload, straightforward, device) as slow, Worker(workload, ours, device) as fast:
        for title, arguments, examples in cases:
            calls = {"baseline": partial(slow, arguments)}
            calls |= {precision: partial(fast, arguments, precision) for precision in cnn.PRECISIONS}
            seconds = time_interleaved(calls, rounds, warm_up=1)
            for precision in cnn.PRECISIONS:
                harness.print_ratio(title, seconds, "baseline", precision, examples)
                yield speed_row(title, precision, seconds, examples)


def speed_row(title: str, precision: str, seconds: harness.Seconds, examples: tuple[int, int]) -> dict[str, Any]:
    """The numbers of one workload: the ratio per example and our examples per second."""
    pairs = zip(seconds["baseline"], seconds[precision], strict=True)
    ratios = sorted(slow / examples[0] * examples[1] / fast for slow, fast in pairs)
    return {
        "what": title, "precision": precision, "ratio": statistics.median(ratios), "low": ratios[0], "high": ratios[-1],
        "examples_per_second": examples[1] / statistics.median(seconds[precision]),
        "baseline_examples_per_second": examples[0] / statistics.median(seconds["baseline"]),
    }  # fmt: skip


def measure_attention(device: torch.device, rounds: int) -> Iterator[dict[str, Any]]:
    """Times attention over POSITIONS positions and measures its memory."""
    torch.manual_seed(0)
    Q, K, V = (torch.randn(POSITIONS, D, device=device) * D**-0.25 for _ in range(3))
    attentions: dict[str, nn.Module] = {
        "softmax": SoftmaxSelfAttention(),
        "linear, plain": TaylorLinearAttention(D, TERMS),
        "linear, fast": FastTaylorLinearAttention(D, TERMS),
    }
    for name, attention in attentions.items():
        attention.to(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

        def call(attention: nn.Module = attention) -> None:
            with torch.inference_mode():
                attention(Q, K, V)
            torch.cuda.synchronize()

        try:
            seconds = statistics.median(time_interleaved({name: call}, rounds)[name])
        except torch.OutOfMemoryError:
            print(f"attention over {POSITIONS} positions, {name}: does not fit into the GPU's memory")
            continue
        gigabytes = torch.cuda.max_memory_allocated() / 1e9
        print(f"attention over {POSITIONS} positions, {name}: {1000 * seconds:.3g} ms, {gigabytes:.2f} GB", flush=True)
        yield {"what": f"attention, {name}", "milliseconds": 1000 * seconds, "gigabytes": gigabytes}


def main() -> None:
    flags = harness.parser(__doc__)
    parts = ("checks", "speed", "attention")
    flags.add_argument("--part", nargs="+", choices=parts, default=parts)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--images", type=int, default=60_000, help="largest number of images per round")
    flags.add_argument("--out", type=Path, default=Path("results/gpu"))
    arguments = flags.parse_args()
    if not torch.cuda.is_available():
        flags.error("there is no usable CUDA GPU here")
    device = torch.device("cuda", 0)
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device), "torch": torch.__version__, "cores": os.cpu_count(),
        "date": datetime.date.today().isoformat(), "rounds": arguments.rounds,
    }  # fmt: skip
    print(f"{results['device']}, torch {results['torch']}, {os.cpu_count()} CPU cores")
    arguments.out.mkdir(parents=True, exist_ok=True)
    measure: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "checks": partial(gpu_checks.run_all, arguments.out / "runs"),
        "speed": partial(measure_speed, device, arguments.rounds, arguments.images),
        "attention": partial(measure_attention, device, arguments.rounds),
    }
    started = time.perf_counter()
    for part in arguments.part:
        results[part] = []
        for row in measure[part]():
            results[part].append(row)
            (arguments.out / "gpu.json").write_text(json.dumps(results, indent=2))
            if part == "checks":
                print(f"{'ok' if row['holds'] else 'NO'}  {row['check']:16} {row['asked']}: {row['found']}", flush=True)
        print(f"-- {part} ended {time.perf_counter() - started:.0f} s after the start", flush=True)
    if not all(row["holds"] for row in results.get("checks", [])):
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
