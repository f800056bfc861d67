"""Every command of hw_asr through its real entry point: tiny runs, the files they write, resume, twice the same."""

import csv
import json
import os
import shutil
import threading
from pathlib import Path

import asr_files
import commands
import numpy as np
import other_sounds
import pytest
import torch
from finished_runs import times_of_writing
from PIL import Image

from hw_asr import (
    audio,
    compare,
    data,
    evaluation,
    experiment,
    readers,
    reproduce,
    similarity,
    text,
    train,
    transcribe,
    transcription,
)  # fmt: skip
from hw_asr.generation import InferenceSettings
from hw_asr.presets import Settings
from hw_asr.segments import split
from hw_common.runs import checkpoints, figures
from hw_common.runs.errors import UserError
from hw_common.training.decoding import Hypothesis
from hw_common.training.experiment import make_schedule

RUN_FILES = {".lock", "config.json", "metrics.csv", "summary.json", "best.safetensors", "last.pt"}
STEMS = ("curves", "similarities", "predictions", "alignment")
FIGURES = {f"{stem}.{suffix}" for stem in STEMS for suffix in ("png", "pdf")}
NETWORKS = {
    "lstm": ["--recipe", "best", "--dropout", "0.1"],
    "transformer": ["--decoder", "transformer", "--join", "--beam", "2"],
    "notebook": ["--preset", "notebook", "--decoder", "transformer"],
}
WITH_FIGURES = "notebook"
NUMBERS = ("loss", "loss_without_padding", "jaccard", "cosine", "damerau_levenshtein", "cer", "wer")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """Makes networks of width 4, and shortens the notebook's padding."""
    with pytest.MonkeyPatch.context() as patch:
        commands.narrow_speech_networks(patch)
        yield


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Eight clips in LJSpeech's layout."""
    return asr_files.write(tmp_path_factory.mktemp("my clips"))


def tiny_flags(clips, results):
    return ["--dataset_dir", str(clips), "--results_dir", str(results), "--epochs", "2", "--threads", "1",
            "--batch_size", "4"]  # fmt: skip


def train_tiny(clips, results, *flags):
    train.main([*tiny_flags(clips, results), *flags])
    return results / "hw_asr"


@pytest.fixture(scope="module")
def runs(clips, tmp_path_factory):
    """A finished tiny run of each kind of network, one with its figures."""
    results = tmp_path_factory.mktemp("results with spaces")
    for name, flags in NETWORKS.items():
        with pytest.MonkeyPatch.context() as patch:
            if name != WITH_FIGURES:
                commands.draw_nothing(patch)
            train_tiny(clips, results, *flags, "--name", name)
    return {name: results / "hw_asr" / name for name in NETWORKS}


