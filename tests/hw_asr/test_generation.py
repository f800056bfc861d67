"""Texts of clips: what is kept between characters changes nothing, and every clip is written as if it were alone."""

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

SIZES = Sizes(encoder_blocks=1, mels=3, width=8, vocabulary=7, text_positions=9)
LONGEST = 9
every_decoder = pytest.mark.parametrize("decoder", ["lstm", "transformer"])
every_kernel = pytest.mark.parametrize("kernels", ["plain", "fast"])


def make(decoder, seed, outer_norm=True, kernels="fast"):
    """A small network that is sure enough of itself to differ from step to step."""
    torch.manual_seed(seed)
    sizes = dataclasses.replace(SIZES, outer_norm=outer_norm)
    model = build_model(decoder=decoder, sizes=sizes, kernels=kernels).eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model


def clips(*lengths):
    """Spectrograms padded with zeros, and how many frames each has."""
    rows = [F.pad(torch.randn(3, length), (0, max(lengths) - length)) for length in lengths]
    return torch.stack(rows), torch.tensor(lengths)


def log_probabilities(model, spectrograms, frames, tokens):
    """Of the token after all of `tokens` (B, L), from the network's forward: (B, V)."""
    scores = model(spectrograms, frames, tokens)[:, -1]
    scores[:, [START, EMPTY]] = -math.inf
    return scores.log_softmax(dim=1)


def search(model, spectrograms, frames, max_length, beam=None):
    return generate(model, spectrograms, frames, InferenceSettings(None, max_length, beam))


def recomputed(model, spectrograms, frames, max_length):
    """Greedy search, clip by clip, with everything computed again for each character: tokens, score, has ended."""
    texts = []
    for i, length in enumerate(frames.tolist()):
        tokens, total = [START], 0.0
        while tokens[-1] != STOP and len(tokens) <= max_length:
            scores = log_probabilities(model, spectrograms[[i], :, :length], None, torch.tensor([tokens]))[0]
            tokens.append(int(scores.argmax()))
            total += scores[tokens[-1]].item()
        texts.append(([t for t in tokens[1:] if t != STOP], total / (len(tokens) - 1), tokens[-1] == STOP))
    return texts


@torch.inference_mode()
@every_decoder
@every_kernel
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    characters=st.integers(1, LONGEST),
    outer_norm=st.booleans(),
)
def test_a_step_scores_what_forward_scores(decoder, kernels, seed, lengths, characters, outer_norm):
    model = make(decoder, seed, outer_norm, kernels)
    spectrograms, frames = clips(*lengths)
    tokens = torch.randint(7, (len(lengths), characters))
    expected = model(spectrograms, frames, tokens)
    prefixes = model.begin(spectrograms, frames)
    for place in range(characters):
        scores = prefixes.step(tokens[:, place])
        torch.testing.assert_close(scores, expected[:, place], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
@every_decoder
@every_kernel
def test_a_state_goes_on_with_the_rows_that_are_asked_for(decoder, kernels):
    model = make(decoder, 3, kernels=kernels)
    spectrograms, frames = clips(9, 4, 6)
    tokens, rows = torch.randint(7, (3, 5)), torch.tensor([2, 0, 2, 1])
    prefixes = model.begin(spectrograms, frames)
    for place in range(3):
        prefixes.step(tokens[:, place])
    prefixes.select(rows)
    after = torch.tensor([4, 5, 6, 4])
    scores = prefixes.step(after)
    longer = torch.cat([tokens[rows, :3], after[:, None]], dim=1)
    expected = model(spectrograms[rows], frames[rows], longer)[:, -1]
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
@every_decoder
@every_kernel
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    max_length=st.integers(1, LONGEST),
)
def test_greedy_search_is_the_one_that_computes_everything_again(decoder, kernels, seed, lengths, max_length):
    model = make(decoder, seed, kernels=kernels)
    spectrograms, frames = clips(*lengths)
    found = search(model, spectrograms, frames, max_length)
    expected = recomputed(model, spectrograms, frames, max_length)
    assert [(written.tokens, written.has_ended) for written in found] == [(text, end) for text, _, end in expected]
    assert [written.score for written in found] == pytest.approx([score for _, score, _ in expected], abs=1e-4)


@torch.inference_mode()
@every_decoder
def test_texts_of_a_batch_end_at_different_times(decoder):
    spectrograms, frames = clips(9, 2, 5, 7, 3, 1, 8, 6)
    for seed in range(300):
        model = make(decoder, seed)
        found = search(model, spectrograms, frames, LONGEST)
        if len({len(written.tokens) for written in found if written.has_ended}) >= 3:
            break
    else:
        pytest.fail("no network whose texts end at different times: the test would say nothing")
    assert [written.tokens for written in found] == [t for t, *_ in recomputed(model, spectrograms, frames, LONGEST)]


@every_decoder
def test_greedy_search_is_the_courses(decoder):
    model = make(decoder, seed=5, outer_norm=False)
    model.decoder.classifier.bias.data[STOP] = -100.0
    spectrograms = asr_notebook.padded([torch.randn(3, length) for length in (9, 4, 6)], frames=12)
    w = model.state_dict()
    expected = asr_notebook.generate(w, spectrograms, START, [START, EMPTY], LONGEST, asr_notebook.lstm_of(w))
    with torch.inference_mode():
        found = search(model, spectrograms, None, LONGEST)
    assert [written.tokens for written in found] == expected.tolist()


@torch.inference_mode()
@every_decoder
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    beam=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
def test_beam_search_finds_what_is_as_probable_as_it_says_and_alone_the_same(decoder, seed, beam, lengths):
    model = make(decoder, seed)
    spectrograms, frames = clips(*lengths)
    found = search(model, spectrograms, frames, 5, beam=beam)
    for i, written in enumerate(found):
        clip = spectrograms[[i], :, : lengths[i]]
        tokens = [START, *written.tokens, *[STOP] * written.has_ended]
        total = 0.0
        for place in range(1, len(tokens)):
            total += log_probabilities(model, clip, None, torch.tensor([tokens[:place]]))[0, tokens[place]].item()
        assert written.score == pytest.approx(total / (len(tokens) - 1), abs=1e-4)
        [alone] = search(model, clip, None, 5, beam=beam)
        assert written.tokens == alone.tokens
    if beam == 1:
        assert [written.tokens for written in found] == [w.tokens for w in search(model, spectrograms, frames, 5)]


@torch.inference_mode()
@every_decoder
def test_a_beam_that_leaves_out_nothing_finds_a_text_at_least_as_good_as_greedy_search_does(decoder):
    model, (spectrograms, frames) = make(decoder, seed=2), clips(9, 4)
    best = search(model, spectrograms, frames, 3, beam=100)
    greedy = search(model, spectrograms, frames, 3)
    assert all(one.score >= other.score - 1e-5 for one, other in zip(best, greedy, strict=True))


@torch.inference_mode()
@every_decoder
@pytest.mark.parametrize("beam", [None, 2])
def test_start_and_padding_are_never_written(decoder, beam):
    model = make(decoder, seed=0)
    model.decoder.classifier.bias[[START, EMPTY]] = 100.0
    for written in search(model, *clips(9, 4), LONGEST, beam=beam):
        assert not {START, EMPTY} & set(written.tokens)
        assert math.isfinite(written.score)
