"""What stands behind the commands of hw_ocr: accuracies, letters from images, maps and tables."""

import statistics

import numpy as np
import ocr_files
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hw_common.runs import run_folder
from hw_common.runs.run_folder import Run
from hw_ocr import compare_report, data, experiment, images, plots, pooling, train
from hw_ocr.models import ConvBiLSTM, OcrCNN, PerLetter

MODELS = {
    "cnn": ["--model", "cnn"],
    "cnn-crf": ["--model", "cnn", "--crf"],
    "bilstm": ["--model", "bilstm", "--hidden", "3"],
    "conv-bilstm-crf": ["--model", "conv-bilstm", "--hidden", "3", "--layers", "2", "--crf"],
}


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    ocr_files.write(folder)
    return data.load("ocr", folder, seed=0).train


def build(name):
    torch.manual_seed(0)
    model = experiment.build_model(train.COMMAND.parse(MODELS[name]))
    for parameter in model.parameters():  # a new CRF's are all 0
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


# Loss and accuracy


@torch.inference_mode()
@pytest.mark.parametrize("name", MODELS)
def test_reading_all_words_is_reading_one_after_the_other(monkeypatch, letters, name):
    model = build(name)
    network = experiment.on_words(model)
    expected, loss = [], 0.0
    lengths = letters.lengths.tolist()
    for pixels, labels in zip(letters.images.split(lengths), letters.labels.split(lengths), strict=True):
        mask = torch.ones(1, len(labels), dtype=torch.bool)
        scores = network(pixels[None].float(), mask)
        if name.endswith("crf"):
            expected += network.crf.decode(scores, mask)[0].tolist()
            loss -= network.crf.log_likelihood(scores, labels[None], mask).item()
        else:
            expected += scores[0].argmax(1).tolist()
            loss += F.cross_entropy(scores[0], labels, reduction="sum").item()
    monkeypatch.setattr(experiment, "_WORDS_AT_ONCE", 3)
    predicted, mean_loss = experiment.read(model, letters)
    assert predicted.tolist() == expected
    assert mean_loss == pytest.approx(loss / len(letters), rel=1e-5)


def test_a_word_is_right_if_all_its_letters_are(monkeypatch, letters):
    ends = letters.lengths.cumsum(0)
    predicted = letters.labels.clone()
    predicted[0] += 1  # one letter of the first word
    predicted[ends[1] : ends[2]] += 1  # all of the third
    monkeypatch.setattr(experiment, "read", lambda model, letters: (predicted, 0.25))
    wrong = 1 + int(letters.lengths[2])
    assert experiment.evaluate(None, letters, "dev") == {
        "dev_loss": 0.25,
        "dev_accuracy": pytest.approx(1 - wrong / len(letters)),
        "dev_word_accuracy": pytest.approx(1 - 2 / len(letters.lengths)),
    }


@pytest.mark.parametrize("name", MODELS)
def test_the_training_loss_is_the_one_of_evaluation(letters, name):
    model = build(name)
    make, loss_function = (
        (data.letter_batches, experiment.letter_loss) if name == "cnn" else (data.word_batches, experiment.word_loss)
    )
    total = sum(
        loss.item() * count
        for loss, count, _ in (
            loss_function(model, batch) for batch in make(letters, 4, torch.device("cpu"), 0, shuffle=True).epoch(0)
        )
    )
    with torch.inference_mode():
        assert total / len(letters) == pytest.approx(experiment.evaluate(model, letters, "x")["x_loss"], rel=1e-5)


@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), max_size=30))
def test_confusions_are_counted(pairs):
    labels, predicted = (torch.tensor([pair[i] for pair in pairs], dtype=torch.int64) for i in (0, 1))
    counts = plots.count_confusions(labels, predicted)
    assert counts.sum() == len(pairs)
    assert all(counts[pair] == pairs.count(pair) for pair in pairs)


def test_no_misread_word_is_a_page_too(tmp_path, letters):
    plots.misread_words(tmp_path, letters, letters.labels, "all right")
    assert Image.open(tmp_path / "misread.png").size[0] > 500


# Letters from images


def glyph(seed, height, width):
    """Random ink, a quarter of the pixels, that touches all four edges and leaves no column blank."""
    generator = np.random.default_rng(seed)
    ink = generator.random((height, width)) < 0.15
    ink[generator.integers(0, height, width), np.arange(width)] = True
    ink[0, 0] = ink[-1, -1] = True
    return ink.astype(np.uint8)


def word_image(glyphs, gap=1):
    """Glyphs beside one another, on the same line, with paper around."""
    height = max(len(ink) for ink in glyphs)
    columns = [np.pad(ink, ((height - len(ink), 0), (gap, 0))) for ink in glyphs]
    return np.pad(np.concatenate(columns, axis=1), 2)