# ── train ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_folder_holds_what_was_promised(runs):
    for folder in runs.values():
        assert {path.name for path in folder.iterdir()} == RUN_FILES | FIGURES
    for path in runs[WITH_FIGURES].glob("*.png"):
        assert Image.open(path).size[0] > 500
    for path in runs[WITH_FIGURES].glob("*.pdf"):
        assert path.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_summary_has_the_final_numbers(runs, name):
    summary = json.loads((runs[name] / "summary.json").read_text())
    assert summary["utterances"] == {"training": 6, "validation": 1, "test": 1}
    assert summary["padding_counted_in_training"] == (name == "notebook")
    assert summary["longest_seconds"] == pytest.approx(0.12, abs=0.01)
    weights = checkpoints.load_state(runs[name] / "last.pt")["model"]
    assert summary["parameters"] == sum(tensor.numel() for tensor in weights.values())
    for epoch in ("final", "best"):
        for part in ("validation", "test"):
            assert all(summary[epoch][f"{part}_{number}"] >= 0 for number in NUMBERS)
    with open(runs[name] / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = max(rows, key=lambda row: float(row["validation_damerau_levenshtein"]))
    assert summary["best"]["epoch"] == int(chosen["epoch"])
    assert float(rows[1]["training_loss"]) < float(rows[0]["training_loss"])


def test_the_sheets_defaults():
    plain = train.COMMAND.parse([])
    assert (plain.decoder, plain.preset, plain.optimizer, plain.lr, plain.l2_decay, plain.epochs, plain.batch_size) == (
        "lstm", "sheet", "adamw", 0.001, 0.01, 15, 64
    )  # fmt: skip
    assert not any((plain.dropout, plain.spec_augment, plain.join, plain.tempo, plain.ctc, plain.count_padding))
    assert (plain.first_stride, plain.precision, plain.beam) == (1, "fp32", None)
    assert train.COMMAND.parse(["--preset", "notebook"]).count_padding
    assert not train.COMMAND.parse(["--recipe", "best", "--no-join"]).join


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--beam", "51"], "--beam: expected a whole number from 1 to 50, got '51'"),
        (["--dataset", "sample", "--dataset_dir", "x"], "--dataset sample is built in"),
        (["--join", "yes"], "unrecognized arguments: yes"),
    ],
)
def test_wrong_flags(tmp_path, flags, says):
    with pytest.raises(UserError, match=says):
        train.main([*flags, "--results_dir", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


# ── what is computed ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_rate_rises_for_15_percent_of_the_steps_and_falls_again():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, rates = make_schedule("linear", optimizer, 40), []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    rises = [0.01 + 0.99 * step / 6 for step in range(6)]
    falls = [1 - 0.99 * step / 34 for step in range(34)]
    assert rates == pytest.approx([*rises, *falls])


def test_losses_with_and_without_padding():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, len(text.ALPHABET), generator=generator)
    targets = torch.tensor([[5, 6, text.STOP], [text.STOP, text.EMPTY, text.EMPTY]])
    share = evaluation.LABEL_SMOOTHING / len(text.ALPHABET)
    log_probabilities = logits.log_softmax(2)
    each = -(0.9 * log_probabilities.gather(2, targets[:, :, None])[:, :, 0] + share * log_probabilities.sum(2))
    for count_padding, expected in ((True, each.sum()), (False, each[0].sum() + each[1, 0])):
        found = evaluation.cross_entropy(logits, targets, count_padding)
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("flags", [["--ctc", "0"], ["--ctc", "0.5"], ["--preset", "notebook"]], ids=lambda f: f[-1])
def test_processes_that_share_a_batch_share_its_loss(clips, tmp_path, flags):
    arguments = train.COMMAND.parse([*tiny_flags(clips, tmp_path), *flags])
    torch.manual_seed(0)
    settings = Settings.from_arguments(arguments)
    model, inference = experiment.build_network(settings), InferenceSettings.of(settings)
    texts = [torch.tensor(text.encode(words)) for words in ("one", "one two three", "ten")]
    tokens = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=text.EMPTY)
    batch = torch.randn(3, 80, 99), torch.tensor([60, 99, 80]), tokens, torch.tensor([len(words) for words in texts])
    (whole, count, _), *parts = (
        experiment.training_loss(settings, inference, model, tuple(tensor[rows] for tensor in batch))
        for rows in (slice(None), slice(1), slice(1, None))
    )
    losses, counts = zip(*((loss.item(), number) for loss, number, _ in parts), strict=True)
    assert sum(counts) == count
    assert np.average(losses, weights=counts) == pytest.approx(whole.item(), rel=1e-5)


def test_texts_are_compared_as_in_the_course():
    said = text.encode("one two")
    ended, cut_off = Hypothesis(said[1:-1], -0.1, True), Hypothesis(text.encode("one tw")[1:-1], -0.1, False)
    assert evaluation.with_start_and_stop(ended) == said
    assert evaluation.with_start_and_stop(cut_off) == text.encode("one t")  # STOP replaces the last character
    numbers = evaluation.compare_texts([(said, ended), (said, cut_off)])
    assert numbers["jaccard"] == pytest.approx((1 + similarity.jaccard(said, text.encode("one t"))) / 2)
    assert (numbers["cer"], numbers["wer"]) == (1 / 14, 1 / 4)


