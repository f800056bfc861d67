"""The index: every question of the five sheets with the code that answers it, its command, figures and numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Number:
    """A number that was measured, or published, for a question."""

    title: str  # the data and the metric
    record: str = ""  # name of the record that holds the number; "" if nothing could be measured
    metric: str = ""  # key of the number in the record's summary; a dot leads into a nested object
    # Keys and values of the row of the summary's table that holds the number; empty if no table holds it.
    where: Mapping[str, object] = field(default_factory=dict)
    table: str = "table"  # key of that table in the summary
    published: str = ""  # key of the published number in published.py; "" if nothing is published
    command: str = ""  # the words after `python -m` that measured it; "" for the command of the question
    main: bool = False  # whether the front page shows it

    def read(self, summary: Mapping[str, Any]) -> str:
        """Returns the number from the record's summary, with its standard deviation if it is a mean over seeds.

        Raises:
            KeyError, TypeError, ValueError: the summary does not hold it.
        """
        place = summary
        if self.where:
            [place] = [row for row in summary[self.table] if self.where.items() <= row.items()]
        *path, name = self.metric.split(".")
        for key in path:
            place = place[key]
        return mean(place, name)


@dataclass(frozen=True)
class Answer:
    """A question of a sheet, and where its answer is."""

    question: str  # the question's number on the sheet, such as "3.1(b)"
    asked: str  # the question in a few words
    # The code that answers it, as `file:Class.method` or `file:function`, separated by spaces. For a proof, this is the
    # function that checks the claim on random numbers.
    solved_by: str
    # The words after `python -m` that run this code. For a function that only calls others, the command calls these.
    command: str
    figures: tuple[str, ...] = ()  # names of the figures that the command draws, without suffix; * stands for any text
    numbers: tuple[Number, ...] = ()  # measured and published numbers

    @property
    def section(self) -> str:
        """The label of the answer's heading in the sheet's typst source, such as "q3.1b"."""
        return "q" + self.question.translate({ord(character): None for character in "() "})

    def code(self) -> list[tuple[str, str]]:
        """File and name of each piece of code in `solved_by`; a name without a file is in the file named before it."""
        found: list[tuple[str, str]] = []
        for word in self.solved_by.split():
            path, colon, name = word.rpartition(":")
            found.append((path if colon else found[-1][0], name))
        return found


def mean(row: Mapping[str, Any], metric: str) -> str:
    """`metric` of a row: mean ± standard deviation, only the mean for a single seed, or a count like 10 298."""
    value, deviation = row[metric], row.get(f"{metric}_std")
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    return f"{value:.4f}" + (f" ± {deviation:.4f}" if deviation is not None and row.get("seeds") != 1 else "")


_COUNTS, _VERIFY = "hw_attention_theory.parameter_counts", "hw_attention_theory.verify"
_SEEDS = "--seeds 42 43 44"
_OCT_SWEEP = f"hw_cnn.sweep --dataset octmnist {_SEEDS}"
_OCT_STRIDES = "hw_cnn.train --dataset octmnist -no_maxpool --lr 0.01"
_CAPTION = f"hw_caption.compare --backbone mobilenet_v2 --weights WEIGHTS {_SEEDS} 45 46"
_TRANSFER = f"hw_transfer.compare --backbone mobilenet_v2 --weights WEIGHTS --precision bf16 {_SEEDS}"
_ASR_FIGURES = ("curves", "similarities", "predictions", "alignment")


def _parameters(question: str) -> Number:
    record = "hw_attention_theory-parameter_counts"
    return Number("parameters", record, "parameters", {"question": f"Q{question}"}, "networks")


_OCT = tuple(
    Number(f"OCTMNIST, test accuracy on the course's 529 images, {kind} max-pooling", published=key, command=command)
    for kind, key, command in (("with", "oct.maxpool", _OCT_SWEEP), ("without", "oct.no-maxpool", _OCT_STRIDES))
)


def _pixels(attention: str) -> Number:
    kind = "softmax" if attention == "softmax" else "linear"
    return Number(
        f"MNIST read as 196 pixels, test accuracy, {kind} attention", "hw_attention_theory-compare-mnist14",
        "final_test_accuracy", {"attention": attention}, command=f"hw_attention_theory.compare {_SEEDS}",
        main=attention == "taylor",
    )  # fmt: skip


def _fashion(lr: float) -> Number:
    return Number(
        f"Fashion-MNIST, validation accuracy with learning rate {lr:g}", "hw_cnn-sweep-fashion-mnist-fashion-plain",
        "final_validation_accuracy", {"lr": lr}, published=f"fashion.lr{lr:g}", main=lr == 0.01,
    )  # fmt: skip


def _captions(decoder: str) -> Number:
    kind = "with" if decoder == "attention" else "without"
    return Number(
        f"Sydney captions, test BLEU-4, decoder {kind} attention, MobileNetV2 pretrained on ImageNet",
        "hw_caption-sydney-mobilenet", "final_test_bleu4", {"decoder": decoder, "way": "greedy"},
        published=f"caption.{decoder}",
    )  # fmt: skip


def _speech(decoder: str, recipe: str = "best", main: bool = False) -> tuple[Number, ...]:
    """The published numbers of a decoder, and its error rate on spoken digits with `recipe`, "plain" or "best"."""
    row, published = {"decoder": decoder}, f"LJSpeech, {decoder} decoder, network of the course's notebook"
    record = f"hw_asr-compare-digits-sheet-{recipe}"
    digits = f"spoken digits, {decoder} decoder, {'recommended' if recipe == 'best' else 'plain'} recipe"
    command = f"hw_asr.train --preset notebook --decoder {decoder}"
    batch = " --batch_size 16 --precision bf16" if recipe == "plain" else ""
    return (
        Number(f"{published}, test loss, padding counted", published=f"asr.{decoder}.loss", command=command),
        Number(f"{published}, test Damerau-Levenshtein similarity", command=command,
               published=f"asr.{decoder}.damerau-levenshtein"),
        Number(f"{digits}, character error rate", record, "final_test_cer", row, main=main,
               command=f"hw_asr.compare --dataset digits --recipe {recipe}{batch} {_SEEDS}"),
    )  # fmt: skip


_AN4 = tuple(
    Number(
        f"AN4, transformer decoder, recommended recipe, {rate} error rate", "hw_asr-compare-an4-best",
        f"final_test_{key}", {"decoder": "transformer"}, published=f"an4.{key}", main=key == "wer",
        command="hw_asr.compare --only transformer --recipe best --dataset_dir FOLDER --no-join --ctc 0.9 "
        f"--dropout 0.1 --lr 2e-3 --epochs 240 --beam 10 --ctc_weight 0.5 {_SEEDS}",
    )
    for rate, key in (("character", "cer"), ("word", "wer"))
)  # fmt: skip


def _cifar(recipe: str, lr: float, flags: str) -> Number:
    command = f"hw_cnn.sweep --dataset folder --data_dir FOLDER {flags} {_SEEDS} --choose_by best"
    title = f"CIFAR-10 (JPEG copies), test accuracy, {'recommended' if recipe == 'best' else recipe} recipe"
    main = recipe == "best"
    return Number(title, f"hw_cnn-cifar-{recipe}", "best_test_accuracy", {"lr": lr}, command=command, main=main)


def _ants(scenario: str) -> Number:
    title, published = f"ants and bees, {scenario}, MobileNetV2 pretrained on ImageNet", f"transfer.{scenario}"
    metric, main = "best_validation_accuracy", scenario == "finetune"
    return Number(title, "hw_transfer-bees-mobilenet", metric, {"scenario": scenario}, published=published, main=main)


_ANTS_BATCH_16 = Number(
    "ants and bees, finetune in batches of 16, MobileNetV2 pretrained on ImageNet",
    "hw_transfer-bees-mobilenet-batch16",
    "best_validation_accuracy", {"scenario": "finetune"}, published="transfer.finetune",
    command=f"{_TRANSFER} --scenarios finetune --batch_size 16",
)  # fmt: skip


def _letters(comparison: str, row: str, network: str, published: bool = True) -> Number:
    return Number(
        f"OCR letters, test accuracy, {network}", f"hw_ocr-compare-ocr-{comparison}", "final_test_accuracy",
        {"row": row}, published=f"ocr.{row}" if published else "", main=row == "conv-bilstm",
    )  # fmt: skip


_IST_2021_22 = (
    Answer("1.1", "parameters of a convolutional network",
           "hw_attention_theory/parameter_counts.py:convolutional_network", _COUNTS, (), (_parameters("1.1"),)),
    Answer("1.2", "parameters of a fully connected network",
           "hw_attention_theory/parameter_counts.py:feedforward_network", _COUNTS, (), (_parameters("1.2"),)),
    Answer("1.3.1", "attention scores as X A Xᵀ with rank A ≤ d",
           "hw_attention_theory/claims.py:one_matrix rank", _VERIFY),
    Answer("1.3.2", "two heads with equal attention", "hw_attention_theory/claims.py:same_heads", _VERIFY),
    Answer("2.1", "equivariances of convolutional layers", "hw_cnn/equivariance.py:relative_changes",
           "hw_cnn.explain equivariance RUN", ("equivariance",)),
    Answer("2.2", "a CNN for Fashion-MNIST, its learning rate", "hw_cnn/models.py:FashionCNN",
           f"hw_cnn.sweep {_SEEDS}", ("curves",), (_fashion(0.001), _fashion(0.01), _fashion(0.1))),
    Answer("2.3", "filters of both convolutions", "hw_common/runs/image_grids.py:kernels",
           'hw_cnn.train --lr 0.01 -conv_1_name "convblock1[0]" -conv_2_name "convblock2[0]"', ("kernels-*",)),
    Answer("3.1(a)", "captions by an LSTM decoder",
           "hw_caption/models.py:Decoder.__init__ Decoder.init_hidden_state Decoder.forward Decoder.next_state",
           _CAPTION, ("curves",),
           (_captions("vanilla"),
            Number("Sydney captions, test BLEU-4, decoder without attention, recommended recipe with consensus "
                   "decoding, MobileNetV2 pretrained on ImageNet (the published number is with attention, greedy)",
                   "hw_caption-best-sydney-mobilenet", "final_test_bleu4", {"way": "consensus"},
                   published="caption.attention", main=True,
                   command="hw_caption.compare --backbone mobilenet_v2 --weights WEIGHTS --recipe best --only vanilla "
                   f"{_SEEDS}"))),
    Answer("3.1(b)", "additive attention",
           "hw_caption/models.py:Attention.forward DecoderWithAttention", _CAPTION, ("curves", "attention-*"),
           (_captions("attention"),)),
    Answer("3.1(c)", "captions of three images",
           "hw_caption/results.py:draw_images hw_common/training/decoding.py:greedy",
           "hw_caption.train --use_attention", ("captions",)),
)  # fmt: skip

_IST_2023_24 = (
    Answer("1.1", "cost of self-attention", "hw_attention_theory/models.py:SoftmaxSelfAttention", _VERIFY),
    Answer("1.2", "a feature map that approximates exp", "hw_attention_theory/models.py:FeatureMap", _VERIFY,
           ("approximation",)),
    Answer("1.3", "self-attention with the feature map", "hw_attention_theory/claims.py:matrix_form", _VERIFY,
           ("approximation",)),
    Answer("1.4", "attention in linear time", "hw_attention_theory/models.py:TaylorLinearAttention.attend "
           "hw_attention_theory/fast_linear_attention.py:FastTaylorLinearAttention.attend",
           "hw_attention_theory.scaling", ("scaling",),
           (_pixels("softmax"), _pixels("taylor"))),
    Answer("2.1", "a CNN for OCTMNIST, its learning rate", "hw_cnn/models.py:OctCNN",
           _OCT_SWEEP, ("curves",), _OCT[:1]),
    Answer("2.2", "strides instead of max-pooling", "hw_cnn/models.py:OctCNN",
           _OCT_STRIDES, ("curves",), _OCT[1:]),
    Answer("2.3", "number of trainable parameters", "hw_cnn/models.py:get_number_trainable_params OctCNN",
           "hw_cnn.train --dataset octmnist --dry_run", (), _OCT),
    Answer("3.1", "speech recognition with an LSTM decoder",
           "hw_asr/models.py:TextDecoderRecurrent TextDecoder.forward",
           "hw_asr.train --decoder lstm", _ASR_FIGURES, _speech("lstm", main=True)),
    Answer("3.2", "speech recognition with a Transformer decoder",
           "hw_asr/models.py:TextDecoderTransformer TextDecoder.forward "
           "hw_asr/attention.py:SubBlock.forward MultiHeadAttention.forward attention_weights",
           "hw_asr.train --decoder transformer", _ASR_FIGURES, (*_speech("transformer"), *_AN4)),
    Answer("3.3", "how the two decoders differ",
           "hw_asr/models.py:TextDecoder TextDecoderRecurrent TextDecoderTransformer",
           f"hw_asr.compare {_SEEDS}", ("curves", "similarities"),
           (*_speech("lstm", "plain"), *_speech("transformer", "plain"))),
    Answer("3.4", "what the string similarities measure",
           "hw_asr/similarity.py:jaccard cosine damerau_levenshtein", "hw_asr.compare_similarities"),
)  # fmt: skip

_CONVNETS = (
    Answer("1.0", "notebook and data", "hw_cnn/data.py:load", "hw_cnn.train --dataset cifar10 --dry_run"),
    Answer("1.1", "a CNN for CIFAR-10", "hw_cnn/models.py:CifarCNN", "hw_cnn.train --dataset cifar10"),
    Answer("1.2", "training and evaluation",
           "hw_cnn/experiment.py:loss_function evaluate hw_common/training/loop.py:_Trainer._step",
           "hw_cnn.train --dataset cifar10", ("curves",),
           (_cifar("plain", 0.005, "--lrs 0.005"), _cifar("best", 0.05, "--recipe best --lrs 0.05"))),
    Answer("2.1", "a fully connected layer", "hw_cnn/layers.py:MyLinear hw_cnn/compare_layers.py:differences",
           "hw_cnn.compare_layers RUN"),
    Answer("3.1", "a convolutional layer", "hw_cnn/layers.py:MyConv2d hw_cnn/compare_layers.py:differences",
           "hw_cnn.compare_layers RUN"),
    Answer("3.2", "the network with both own layers", "hw_cnn/compare_layers.py:compare", "hw_cnn.compare_layers RUN"),
    Answer("3.3", "feature maps", "hw_cnn/feature_maps.py:collect_maps", "hw_cnn.explain feature_maps RUN",
           ("feature_maps",)),
    Answer("3.4", "Grad-CAM", "hw_cnn/grad_cam.py:grad_cam", "hw_cnn.explain grad_cam RUN", ("grad_cam",)),
)  # fmt: skip

_MNIST, _DIGITS = f"hw_numpy.compare {_SEEDS} --grow 6", "hw_numpy-compare-mnist"
_EECS545 = (
    Answer("1(a)", "fully connected layer", "hw_numpy/layers.py:fc_forward fc_backward", "hw_check"),
    Answer("1(b)", "ReLU", "hw_numpy/layers.py:relu_forward relu_backward", "hw_check"),
    Answer("1(c)", "convolution",
           "hw_numpy/layers.py:conv_forward conv_backward_w conv_backward_x _patches", "hw_check"),
    Answer("2(a)", "softmax loss", "hw_numpy/layers.py:softmax_loss", "hw_check"),
    Answer("2(b)", "a two-layer network", "hw_numpy/softmax.py:SoftmaxClassifier.loss", "hw_check"),
    Answer("2(c)", "hidden units of two-layer networks",
           "hw_numpy/solver.py:BaseSolver.train BaseSolver.step Solver.finish_epoch hw_numpy/experiment.py:run",
           _MNIST, ("curves", "selection"),
           (Number("MNIST in NumPy, two layers, hidden units chosen with the first seed",
                   f"{_DIGITS}/runs/softmax-seed42", "best.hidden_dim", published="softmax.hidden-units"),
            Number("MNIST in NumPy, two layers, test accuracy", _DIGITS, "best_test_accuracy", {"model": "softmax"},
                   published="softmax"))),
    Answer("3(a)", "max-pooling", "hw_numpy/layers.py:max_pool_forward max_pool_backward", "hw_check"),
    Answer("3(b)", "a CNN", "hw_numpy/cnn.py:ConvNet.loss", "hw_check"),
    Answer("3(c)", "filter size and hidden units of the CNN",
           "hw_numpy/experiment.py:make_candidates run hw_numpy/solver.py:Solver.finish_epoch",
           _MNIST, ("curves", "selection"),
           (Number("MNIST in NumPy, CNN, filter size chosen with the first seed", f"{_DIGITS}/runs/cnn-seed42",
                   "best.filter_size"),
            Number("MNIST in NumPy, CNN, hidden units chosen with the first seed", f"{_DIGITS}/runs/cnn-seed42",
                   "best.hidden_dim"),
            Number("MNIST in NumPy, CNN, test accuracy", _DIGITS, "best_test_accuracy", {"model": "cnn"},
                   published="cnn", main=True))),
    Answer("4(a)", "fully connected layer at every step",
           "hw_numpy/rnn_layers.py:temporal_fc_forward temporal_fc_backward", "hw_check"),
    Answer("4(b)", "softmax loss at every step", "hw_numpy/rnn_layers.py:temporal_softmax_loss", "hw_check"),
    Answer("4(c)", "the captioning model", "hw_numpy/rnn.py:CaptioningRNN.loss CaptioningRNN.sample", "hw_check"),
    Answer("4(d)", "learning curves and captions",
           "hw_numpy/captioning_solver.py:CaptioningSolver hw_numpy/caption_experiment.py:evaluate",
           "hw_numpy.caption --data_dir CAPTIONS", ("curves", "captions"),
           (Number("50 captions of Flickr8k, last training loss (published: 50 captions of COCO)",
                   "hw_numpy-caption-flickr1k-rnn-seed42", "last_epoch_loss", published="captions.last-loss"),)),
    Answer("5(a)", "train_model",
           "hw_transfer/transfer_learning.py:train_model make_training loss_function evaluate",
           "hw_transfer.train --mode finetune", ("curves",)),
    Answer("5(b)", "visualize_model",
           "hw_transfer/transfer_learning.py:visualize_model hw_transfer/plots.py:predictions",
           "hw_transfer.train --mode finetune", ("predictions",)),
    Answer("5(c)", "finetune", "hw_transfer/transfer_learning.py:finetune", "hw_transfer.train --mode finetune",
           ("curves", "predictions")),
    Answer("5(d)", "freeze", "hw_transfer/transfer_learning.py:freeze hw_transfer/models.py:FrozenResNet18",
           "hw_transfer.train --mode freeze",
           ("curves", "predictions")),
    Answer("5(e)", "validation accuracy of finetune and freeze", "hw_transfer/transfer_learning.py:evaluate", _TRANSFER,
           ("curves", "confusion"), (_ants("finetune"), _ANTS_BATCH_16, _ants("freeze"))),
)  # fmt: skip

_DSL = (
    Answer("1.1", "invariance to shifts and rotations",
           "hw_ocr/models.py:PairwiseClassifier hw_ocr/pooling.py:measure accuracies",
           "hw_ocr.invariance RUN --pairwise RUN", ("invariance", "invariance-accuracy")),
    Answer("1.2", "a CNN for letters", "hw_ocr/models.py:OcrCNN", "hw_ocr.train --model cnn",
           ("curves", "confusion")),
    Answer("1.3", "filters of both convolutions",
           "hw_common/runs/image_grids.py:kernels hw_ocr/plots.py:convolutions", "hw_ocr.train --model cnn",
           ("kernels-*",)),
    Answer("1.4", "more convolutional layers", "hw_ocr/models.py:OcrCNN", f"hw_ocr.compare {_SEEDS} --only layers",
           ("comparison",), tuple(_letters("layers", f"cnn{n}", f"{n} convolutions") for n in (2, 3, 4, 5))),
    Answer("2.1", "words with a BiLSTM", "hw_ocr/models.py:BiLSTM BidirectionalLSTM",
           f"hw_ocr.compare {_SEEDS} --only sequences",
           ("comparison", "misread"), (_letters("sequences", "bilstm", "BiLSTM"),)),
    Answer("2.2", "what a CRF adds", "hw_ocr/crf.py:LinearChainCRF.log_partition LinearChainCRF.decode",
           f"hw_ocr.compare {_SEEDS} --only sequences", ("transitions",),
           (_letters("sequences", "bilstm-crf", "BiLSTM-CRF", published=False),)),
    Answer("2.3", "a convolution before the BiLSTM", "hw_ocr/models.py:ConvBiLSTM",
           f"hw_ocr.compare {_SEEDS} --only sequences", ("comparison", "misread"),
           (_letters("sequences", "conv-bilstm", "conv-BiLSTM"), _letters("sequences", "best", "recommended network"))),
)  # fmt: skip

# The answers of each sheet, in the order of its questions.
INDEX: Mapping[str, tuple[Answer, ...]] = MappingProxyType({
    "ist-2021-22-hw2": _IST_2021_22,
    "ist-2023-24-hw2": _IST_2023_24,
    "convnets-2024-a2": _CONVNETS,
    "eecs545-w20-hw4": _EECS545,
    "dsl-2019-hw3": _DSL,
})  # fmt: skip
