"""A linear-chain conditional random field: forward algorithm, marginals and Viterbi decoding (dsl-2019-hw3 Q2.2).

Shapes: B words, padded to T letters, K tags. A mask (B, T) is True at letters and False in the padding. The padding
comes last in each word, and values in the padding do not affect any result. In formulas about one word x, T is the
word's own number of letters.
"""

import torch
from torch import Tensor, nn


class LinearChainCRF(nn.Module):
    """A distribution over all K^T tag sequences y of a word x (Lafferty, McCallum and Pereira, 2001).

    The score of a sequence is the sum of its letters' emissions and of the transitions between neighbouring tags:

        score(x, y) = start[y_1] + Σ_(t=1…T) emissions[t, y_t] + Σ_(t=2…T) transitions[y_(t-1), y_t] + end[y_T]

    Its probability is the softmax of the scores: p(y | x) = exp(score(x, y)) / Z(x), Z(x) = Σ_y exp(score(x, y)).
    Training minimizes -log p(y | x) of the right sequences; prediction takes the sequence with the highest score.

    The emissions are the outputs of a network such as the BiLSTM. Without a CRF, the BiLSTM decides on each letter
    separately: given the images, the predicted letters are independent of each other, so it cannot express that u
    follows q. The transitions of the CRF can, because its softmax is over whole words; a transition that never occurs
    gets a low score. The BiLSTM stays useful, because it computes each emission from all images of the word.

    Args:
        tags: K, the number of tags.
    """

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(tags))
        self.transitions = nn.Parameter(torch.zeros(tags, tags))  # [from, to]
        self.end = nn.Parameter(torch.zeros(tags))

    def log_likelihood(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """The log-likelihood log p(y | x) = score(x, y) - log Z(x) of each word, (B,).

        Args:
            emissions: (B, T, K) float, the network's scores of each letter.
            tags: (B, T) int64, the sequences y; the values in the padding are ignored.
            mask: (B, T) bool.

        Raises:
            ValueError: the shapes do not match, or the mask of a word has a gap or is False everywhere.
        """
        return self.score(emissions, tags, mask) - self.log_partition(emissions, mask)

    def score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """The score of the given tags of each word, (B,). Arguments and errors are those of `log_likelihood`."""
        emissions = self._check(emissions, mask)
        if tags.shape != mask.shape:
            raise ValueError(f"tags {tuple(tags.shape)} and mask {tuple(mask.shape)} differ in shape")
        tags = tags.masked_fill(~mask, 0)  # (B, T)
        last_tag = tags.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]  # (B,)
        emission_scores = emissions.gather(2, tags[:, :, None])[:, :, 0]  # (B, T)
        transition_scores = self.transitions[tags[:, :-1], tags[:, 1:]].masked_fill(~mask[:, 1:], 0)  # (B, T - 1)
        return self.start[tags[:, 0]] + emission_scores.sum(1) + transition_scores.sum(1) + self.end[last_tag]

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The log-partition function log Z(x) of each word, (B,), by the forward algorithm.

        α_t(k) is the logarithm of the sum of exp(score) over all beginnings y_1 … y_t with y_t = k:

            α_1(k) = start[k] + emissions[1, k]
            α_t(k) = emissions[t, k] + logsumexp_j (α_(t-1)(j) + transitions[j, k])
            log Z  = logsumexp_k (α_T(k) + end[k])

        Beginnings with the same last tag continue in the same way, so K² terms for each letter are enough to sum over
        K^T sequences.

        Arguments and errors are those of `log_likelihood`.
        """
        emissions = self._check(emissions, mask)
        # α of the first letter. shape: (B, K)
        alpha = self.start + emissions[:, 0]
        for t in range(1, mask.shape[1]):
            # α of tag j of the previous letter, plus the transition from j to k. shape: (B, K, K) as [b, j, k]
            pair_scores = alpha[:, :, None] + self.transitions
            # The sum over j, and the score of tag k for this letter. shape: (B, K)
            next_alpha = pair_scores.logsumexp(1) + emissions[:, t]
            # A word that has already ended keeps its α. shape: (B, K)
            alpha = torch.where(mask[:, t, None], next_alpha, alpha)
        # The sum over the last tag. shape: (B,)
        return (alpha + self.end).logsumexp(1)

    def marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The marginal probability p(y_t = k | x) of each letter and tag, (B, T, K); 0 in the padding.

        The marginal probabilities are the derivatives of log Z with respect to the emissions. Backpropagation through
        the forward algorithm computes them; it is equivalent to the backward algorithm.

        Arguments and errors are those of `log_likelihood`.
        """
        with torch.inference_mode(False), torch.enable_grad():
            # Tensors that were made in inference mode cannot be used here, so both are copied.
            emissions = emissions.detach().clone().requires_grad_()
            (marginals,) = torch.autograd.grad(self.log_partition(emissions, mask.clone()).sum(), emissions)
        return marginals

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The tag sequence with the highest score of each word, (B, T) int64, 0 in the padding (Viterbi).

        δ_t(k) is the highest score of all beginnings y_1 … y_t with y_t = k, and the backpointer ψ_t(k) is the tag
        y_(t-1) of that beginning:

            δ_1(k) = start[k] + emissions[1, k]
            δ_t(k) = emissions[t, k] + max_j (δ_(t-1)(j) + transitions[j, k]),   ψ_t(k) = the maximizing j
            y_T    = argmax_k (δ_T(k) + end[k]),   y_(t-1) = ψ_t(y_t)

        Arguments and errors are those of `log_likelihood`.
        """
        emissions = self._check(emissions, mask)
        same_tag = torch.arange(len(self.start), device=mask.device)
        # δ of the first letter. shape: (B, K)
        delta = self.start + emissions[:, 0]
        backpointers = []
        for t in range(1, mask.shape[1]):
            # δ of tag j of the previous letter, plus the transition from j to k. shape: (B, K, K) as [b, j, k]
            pair_scores = delta[:, :, None] + self.transitions
            # The best j for each k. shapes: (B, K), (B, K)
            best, backpointer = pair_scores.max(1)
            # A word that has already ended keeps its δ, and its backpointers keep the tag. shapes: (B, K), (B, K)
            delta = torch.where(mask[:, t, None], best + emissions[:, t], delta)
            backpointers.append(torch.where(mask[:, t, None], backpointer, same_tag))
        # The best last tag; then each backpointer gives the previous tag. shape of each: (B,)
        tags = [(delta + self.end).argmax(1)]
        for backpointer in reversed(backpointers):
            tags.append(backpointer.gather(1, tags[-1][:, None])[:, 0])
        # shape: (B, T)
        return torch.stack(tags[::-1], dim=1).masked_fill(~mask, 0)

    def _check(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Checks the shapes; returns the emissions with 0 in the padding, in at least the parameters' precision."""
        tags = len(self.start)
        if emissions.ndim != 3 or emissions.shape[2] != tags:
            raise ValueError(f"emissions {tuple(emissions.shape)}, expected (words, letters, {tags})")
        if mask.shape != emissions.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(f"mask {tuple(mask.shape)} {mask.dtype}, expected {tuple(emissions.shape[:2])} torch.bool")
        if mask.shape[1] == 0 or not mask[:, 0].all() or (mask[:, 1:] > mask[:, :-1]).any():
            raise ValueError("the mask of a word must begin with True and have no gap; the padding comes last")
        precise = emissions.to(torch.promote_types(emissions.dtype, self.start.dtype))
        return precise.masked_fill(~mask[:, :, None], 0)
