"""The cache on disk holds the appended items, and none that is damaged, stale or half-written."""

import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from finished_runs import contents_of
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_common.data import feature_cache
from hw_common.data.feature_cache import INDEX, ROWS, FeatureCache
from hw_common.runs.errors import UserError


def rows(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float16)


def opened(folder, recipe=None, width=3):
    return FeatureCache(folder, recipe or {"size": 1}, width).locked()


@pytest.fixture
def filled(tmp_path):
    """A cache with three items of 1, 2 and 3 rows."""
    with opened(tmp_path) as cache:
        for count in (1, 2, 3):
            cache.append(f"item {count}", rows(count, count))
        cache.commit()
    return tmp_path


def held(folder, **changes):
    """Returns which of the three items the cache holds, after a check of their values."""
    with opened(folder, **changes) as cache:
        found = [count for count in (1, 2, 3) if cache.holds(f"item {count}")]
        for count in found:
            assert np.array_equal(cache.take(f"item {count}"), rows(count, count))
    return found


@settings(deadline=None, max_examples=25)
@given(steps=st.lists(st.lists(st.integers(0, 4), max_size=4), max_size=4))
def test_what_was_appended_is_there(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("cache")
    expected = {}
    for number, counts in enumerate(steps):
        with opened(folder) as cache:
            for place, count in enumerate(counts):
                expected[f"{number}.{place}"] = rows(count, 10 * number + place)
                cache.append(f"{number}.{place}", expected[f"{number}.{place}"])
            cache.commit()
            for key, value in expected.items():
                assert cache.holds(key) and cache.count(key) == len(value) and np.array_equal(cache.take(key), value)
            assert not cache.holds("another")


def test_rows_are_read_only_and_stay(filled):
    with opened(filled) as cache:
        first = cache.take("item 2")
        cache.append("item 4", rows(4, 4))
        cache.commit()
        assert np.array_equal(cache.take("item 4"), rows(4, 4)) and np.array_equal(first, rows(2, 2))
        with pytest.raises(ValueError, match="read-only"):
            first[0] = 0


def test_what_was_not_committed_is_not_there(filled):
    with opened(filled) as cache:
        cache.append("item 4", rows(4, 4))
    with opened(filled) as cache:
        assert not cache.holds("item 4")
        cache.append("item 5", rows(5, 5))  # over what was left of it
        cache.commit()
        assert np.array_equal(cache.take("item 5"), rows(5, 5))
    assert held(filled) == [1, 2, 3]


def test_what_was_appended_is_saved_now_and_then(filled, monkeypatch):
    monkeypatch.setattr(feature_cache, "_SAVE_EVERY", 0)
    with opened(filled) as cache:
        cache.append("item 4", rows(4, 4))
    with opened(filled) as cache:
        assert cache.holds("item 4")


def test_a_damaged_item_is_not_there(filled):
    with open(filled / ROWS, "r+b") as file:
        file.seek(2 * 3 + 1)  # in the first row of the second item
        file.write(b"\x00")
    assert held(filled) == [1, 3]
    with opened(filled) as cache:
        assert not cache.holds("item 2") and cache.damaged == {"item 2"}
        cache.append("item 2", rows(2, 2))
        cache.commit()
    assert held(filled) == [1, 2, 3]


def test_a_file_that_is_cut_short_holds_less(filled):
    os.truncate(filled / ROWS, 2 * 3 * 6 - 1)
    assert held(filled) == [1, 2]
    with opened(filled) as cache:
        cache.append("item 3", rows(3, 3))
        cache.commit()
    assert held(filled) == [1, 2, 3]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_a_file_that_is_gone(filled, damage):
    damage(filled / ROWS)
    assert held(filled) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "cannot be read"),
        ("[1]", "is damaged"),
        ('{"items": [1]}', "is damaged"),
        ('{"schema": 1, "width": 3, "size": 1, "items": {"item 1": [0, 1]}}', "is damaged"),
        ('{"schema": 1, "width": 3, "size": 1, "items": {"item 1": [0, -1, 3]}}', "is damaged"),
        ('{"schema": 1, "width": 3, "size": 1, "items": {"item 1": [true, 1, 3]}}', "is damaged"),
        ('{"schema": 1, "width": 3, "items": {}}', "made with another size"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_a_damaged_index_holds_nothing(filled, capsys, content, says):
    (filled / INDEX).write_text(content)
    assert held(filled) == []
    output = capsys.readouterr().out
    assert output.count("\n") == 1 and says in output and "all features are computed again" in output


def test_an_index_that_points_elsewhere_holds_nothing(filled):
    index = json.loads((filled / INDEX).read_text())
    index["items"] = {"item 1": [2**39, 2**39, 1], "item 2": [0, 2, index["items"]["item 2"][2]], "item 3": [0, 6, 0]}
    (filled / INDEX).write_text(json.dumps(index))
    assert held(filled) == []


def test_what_a_kill_left_is_removed(filled):
    (filled / f".{INDEX}.tmp").write_bytes(b"half an index")
    assert held(filled) == [1, 2, 3]
    assert sorted(path.name for path in filled.iterdir()) == [".lock", INDEX, ROWS]


def test_another_recipe_starts_anew(filled, capsys):
    with opened(filled) as cache:
        old = cache.take("item 2")
        assert held(filled / "elsewhere") == []
    assert held(filled, recipe={"size": 2}) == []
    assert "the cached features were made with another size; all features are computed again" in capsys.readouterr().out
    assert np.array_equal(old, rows(2, 2))  # a process that has the old file open can still read it


def test_a_second_process_waits_for_the_first(filled, capsys):
    with open(filled / ".lock", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as another process would hold it
        timer = threading.Timer(0.2, fcntl.flock, (file, fcntl.LOCK_UN))
        timer.start()
        assert held(filled) == [1, 2, 3]
        timer.join()
    assert "waiting for another process" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot write to .*file/cache: .*choose another --results_dir"):
        held(tmp_path / "file" / "cache")


def test_a_full_disk_is_one_line(filled, monkeypatch):
    def no_room(*arguments):
        raise OSError(28, "No space left on device")

    with opened(filled) as cache:
        cache.append("item 4", rows(4, 4))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", no_room)
            with pytest.raises(UserError, match="No space left on device; free disk space"):
                cache.commit()
        cache.commit()
        assert cache.holds("item 4")


def test_a_kill_at_any_line_leaves_nothing_wrong():
    kills = Path(__file__).resolve().parents[1] / "support" / "row_kills.py"
    done = subprocess.run([sys.executable, kills, "5"], capture_output=True, text=True, cwd=kills.parents[1])
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) > 40


@pytest.mark.parametrize("damage", [None, INDEX, ROWS])
def test_a_cache_that_is_not_kept_reads_the_folder_and_writes_nothing(filled, damage):
    if damage:
        (filled / damage).write_bytes(b"x")
    before = contents_of(filled)
    with FeatureCache(filled, {"size": 1}, 3, keep=False).locked() as cache:
        assert cache.holds("item 1") == (damage is None)
        cache.append("new", np.ones((2, 3)))
        assert cache.holds("new") and cache.count("new") == 2 and (cache.take("new") == 1).all()
        cache.commit()
    assert contents_of(filled) == before