def save(path, ink, paper=(255, 255, 255), pen=(0, 0, 0), times=1, **options):
    pixels = np.where(np.kron(ink, np.ones((times, times)))[..., None] > 0, pen, paper).astype(np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(2, 16), st.integers(1, 8)), min_size=1, max_size=5),
       st.integers(1, 4), st.integers(1, 3))  # fmt: skip
def test_words_are_cut_into_their_letters(sizes, gap, times):
    glyphs = [glyph(*size) for size in sizes]
    cut = images.cut_at_blank_columns(np.kron(word_image(glyphs, gap), np.ones((times, times))))
    assert [piece.tolist() for piece in cut] == [np.kron(ink, np.ones((times, times))).tolist() for ink in glyphs]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(1, 16), st.integers(1, 5), st.booleans())
def test_enlarged_letters_are_found_as_they_were(seed, size, times, tall):
    ink = glyph(seed, 16, max(1, size // 2)) if tall else glyph(seed, size, 8)
    found = images.fit(np.kron(ink, np.ones((times, times))))
    height, width = ink.shape
    top, left = (16 - height) // 2, (8 - width) // 2
    assert found[top : top + height, left : left + width].tolist() == ink.tolist()
    assert found.sum() == ink.sum()


@given(st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=50, deadline=None)
def test_every_letter_fills_the_height_or_the_width(height, width):
    found = images.fit(np.ones((height, width)))
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    assert found.shape == (16, 8)
    assert len(rows) == 16 or len(columns) == 8
    assert abs(rows[0] - (15 - rows[-1])) <= 1 and abs(columns[0] - (7 - columns[-1])) <= 1


def test_thin_strokes_of_a_large_letter_do_not_break():
    ink = np.zeros((320, 160))
    ink[:, 79:82] = ink[0, :] = 1  # a stroke of 3 pixels, where 20 become one
    found = images.fit(ink)
    assert found.any(axis=1).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"paper": (0, 0, 0), "pen": (255, 255, 255)},
        {"paper": (20, 20, 90), "pen": (200, 230, 60), "times": 7},
        {"paper": (200, 200, 200), "pen": (160, 160, 160), "times": 2},
    ],
    ids=["black on white", "white on black", "large and in colour", "pale"],
)
def test_any_size_and_colour_shows_the_same_letters(tmp_path, options):
    glyphs = [glyph(1, 16, 5), glyph(2, 16, 8), glyph(3, 16, 1)]
    found = images.read_letters(save(tmp_path / "word.png", word_image(glyphs), **options))
    assert [letter.sum() for letter in found] == [ink.sum() for ink in glyphs]
    assert found[1].tolist() == glyphs[1].tolist()


