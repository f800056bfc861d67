"""Similarities against the course's library, error rates against an edit distance, and the command that compares."""

import json
import subprocess
import sys

import pytest
import textdistance
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_asr import compare_similarities, similarity, text
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run

ids = st.lists(st.integers(0, 5), max_size=9)
THEIRS = {
    "jaccard": textdistance.Jaccard(external=False),
    "cosine": textdistance.Cosine(external=False),
    "damerau_levenshtein": textdistance.DamerauLevenshtein(restricted=True, external=False),
}


@pytest.mark.parametrize("name", similarity.SIMILARITIES)
@settings(max_examples=60, deadline=None)
@given(one=ids, other=ids)
def test_similarities_are_textdistances(name, one, other):
    ours = similarity.SIMILARITIES[name](one, other)
    assert ours == pytest.approx(THEIRS[name].normalized_similarity(one, other), abs=1e-12)
    assert ours == pytest.approx(similarity.SIMILARITIES[name](other, one), abs=1e-12)


@pytest.mark.parametrize("name", similarity.SIMILARITIES)
def test_equal_lists_have_1_and_disjoint_lists_0(name):
    like = similarity.SIMILARITIES[name]
    assert like([], []) == like([3, 3, 4], [3, 3, 4]) == 1
    assert like([3, 4], [5]) == like([], [5]) == 0


def edits(one, other):
    """The Levenshtein distance by dynamic programming."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        previous, row = row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a != b)))
    return row[-1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=4).filter(lambda pairs: any(one for one, _ in pairs)))
def test_an_error_rate_is_the_number_of_edits_over_the_length_of_the_references(pairs):
    expected = sum(edits(one, other) for one, other in pairs) / sum(len(one) for one, _ in pairs)
    assert similarity.error_rate(pairs) == pytest.approx(expected)


def test_an_error_rate_can_exceed_1_and_works_on_words():
    assert similarity.error_rate([("a", "bcd")]) == 3
    assert similarity.error_rate([(["the", "end"], ["the", "the", "end"]), (["no"], ["no"])]) == pytest.approx(1 / 3)


def by_name():
    return {pair.name: compare_similarities.compare(pair) for pair in compare_similarities.PAIRS}


def test_the_explanations_of_the_chosen_pairs_are_true():
    rows = by_name()
    for name in ("anagram", "words reordered", "two letters swapped"):
        assert rows[name]["jaccard"] == rows[name]["cosine"] == 1 > rows[name]["damerau_levenshtein"]
    assert rows["anagram"]["damerau_levenshtein"] == pytest.approx(1 - 4 / 8)  # START and STOP are the same
    assert rows["words reordered"]["damerau_levenshtein"] < 0.5
    deletion = rows["one deletion"]
    assert deletion["jaccard"] == deletion["damerau_levenshtein"] == 15 / 16
    assert deletion["cosine"] == pytest.approx(15 / (16 * 15) ** 0.5)
    swapped = rows["two letters swapped"]
    assert swapped["damerau_levenshtein"] == pytest.approx(1 - 1 / 16)
    assert swapped["cer"] == pytest.approx(2 / 14)
    replaced = rows["one letter replaced"]
    assert replaced["damerau_levenshtein"] == pytest.approx(14 / 15) and replaced["jaccard"] == pytest.approx(14 / 16)
    assert rows["a word repeated"]["cosine"] == max(rows["a word repeated"][name] for name in THEIRS)
    beginning = rows["only the beginning"]
    assert beginning["jaccard"] == pytest.approx(beginning["damerau_levenshtein"]) == pytest.approx(6 / 23)
    assert beginning["cosine"] == pytest.approx((6 / 23) ** 0.5)
    nonsense = rows["only letters right"]
    assert nonsense["jaccard"] > 0.6 > 0.4 > nonsense["damerau_levenshtein"]
    assert all(rows["nothing"][name] == 1 for name in THEIRS) and rows["nothing"]["cer"] == 0


def test_the_command_prints_a_table_with_an_explanation_of_each_pair(capsys):
    compare_similarities.main([])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * len(compare_similarities.PAIRS)
    assert lines[0].split() == ["one", "other", "Jaccard", "cosine", "Damerau-Lev.", "CER", "WER"]
    assert max(map(len, lines)) <= 120
    for pair, line, why in zip(compare_similarities.PAIRS, lines[1::2], lines[2::2], strict=True):
        assert line.startswith(pair.name) and pair.one in line and pair.other in line
        assert why.strip() == pair.why


def test_own_pairs_are_compared_in_the_networks_alphabet(capsys):
    compare_similarities.main(["Nine", "9", "a b", "", "--json"])
    first, second = json.loads(capsys.readouterr().out)
    assert (first["one"], first["other"], first["cer"]) == ("nine", "#", 1.0)
    assert first["jaccard"] == similarity.jaccard(text.encode("nine"), text.encode("9")) == 2 / 7
    assert (second["cer"], second["wer"]) == (1.0, 1.0)


def test_a_run_folder_is_written_only_with_results_dir_and_replaced(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compare_similarities.main([])
    assert not list(tmp_path.iterdir())
    results = tmp_path / "my results"
    for _ in range(2):
        compare_similarities.main(["--results_dir", str(results)])
    [folder] = (results / "hw_asr").iterdir()
    assert {path.name for path in folder.iterdir()} == {".lock", "config.json", "summary.json"}
    summary = Run.open(folder, "hw_asr").summary()
    assert summary["name"] == folder.name == "similarities"
    assert summary["pairs"] == list(by_name().values())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["one"], "no text follows 'one'"),
        (["a", "b", "c d"], "no text follows 'c d'"),
        (["", "b"], "got ''"),
        (["a", "b", "  ", "c"], "got '  '"),
        (["--jsom"], "--jsom"),
    ],
)
def test_messages_about_bad_input_are_one_line(argv, message):
    with pytest.raises(UserError, match=message) as error:
        compare_similarities.main(argv)
    assert "\n" not in str(error.value)


def test_the_command_runs_without_torch():
    code = "import sys; from hw_asr import compare_similarities as c; c.main([]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
