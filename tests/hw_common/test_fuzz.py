"""A few damaged files for each reader; `benchmarks/fuzz.py` reads a thousand, in processes with limits."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import fuzz
import fuzz_readers


@pytest.mark.parametrize("name", fuzz_readers.READERS)
def test_damaged_files_are_read_or_refused(name):
    reader = fuzz_readers.READERS[name]
    seeds = reader.seeds()
    for number in range(6):
        outcome = fuzz.read(reader, *fuzz.damaged(name, seeds, number, seed=1))
        assert outcome.kind in ("read", "refused"), outcome


def test_the_same_numbers_give_the_same_damage():
    seeds = fuzz_readers.READERS["metadata"].seeds()
    first, again, other = (fuzz.damaged("metadata", seeds, number, seed=1) for number in (4, 4, 5))
    assert first == again != other


def test_the_command_fuzzes_in_a_process_with_limits(tmp_path, capsys):
    assert fuzz.main(["--readers", "metadata", "--mutations", "3", "--findings", str(tmp_path / "new")]) == 0
    assert "metadata          3" in capsys.readouterr().out and not (tmp_path / "new").exists()


class Here:
    """Stands in for `fuzz.Worker`: reads in this process, with a reader that fails."""

    def __init__(self, name, seed):
        self.seeds = fuzz_readers.READERS[name].seeds()

    def read(self, item):
        name, content = fuzz.damaged("metadata", self.seeds, item, 0) if isinstance(item, int) else item
        return fuzz.read(fuzz_readers.Reader(list, lambda folder, name, content: content.missing), name, content)

    def stop(self):
        pass


def test_findings_are_saved_and_replayed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fuzz, "Worker", Here)
    assert fuzz.main(["--readers", "metadata", "--mutations", "3", "--findings", str(tmp_path / "new")]) == 1
    found = sorted((tmp_path / "new").iterdir())
    assert [path.name for path in found] == [f"metadata-{number}-metadata.csv" for number in range(3)]
    assert capsys.readouterr().out.count("AttributeError") == 1  # the other two are of the same sort
    assert fuzz.main(["--replay", str(found[0])]) == 1
    assert "traceback\nTraceback" in capsys.readouterr().out


def kinds_of(*reads):
    def read(folder, name, content):
        return reads[int(content)]()

    return [fuzz.read(fuzz_readers.Reader(list, read), "x", str(number).encode()).kind for number in range(len(reads))]


def test_each_kind_of_finding_is_noticed():
    def out_of_memory():
        try:
            raise MemoryError
        except MemoryError:
            raise fuzz.UserError("damaged") from None

    assert kinds_of(lambda: 1, lambda: 1 / 0, lambda: sys.__stderr__.write("warning\n"), out_of_memory) == [
        *("read", "traceback", "output", "memory"),
    ]
