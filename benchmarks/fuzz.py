"""Reads thousands of damaged files with every reader; each must be read, or refused with a UserError.

    python benchmarks/fuzz.py                                 1 000 damaged files for each reader
    python benchmarks/fuzz.py --readers sound --mutations 50
    python benchmarks/fuzz.py --replay fuzz-findings/sound-17-a.wav

A damaged file is a small valid file with flipped bits, inserted, repeated or lost bytes, extreme lengths, or the end of
another file; `fuzz_readers.py` has the valid files. A reader runs in a process of its own, whose address space may grow
by 2 GB. A finding is any other exception, a crash, more than 10 seconds for a file, a failed allocation, or output of
a library. Findings are saved in the folder fuzz-findings, and the exit status is then 1.
"""

import argparse
import collections
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import fuzz_readers
from tqdm import tqdm

from hw_common.runs.errors import UserError

SECONDS = 10.0
MEMORY = 2**31  # bytes
FINDINGS = ("traceback", "crash", "hang", "memory", "output")
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_LENGTHS = (1, 2, 4, 16, 200)
_NUMBERS = (b"-1", b"0", b"4294967296", b"99999999999999999999", b"1e999", b"NaN", b"0.5", b"")


@dataclass(frozen=True)
class Outcome:
    """The result for a file: "read", "refused" or one of FINDINGS; and the message or the traceback."""

    kind: str
    text: str = ""


def mutate(content: bytes, other: bytes, generator: random.Random) -> bytes:
    """Damages `content` in one to four places; `other` is a valid file of the same reader."""
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 4))):
        start = generator.randrange(len(data) + 1)
        if generator.random() < 0.5:  # headers are damaged more often than the rest
            start = min(start, generator.randrange(256))
        generator.choice(_DAMAGES)(data, start, other, generator)
    return bytes(data)


def _cut(data: bytearray, start: int, other: bytes, generator: random.Random) -> None:
    del data[start:]


def _insert(data: bytearray, start: int, other: bytes, generator: random.Random) -> None:
    length = generator.choice(_LENGTHS)
    data[start:start] = generator.choice((bytes(length), b"\xff" * length, generator.randbytes(length)))


def _repeat(data: bytearray, start: int, other: bytes, generator: random.Random) -> None:
    data[start:start] = data[start : start + generator.choice(_LENGTHS)] * generator.choice((1, 2, 50))


def _lose(data: bytearray, start: int, other: bytes, generator: random.Random) -> None:
    del data[start : start + generator.choice(_LENGTHS)]


def _splice(data: bytearray, start: int, other: bytes, generator: random.Random) -> None:
    data[start:] = other[generator.randrange(len(other) + 1) :]


def _flip(data: bytearray, start: int, other: bytes, generator: random.Random) -> None:
    if start < len(data):
        data[start] ^= 1 << generator.randrange(8)


def _put_extreme(data: bytearray, start: int, other: bytes, generator: random.Random) -> None:
    """Overwrites 1, 2, 4 or 8 bytes with an extreme number."""
    size = generator.choice((1, 2, 4, 8))
    value = generator.choice((*_EXTREMES, len(data), len(data) + 1)) % 256**size
    data[start : start + size] = value.to_bytes(size, generator.choice(("little", "big")))


def _put_number(data: bytearray, start: int, other: bytes, generator: random.Random) -> None:
    """Replaces the decimal number that follows `start` in a text, if there is one nearby."""
    digits = [place for place in range(start, min(start + 200, len(data))) if data[place : place + 1].isdigit()]
    if digits:
        end = digits[0]
        while data[end : end + 1].isdigit():
            end += 1
        data[digits[0] : end] = generator.choice(_NUMBERS)


_DAMAGES = (_cut, _insert, _repeat, _lose, _splice, _flip, _put_extreme, _put_number)


def damaged(reader: str, seeds: Sequence[fuzz_readers.Seed], number: int, seed: int) -> tuple[str, bytes]:
    """The name and the content of the damaged file with this number."""
    generator = random.Random(f"{seed} {reader} {number}")
    chosen = seeds[number % len(seeds)]
    other = generator.choice(seeds)
    return chosen.name, chosen.pack(mutate(chosen.content, other.content, generator))


