"""Dropout with the same masks for any number of processes, fast on a CPU."""

import torch
from torch import Tensor, nn

from hw_common.training import distributed


class Dropout(nn.Dropout):
    """`nn.Dropout` whose masks do not depend on the number of processes.

    Under torchrun, every process draws the mask of the whole batch and uses its own rows of the mask. The state of the
    generator therefore does not depend on the number of processes either.

    The mask is drawn from uniform numbers, because torch's `bernoulli_` draws one double at a time on a CPU. That takes
    four times as long and would cost a tenth of the time of a small network's training step.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Applies dropout to `values` (rows of this process, …)."""
        if not self.training or self.p in (0, 1):
            return super().forward(values)
        rows = len(values)
        first, last, count = distributed.latest_rows() if distributed.world_size() > 1 else (0, rows, rows)
        # In float32, because bfloat16 has too few numbers between 0 and 1.
        noise = torch.rand((count, *values.shape[1:]), device=values.device)[first:last]
        return values * noise.ge_(self.p).to(values.dtype).div_(1 - self.p)
