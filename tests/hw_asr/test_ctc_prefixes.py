"""Joint CTC and attention decoding; the oracle sums over all alignments and, for the search, tries all texts."""

import itertools
import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_asr import evaluation, train
from hw_asr.ctc_prefixes import CTCPrefixes, JointScores
from hw_asr.generation import InferenceSettings, generate
from hw_asr.kernels import build_model
from hw_asr.presets import Sizes
from hw_asr.text import EMPTY, START, STOP
from hw_common.runs.errors import UserError
from hw_common.training.decoding import SpecialTokens, beam_search

LABELS = 6
CHARACTERS = (3, 4, 5)


def text_probabilities(probabilities):
    """Text -> the sum of the probabilities (T, V) of its alignments."""
    texts = defaultdict(float)
    for path in itertools.product(range(LABELS), repeat=len(probabilities)):
        collapsed = tuple(label for label, _ in itertools.groupby(path) if label != EMPTY)
        texts[collapsed] += math.prod(probabilities[t][label] for t, label in enumerate(path))
    return texts


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_prefixes_have_the_probability_of_all_texts_that_begin_with_them(seed, positions):
    torch.manual_seed(seed)
    logits = 2 * torch.randn(1, 4, LABELS)
    texts = text_probabilities(logits[0, :positions].softmax(1).tolist())
    for prefix in [p for length in range(4) for p in itertools.product(CHARACTERS, repeat=length)]:
        prefixes = CTCPrefixes(logits, torch.tensor([positions]))
        for token in (START, *prefix):
            scores = prefixes.step(torch.tensor([token]))[0].exp().tolist()
        assert scores[STOP] == pytest.approx(texts[prefix], abs=1e-6)
        for token in CHARACTERS:
            longer = (*prefix, token)
            expected = sum(p for text, p in texts.items() if text[: len(longer)] == longer)
            assert scores[token] == pytest.approx(expected, abs=1e-6)


class Attention:
    """Log-probabilities that depend on the position alone; the search must reorder nothing but the CTC state."""

    def __init__(self, scores):
        self.scores, self.position = scores, 0

    def step(self, tokens):
        self.position += 1
        return self.scores[self.position - 1].repeat(len(tokens), 1)

    def select(self, rows):
        pass


@pytest.mark.parametrize("weight", [0.3, 0.9])
def test_a_wide_search_ranks_all_texts_by_the_joint_score(weight):
    torch.manual_seed(3)
    logits, attention = 2 * torch.randn(2, 4, LABELS), torch.randn(4, LABELS)
    attention[:, [START, EMPTY]] = -math.inf
    attention = attention.log_softmax(1)
    joint = JointScores(Attention(attention), CTCPrefixes(logits, torch.tensor([4, 3])), weight)
    found = beam_search(joint, 2, SpecialTokens(START, STOP, EMPTY), 200, 4, torch.device("cpu"))
    for row, positions in enumerate((4, 3)):
        texts = text_probabilities(logits[row, :positions].softmax(1).tolist())
        expected = {}
        for text in [t for length in range(4) for t in itertools.product(CHARACTERS, repeat=length)]:
            total = sum(attention[i, token].item() for i, token in enumerate((*text, STOP)))
            if texts[text]:
                score = (1 - weight) * total + weight * math.log(texts[text])
                expected[text] = score / (len(text) + 1)
        ended = {tuple(h.tokens): h.score for h in found[row] if h.has_ended}
        assert ended == pytest.approx(expected, abs=1e-4)
        ranked = [h.score for h in found[row]]
        assert ranked == sorted(ranked, reverse=True)


@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_generated_texts_have_the_joint_score_of_the_clip_without_padding(kernels):
    torch.manual_seed(0)
    sizes = Sizes(encoder_blocks=1, mels=3, width=8, vocabulary=7, text_positions=9, ctc=True)
    model = build_model("sheet", "lstm", sizes, kernels).eval()
    frames, spectrograms = torch.tensor([9, 6]), torch.randn(2, 3, 9)
    with torch.inference_mode():
        inference = InferenceSettings(None, max_length=8, beam=4, ctc_weight=0.4)
        for i, found in enumerate(generate(model, spectrograms, frames, inference)):
            clip, tokens = spectrograms[[i], :, : frames[i]], torch.tensor([[START, *found.tokens, STOP]])
            attention = model(clip, None, tokens[:, :-1])
            attention[:, :, [START, EMPTY]] = -math.inf
            attention = attention.log_softmax(2).gather(2, tokens[:, 1:, None]).sum()
            ctc = model.ctc(model.encoder(clip)[0])
            ctc_loss = evaluation.ctc_loss(ctc, torch.tensor([ctc.shape[1]]), tokens, torch.tensor([tokens.shape[1]]))
            expected = (0.6 * attention - 0.4 * ctc_loss) / (len(found.tokens) + 1)
            assert found.has_ended and found.score == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.parametrize("flags", [["--beam", "5"], ["--recipe", "best"], ["--ctc", "0.3"]])
def test_the_weight_needs_a_beam_search_and_a_ctc_classifier(flags):
    with pytest.raises(UserError, match="--ctc_weight needs --beam and --ctc"):
        train.COMMAND.parse(["--dataset", "sample", "--ctc_weight", "0.3", *flags])