def read(reader: fuzz_readers.Reader, name: str, content: bytes) -> Outcome:
    """Runs the reader on a file in a new folder; anything that it prints goes to a file and is a finding."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        streams = [(stream, os.dup(stream)) for stream in (1, 2)]
        for stream, _ in streams:
            os.dup2(output.fileno(), stream)
        try:
            outcome = _read(reader, name, content, Path(folder))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, saved in streams:
                os.dup2(saved, stream)
                os.close(saved)
        output.seek(0)
        printed = output.read(2000).decode(errors="replace")
    return Outcome("output", printed) if printed and outcome.kind in ("read", "refused") else outcome


def _read(reader: fuzz_readers.Reader, name: str, content: bytes, folder: Path) -> Outcome:
    try:
        reader.read(folder, name, content)
    except UserError as error:
        causes, cause = [], error.__context__
        while cause is not None:
            causes.append(cause)
            cause = cause.__context__
        return Outcome("memory" if any(map(_is_memory, causes)) else "refused", str(error))
    except BaseException as error:  # noqa: BLE001
        return Outcome("memory" if _is_memory(error) else "traceback", traceback.format_exc())
    return Outcome("read")


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def work(name: str, seed: int, connection: Connection) -> None:
    """Reads the damaged files whose numbers come through `connection`; runs in a process of its own."""
    reader = fuzz_readers.READERS[name]
    seeds = reader.seeds()
    for valid in seeds:  # this also imports everything before the memory is limited
        outcome = read(reader, valid.name, valid.pack(valid.content))
        if outcome.kind != "read":
            raise SystemExit(f"{name}: the valid file {valid.name} is not read: {outcome}")
    with open("/proc/self/statm", encoding="utf-8") as file:
        limit = int(file.read().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send(None)
    while (item := connection.recv()) is not None:
        connection.send(read(reader, *(damaged(name, seeds, item, seed) if isinstance(item, int) else item)))


class Worker:
    """A process that runs `work`; it is started again after a crash or a hang."""

    def __init__(self, reader: str, seed: int) -> None:
        self._arguments = reader, seed
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(*self._arguments, theirs), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._connection.recv()
        except EOFError:
            raise SystemExit("the reader does not start; see above") from None

    def read(self, item: int | tuple[str, bytes]) -> Outcome:
        """Reads a damaged file, given its number or its name and content."""
        self._connection.send(item)
        try:
            if self._connection.poll(SECONDS):
                outcome: Outcome = self._connection.recv()
                return outcome
            outcome = Outcome("hang", f"more than {SECONDS:.0f} seconds")
        except EOFError:
            self._process.join()
            outcome = Outcome("crash", f"exit status {self._process.exitcode}")
        self.stop()
        self._start()
        return outcome

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()


def fuzz(name: str, mutations: int, seed: int, folder: Path) -> collections.Counter[str]:
    """Reads `mutations` damaged files; saves the findings in `folder` and returns the number of files of each kind."""
    counts: collections.Counter[str] = collections.Counter()
    shown: set[str] = set()
    worker, seeds = Worker(name, seed), fuzz_readers.READERS[name].seeds()
    for number in tqdm(range(mutations), name, leave=False, disable=None):
        outcome = worker.read(number)
        counts[outcome.kind] += 1
        if outcome.kind in FINDINGS:
            folder.mkdir(exist_ok=True)
            file_name, content = damaged(name, seeds, number, seed)
            path = folder / f"{name}-{number}-{file_name}"
            path.write_bytes(content)
            last = (outcome.text.strip().splitlines() or [""])[-1]
            if (where := f"{outcome.kind} {last[:60]}") not in shown:  # similar findings are printed once
                shown.add(where)
                print(f"{path}: {outcome.kind}: {last[:200]}", flush=True)
    worker.stop()
    return counts


def replay(path: Path) -> int:
    """Reads a saved finding again and prints the result; returns the exit status."""
    reader, _, name = path.name.split("-", 2)
    worker = Worker(reader, 0)
    outcome = worker.read((name, path.read_bytes()))
    worker.stop()
    print(f"{outcome.kind}\n{outcome.text}")
    return int(outcome.kind in FINDINGS)


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzzes the readers and prints a table; returns the exit status."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = tuple(fuzz_readers.READERS)
    flags.add_argument("--readers", nargs="+", choices=names, default=names, metavar="READER", help=", ".join(names))
    flags.add_argument("--mutations", type=int, default=1000, help="damaged files for each reader (default: 1000)")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="folder (default: fuzz-findings)")
    flags.add_argument("--replay", type=Path, metavar="FILE", help="read a saved finding again")
    arguments = flags.parse_args(argv)
    if arguments.replay is not None:
        return replay(arguments.replay)
    columns = ("read", "refused", *FINDINGS)
    rows = [["reader", "files", *columns]]
    total = 0
    for name in arguments.readers:
        counts = fuzz(name, arguments.mutations, arguments.seed, arguments.findings)
        total += sum(counts[kind] for kind in FINDINGS)
        rows.append([name, *(str(n) for n in (arguments.mutations, *(counts[kind] for kind in columns)))])
    for row in rows:
        print("  ".join(f"{cell:>9}" for cell in row))
    print(f"seed {arguments.seed}, {total} findings")
    import harness  # imports torch, which the workers, which import this file, must not do

    files = arguments.mutations * len(arguments.readers)
    what = f"{files} damaged files for {len(arguments.readers)} readers: crashes, hangs, too much memory, tracebacks"
    harness.print_value(what, total, at_most=0)
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