def test_evaluation_counts_every_clip_whatever_its_batch(clips, tmp_path, monkeypatch):
    arguments = train.COMMAND.parse(tiny_flags(clips, tmp_path))
    torch.manual_seed(0)
    model = experiment.build_network(Settings.from_arguments(arguments)).eval()
    training, inference = training_split(clips, tmp_path), InferenceSettings(None, 20)
    with torch.inference_mode():
        whole = evaluation.evaluate(model, training, inference, "x")
        monkeypatch.setattr(evaluation, "_BATCH_SIZE", 2)
        assert evaluation.evaluate(model, training, inference, "x") == pytest.approx(whole, rel=1e-5)
    assert set(whole) == {f"x_{number}" for number in NUMBERS}


def training_split(clips, results):
    settings = audio.SPECTROGRAMS["sheet"]
    return data.load("ljspeech", Path(), clips, results_dir=results, settings=settings, max_text=99).train


def test_joined_clips_are_two_clips(clips, tmp_path):
    split = training_split(clips, tmp_path)
    device = torch.device("cpu")
    alone = {tuple(tokens): i for i, tokens in enumerate(split.tokens)}
    seen = set()
    for epoch in range(8):
        for batch in data.speech_batches(split, 3, device, 1, join_up_to=30).epoch(epoch):
            for spectrogram, frames, tokens, length in zip(*batch, strict=True):
                said, whole = tuple(tokens[:length].tolist()), spectrogram[:, :frames].numpy()
                found = [
                    (first, second)
                    for first in range(6)
                    for second in (None, *range(6))
                    if np.array_equal(whole, both(split, first, second)[0]) and said == both(split, first, second)[1]
                ]
                assert found
                seen.add(found[0][1] is None)
                assert length <= 30 or said in alone
    assert seen == {True, False}
    again = next(iter(data.speech_batches(split, 3, device, 1, join_up_to=30).epoch(7, start=1)))
    assert all(torch.equal(one, other) for one, other in zip(again, batch, strict=True))


def both(split, first, second):
    """Two clips, one behind the other; only the first if `second` is None."""
    if second is None:
        return split.spectrogram(first), tuple(split.tokens[first])
    texts = f"{split.texts[first]} {split.texts[second]}"
    return np.concatenate([split.spectrogram(first), split.spectrogram(second)], 1), tuple(text.encode(texts))


# ── transcribe ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NETWORKS)
def test_transcribing_files_of_any_kind(runs, tmp_path, capsys, monkeypatch, name):
    monkeypatch.setattr(transcription, "has_speech", lambda samples, rate: len(samples) != round(0.2 * rate))
    paths = [tmp_path / "short.wav", tmp_path / "long stereo.flac", tmp_path / "8 kHz.wav"]
    paths[0].write_bytes(asr_files.encoded(asr_files.sound(1, 0.1)))
    paths[1].write_bytes(asr_files.encoded(asr_files.sound(2, 0.7, 44_100, 2), 44_100, "FLAC"))
    paths[2].write_bytes(asr_files.encoded(asr_files.sound(3, 0.2, 8_000), 8_000))
    transcribe.main([str(runs[name]), *map(str, paths)])
    lines = capsys.readouterr().out.splitlines()
    transcribe.main([str(runs[name]), *map(str, paths), "--json"])
    results = json.loads(capsys.readouterr().out)
    assert lines[:2] == [f"{path}: {result['text']}" for path, result in zip(paths[:2], results[:2], strict=True)]
    assert lines[2].startswith(f"{paths[2]}: [no speech found; ") and len(lines) == 3
    assert [result["seconds"] for result in results] == [0.1, 0.7, 0.2]
    assert [result["speech"] for result in results] == [True, True, False]
    assert len(results[0]["pieces"]) == 1 and len(results[1]["pieces"]) >= 4
    for result in results:
        times = [time for piece in result["pieces"] for time in (piece["begin"], piece["end"])]
        assert times == sorted(times) and 0 <= times[0] and times[-1] <= result["seconds"]
        texts = [piece["text"] for piece in result["pieces"]]
        assert result["text"] == (" ".join(texts) if result["speech"] else "")
        assert all(0 < piece["probability"] <= 1 for piece in result["pieces"])
    transcribe.main([str(runs[name]), str(paths[0]), "--beam", "2", "--json"])
    [beam] = json.loads(capsys.readouterr().out)
    assert beam["pieces"][0]["probability"] > 0


