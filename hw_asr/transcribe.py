"""`python -m hw_asr.transcribe RUN file.wav…`: transcribes sound files with a finished run."""

import json
from collections.abc import Sequence
from pathlib import Path

from hw_asr.train import beam_width
from hw_common.commands import cli
from hw_common.commands.cli import add_flag

_DESCRIPTION = """\
Transcribes each sound file with the best weights of the run folder RUN.

  python -m hw_asr.transcribe results/hw_asr/ljspeech-transformer-sheet-plain speech.wav other.flac
  python -m hw_asr.transcribe results/hw_asr/sample-lstm-sheet-plain speech.wav --beam 5 --json

Reads WAV, RF64, W64, AIFF, AU, CAF, NIST, FLAC, Ogg (Vorbis or Opus) and MP3, up to ten minutes, at any sample rate;
channels are averaged. FILE may be a pipe or /dev/stdin. A recording that is much longer than the training clips is
split at its quietest moments. The network recognizes only speech like that of its training data. For a recording
without speech, such as noise or music, the command prints a message instead of a text.
"""
_NO_SPEECH = "[no speech found; --json shows what the network writes for this sound]"


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_asr.transcribe", _DESCRIPTION, usage="%(prog)s RUN FILE [FILE …] [flags]")
    flags.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    flags.add_argument("files", type=Path, nargs="+", metavar="FILE", help="sound files")
    add_flag(flags, "beam", type=beam_width, help="width of a beam search (default: greedy search)")
    cli.add_kernels_flag(flags)
    add_flag(flags, "json", action="store_true", help="print a JSON list with each file's segments and probabilities")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one line per file, or one JSON list."""
    arguments = parser().parse_args(argv)
    from hw_asr.transcription import transcribe  # imports torch

    results = transcribe(arguments.run, arguments.files, arguments.beam, arguments.kernels)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for result in results:
        print(f"{result['file']}: {result['text'] if result['speech'] else _NO_SPEECH}")


if __name__ == "__main__":
    cli.run_command(main)
