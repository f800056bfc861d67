"""Greedy and beam search against the scores of all possible captions."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_caption.decoding import CaptionGenerator, attention_weights, beam_search, greedy
from hw_caption.models import Captioner, Decoder, DecoderWithAttention
from hw_caption.vocabulary import END, PAD, SPECIALS, START, UNKNOWN, Vocabulary

WORDS = range(UNKNOWN + 1, UNKNOWN + 4)
MAX_LENGTH = 4
every_decoder = pytest.mark.parametrize("kind", [Decoder, DecoderWithAttention])


def make(kind, seed, count=1):
    """Decoders with large weights, so that their predictions differ from step to step."""
    torch.manual_seed(seed)
    decoders = [kind(vocab_size=WORDS.stop, embed_dim=3, decoder_dim=4, encoder_dim=5).eval() for _ in range(count)]
    for parameter in itertools.chain.from_iterable(decoder.parameters() for decoder in decoders):
        parameter.data.mul_(3)
    return decoders


def features(images=3):
    return torch.randn(images, 6, 5)


def score(decoders, region, caption):
    """Mean log-probability of a caption (with END unless cut off), from the sheet's forward, word by word."""
    states = [decoder.begin(region) for decoder in decoders]
    total = 0.0
    for before, word in itertools.pairwise([START, *caption]):
        probabilities = []
        for i, decoder in enumerate(decoders):
            scores, states[i] = decoder(torch.tensor([before]), states[i])
            scores[0, [PAD, START, UNKNOWN]] = -math.inf
            probabilities.append(scores[0].softmax(dim=0)[word].item())
        total += math.log(sum(probabilities) / len(decoders))
    return total / len(caption)


def all_captions(max_length):
    """All captions of at most `max_length` words, END included; they end with END unless they are cut off."""
    for length in range(max_length):
        for words in itertools.product(WORDS, repeat=length):
            yield [*words, END]
    yield from map(list, itertools.product(WORDS, repeat=max_length))


def without_end(caption):
    return [word for word in caption if word != END]


@torch.inference_mode()
@every_decoder
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_that_leaves_out_nothing_finds_the_best_of_all_captions(kind, count, seed):
    decoders, regions = make(kind, seed, count), features(2)
    max_length = 3
    found = beam_search(decoders, regions, beam=200, max_length=max_length)
    for region, captions in zip(regions, found, strict=True):
        ranked = sorted(((score(decoders, region[None], c), c) for c in all_captions(max_length)), reverse=True)
        assert len(captions) == len(ranked) == 1 + 3 + 9 + 27
        assert [caption.score for caption in captions] == pytest.approx([value for value, _ in ranked], abs=1e-4)
        assert captions[0].tokens == without_end(ranked[0][1])


def by_hand(decoders, region, beam, max_length):
    """Beam search in plain Python: no tensors, no batch."""
    kept = [(0.0, [])]
    for _ in range(max_length):
        candidates = []
        for value, caption in kept:
            if END in caption:
                candidates.append((value, caption))
            else:
                following = ([*caption, word] for word in (END, *WORDS))
                candidates += [(score(decoders, region, longer), longer) for longer in following]
        kept = sorted(candidates, key=lambda pair: -pair[0])[:beam]
    return kept


@torch.inference_mode()
@every_decoder
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), beam=st.integers(1, 4), count=st.integers(1, 2))
def test_beam_search_is_the_one_in_plain_python(kind, seed, beam, count):
    decoders, regions = make(kind, seed, count), features(2)
    for region, captions in zip(regions, beam_search(decoders, regions, beam, MAX_LENGTH), strict=True):
        expected = by_hand(decoders, region[None], beam, MAX_LENGTH)
        assert [caption.tokens for caption in captions] == [without_end(caption) for _, caption in expected]
        assert [caption.score for caption in captions] == pytest.approx([value for value, _ in expected], abs=1e-4)


