"""The sheet ist-2023-24-hw2: a CNN for OCTMNIST (Q2), and text decoders for speech recognition (Q3)."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.random import Generator

from hw_asr.models import TextDecoderRecurrent, TextDecoderTransformer
from hw_check.networks import given
from hw_check.networks.checks import TORCH, Check, Probe, grade_checks
from hw_check.networks.classifiers import classifier_probes
from hw_check.networks.plans import Classifier, Design, Plan
from hw_check.networks.text_decoders import decoder_probes
from hw_check.rows import Sheet
from hw_cnn.models import OctCNN

_LAYERS = ("first convolution", "second convolution", "first affine transformation", "second affine transformation",
           "output layer")  # fmt: skip
_SHAPES = ((8, 1, 3, 3), (16, 8, 3, 3), (320, 576), (120, 320), (4, 120))


def _cnn(no_maxpool: bool) -> Callable[[Generator], list[Probe]]:
    """The probes of one of the two networks of Question 2."""
    stride = 2 if no_maxpool else 1
    plan = Plan((1, 0), (stride, stride), (not no_maxpool,) * 2, "log", linear=3)
    what = Classifier(
        designs=(Design(plan, lambda: OctCNN(no_maxpool=no_maxpool), _LAYERS, _SHAPES),),
        options={"dropout_prob": 0.7, "dropout": 0.7, "no_maxpool": no_maxpool},
        arguments=(0.7, no_maxpool),
        images=lambda rng: rng.random((4, 1, 28, 28), dtype=np.float32),
        forms=lambda images: [[images.reshape(4, 784)], [images]],
        dropout=1,
    )
    return lambda rng: classifier_probes(what, rng)


CHECKS = (
    Check("CNN", "hw2-q2.py", "2.1", 12, _cnn(no_maxpool=False)),
    Check("CNN(no_maxpool=True)", "hw2-q2.py", "2.2", 6, _cnn(no_maxpool=True), seeks="CNN"),
    Check("get_number_trainable_params", "hw2-q2.py", "2.3", 3, given.count),
    Check("TextDecoderRecurrent", "hw2-q3.py", "3.1", 6, decoder_probes(TextDecoderRecurrent)),
    Check("TextDecoderTransformer", "hw2-q3.py", "3.2", 6, decoder_probes(TextDecoderTransformer)),
)


SHEET = Sheet(
    name="ist-2023-24-hw2",
    files=("hw2-q2.py", "hw2-q3.py"),
    points=sum(check.points for check in CHECKS),
    elsewhere="a person reads Q1, Q2.3, Q3.3 and Q3.4, and grades the training and the figures of Q2 and Q3",
    runner="hw_check.networks.observe",
    grade=partial(grade_checks, CHECKS),
    preload=TORCH,
    anywhere=True,
)
