"""The sheet ist-2021-22-hw2: a CNN for Fashion-MNIST (Q2.2), and decoders for image captions (Q3.1)."""

from functools import partial

import numpy as np
from numpy.random import Generator

from hw_check.networks import given
from hw_check.networks.caption_decoders import attention_probes, decoder_probes, decoder_with_attention_probes
from hw_check.networks.checks import TORCH, Check, Probe, grade_checks
from hw_check.networks.classifiers import classifier_probes
from hw_check.networks.plans import Classifier, Design, Plan
from hw_check.rows import Sheet
from hw_cnn.models import FashionCNN

_CNN = Classifier(
    designs=(
        Design(
            Plan((1, 0), (1, 1), (True, True), "log", linear=3), FashionCNN,
            ("first convolution", "second convolution", "first affine transformation", "second affine transformation",
             "output layer"),
            ((16, 1, 3, 3), (32, 16, 3, 3), (600, 1152), (120, 600), (10, 120)),
        ),
    ),
    options={"dropout_prob": 0.5, "dropout": 0.5, "n_classes": 10, "num_classes": 10},
    arguments=(0.5,),
    images=lambda rng: rng.random((4, 1, 28, 28), dtype=np.float32),
    forms=lambda images: [[images.reshape(4, 784)], [images]],
    dropout=1,
)  # fmt: skip


def _cnn(rng: Generator) -> list[Probe]:
    return classifier_probes(_CNN, rng)


CHECKS = (
    Check("CNN", "hw2-q2.py", "2.2", 12, _cnn),
    Check("train_batch", "hw2-q2.py", "2.2", 2, given.train_batch),
    Check("evaluate", "hw2-q2.py", "", 0, given.evaluate),
    Check("Decoder", "decoder.py", "3.1a", 6, decoder_probes),
    Check("Attention", "decoder_with_attention.py", "3.1b", 6, attention_probes),
    Check("DecoderWithAttention", "decoder_with_attention.py", "3.1b", 8, decoder_with_attention_probes),
)


SHEET = Sheet(
    name="ist-2021-22-hw2",
    files=("hw2-q2.py", "decoder.py", "decoder_with_attention.py"),
    points=sum(check.points for check in CHECKS),
    elsewhere="a person reads Q1, Q2.1 and Q2.3, and grades the training and the figures of Q2.2 and Q3",
    runner="hw_check.networks.observe",
    grade=partial(grade_checks, CHECKS),
    preload=TORCH,
    anywhere=True,
)