@torch.inference_mode()
@every_decoder
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 5), max_length=st.integers(1, 6), count=st.integers(1, 2))
def test_a_beam_of_one_is_greedy(kind, seed, images, max_length, count):
    decoders, regions = make(kind, seed, count), features(images)
    one = [captions[0] for captions in beam_search(decoders, regions, 1, max_length)]
    most_probable = greedy(decoders, regions, max_length)
    assert [caption.tokens for caption in one] == [caption.tokens for caption in most_probable]
    assert [caption.score for caption in one] == pytest.approx([caption.score for caption in most_probable], abs=1e-5)


@torch.inference_mode()
@every_decoder
def test_greedy_takes_the_most_probable_word_each_time(kind):
    decoders, regions = make(kind, seed=1), features(4)
    for region, caption in zip(regions, greedy(decoders, regions, MAX_LENGTH), strict=True):
        [(value, expected)] = by_hand(decoders, region[None], 1, MAX_LENGTH)
        assert caption.tokens == without_end(expected)
        assert caption.score == pytest.approx(value, abs=1e-5)


@torch.inference_mode()
@every_decoder
def test_an_images_caption_does_not_depend_on_the_others(kind):
    decoders, regions = make(kind, seed=2), 5 * features(5)
    together = beam_search(decoders, regions, 3, MAX_LENGTH)
    alone = [beam_search(decoders, region[None], 3, MAX_LENGTH)[0] for region in regions]
    for captions, others in zip(together, alone, strict=True):
        assert [caption.tokens for caption in captions] == [caption.tokens for caption in others]
    assert len({tuple(captions[0].tokens) for captions in together}) > 1  # otherwise, the test would check nothing


@torch.inference_mode()
def test_attention_weights_of_a_caption_are_those_of_its_steps():
    decoders, regions, words = make(DecoderWithAttention, seed=4, count=2), features(1), [5, 4, 6]
    states = [decoder.begin(regions) for decoder in decoders]
    found = attention_weights(decoders, regions, words)
    assert found.shape == (3, 6)
    for before, of_word in zip([START, 5, 4], found, strict=True):
        weights = []
        for i, decoder in enumerate(decoders):
            states[i] = decoder.next_state(torch.tensor([before]), states[i])
            weights.append(states[i].attention_weights[0])
        torch.testing.assert_close(of_word, sum(weights) / 2)
    assert attention_weights(decoders, regions, []).shape == (0, 6)


@torch.inference_mode()
def test_decoders_without_attention_have_no_weights():
    assert attention_weights(make(Decoder, seed=0), features(1), [4, 5]) is None


@torch.inference_mode()
@every_decoder
def test_special_words_are_never_written(kind):
    [decoder], regions = make(kind, seed=0), features(3)
    decoder.fc.bias.data[[PAD, START, UNKNOWN]] = 100.0
    captions = [*greedy([decoder], regions, 6), *itertools.chain(*beam_search([decoder], regions, 4, 6))]
    assert {word for caption in captions for word in caption.tokens} <= set(WORDS)
    assert all(math.isfinite(caption.score) for caption in captions)


@torch.inference_mode()
@every_decoder
def test_a_caption_may_be_empty(kind):
    [decoder] = make(kind, seed=0)
    decoder.fc.bias.data[END] = 100.0
    assert greedy([decoder], features(1), 5)[0].tokens == beam_search([decoder], features(1), 2, 5)[0][0].tokens == []


def test_consensus_decoding_without_training_captions_is_refused():
    captioner = Captioner(torch.nn.Identity(), make(Decoder, seed=0))
    generator = CaptionGenerator(captioner, Vocabulary((*SPECIALS, "a", "b", "c")), MAX_LENGTH, beam=2)
    inputs = SimpleNamespace(take=lambda names, views: features(len(names)))
    assert len(generator.generate(inputs, ["one", "two"], "greedy")) == 2
    with pytest.raises(ValueError, match="consensus decoding needs training images"):
        generator.generate(inputs, ["one"], "consensus")
