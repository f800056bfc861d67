"""Generated texts: the oracle is a network that recomputes everything for each character, one clip at a time."""

import dataclasses
import math

import asr_notebook
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_asr.generation import InferenceSettings, generate
from hw_asr.kernels import build_model
from hw_asr.presets import Sizes
from hw_asr.text import EMPTY, START, STOP

MAX_LENGTH = 9
SIZES = Sizes(encoder_blocks=1, mels=3, width=8, vocabulary=7, text_positions=MAX_LENGTH)
SEEDS, LENGTHS = st.integers(0, 10_000), st.lists(st.integers(1, 9), min_size=1, max_size=4)
every_decoder = pytest.mark.parametrize("decoder", ["lstm", "transformer"])
every_kernel = pytest.mark.parametrize("kernels", ["plain", "fast"])


@pytest.fixture(autouse=True)
def _float64_without_gradients():
    """The large weights of `make` amplify the rounding of float32 beyond any useful tolerance."""
    torch.set_default_dtype(torch.float64)
    with torch.inference_mode():
        yield
    torch.set_default_dtype(torch.float32)


def make(decoder, seed, outer_norm=True, kernels="fast"):
    """A small network with large weights, so that its logits differ from step to step."""
    torch.manual_seed(seed)
    model = build_model("sheet", decoder, dataclasses.replace(SIZES, outer_norm=outer_norm), kernels).eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model


def clips(*lengths):
    """Spectrograms padded with zeros, and the number of frames of each."""
    rows = [F.pad(torch.randn(3, length), (0, max(lengths) - length)) for length in lengths]
    return torch.stack(rows), torch.tensor(lengths)


def log_probabilities(model, spectrograms, frames, tokens):
    """Log-probabilities (B, V) of the token that follows `tokens` (B, L), computed by the network's `forward`."""
    scores = model(spectrograms, frames, tokens)[:, -1]
    scores[:, [START, EMPTY]] = -math.inf
    return scores.log_softmax(dim=1)


def search(model, spectrograms, frames, max_length, beam=None):
    return generate(model, spectrograms, frames, InferenceSettings(None, max_length, beam))


def recomputed(model, spectrograms, frames, max_length):
    """(tokens, score, has ended) of each clip, by greedy search that recomputes everything for each character."""
    texts = []
    for i, length in enumerate(frames.tolist()):
        tokens, total = [START], 0.0
        while tokens[-1] != STOP and len(tokens) <= max_length:
            scores = log_probabilities(model, spectrograms[[i], :, :length], None, torch.tensor([tokens]))[0]
            tokens.append(int(scores.argmax()))
            total += scores[tokens[-1]].item()
        texts.append(([t for t in tokens[1:] if t != STOP], total / (len(tokens) - 1), tokens[-1] == STOP))
    return texts


@every_decoder
@every_kernel
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, lengths=LENGTHS, characters=st.integers(1, MAX_LENGTH), outer_norm=st.booleans())
def test_steps_compute_the_logits_of_forward(decoder, kernels, seed, lengths, characters, outer_norm):
    model = make(decoder, seed, outer_norm, kernels)
    spectrograms, frames = clips(*lengths)
    tokens = torch.randint(7, (len(lengths), characters))
    expected = model(spectrograms, frames, tokens)
    prefixes = model.begin(spectrograms, frames)
    for position in range(characters):
        scores = prefixes.step(tokens[:, position])
        torch.testing.assert_close(scores, expected[:, position], atol=1e-6, rtol=1e-6)


@every_decoder
@every_kernel
def test_selected_rows_continue(decoder, kernels):
    model = make(decoder, 3, kernels=kernels)
    spectrograms, frames = clips(9, 4, 6)
    tokens, rows = torch.randint(7, (3, 5)), torch.tensor([2, 0, 2, 1])
    prefixes = model.begin(spectrograms, frames)
    for position in range(3):
        prefixes.step(tokens[:, position])
    prefixes.select(rows)
    after = torch.tensor([4, 5, 6, 4])
    scores = prefixes.step(after)
    longer = torch.cat([tokens[rows, :3], after[:, None]], dim=1)
    expected = model(spectrograms[rows], frames[rows], longer)[:, -1]
    torch.testing.assert_close(scores, expected, atol=1e-6, rtol=1e-6)


