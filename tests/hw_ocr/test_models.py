"""The networks of dsl-2019-hw3: sizes, order of operations, and padding that has no influence on a word."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hw_ocr.crf import LinearChainCRF
from hw_ocr.models import BidirectionalLSTM, BiLSTM, ConvBiLSTM, OcrCNN, PairwiseClassifier, PerLetter, WithCRF

WORD_MODELS = {
    "cnn": lambda: PerLetter(OcrCNN()),
    "bilstm": lambda: BiLSTM(),
    "bilstm, 2 layers of 5": lambda: BiLSTM(hidden=5, layers=2),
    "conv-bilstm": lambda: ConvBiLSTM(),
    "conv-bilstm, 3 layers of 4, with CRF": lambda: WithCRF(ConvBiLSTM(hidden=4, layers=3), LinearChainCRF(26)),
}
every_word_model = pytest.mark.parametrize("name", WORD_MODELS)


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(42)


def random_words(*lengths: int) -> tuple[Tensor, Tensor]:
    """Images (B, T, 16, 8) of 0 and 1, all 0 in the padding, and the mask (B, T)."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    images = torch.randint(2, (*mask.shape, 16, 8)).float()
    return images * mask[:, :, None, None], mask


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# Sizes


@pytest.mark.parametrize(
    ("make", "published"),
    [
        (lambda: OcrCNN(), 32_218),
        (lambda: OcrCNN(3), 38_634),
        (lambda: OcrCNN(4), 45_050),
        (lambda: OcrCNN(5), 51_466),
        (lambda: BiLSTM(), 287_386),
        (lambda: ConvBiLSTM(), 336_954),
        (lambda: WithCRF(BiLSTM(), LinearChainCRF(26)), 287_386 + 26 * 26 + 2 * 26),
    ],
)
def test_parameter_counts_are_the_published_ones(make, published):
    assert parameters(make()) == published


@pytest.mark.parametrize("layers", [2, 3, 4, 5])
def test_cnn_scores_each_letter(layers):
    assert OcrCNN(layers)(torch.randn(3, 1, 16, 8)).shape == (3, 26)


@every_word_model
@pytest.mark.parametrize("lengths", [(1,), (3, 1, 2), (2, 2)])
def test_word_models_score_each_letter_of_each_word(name, lengths):
    images, mask = random_words(*lengths)
    scores = WORD_MODELS[name]()(images, mask)
    assert scores.shape == (*mask.shape, 26)
    assert torch.isfinite(scores).all()


# Order of operations, each network written a second time from the published report


def convolve(w: dict[str, Tensor], layer: str, x: Tensor, pool: bool) -> Tensor:
    x = torch.clamp(F.conv2d(x, w[f"{layer}.0.weight"], w[f"{layer}.0.bias"], padding="same"), min=0)
    return F.max_pool2d(x, 2, stride=2) if pool else x


@pytest.mark.parametrize("layers", [2, 3, 4, 5])
def test_cnn_computes_what_the_report_lists(layers):
    model, x = OcrCNN(layers), torch.randn(3, 1, 16, 8)
    w = model.state_dict()
    scores = model(x)
    for number in range(1, layers + 1):
        x = convolve(w, f"layer{number}", x, pool=number in (1, layers))
    assert x.shape == (3, 32, 4, 2)
    assert torch.allclose(scores, F.linear(x.reshape(3, -1), w["output_layer.weight"], w["output_layer.bias"]))
    kernels = [tuple(w[f"layer{number}.0.weight"].shape[1:]) for number in range(1, layers + 1)]
    assert kernels == [(1, 5, 5), *[(16, 5, 5)] * (layers - 2), (16, 7, 7)]


def test_the_pairwise_classifier_is_a_quadratic_form_of_the_pixels_for_each_class():
    model, images = PairwiseClassifier(), torch.rand(2, 1, 16, 8)
    assert parameters(model) == 8256 * 26 + 26
    weights = torch.zeros(26, 128, 128)
    for number, (i, j) in enumerate(itertools.combinations_with_replacement(range(128), 2)):
        weights[:, i, j] = model.output_layer.weight[:, number].detach()
    pixels = images.view(2, 128)
    expected = torch.einsum("ni,cij,nj->nc", pixels, weights, pixels) + model.output_layer.bias
    torch.testing.assert_close(model(images), expected)


def torch_lstm(ours: BidirectionalLSTM) -> nn.LSTM:
    """torch's bidirectional LSTM with the weights of ours."""
    first = ours.forwards[0]
    theirs = nn.LSTM(first.input_size, first.hidden_size, len(ours.forwards), bidirectional=True, batch_first=True)
    for number, layers in enumerate(zip(ours.forwards, ours.backwards, strict=True)):
        for layer, suffix in zip(layers, ("", "_reverse"), strict=True):
            for name, weight in layer.named_parameters():
                theirs.get_parameter(name.replace("_l0", f"_l{number}{suffix}")).data = weight.data
    return theirs


