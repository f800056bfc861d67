"""The sheet's four functions (eecs545-w20-hw4 Q5), under its names: for the command line, and for use by hand.

>>> images = load("hymenoptera", Path("data"))  # of data.py
>>> train, val = training_batches(images.train, 224, 4, seed=42), evaluation_batches(images.val, 224)
>>> model = finetune(load_pretrained("imagenet", Path("data")), classes=2)  # or freeze(…)
>>> fitted = train_model(model, train, val, Recipe())
>>> figure = visualize_model(model, val, images.classes)
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from hw_common.training import distributed
from hw_common.training.batches import Batches
from hw_common.training.experiment import make_optimizer
from hw_common.training.loop import Fitted, Row, fit
from hw_common.training.pretrained import Pretrained, load_backbone
from hw_transfer import plots
from hw_transfer.models import FrozenResNet18, ResNet18
from hw_transfer.presets import Recipe

MONITOR = "validation_accuracy"


def finetune(pretrained: Pretrained | None, classes: int) -> ResNet18:
    """A pretrained network with a new last layer, all of which learns (Q5c); from random weights where there are none.

    Raises:
        UserError: the weights are those of another network.
    """
    return _start_from(pretrained, ResNet18(classes))


def freeze(pretrained: Pretrained | None, classes: int) -> FrozenResNet18:
    """A pretrained network with a new last layer, which alone learns (Q5d).

    Raises:
        UserError: the weights are those of another network.
    """
    return _start_from(pretrained, FrozenResNet18(classes))


def _start_from(pretrained: Pretrained | None, model: ResNet18) -> ResNet18:
    if pretrained is not None:
        load_backbone(model, pretrained)
    return model.to(memory_format=torch.channels_last)


def train_model(model: nn.Module, train: Batches, val: Batches, recipe: Recipe) -> Fitted:
    """Trains `model`, validates after each epoch, and leaves it with the best epoch's weights (Q5a).

    Args:
        model: scores of the classes from what the batches hold: a network with pictures, or its last layer with
            the features of `cache_features`.
        train: batches (inputs, labels) to learn from.
        val: batches to validate on.
        recipe: how.

    Raises:
        UserError: training diverges.
    """
    optimizer, scheduler = make_optimizer_and_schedule(model, len(train), recipe)
    fitted = fit(
        model,
        optimizer,
        train,
        loss_function,
        lambda model: evaluate(model, val),
        epochs=recipe.epochs,
        monitor=MONITOR,
        scheduler=scheduler,
        precision=recipe.precision,
    )
    model.load_state_dict(fitted.best_weights)
    return fitted


def make_optimizer_and_schedule(
    model: nn.Module, steps: int, recipe: Recipe
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The optimizer over what learns in `model`, and the sheet's StepLR, told in steps: an epoch has `steps`."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if recipe.optimizer == "sgd":  # with the sheet's momentum, which is not Nesterov's
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            parameters, recipe.lr, recipe.momentum, weight_decay=recipe.l2_decay, fused=True
        )
    else:
        optimizer = make_optimizer(recipe.optimizer, parameters, recipe.lr, recipe.l2_decay)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, recipe.step_size * steps, recipe.gamma)


def loss_function(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """What `fit` minimizes: the cross entropy, with the number of right answers beside it."""
    inputs, labels = (tensor.to(_device(model)) for tensor in batch)
    scores = model(inputs)
    return F.cross_entropy(scores, labels), len(labels), {"accuracy": torch.count_nonzero(scores.argmax(1) == labels)}


def evaluate(model: nn.Module, val: Batches) -> Row:
    """Mean loss and accuracy of `model`, in eval mode, on `val`; each process computes its share."""
    sums = torch.zeros(3, dtype=torch.float64, device=_device(model))
    for batch in val.epoch(0):
        loss, count, right = loss_function(model, batch)
        share = torch.stack([loss.double() * count, right["accuracy"].double(), loss.new_tensor(count).double()])
        sums += share * distributed.weight()
    loss, right, count = distributed.sum_over_processes(sums).tolist()
    return {"validation_loss": loss / count, "validation_accuracy": right / count}


def cache_features(model: ResNet18, batches: Batches) -> Tensor:
    """What goes into the last layer of `model` for all of `batches`, in their order: (N, 512) float, on the CPU."""
    model.eval()
    inputs = batches.tensors[0].split(batches.batch_size)
    with torch.inference_mode():
        features = [model.features(images.to(_device(model))).float().cpu() for images in inputs]
    return torch.cat(features)  # made outside of inference_mode, it can be trained on


def predict(model: nn.Module, batches: Batches) -> Tensor:
    """The probabilities (N, classes) that `model` gives to all of `batches`, in their order, on the CPU."""
    model.eval()
    inputs = batches.tensors[0].split(batches.batch_size)
    with torch.inference_mode():
        return torch.cat([model(part.to(_device(model))).float().softmax(dim=1).cpu() for part in inputs])


def visualize_model(
    model: nn.Module, val: Batches, classes: Sequence[str], title: str = "", num_images: int = 6, seed: int = 0
) -> Figure:
    """Validation pictures with what `model` takes them for (Q5b): random ones, then its surest mistakes.

    Args:
        model: a network that takes the pictures of `val`.
        val: batches of (pictures, labels) in order.
        classes: their names.
        title: of the figure; says which data it shows.
        num_images: in a row.
        seed: picks the random ones.
    """
    pictures, labels = val.tensors
    return plots.predictions(pictures, labels, predict(model, val), classes, title, num_images, seed)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
