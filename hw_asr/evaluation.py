"""The training loss of a speech recognizer, and its losses, similarities and error rates on a split."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from hw_asr import data, similarity, text
from hw_asr.data import Split
from hw_asr.generation import COUNTED_TOKENS, InferenceSettings, generate
from hw_asr.models import SpeechToText
from hw_common.training.decoding import Hypothesis
from hw_common.training.loop import Row

LABEL_SMOOTHING = 0.1
_BATCH_SIZE = 64


def pad_texts(tokens: Tensor) -> Tensor:
    """Pads `tokens` (B, L) to at least COUNTED_TOKENS per row."""
    return F.pad(tokens, (0, max(0, COUNTED_TOKENS - tokens.shape[1])), value=text.EMPTY)


def cross_entropy(logits: Tensor, targets: Tensor, count_padding: bool) -> Tensor:
    """Cross-entropy with label smoothing, summed over all targets.

    Args:
        logits: (B, L, V).
        targets: (B, L).
        count_padding: whether targets that are EMPTY are included in the sum.
    """
    ignored = -100 if count_padding else text.EMPTY  # no target is -100, so none is ignored
    logits, targets = logits.float().flatten(0, 1), targets.flatten()
    return F.cross_entropy(logits, targets, ignore_index=ignored, label_smoothing=LABEL_SMOOTHING, reduction="sum")


def ctc_loss(logits: Tensor, positions: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """CTC loss (Graves et al., 2006) of the characters between START and STOP, summed over the clips.

    EMPTY is the blank label. Clips that are too short for their text have an infinite loss; they are left out.

    Args:
        logits: (B, T, V), logits of the classifier on the encoder's output.
        positions: (B,), number of encoder positions of each clip.
        tokens: (B, L), beginning with START.
        lengths: (B,), number of tokens of each text, including START and STOP.
    """
    log_probabilities = logits.float().log_softmax(dim=2).transpose(0, 1)
    # Computed on the CPU, since CUDA's CTC gradient is not deterministic.
    inputs = log_probabilities.cpu(), tokens[:, 1:].cpu(), positions.cpu(), lengths.cpu() - 2
    return F.ctc_loss(*inputs, blank=text.EMPTY, reduction="sum", zero_infinity=True).to(logits.device)


def evaluate(model: SpeechToText, clips: Split, inference: InferenceSettings, part: str) -> Row:
    """Evaluates `model` on a split; under torchrun, every process evaluates the whole split.

    The course's loss includes padding: every text is padded to at least COUNTED_TOKENS tokens.

    Args:
        model: a network in eval mode, under inference_mode.
        clips: a split.
        inference: padding and decoding.
        part: prefix of the metrics' names, for example "validation".

    Returns:
        The losses <part>_loss, which includes padding, and <part>_loss_without_padding, the similarities
        <part>_jaccard, <part>_cosine and <part>_damerau_levenshtein, and the error rates <part>_cer and <part>_wer.
    """
    device = next(model.parameters()).device
    shortest_first = sorted(range(len(clips)), key=lambda i: clips.frames[i])
    loss_with_padding = loss_without_padding = 0.0  # sums over the targets
    targets_with_padding = targets_without_padding = 0
    pairs: list[tuple[list[int], Hypothesis]] = []
    for first in range(0, len(shortest_first), _BATCH_SIZE):
        examples = [clips.example(i) for i in shortest_first[first : first + _BATCH_SIZE]]
        spectrograms, frames, tokens, _ = (tensor.to(device) for tensor in data.pad(examples, inference.pad_to))
        padded = pad_texts(tokens)
        inputs, targets = padded[:, :-1], padded[:, 1:]
        logits = model(spectrograms, inference.unpadded(frames), inputs)
        loss_with_padding += cross_entropy(logits, targets, count_padding=True).item()
        targets_with_padding += targets.numel()
        loss_without_padding += cross_entropy(logits, targets, count_padding=False).item()
        targets_without_padding += int((targets != text.EMPTY).sum())
        hypotheses = generate(model, spectrograms, frames, inference)
        pairs += [(reference, hypothesis) for (_, reference), hypothesis in zip(examples, hypotheses, strict=True)]
    metrics = {
        "loss": loss_with_padding / targets_with_padding,
        "loss_without_padding": loss_without_padding / targets_without_padding,
        **compare_texts(pairs),
    }
    return {f"{part}_{name}": value for name, value in metrics.items()}


def compare_texts(pairs: Sequence[tuple[list[int], Hypothesis]]) -> dict[str, float]:
    """Mean similarities and error rates of pairs: a reference (tokens from START to STOP) and a generated text."""
    tokens = [(reference, with_start_and_stop(hypothesis)) for reference, hypothesis in pairs]
    means = {name: sum(like(*pair) for pair in tokens) / len(pairs) for name, like in similarity.SIMILARITIES.items()}
    texts = [(text.decode(reference), text.decode(hypothesis.tokens)) for reference, hypothesis in pairs]
    words = [(reference.split(), hypothesis.split()) for reference, hypothesis in texts]
    return {**means, "cer": similarity.error_rate(texts), "wer": similarity.error_rate(words)}


def with_start_and_stop(hypothesis: Hypothesis) -> list[int]:
    """The tokens that the course compares: if a text does not end with STOP, STOP replaces its last character."""
    return [text.START, *(hypothesis.tokens if hypothesis.has_ended else hypothesis.tokens[:-1]), text.STOP]