def test_only_speech_is_transcribed(runs, tmp_path, capsys):
    paths = [tmp_path / "speech.ogg", tmp_path / "dither.wav", tmp_path / "pipe"]
    paths[0].write_bytes(readers.read(readers.SAMPLE, "x", "x").clips[0].audio.read())
    paths[1].write_bytes(asr_files.encoded(other_sounds.sound("dither", 1)))
    os.mkfifo(paths[2])
    writer = threading.Thread(target=paths[2].write_bytes, args=[paths[0].read_bytes()])
    writer.start()
    transcribe.main([str(runs["lstm"]), *map(str, [*paths, paths[2]]), "--json"])  # the pipe is read once
    writer.join()
    found = json.loads(capsys.readouterr().out)
    assert [result["speech"] for result in found] == [True, False, True, True]
    assert found[0]["text"] == found[2]["text"] == found[3]["text"] and found[1]["text"] == ""


def test_recordings_are_cut_where_it_is_quiet():
    rate = 1000
    samples = np.random.default_rng(0).standard_normal(5 * rate).astype(np.float32)
    quiet = [800, 1700, 2600, 3500]
    for place in quiet:
        samples[place - 60 : place + 60] *= 0.01
    parts = split(samples, rate, 1.0)
    ends = [begin + len(part) for begin, part in parts]
    assert all(abs(begin - place) <= 60 for (begin, _), place in zip(parts[1:], quiet, strict=False))
    assert all(np.array_equal(part, samples[begin : begin + len(part)]) for begin, part in parts)
    assert all(100 < len(part) <= rate for _, part in parts)
    assert all(0 <= begin - end < 120 for (begin, _), end in zip(parts[1:], ends[:-1], strict=True))  # quiet, left out
    assert (parts[0][0], ends[-1]) == (0, len(samples))


def test_what_is_short_is_left_as_it_is():
    samples = np.zeros(1000, np.float32)
    samples[500] = 1
    [(begin, part)] = split(samples, 1000, 1.0)
    assert begin == 0 and part is samples


def test_what_is_silent_is_not_written_down():
    samples = np.zeros(3000, np.float32)
    samples[:500] = np.random.default_rng(0).standard_normal(500)
    parts = split(samples, 1000, 1.0)
    assert [begin for begin, _ in parts] == [0]


def test_weights_of_the_other_decoder_are_refused(runs, tmp_path):
    folder = Path(shutil.copytree(runs["lstm"], tmp_path / "copy"))
    shutil.copy(runs["transformer"] / "best.safetensors", folder)
    sound = tmp_path / "sound.wav"
    sound.write_bytes(asr_files.encoded(asr_files.sound()))
    with pytest.raises(UserError, match="Transformer decoder") as caught:
        transcribe.main([str(folder), str(sound)])
    assert "LSTM decoder" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a sound file that libsndfile reads: it is empty"),
        (asr_files.encoded(np.zeros((2205, 1), np.float32)), "is silent"),
        (asr_files.wav(bytes(2000), promised=3_000_000), "is cut short"),
    ],
    ids=["empty", "silent", "lying"],
)
def test_bad_sound_files(runs, tmp_path, content, says):
    path = tmp_path / "sound.wav"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        transcribe.main([str(runs["lstm"]), str(path)])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "1", -1, 1e9])
