"""A run of `hw_transfer.train`: its network, batches, summary and figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hw_common.runs import checkpoints
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import BEST
from hw_common.training import distributed
from hw_common.training.batches import Batches
from hw_common.training.experiment import Experiment
from hw_common.training.loop import Fitted
from hw_common.training.parameters import count_parameters
from hw_common.training.precision import autocast
from hw_common.training.pretrained import Pretrained
from hw_transfer import data, transfer_learning
from hw_transfer.data import PictureData
from hw_transfer.models import OtherNetwork, ResNet18
from hw_transfer.presets import CITATION, HOMEWORK, Settings
from hw_transfer.transfer_learning import MONITOR


def check_processes(mode: str) -> None:
    """Raises UserError if several processes were started with --mode finetune."""
    if distributed.world_size() > 1 and mode == "finetune":
        raise UserError(
            "--mode finetune runs in one process, because batch normalization needs the whole batch; "
            "start it without torchrun, or use --mode freeze"
        )


def prepare(
    settings: Settings, pictures: PictureData, pretrained: Pretrained | None, device: torch.device
) -> Experiment:
    """Prepares a training run on `device`; without `pretrained`, it starts from random weights.

    Raises:
        UserError: the weights are not those of the network.
    """
    build = transfer_learning.finetune if settings.mode == "finetune" else transfer_learning.freeze
    model = build(pretrained, len(pictures.classes), settings.backbone).to(device)
    return _Training(settings, pictures, pretrained, model).experiment()


def weights_metadata(settings: Settings) -> dict[str, str]:
    """Metadata stored in a weights file, checked when the file is loaded."""
    return {"homework": HOMEWORK, "network": settings.backbone}


class _Training:
    """One training run: its data, network, batches, summary and figures.

    `learner` is the module that is trained: the last layer, with features as inputs, if features are cached; otherwise
    the network, with pictures as inputs. `pretrained` is None if the network starts from random weights.
    """

    def __init__(
        self,
        settings: Settings,
        pictures: PictureData,
        pretrained: Pretrained | None,
        model: ResNet18 | OtherNetwork,
    ) -> None:
        self.settings, self.recipe = settings, settings.recipe
        self.pictures = pictures
        self.pretrained = pretrained
        self.model = model
        self.device = next(model.parameters()).device
        self.learner: nn.Module = model.head if settings.cache_features else model
        self.val_pictures = data.evaluation_batches(pictures.val, pictures.size)
        self.train, self.val = self._batches()
        self.metadata = weights_metadata(settings)
        self.title = f"{pictures.name}, {settings.mode}{' on cached features' if settings.cache_features else ''}"
        self.probabilities = torch.empty(0)  # predictions for `val` with the best weights; set by _summarize

    def _batches(self) -> tuple[Batches, Batches]:
        size, seed = self.pictures.size, self.settings.seed
        if not self.settings.cache_features:
            return data.training_batches(self.pictures.train, size, self.recipe.batch_size, seed), self.val_pictures
        train = data.evaluation_batches(self.pictures.train, size)  # no augmentation
        with autocast(self.device, self.recipe.precision):
            features = [transfer_learning.cache_features(self.model, part) for part in (train, self.val_pictures)]
        return (
            Batches((features[0], self.pictures.train.labels), self.recipe.batch_size, seed),
            Batches((features[1], self.pictures.val.labels), self.val_pictures.batch_size, shuffle=False),
        )

    def experiment(self) -> Experiment:
        """Returns the experiment that `hw_common.training.experiment` runs."""
        if distributed.is_main():
            print(self._describe())
        training = transfer_learning.make_training(self.learner, self.train, self.val, self.recipe)
        weights = {"weights": self.pretrained.sha256} if self.pretrained is not None else {}
        return Experiment(
            **vars(training) | {"metadata": self.metadata},
            hashes={**self.pictures.hashes, **weights},
            summarize=self._summarize,
            draw=self._draw,
            report=_report,
        )

    def _describe(self) -> str:
        recipe = self.recipe
        return (
            f"{self.title}: {len(self.pictures.train)} training and {len(self.pictures.val)} validation pictures of "
            f"{', '.join(self.pictures.classes)}\n"
            f"{self.settings.backbone} from {self._origin()}, {count_parameters(self.learner)} trainable parameters; "
            f"{recipe.epochs} epochs of {recipe.optimizer}, learning rate {recipe.lr:g}, batch {recipe.batch_size}, "
            f"seed {self.settings.seed}"
        )

    def _origin(self) -> str:
        """Returns a name for the weights that training starts from."""
        if self.pretrained is None:
            return "random weights"
        if self.settings.weights == "imagenet":
            return "ImageNet"
        path = self.pretrained.path
        # All runs call their weights file BEST, so the name of the run's folder is put before it.
        return f"{path.parent.name}/{path.name}" if path.name == BEST else path.name

    def _summarize(self, fitted: Fitted) -> dict[str, Any]:
        with self._best_weights(fitted), autocast(self.device, self.recipe.precision):
            self.probabilities = transfer_learning.predict(self.learner, self.val)
        classes = len(self.pictures.classes)
        pairs = self.pictures.val.labels * classes + self.probabilities.argmax(1)
        last, best = (
            {name: value for name, value in fitted.rows[epoch - 1].items() if name != "seconds"}
            for epoch in (len(fitted.rows), fitted.best_epoch)
        )
        return {
            "homework": HOMEWORK,
            "dataset": self.settings.dataset,
            "data": self.pictures.name,
            "mode": self.settings.mode,
            "cache_features": self.settings.cache_features,
            "backbone": self.settings.backbone,
            "weights": self._origin(),
            "classes": list(self.pictures.classes),
            "images": {"training": len(self.pictures.train), "validation": len(self.pictures.val)},
            "parameters": count_parameters(self.model, trainable_only=False),
            "learning_parameters": count_parameters(self.model),
            "final": last,
            "best": best,
            "confusion_best": pairs.bincount(minlength=classes**2).view(classes, classes).tolist(),
            "speed": {
                "training_seconds": round(fitted.seconds, 2),
                "images_per_second": round(self.recipe.epochs * len(self.pictures.train) / fitted.seconds, 1),
            },
        }

    def _draw(self, folder: Path, fitted: Fitted, summary: dict[str, Any]) -> None:
        from hw_common.runs import figures  # imports matplotlib
        from hw_transfer import plots

        title = f"{self.title}, {CITATION}"
        best = f"{title}\nbest epoch ({fitted.best_epoch}): validation accuracy {summary['best'][MONITOR]:.4f}"
        figures.save(figures.training_curves(fitted.rows, title), folder, "curves")
        plots.confusion_matrix(folder, summary["confusion_best"], self.pictures.classes, best)
        images, labels = self.val_pictures.tensors
        predictions = plots.predictions(images, labels, self.probabilities, self.pictures.classes, best)
        figures.save(predictions, folder, "predictions")
        if self.learner is not self.model:  # BEST contains only the last layer; replace it by the whole network
            with self._best_weights(fitted):
                checkpoints.save_weights(folder / BEST, self.model.state_dict(), self.metadata)

    @contextmanager
    def _best_weights(self, fitted: Fitted) -> Iterator[None]:
        """Puts the best epoch's weights into the network inside the `with` block."""
        last = {name: tensor.clone() for name, tensor in self.learner.state_dict().items()}
        self.learner.load_state_dict(fitted.best_weights)
        try:
            yield
        finally:
            self.learner.load_state_dict(last)


def _report(summary: dict[str, Any]) -> list[str]:
    lines = [
        f"{title} ({numbers['epoch']}): validation accuracy {numbers[MONITOR]:.4f}"
        for title, numbers in (("last epoch", summary["final"]), ("best epoch", summary["best"]))
    ]
    speed = summary["speed"]
    return [
        *lines,
        f"{speed['training_seconds']:.1f} s of training, {speed['images_per_second']:.0f} pictures a second",
    ]
