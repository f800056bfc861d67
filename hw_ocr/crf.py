"""A linear-chain conditional random field: forward algorithm, forward-backward and Viterbi (dsl-2019-hw3 Q2.2).

Shapes: B words, padded to T letters, K tags. A mask (B, T) tells letters from padding, which comes last in each word
and has no influence on anything.
"""

import itertools
from typing import Any

import torch
from torch import Tensor, nn

# How far below what no sequence can exceed log Z may lie, so that what `_LogPartition` loses does not matter: exp(-708)
# is the smallest float64, and 36 are its digits.
_REACH = 708 - 2 * 36
_TINY = torch.finfo(torch.float64).tiny
# Words that one step of Viterbi compares at once: with 26 tags, as many as torch leaves to a single thread, because to
# share out so little takes longer than to do it.
_BLOCK = 48


class LinearChainCRF(nn.Module):
    """Scores a word's tags y together: start[y1] + sum of emissions[t, yt] + sum of transitions[yt-1, yt] + end[yT].

    p(y | word) is the softmax of these scores over all K^T sequences (Lafferty, McCallum and Pereira, 2001).

    Args:
        tags: K.
    """

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(tags))
        self.transitions = nn.Parameter(torch.zeros(tags, tags))  # [from, to]
        self.end = nn.Parameter(torch.zeros(tags))

    def log_likelihood(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """The logarithm of p(tags | word), (B,).

        Args:
            emissions: (B, T, K) float.
            tags: (B, T) int64; anything in the padding.
            mask: (B, T) bool.

        Raises:
            ValueError: shapes do not go together, or a mask has a gap or no letter.
        """
        return self.score(emissions, tags, mask) - self.log_partition(emissions, mask)

    def score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """The score of `tags`, (B,): what the softmax is taken of. Arguments as for `log_likelihood`."""
        emissions = self._checked(emissions, mask)
        if tags.shape != mask.shape:
            raise ValueError(f"tags {tuple(tags.shape)} and mask {tuple(mask.shape)} differ in shape")
        tags = tags.masked_fill(~mask, 0)
        last = tags.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]
        of_letters = emissions.gather(2, tags[:, :, None])[:, :, 0]
        of_pairs = self.transitions[tags[:, :-1], tags[:, 1:]].masked_fill(~mask[:, 1:], 0)
        return self.start[tags[:, 0]] + of_letters.sum(1) + of_pairs.sum(1) + self.end[last]

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The logarithm of Z, the sum of exp(score) over all sequences of tags, (B,).

        Arguments as for `log_likelihood`.
        """
        emissions = self._checked(emissions, mask)
        log_z = _LogPartition.apply(emissions, self.start, self.transitions, self.end, mask)
        with torch.no_grad():
            # What no sequence can exceed: the best start, the best tag of each letter, the best transitions and end.
            bound = emissions.amax(2).sum(1) + self.start.max() + self.end.max()
            bound += (mask.sum(1) - 1) * self.transitions.max()
            safe = (log_z > bound - _REACH).all()
        return log_z if safe else self._log_partition_of_extreme_scores(emissions, mask)

    def _log_partition_of_extreme_scores(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """As `log_partition`, by the textbook's recursion: exact whatever the scores, and slower."""
        alpha = self.start + emissions[:, 0]
        for t in range(1, mask.shape[1]):
            following = (alpha[:, :, None] + self.transitions).logsumexp(1) + emissions[:, t]
            alpha = torch.where(mask[:, t, None], following, alpha)
        return (alpha + self.end).logsumexp(1)

    def marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """p(yt = k | word) of each letter, (B, T, K), 0 in the padding. Arguments as for `log_likelihood`.

        They are the derivatives of log Z by the emissions: differentiating the forward algorithm is the backward one.
        """
        with torch.inference_mode(False), torch.enable_grad():
            emissions = emissions.detach().clone().requires_grad_()
            (marginals,) = torch.autograd.grad(self.log_partition(emissions, mask.clone()).sum(), emissions)
        return marginals

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The tags with the highest score, (B, T) int64, 0 in the padding (Viterbi). Arguments as for `log_likelihood`.

        No backpointers are kept: the way back asks for one tag per word where it came from, the way there would have to
        ask for all K. Words are the last dimension, which makes maxima over tags fast.
        """
        best = self._checked(emissions, mask).permute(1, 2, 0).contiguous()  # (T, K, B)
        best[0] += self.start[:, None]  # from here on: score of the best beginning that ends in each tag
        transitions = self.transitions[:, :, None]
        for block in best.split(_BLOCK, dim=2):
            for before, here in itertools.pairwise(block):
                here += (before[:, None] + transitions).amax(0)
        stop = len(self.start)  # stands for the end, and for padding
        onwards = torch.cat([self.transitions, self.end[:, None]], dim=1)  # (K, K + 1)
        padding = ~mask.t()
        tags = torch.full((len(best) + 1, len(mask)), stop, device=mask.device)
        for t in range(len(best) - 1, -1, -1):
            _, came_from = (best[t] + onwards.index_select(1, tags[t + 1])).max(0)  # argmax takes twice as long
            tags[t] = came_from.masked_fill_(padding[t], stop)
        return tags[:-1].t().masked_fill(~mask, 0)

    def _checked(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The emissions, 0 in the padding, at least as precise as the CRF's own scores: sums of bfloat16 are not."""
        tags = len(self.start)
        if emissions.ndim != 3 or emissions.shape[2] != tags:
            raise ValueError(f"emissions {tuple(emissions.shape)}, expected (words, letters, {tags})")
        if mask.shape != emissions.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(f"mask {tuple(mask.shape)} {mask.dtype}, expected {tuple(emissions.shape[:2])} torch.bool")
        if mask.shape[1] == 0 or not mask[:, 0].all() or (mask[:, 1:] > mask[:, :-1]).any():
            raise ValueError("a word must begin at the first place and have no gap; its padding comes last")
        precise = emissions.to(torch.promote_types(emissions.dtype, self.start.dtype))
        return precise.masked_fill(~mask[:, :, None], 0)