def test_transparent_and_deep_images(tmp_path):
    ink = word_image([glyph(2, 16, 8)])
    expected = images.read_letters(save(tmp_path / "plain.png", ink)).tolist()
    Image.fromarray(np.stack([ink * 0, ink * 0, ink * 0, ink * 255], axis=2).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray((65535 - 60000 * ink.astype(np.uint16)).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(1 - ink).convert("1").save(tmp_path / "bits.png")
    for name in ("a.png", "deep.png"):
        assert images.read_letters(tmp_path / name).tolist() == expected


def test_an_image_of_the_data_sets_size_is_taken_as_it_is(tmp_path):
    ink = np.zeros((16, 8), dtype=int)
    ink[3:5, 1] = ink[9, 5] = 1
    assert images.read_letters(save(tmp_path / "letter.png", ink)).tolist() == [ink.tolist()]


# Feature maps


def test_maps_of_a_shifted_letter_are_the_shifted_maps():
    torch.manual_seed(0)
    letter = F.pad(torch.rand(2, 1, 16, 8), (8, 8, 8, 8))
    network = PerLetter(OcrCNN(3))
    before, after = (pooling.collect_maps(network, pooling.shift(letter, pixels)) for pixels in (0, 4))
    assert list(before) == [
        (layer, stage)
        for layer in ("layer1", "layer3")
        for stage in (pooling.CONVOLVED, pooling.POOLED, pooling.OVER_CHANNELS)
    ]
    for key, by in (("layer1", 4), ("layer1", 2)):
        stage = pooling.CONVOLVED if by == 4 else pooling.POOLED
        torch.testing.assert_close(after[key, stage][..., by + 2 : -2], before[key, stage][..., 2 : -by - 2])
    assert before["layer1", pooling.OVER_CHANNELS].shape == (2, 1, 32, 24)


def test_maps_are_those_of_the_forward_pass():
    torch.manual_seed(0)
    images = torch.rand(3, 1, 16, 8)
    model = OcrCNN(2)
    maps = pooling.collect_maps(model, images)
    torch.testing.assert_close(maps["layer2", pooling.POOLED], model.layer2(model.layer1(images)))
    assert list(pooling.collect_maps(ConvBiLSTM(), images))[0] == ("layer1", pooling.CONVOLVED)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_torchs(turns):
    images = torch.rand(2, 1, 9, 9)
    torch.testing.assert_close(pooling.rotate(images, 90.0 * turns), images.rot90(turns, (2, 3)), atol=1e-5, rtol=0)


def test_a_half_turn_of_a_tall_image_turns_both_axes():
    images = torch.rand(2, 1, 16, 8)
    torch.testing.assert_close(pooling.rotate(images, 180.0), images.flip(2, 3), atol=1e-5, rtol=0)


def test_a_small_turn_keeps_the_shape_of_a_tall_image():
    bar = torch.zeros(1, 1, 32, 24)
    bar[..., 8:24, 11:13] = 1
    rows, columns = torch.nonzero(pooling.rotate(bar, 20.0)[0, 0] > 0.5).T
    # 16 pixels long, leaning by 16 sin 20°, counter-clockwise: the top goes to the left.
    assert rows.max() - rows.min() + 1 == pytest.approx(16 * np.cos(np.deg2rad(20)), abs=1.5)
    lean = columns[rows == rows.max()].float().mean() - columns[rows == rows.min()].float().mean()
    assert lean == pytest.approx(16 * np.sin(np.deg2rad(20)), abs=1.5)


def test_changes_are_measured_against_what_the_letter_causes():
    before = torch.tensor([[0.0, 2.0, 1.0, 0.0], [0.0, 0.0, 4.0, 0.0]])
    after = torch.tensor([[0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 4.0, 0.1]])
    found = pooling._compare(before, after)
    # First letter: three values have to do with it, two changed. Second: one, unchanged; 0.1 is below 5 % of 4.
    assert found["values_changed"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["relative_change"] == pytest.approx(((2 / 5) ** 0.5 + 0.1 / 4) / 2)


# Tables


def finished_run(results, name, numbers):
    """A finished run with these accuracies, without a training."""
    config = run_folder.describe("hw_ocr", "hw_ocr.train", {}, {"ocr/letter.data.gz": "0"}, {})
    run = Run.create(results, config, name)
    epoch = {metric: value for metric, value in zip(compare_report._METRICS, numbers, strict=True)}
    facts = {"homework": "hw_ocr", "dataset": "ocr", "data": "OCR letters", "network": name[:-1], "parameters": 7}
    run.write_summary({**facts, "final": epoch, "best": epoch, "speed": {"training_seconds": numbers[0]}})
    run.close()
    return run


def test_a_table_has_means_and_deviations_and_chooses_on_validation(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plots, "comparison", lambda *arguments: None)
    numbers = {  # validation by letter and by word, test by letter and by word
        "cnn2": [(0.90, 0.5, 0.99, 0.9), (0.92, 0.6, 0.97, 0.8)],
        "bilstm": [(0.95, 0.7, 0.90, 0.5), (0.96, 0.8, 0.91, 0.6)],
    }
    trained = {
        row: [finished_run(tmp_path, f"{row}{seed}", of_seed) for seed, of_seed in enumerate(of_row)]
        for row, of_row in numbers.items()
    }
    folder = Run.create(tmp_path, run_folder.describe("hw_ocr", "hw_ocr.compare", {}, {}, {}), "table")
    summary = compare_report.report(folder, trained, [0, 1])
    folder.close()
    assert summary["choice"]["row"] == "bilstm"  # though the other one is better on the test data
    assert "0.0450 ahead of cnn2 (more than the spread" in summary["choice"]["reason"]
    for row in summary["table"]:
        for i, metric in enumerate(compare_report._METRICS):
            values = [of_seed[i] for of_seed in numbers[row["row"]]]
            assert row[f"final_{metric}"] == pytest.approx(statistics.mean(values))
            assert row[f"final_{metric}_std"] == pytest.approx(statistics.stdev(values))
    title, _, *lines = (folder.folder / "table.md").read_text().splitlines()
    assert title == "OCR letters, last epoch:"
    assert len({line.count("|") for line in lines}) == 1
    assert "0.9800 ± 0.0141 | 0.9012" in lines[2] and "0.9701" in lines[3] and "0.8533" in lines[3]
    header, *rows = (folder.folder / "table.csv").read_text().splitlines()
    assert len(rows) == 2 and all(line.count(",") == header.count(",") for line in rows)
    assert lines[2] in capsys.readouterr().out
