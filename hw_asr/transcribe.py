"""`python -m hw_asr.transcribe RUN file.wav…`: writes down what is said in sound files, with a finished run."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw_asr import train
from hw_common.commands import cli
from hw_common.commands.cli import add_flag

_DESCRIPTION = """\
Writes down what is said in each sound file, with the best weights of the run folder RUN.

  python -m hw_asr.transcribe results/hw_asr/ljspeech-transformer-sheet-plain speech.wav other.flac
  python -m hw_asr.transcribe results/hw_asr/sample-lstm-sheet-plain speech.wav --beam 5 --json

WAV, FLAC and what else libsndfile reads; up to ten minutes, any sample rate, the mean of all channels. What is much
longer than the clips that the network was trained on is cut at its quietest moments. It knows one kind of speech, its
training data's.
"""
_LONGER = 1.5  # than the longest clip of training: what a network still understands
_LONGEST = 12.0  # seconds of a piece in any case
_PIECES_AT_ONCE = 16


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_asr.transcribe", _DESCRIPTION, usage="%(prog)s RUN FILE [FILE …] [flags]")
    flags.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    flags.add_argument("files", type=Path, nargs="+", metavar="FILE", help="sound files")
    add_flag(flags, "beam", type=train.beam_width, help="width of a beam search (default: greedy search)")
    cli.add_kernels_flag(flags)
    add_flag(flags, "json", action="store_true", help="print one JSON list, with all pieces and how sure each is")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a line for each file, or one JSON list."""
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
    """What is said in each sound file.

    Args:
        folder: a finished run.
        paths: sound files.
        beam: width of a beam search; None for greedy search.
        kernels: see `hw_asr.kernels.build_model`.

    Returns:
        For each file its name, its seconds, the text, and its pieces: from which to which second, their text, and the
        mean probability of a character (the geometric mean).

    Raises:
        UserError: `folder` is no finished run, or one of the files cannot be read or is silent.
    """
    from hw_asr import audio, pieces, text  # slow, hence after the arguments are checked
    from hw_asr.finished import open_finished

    finished = open_finished(folder, beam, kernels)
    rate = finished.settings.sample_rate
    recordings = [audio.read(path, rate) for path in paths]  # all of them, before the first is worked on
    results = []
    for path, samples in zip(paths, recordings, strict=True):
        parts = pieces.cut(samples, rate, min(_LONGEST, _LONGER * finished.longest))
        spectrograms = [audio.log_mel(part, finished.settings) for _, part in parts]
        written = []
        for first in range(0, len(parts), _PIECES_AT_ONCE):
            written += finished.write(spectrograms[first : first + _PIECES_AT_ONCE])
        found = [
            {
                "begin": round(begin / rate, 2),
                "end": round((begin + len(part)) / rate, 2),
                "text": text.decode(one.tokens),
                "probability": math.exp(one.score),
            }
            for (begin, part), one in zip(parts, written, strict=True)
        ]
        whole = " ".join(piece["text"] for piece in found)
        results.append({"file": str(path), "seconds": round(len(samples) / rate, 2), "text": whole, "pieces": found})
    return results


if __name__ == "__main__":
    cli.run_command(main)
