"""Loss, accuracies and confusions of hw_ocr."""

import ocr_files
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hw_ocr import data, experiment, plots, train
from hw_ocr.presets import Settings

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
    model = experiment.build_model(Settings.from_arguments(train.COMMAND.parse(MODELS[name])))
    for parameter in model.parameters():  # a new CRF's are all 0
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@torch.inference_mode()
@pytest.mark.parametrize("name", MODELS)
def test_reading_all_words_is_reading_one_after_the_other(monkeypatch, letters, name):
    model = build(name)
    network = experiment.as_word_network(model)
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
    predicted, mean_loss = experiment.predict(model, letters)
    assert predicted.tolist() == expected
    assert mean_loss == pytest.approx(loss / len(letters), rel=1e-5)


def test_a_word_is_right_if_all_its_letters_are(monkeypatch, letters):
    ends = letters.lengths.cumsum(0)
    predicted = letters.labels.clone()
    predicted[0] += 1  # one letter of the first word
    predicted[ends[1] : ends[2]] += 1  # all of the third
    monkeypatch.setattr(experiment, "predict", lambda model, letters: (predicted, 0.25))
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
