"""The four functions of eecs545-w20-hw4 Q5 under the sheet's names, used with data.py as shown here.

>>> images = load("hymenoptera", Path("data"))
>>> train, val = training_batches(images.train, 224, 4, seed=42), evaluation_batches(images.val, 224)
>>> model = finetune(load_pretrained("imagenet", Path("data")), classes=2)  # or freeze(…)
>>> fitted = train_model(model, train, val, Recipe())
>>> figure = visualize_model(model, val, images.classes)
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_common.training import distributed
from hw_common.training.batches import Batches
from hw_common.training.experiment import make_optimizer
from hw_common.training.loop import Fitted, Row, Training, fit
from hw_common.training.pretrained import Pretrained, load_backbone
from hw_transfer.models import FrozenResNet18, OtherNetwork, ResNet18
from hw_transfer.presets import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MONITOR = "validation_accuracy"
_Network = TypeVar("_Network", ResNet18, OtherNetwork)


def finetune(pretrained: Pretrained | None, classes: int, backbone: str = "resnet18") -> ResNet18 | OtherNetwork:
    """Builds a network with pretrained weights and a new last layer, to be trained as a whole (Q5c).

    Args:
        pretrained: weights of the network `backbone`; None for random weights.
        classes: number of outputs.
        backbone: key of BACKBONES.

    Raises:
        UserError: the weights are not those of `backbone`.
    """
    if backbone == "resnet18":
        return _start_from(pretrained, ResNet18(classes))
    return _start_from(pretrained, OtherNetwork(backbone, classes, frozen=False))


def freeze(pretrained: Pretrained | None, classes: int, backbone: str = "resnet18") -> ResNet18 | OtherNetwork:
    """Builds a network like `finetune`, but only its new last layer is trained (Q5d)."""
    if backbone == "resnet18":
        return _start_from(pretrained, FrozenResNet18(classes))
    return _start_from(pretrained, OtherNetwork(backbone, classes, frozen=True))


def _start_from(pretrained: Pretrained | None, model: _Network) -> _Network:
    """Copies the pretrained weights except those of the last layer, which stays random."""
    if pretrained is not None:
        load_backbone(model, pretrained)
    nn.utils.convert_conv2d_weight_memory_format(model, torch.channels_last)  # convolutions are faster in this layout
    return model


def train_model(model: nn.Module, train: Batches, val: Batches, recipe: Recipe) -> Fitted:
    """Trains `model`, validates after each epoch, and leaves it with the best epoch's weights (Q5a).

    For every batch, `fit` computes the loss in train mode, replaces the gradients by those of the backward pass, and
    steps the optimizer and the scheduler. After the epoch, it calls `evaluate` in eval mode, without gradients.

    Args:
        model: a network with pictures as inputs, or its last layer with the output of `cache_features` as inputs. Its
            outputs are the scores of the classes.
        train: training batches (inputs, labels).
        val: validation batches (inputs, labels).
        recipe: settings of the optimization.

    Raises:
        UserError: training diverges.
    """
    fitted = fit(make_training(model, train, val, recipe), recipe.epochs, recipe.precision)
    model.load_state_dict(fitted.best_weights)
    return fitted


def make_training(model: nn.Module, train: Batches, val: Batches, recipe: Recipe) -> Training:
    """What `train_model` and the command `hw_transfer.train` give to `fit`; the arguments are those of `train_model`.

    By default, SGD has learning rate 0.001 and momentum 0.9, and the sheet's StepLR divides the learning rate by 10
    after every 7 epochs. Only the trainable parameters are optimized.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(
        recipe.optimizer, parameters, recipe.lr, recipe.l2_decay, recipe.momentum, nesterov=False
    )
    steps = recipe.step_size * len(train)  # `fit` steps the scheduler after each batch, not after each epoch
    return Training(
        model=model,
        batches=train,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.StepLR(optimizer, steps, recipe.gamma),
        loss_function=loss_function,
        evaluate=lambda model: evaluate(model, val),
        monitor=MONITOR,
    )


def loss_function(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """Returns the loss on a batch, the number of pictures, and under "accuracy" the number of correct predictions."""
    inputs, labels = (tensor.to(_device(model)) for tensor in batch)
    scores = model(inputs)
    return F.cross_entropy(scores, labels), len(labels), {"accuracy": torch.count_nonzero(scores.argmax(1) == labels)}


def evaluate(model: nn.Module, val: Batches) -> Row:
    """Computes loss and accuracy of `model` (Q5e), already in eval mode; each process computes a share of every batch.

    The sheet has no test set: the best epoch is chosen by this accuracy, so its accuracy is slightly too high.
    """
    sums = torch.zeros(3, dtype=torch.float64, device=_device(model))
    for batch in val.epoch(0):
        loss, count, right = loss_function(model, batch)
        share = torch.stack([loss.double() * count, right["accuracy"].double(), loss.new_tensor(count).double()])
        sums += share * distributed.weight()  # 1, or less if every process computes the whole of a small batch
    loss_sum, right_sum, total = distributed.sum_over_processes(sums).tolist()
    return {"validation_loss": loss_sum / total, "validation_accuracy": right_sum / total}


def cache_features(model: ResNet18 | OtherNetwork, batches: Batches) -> Tensor:
    """Returns the input of `model.head` for all pictures of `batches`, in order, on the CPU."""
    model.eval()
    inputs = batches.tensors[0].split(batches.batch_size)
    with torch.inference_mode():
        features = [model.features(images.to(_device(model))).float().cpu() for images in inputs]
    return torch.cat(features)  # outside of inference_mode, because inference tensors cannot be inputs in training


def predict(model: nn.Module, batches: Batches) -> Tensor:
    """Returns the probabilities (N, classes) of `model` for all inputs of `batches`, in their order, on the CPU.

    Leaves `model` in eval mode.
    """
    model.eval()
    inputs = batches.tensors[0].split(batches.batch_size)
    with torch.inference_mode():
        return torch.cat([model(part.to(_device(model))).float().softmax(dim=1).cpu() for part in inputs])


def visualize_model(
    model: nn.Module, val: Batches, classes: Sequence[str], title: str = "", num_images: int = 6, seed: int = 0
) -> "Figure":
    """Draws random validation pictures and the most confident mistakes, with their predicted classes (Q5b).

    A wrong prediction is followed by the true class. `val` has batches (pictures, labels), the pictures uint8; the
    network itself scales them. The other arguments are those of `plots.predictions`. Leaves `model` in eval mode.
    """
    from hw_transfer import plots  # imports matplotlib

    pictures, labels = val.tensors
    return plots.predictions(pictures, labels, predict(model, val), classes, title, num_images, seed)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