@every_decoder
@every_kernel
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, lengths=LENGTHS, max_length=st.integers(1, MAX_LENGTH))
def test_greedy_search_equals_the_recomputed_one(decoder, kernels, seed, lengths, max_length):
    model = make(decoder, seed, kernels=kernels)
    spectrograms, frames = clips(*lengths)
    found = search(model, spectrograms, frames, max_length)
    expected = recomputed(model, spectrograms, frames, max_length)
    assert [(text.tokens, text.has_ended) for text in found] == [(tokens, end) for tokens, _, end in expected]
    assert [text.score for text in found] == pytest.approx([score for _, score, _ in expected], abs=1e-6)


@every_decoder
def test_texts_of_a_batch_end_at_different_times(decoder):
    spectrograms, frames = clips(9, 2, 5, 7, 3, 1, 8, 6)
    for seed in range(300):
        model = make(decoder, seed)
        found = search(model, spectrograms, frames, MAX_LENGTH)
        if len({len(text.tokens) for text in found if text.has_ended}) >= 3:
            break
    else:
        pytest.fail("found no network whose texts end at different times")
    assert [text.tokens for text in found] == [t for t, *_ in recomputed(model, spectrograms, frames, MAX_LENGTH)]


@every_decoder
def test_greedy_search_equals_the_courses(decoder):
    model = make(decoder, seed=5, outer_norm=False)
    model.decoder.classifier.bias.data[STOP] = -100.0
    spectrograms = asr_notebook.padded([torch.randn(3, length) for length in (9, 4, 6)], frames=12)
    w = model.state_dict()
    expected = asr_notebook.generate(w, spectrograms, START, [START, EMPTY], MAX_LENGTH, asr_notebook.lstm_of(w))
    found = search(model, spectrograms, None, MAX_LENGTH)
    assert [text.tokens for text in found] == expected.tolist()


@every_decoder
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, beam=st.integers(1, 3), lengths=LENGTHS)
def test_beam_search_scores_its_texts_and_does_not_depend_on_the_batch(decoder, seed, beam, lengths):
    model = make(decoder, seed)
    spectrograms, frames = clips(*lengths)
    found = search(model, spectrograms, frames, 5, beam=beam)
    for i, text in enumerate(found):
        clip = spectrograms[[i], :, : lengths[i]]
        tokens = [START, *text.tokens, *[STOP] * text.has_ended]
        total = 0.0
        for end in range(1, len(tokens)):
            total += log_probabilities(model, clip, None, torch.tensor([tokens[:end]]))[0, tokens[end]].item()
        assert text.score == pytest.approx(total / (len(tokens) - 1), abs=1e-6)
        [alone] = search(model, clip, None, 5, beam=beam)
        assert text.tokens == alone.tokens
    if beam == 1:
        assert [text.tokens for text in found] == [text.tokens for text in search(model, spectrograms, frames, 5)]


@every_decoder
def test_an_exhaustive_beam_search_is_at_least_as_good_as_greedy_search(decoder):
    model, (spectrograms, frames) = make(decoder, seed=2), clips(9, 4)
    best = search(model, spectrograms, frames, 3, beam=100)
    greedy = search(model, spectrograms, frames, 3)
    assert all(one.score >= other.score - 1e-5 for one, other in zip(best, greedy, strict=True))


@every_decoder
@pytest.mark.parametrize("beam", [None, 2])
def test_start_and_padding_are_never_generated(decoder, beam):
    model = make(decoder, seed=0)
    model.decoder.classifier.bias[[START, EMPTY]] = 100.0
    for text in search(model, *clips(9, 4), MAX_LENGTH, beam=beam):
        assert not {START, EMPTY} & set(text.tokens) and math.isfinite(text.score)
