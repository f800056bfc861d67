"""The number of CPU threads of a training run, chosen from the work in a step.

Threads wait for one another dozens of times in each step, and they wait by spinning before they sleep. For little work,
this takes longer than the threads save, and much longer when other programs use the cores.
"""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hw_common.runs import launch
from hw_common.training import distributed
from hw_common.training.batches import Tensors
from hw_common.training.determinism import generator_states, restore_generators
from hw_common.training.loop import LossFunction, Training

# Multiply-adds of a step's forward pass for each thread, measured by `python benchmarks/threads.py`. The number of
# threads is rounded, so a second one is used from 13.5 million on.
WORK_PER_THREAD = 9e6


def threads_for(training: Training, device: torch.device) -> int:
    """Returns the number of threads for the steps of `training`.

    On a CPU, it is one for each WORK_PER_THREAD multiply-adds, at least 1 and at most `launch.most_threads()`; on a
    GPU, it is that maximum. Processes that train together use their mean work, so it must be called in all of them.
    """
    most = launch.most_threads()
    if device.type != "cpu" or (most == 1 and distributed.world_size() == 1):
        return most
    batch = next(iter(training.batches.epoch(0)))
    own = float(count_multiply_adds(training.model, training.loss_function, batch))
    [work] = distributed.sum_over_processes(torch.tensor([own], dtype=torch.float64)).tolist()
    return worth(work / distributed.world_size(), most, WORK_PER_THREAD)


def worth(multiply_adds: float, most: int, work_per_thread: float) -> int:
    """The number of threads, from 1 to `most`, for steps whose forward pass has `multiply_adds`."""
    return max(1, min(most, round(multiply_adds / work_per_thread)))


def count_multiply_adds(model: nn.Module, loss_function: LossFunction, batch: Tensors) -> int:
    """Counts the multiply-adds of the forward pass in matrix products, convolutions and LSTMs.

    It computes the loss of the batch's first row in eval mode, and multiplies the count by the number of rows. The
    model and the random generators do not change.
    """
    generators, mode = generator_states(), model.training
    model.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_LSTM) as counter:
            loss_function(model, tuple(tensor[:1] for tensor in batch))
    finally:
        model.train(mode)
        restore_generators(generators)
    return counter.get_total_flops() // 2 * len(batch[0])


def _lstm_flops(
    inputs: torch.Size, weight_ih: torch.Size, weight_hh: torch.Size, *others: object, **named: object
) -> int:
    """Floating-point operations of one direction of one LSTM layer; `inputs` has the shape (L, B, features)."""
    return 2 * inputs[0] * inputs[1] * (weight_ih.numel() + weight_hh.numel())


_LSTM = {torch.ops.aten.mkldnn_rnn_layer: _lstm_flops}