def test_a_damaged_summary_is_refused(runs, tmp_path, value):
    folder = Path(shutil.copytree(runs["lstm"], tmp_path / "copy"))
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "longest_seconds": value}))
    with pytest.raises(UserError, match="its summary has no valid longest_seconds"):
        transcribe.main([str(folder), "sound.wav"])


# ── compare and reproduce ────────────────────────────────────────────────────────────────────────────────────────────


def compare_tiny(clips, results, *flags):
    return compare.parse([*tiny_flags(clips, results), *flags, "--epochs", "1"]).run()


def test_a_comparison_has_the_means_over_the_seeds(clips, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment._Results, "draw", lambda *arguments: None)
        summary = compare_tiny(clips, tmp_path, "--seeds", "2", "1")
    folder, name = tmp_path / "hw_asr", f"compare-{clips.name.replace(' ', '_')}-sheet-plain"
    trained = {f"{name}-{decoder}-seed{seed}" for decoder in ("lstm", "transformer") for seed in (1, 2)}
    assert {path.name for path in folder.iterdir()} == {name, "spectrograms", *trained}
    figures_of_it = {f"{stem}.{suffix}" for stem in ("curves", "similarities") for suffix in ("png", "pdf")}
    assert {path.name for path in (folder / name).iterdir()} == {
        ".lock", "config.json", "summary.json", "table.csv", "table.md", *figures_of_it
    }  # fmt: skip
    assert [row["decoder"] for row in summary["table"]] == ["lstm", "transformer"]
    for row in summary["table"]:
        both_seeds = [
            json.loads((folder / f"{name}-{row['decoder']}-seed{seed}" / "summary.json").read_text())["final"]
            for seed in (1, 2)
        ]
        for number in NUMBERS:
            values = [one[f"test_{number}"] for one in both_seeds]
            assert row[f"final_test_{number}"] == pytest.approx(sum(values) / 2)
            assert row[f"final_test_{number}_std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        assert row["published_test_loss"] is None


def test_reproduce_does_everything_and_the_second_time_nothing(clips, tmp_path, monkeypatch, capsys):
    quick = ["--dataset_dir", str(clips), "--epochs", "1", "--batch_size", "4", "--seeds", "1", "--threads", "1"]
    monkeypatch.setattr(reproduce, "_FLAGS", {"sample": quick})
    monkeypatch.setattr(figures, "save", lambda figure, folder, stem: [])
    flags = ["--results_dir", str(tmp_path), "--jobs", "1"]
    reproduce.main(flags)
    printed = [Path(line.strip()) for line in capsys.readouterr().out.splitlines() if line.startswith(f"  {tmp_path}")]
    assert all(path.is_file() for path in printed if path.suffix != ".png")
    before = times_of_writing(tmp_path)
    assert {path.parent.name for path in before} == {"sample-lstm-seed1", "sample-transformer-seed1"}
    reproduce.main(flags)
    assert times_of_writing(tmp_path) == before


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_comparison_on_ljspeech_shows_the_published_numbers():
    metrics = {f"final_test_{name}": 0.5 for name in compare._METRICS.values()}
    published = {"published_test_loss": 1.1604, "published_test_damerau_levenshtein": 0.6335}
    table = [{"decoder": "transformer", "parameters": 7, "training_seconds": 8.4, "seeds": 1, **metrics, **published}]
    measured, found = compare._markdown(table).splitlines()[2:]
    assert measured.startswith("| Transformer decoder | 7 | 0.5000 |") and measured.endswith(" 8 |")
    assert found.startswith("| Transformer decoder, published |  |") and "| 1.1604 |" in found and "| 0.6335 |" in found
