"""The linear-chain CRF of `crf.py`, computed faster, with the same parameters and results.

The forward algorithm sums over the previous tag with a matrix product instead of a logsumexp over (B, K, K). Its
gradient is computed by a hand-written backward algorithm instead of autograd. Viterbi decoding stores no backpointers.
B, T and K are those of `crf.py`. Internally, words are the last dimension, (T, K, B): sums and maxima over tags are
then computed for many words at once, in contiguous memory.
"""

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from hw_ocr.crf import LinearChainCRF

# `_LogPartition` loses at most exp(bound - 708) of Z: exp(-708) is the smallest normal float64, and `bound` is the
# upper bound of log Z in `log_partition`. A loss below exp(-36) Z is harmless, because it is less than the
# rounding of float64. With another factor of exp(-36) as a margin, log Z must be at least bound - 708 + 2·36.
_LARGEST_GAP = 708 - 2 * 36
_TINY = torch.finfo(torch.float64).tiny
# Number of words that one step of Viterbi decoding processes at once on a CPU. With 26 tags, it is the largest number
# for which torch uses one thread; starting several threads for so little work would take longer.
_BLOCK = 48


class FastLinearChainCRF(LinearChainCRF):
    """`LinearChainCRF` with faster `log_partition` and `decode`; parameters, arguments and results are the same."""

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The log-partition function of each word, (B,); falls back on that of `crf.py` for extreme scores."""
        emissions = self._check(emissions, mask)
        log_z = _LogPartition.apply(emissions, self.start, self.transitions, self.end, mask)
        with torch.no_grad():
            # Upper bound of log Z: K^T sequences with the best start, tags, transitions and end.
            bound = emissions.amax(2).sum(1) + self.start.max() + self.end.max()
            bound += (mask.sum(1) - 1) * self.transitions.max() + mask.sum(1) * math.log(len(self.start))
            precise = (log_z > bound - _LARGEST_GAP).all()
        return log_z if precise else super().log_partition(emissions, mask)

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The tag sequence with the highest score of each word, (B, T) int64, 0 in the padding.

        `crf.py` computes a backpointer for each of the K tags of each letter and then uses one of them. Here δ is
        stored, and only the backpointer of the best tag is computed, from the last letter to the first.
        """
        delta = self._check(emissions, mask).permute(1, 2, 0).contiguous()  # (T, K, B), the emissions at first
        delta[0] += self.start[:, None]  # δ_1; each step of the loop turns the next emissions into δ_t
        transitions = self.transitions[:, :, None]
        for block in delta.split(_BLOCK if delta.device.type == "cpu" else len(mask), dim=2):
            for previous, current in itertools.pairwise(block):
                current += (previous[:, None] + transitions).amax(0)
        end_tag = len(self.start)  # tag K stands for the end of the word, in the padding too
        transitions_and_end = torch.cat([self.transitions, self.end[:, None]], dim=1)  # (K, K + 1)
        padding = ~mask.t()
        tags = torch.full((len(delta) + 1, len(mask)), end_tag, device=mask.device)
        for t in range(len(delta) - 1, -1, -1):
            # max is twice as fast as argmax here.
            _, backpointer = (delta[t] + transitions_and_end.index_select(1, tags[t + 1])).max(0)  # (B,)
            tags[t] = backpointer.masked_fill_(padding[t], end_tag)
        return tags[:-1].t().masked_fill(~mask, 0)


class _LogPartition(torch.autograd.Function):
    """Computes log Z by the forward algorithm and its gradient by the backward algorithm.

    With the largest transition m and a = max_j α_(t-1)(j), the forward algorithm's sum over the previous tag is

        Σ_j exp(α_(t-1)(j) + transitions[j, k]) = exp(a + m) Σ_j exp(α_(t-1)(j) - a) exp(transitions[j, k] - m)

    The last sum is a product with a (K, K) matrix. Its factors are at most 1 and can underflow, so it is computed in
    float64, and the caller checks that no term of importance underflowed.
    """

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor) -> Tensor:
        """Arguments as in `LinearChainCRF.log_partition`, with the parameters; returns log Z, (B,)."""
        scores = emissions.permute(1, 2, 0).to(torch.float64).contiguous()  # (T, K, B)
        largest_transition = transitions.max()
        exp_transitions = (transitions.double() - largest_transition).exp()  # (K, K), at most 1
        alpha = torch.empty_like(scores)  # (T, K, B): α_t minus (t - 1) times the largest transition
        exp_alpha = torch.empty_like(scores[1:])  # (T - 1, K, B): exp(α_(t-1) - a), at most 1
        sums = torch.empty_like(scores[1:])  # (T - 1, K, B): sums over the previous tag
        torch.add(scores[0], start[:, None], out=alpha[0])
        for t in range(1, len(scores)):
            largest_alpha = alpha[t - 1].amax(0)  # (B,)
            torch.exp(alpha[t - 1] - largest_alpha, out=exp_alpha[t - 1])
            torch.mm(exp_transitions.t(), exp_alpha[t - 1], out=sums[t - 1])
            torch.add(sums[t - 1].log().add_(largest_alpha), scores[t], out=alpha[t])
        last, words = mask.sum(1) - 1, torch.arange(len(mask), device=mask.device)
        last_alpha = alpha[last, :, words] + end  # (B, K)
        log_z = last_alpha.logsumexp(1)
        last_marginals = (last_alpha - log_z[:, None]).exp_()  # (B, K): p(y_T = k | x)
        ctx.save_for_backward(exp_transitions, exp_alpha, sums.clamp_min_(_TINY), last_marginals, last)
        return (log_z + last * largest_transition).to(emissions.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_log_z: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of log Z with respect to emissions, start, transitions and end, times `grad_log_z`, (B,).

        p(y_(t-1) = j, y_t = k | x) is exp_alpha[j] · exp_transitions[j, k] · beta[k], where beta[k] is
        p(y_t = k | x) / sums[k]. The sum over k is the marginal probability p(y_(t-1) = j | x).
        """
        exp_transitions, exp_alpha, sums, last_marginals, last = ctx.saved_tensors
        words = torch.arange(len(last), device=last.device)
        grad_end = last_marginals * grad_log_z[:, None]  # (B, K)
        grad_emissions = grad_end.new_zeros((len(sums) + 1, *grad_end.t().shape))  # (T, K, B)
        grad_emissions[last, :, words] = grad_end
        beta = torch.empty_like(sums)  # (T - 1, K, B)
        for t in range(len(sums) - 1, -1, -1):
            torch.div(grad_emissions[t + 1], sums[t], out=beta[t])
            grad_emissions[t].addcmul_(exp_alpha[t], exp_transitions @ beta[t])
        grad_transitions = exp_transitions * torch.bmm(exp_alpha, beta.transpose(1, 2)).sum(0)
        gradients = grad_emissions.permute(2, 0, 1), grad_emissions[0].sum(1), grad_transitions, grad_end.sum(0)
        return *(part.to(grad_log_z.dtype) for part in gradients), None