class _LogPartition(torch.autograd.Function):
    """The forward algorithm for log Z, the backward algorithm for its gradient.

    Sums over the tag before are products with the matrix exp(transitions) instead of logsumexps over (B, K, K), and the
    gradient is written out instead of left to autograd: together several times as fast. In return an addend that is
    exp(-708) times as large as the largest possible one is lost, which is why it is float64 and `_REACH` is checked.
    """

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor) -> Tensor:
        scores = emissions.permute(1, 2, 0).to(torch.float64).contiguous()  # (T, K, B)
        highest = transitions.max()
        factors = (transitions.double() - highest).exp()  # (K, K), at most 1
        alphas = torch.empty_like(scores)  # log of the sum over all beginnings that end in each tag, less t * highest
        shares, sums = torch.empty_like(scores[1:]), torch.empty_like(scores[1:])
        torch.add(scores[0], start[:, None], out=alphas[0])
        for t in range(1, len(scores)):
            largest = alphas[t - 1].amax(0)
            torch.exp(alphas[t - 1] - largest, out=shares[t - 1])
            torch.mm(factors.t(), shares[t - 1], out=sums[t - 1])
            torch.add(sums[t - 1].log().add_(largest), scores[t], out=alphas[t])
        lasts, words = mask.sum(1) - 1, torch.arange(len(mask), device=mask.device)
        finals = alphas[lasts, :, words] + end  # (B, K)
        log_z = finals.logsumexp(1)
        ctx.save_for_backward(factors, shares, sums.clamp_min_(_TINY), (finals - log_z[:, None]).exp_(), lasts)
        return (log_z + lasts * highest).to(emissions.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        factors, shares, sums, of_lasts, lasts = ctx.saved_tensors
        words = torch.arange(len(lasts), device=lasts.device)
        of_lasts = of_lasts * gradient[:, None]
        posterior = of_lasts.new_zeros((len(sums) + 1, *of_lasts.t().shape))  # p(yt = k) times the word's gradient
        posterior[lasts, :, words] = of_lasts
        flows = torch.empty_like(sums)
        for t in range(len(sums) - 1, -1, -1):
            torch.div(posterior[t + 1], sums[t], out=flows[t])
            posterior[t].addcmul_(shares[t], factors @ flows[t])
        pairs = factors * torch.bmm(shares, flows.transpose(1, 2)).sum(0)
        gradients = posterior.permute(2, 0, 1), posterior[0].sum(1), pairs, of_lasts.sum(0)
        return *(part.to(gradient.dtype) for part in gradients), None
