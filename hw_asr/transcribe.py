"""`python -m hw_asr.transcribe RUN file.wav…`: transcribes sound files with a finished run."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw_asr.train import beam_width
from hw_common.commands import cli
from hw_common.commands.cli import add_flag

_DESCRIPTION = """\
Transcribes each sound file with the best weights of the run folder RUN.

  python -m hw_asr.transcribe results/hw_asr/ljspeech-transformer-sheet-plain speech.wav other.flac
  python -m hw_asr.transcribe results/hw_asr/sample-lstm-sheet-plain speech.wav --beam 5 --json

Reads WAV, FLAC and the other formats of libsndfile, up to ten minutes, at any sample rate; channels are averaged. A
recording that is much longer than the training clips is split at its quietest moments. The network recognizes only
speech like that of its training data.
"""
_MAX_LENGTH = 1.5  # duration of a segment relative to the longest training clip; longer ones are recognized badly
_MAX_SECONDS = 12.0  # largest duration of a segment in any case
_BATCH_SIZE = 16


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_asr.transcribe", _DESCRIPTION, usage="%(prog)s RUN FILE [FILE …] [flags]")
    flags.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    flags.add_argument("files", type=Path, nargs="+", metavar="FILE", help="sound files")
    add_flag(flags, "beam", type=beam_width, help="width of a beam search (default: greedy search)")
    cli.add_kernels_flag(flags)
    add_flag(
        flags,
        "json",
        action="store_true",
        help="print one JSON list, with the segments of each file and their probabilities",
    )
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one line per file, or one JSON list."""
    arguments = parser().parse_args(argv)
    results = transcribe(arguments.run, arguments.files, arguments.beam, arguments.kernels)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for result in results:
        print(f"{result['file']}: {result['text']}")


def transcribe(
    folder: Path, paths: Sequence[Path], beam: int | None = None, kernels: str = "fast"
) -> list[dict[str, Any]]:
    """Transcribes sound files.

    Args:
        folder: a finished run.
        paths: the sound files.
        beam: width of a beam search; None for greedy search.
        kernels: see `hw_asr.kernels.build_model`.

    Returns:
        For each file its path ("file"), duration ("seconds"), text and segments ("pieces"). A segment has the seconds
        at which it begins and ends, its text, and the geometric mean of its characters' probabilities ("probability").

    Raises:
        UserError: `folder` is not a finished run, or a file cannot be read or is silent.
    """
    from hw_asr import audio, segments, text  # slow to import, hence after the arguments are checked
    from hw_asr.finished import open_finished

    finished = open_finished(folder, beam, kernels)
    rate = finished.spectrogram.sample_rate
    recordings = [audio.read(path, rate) for path in paths]  # a bad file is reported before the work begins
    results = []
    for path, samples in zip(paths, recordings, strict=True):
        parts = segments.split(samples, rate, min(_MAX_SECONDS, _MAX_LENGTH * finished.max_seconds))
        spectrograms = [audio.log_mel(part, finished.spectrogram) for _, part in parts]
        hypotheses = []
        for first in range(0, len(parts), _BATCH_SIZE):
            hypotheses += finished.transcribe(spectrograms[first : first + _BATCH_SIZE])
        pieces = [
            {
                "begin": round(begin / rate, 2),
                "end": round((begin + len(part)) / rate, 2),
                "text": text.decode(hypothesis.tokens),
                "probability": math.exp(hypothesis.score),
            }
            for (begin, part), hypothesis in zip(parts, hypotheses, strict=True)
        ]
        whole = " ".join(text.decode(hypothesis.tokens) for hypothesis in hypotheses)
        results.append({"file": str(path), "seconds": round(len(samples) / rate, 2), "text": whole, "pieces": pieces})
    return results


if __name__ == "__main__":
    cli.run_command(main)