def packed(lstm: nn.LSTM, x: Tensor, mask: Tensor) -> Tensor:
    sequences = nn.utils.rnn.pack_padded_sequence(x, mask.sum(1), batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(lstm(sequences)[0], batch_first=True)[0]


def by_the_report(model: BiLSTM | ConvBiLSTM, images: Tensor, mask: Tensor) -> Tensor:
    w = model.state_dict()
    x = images
    number = 1
    if isinstance(model, ConvBiLSTM):
        x = convolve(w, "layer1", x.reshape(-1, 1, 16, 8), pool=True)
        number = 2
    x = x.reshape(*mask.shape, -1)
    x = torch.tanh(F.linear(x, w[f"layer{number}.0.weight"], w[f"layer{number}.0.bias"]))
    x = packed(torch_lstm(model.get_submodule(f"layer{number + 1}")), x, mask)
    return F.linear(x, w["output_layer.weight"], w["output_layer.bias"])


@pytest.mark.parametrize("make", [BiLSTM, ConvBiLSTM])
@pytest.mark.parametrize("layers", [1, 2])
def test_lstms_compute_what_the_report_lists(make, layers):
    model, (images, mask) = make(layers=layers), random_words(4, 1, 3)
    assert torch.allclose(model(images, mask)[mask], by_the_report(model, images, mask)[mask], atol=1e-6)


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    hidden=st.integers(1, 3),
    layers=st.integers(1, 3),
)
@settings(max_examples=25, deadline=None)
def test_bidirectional_lstm_is_torchs_on_packed_sequences(lengths, hidden, layers):
    ours = BidirectionalLSTM(2, hidden, layers).double()
    theirs = torch_lstm(ours).double()
    _, mask = random_words(*lengths)
    x = torch.randn(*mask.shape, 2, dtype=torch.float64, requires_grad=True)
    outputs = ours(x, mask)[mask]
    expected = packed(theirs, x, mask)[mask]
    assert torch.allclose(outputs, expected, atol=1e-12)
    gradients = [torch.autograd.grad(out.square().sum(), x)[0] for out in (outputs, expected)]
    assert torch.allclose(*gradients, atol=1e-12)


def test_per_letter_cnn_is_the_cnn_on_each_letter():
    cnn, (images, mask) = OcrCNN(), random_words(3, 1)
    scores = PerLetter(cnn)(images, mask)
    assert torch.allclose(scores[mask], cnn(images[mask][:, None]))
    assert not scores[~mask].any()


# Padding


@every_word_model
def test_a_word_scores_the_same_alone_and_beside_longer_ones(name):
    model, (images, mask) = WORD_MODELS[name]().eval(), random_words(5, 1, 3, 4, 5)
    together = model(images, mask)
    for word, length in enumerate(mask.sum(1).tolist()):
        alone = model(images[[word], :length], mask[[word], :length])
        assert (alone[0] - together[word, :length]).abs().max() <= 1e-5


@every_word_model
def test_nothing_in_the_padding_reaches_a_score_or_a_gradient(name):
    model, (images, mask) = WORD_MODELS[name]().eval(), random_words(1, 4, 2)
    littered = torch.where(mask[:, :, None, None], images, 1e3).requires_grad_()
    scores = model(littered, mask)[mask]
    assert torch.equal(scores, model(images, mask)[mask])
    (gradient,) = torch.autograd.grad(scores.square().sum(), littered)
    assert not gradient[~mask].any()
    assert all(letter.any() for letter in gradient[mask])


# Dropout


@pytest.mark.parametrize("make", [BiLSTM, ConvBiLSTM])
def test_dropout_stands_around_and_between_the_layers_of_the_lstm(make):
    torch.manual_seed(0)
    model, (images, mask) = make(hidden=4, layers=3, dropout=0.5), random_words(3, 2)
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.5}
    applied = []
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda module, inputs, output: applied.append(output.shape[2]))
    assert not torch.equal(model(images, mask)[mask], model(images, mask)[mask])
    assert applied == 2 * [4, 8, 8, 8]
    model.eval()
    assert torch.equal(model(images, mask)[mask], model(images, mask)[mask])


# Networks with a CRF


def test_a_crf_leaves_the_scores_and_learns_with_the_network():
    network, (images, mask) = BiLSTM(hidden=4), random_words(3, 2)
    model = WithCRF(network, LinearChainCRF(26))
    emissions = model(images, mask)
    assert torch.equal(emissions, network(images, mask))
    model.crf.log_likelihood(emissions, torch.zeros_like(mask, dtype=torch.int64), mask).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
