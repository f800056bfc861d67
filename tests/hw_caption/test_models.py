"""The decoders: sizes, names, the sheet's order of operations, and fast kernels against plain ones."""

import gc

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hw_caption.fast_attention import AttentionLoop, FastDecoder, FastDecoderWithAttention
from hw_caption.models import Attention, Captioner, Decoder, DecoderWithAttention, Encoder
from hw_common.training.precision import is_supported

PLAIN_AND_FAST = ((Decoder, FastDecoder), (DecoderWithAttention, FastDecoderWithAttention))
every_decoder = pytest.mark.parametrize("kind", [kind for pair in PLAIN_AND_FAST for kind in pair])
every_pair = pytest.mark.parametrize(("plain", "fast"), PLAIN_AND_FAST)
SIZES = {"vocab_size": 7, "embed_dim": 3, "decoder_dim": 4, "encoder_dim": 5}


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(42)


def make(kind, **changes):
    sizes = SIZES | ({"attention_dim": 6} if issubclass(kind, DecoderWithAttention) else {})
    return kind(**(sizes | changes)).eval()


def random_captions(lengths: list[int]) -> Tensor:
    """Numbers other than 0 in the first `lengths` positions of each row, then padding."""
    captions = torch.randint(1, SIZES["vocab_size"], (len(lengths), max(lengths)))
    return captions * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


# Sizes and names


@pytest.mark.parametrize(
    ("kind", "published", "layers"),
    [
        (Decoder, 697_078, [190 * 100, 4 * 256 * (100 + 256 + 2), 2 * 256 * 513, 190 * 257]),
        (
            DecoderWithAttention,
            1_298_467,
            [190 * 100, 4 * 256 * (612 + 256 + 2), 2 * 256 * 513, 190 * 257, 100 * 513 + 100 * 257 + 101],
        ),
    ],
)
def test_parameter_counts_are_the_published_ones_and_add_up(kind, published, layers):
    decoder = kind(vocab_size=190, embed_dim=100, decoder_dim=256, encoder_dim=512, dropout=0.5)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == published == sum(layers)


@every_decoder
def test_members_have_the_sheets_names(kind):
    decoder = kind(vocab_size=190)
    assert {"embedding", "decode_step", "dropout", "fc", "init_h", "init_c"} <= dict(decoder.named_children()).keys()
    assert type(decoder.decode_step) is nn.LSTMCell
    assert decoder.dropout.p == 0.5
    assert decoder.decode_step.input_size == (612 if issubclass(kind, DecoderWithAttention) else 100)


# One step


def plain_step(decoder, word, hidden, cell, regions):
    """A second implementation of the sheet's hints, from the formulas of Bahdanau's attention and of the LSTM."""
    inputs = decoder.embedding.weight[word]
    if hasattr(decoder, "attention"):
        a = decoder.attention
        parts = []
        for b in range(len(word)):
            energies = torch.stack(
                [a.full_att(torch.tanh(a.encoder_att(region) + a.decoder_att(hidden[b]))) for region in regions[b]]
            )
            weights = energies.exp() / energies.exp().sum()  # (R, 1)
            parts.append((weights * regions[b]).sum(dim=0))
        inputs = torch.cat([inputs, torch.stack(parts)], dim=1)
    k = decoder.decode_step
    i, f, g, o = (inputs @ k.weight_ih.t() + k.bias_ih + hidden @ k.weight_hh.t() + k.bias_hh).split(len(hidden[0]), 1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    hidden = torch.sigmoid(o) * torch.tanh(cell)
    return hidden @ decoder.fc.weight.t() + decoder.fc.bias, hidden, cell


@every_decoder
def test_a_step_follows_the_formulas(kind):
    decoder, regions = make(kind), torch.randn(3, 6, 5)
    state = decoder.begin(regions)
    hidden, cell = state.hidden, state.cell
    mean = regions.sum(dim=1) / 6
    torch.testing.assert_close(hidden, mean @ decoder.init_h.weight.t() + decoder.init_h.bias)
    torch.testing.assert_close(cell, mean @ decoder.init_c.weight.t() + decoder.init_c.bias)
    for word in torch.tensor([[1, 2, 3], [4, 5, 6], [0, 1, 1]]):
        expected = plain_step(decoder, word, hidden, cell, regions)
        scores, state = decoder(word, state)
        hidden, cell = state.hidden, state.cell
        for ours, theirs in zip((scores, hidden, cell), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_attention_weighs_the_regions():
    attention, regions = Attention(5, 4, 6), torch.randn(2, 3, 5)
    seen, weights = attention(regions, torch.randn(2, 4))
    assert seen.shape == (2, 5) and weights.shape == (2, 3) and (weights > 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    torch.testing.assert_close(seen, sum(weights[:, r, None] * regions[:, r] for r in range(3)))


def test_attention_does_not_care_in_what_order_the_regions_come():
    attention, regions, hidden = Attention(5, 4, 6), torch.randn(2, 4, 5), torch.randn(2, 4)
    order = torch.tensor([2, 0, 3, 1])
    seen, weights = attention(regions, hidden)
    turned, turned_weights = attention(regions[:, order], hidden)
    torch.testing.assert_close(turned, seen)
    torch.testing.assert_close(turned_weights, weights[:, order])


@every_decoder
def test_selected_states_are_those_of_the_selected_images(kind):
    decoder, regions = make(kind), torch.randn(3, 6, 5)
    rows = torch.tensor([2, 0, 0])
    selected, expected = decoder.begin(regions).select(rows), decoder.begin(regions[rows])
    assert type(selected) is type(expected)
    for name, tensor in vars(expected).items():
        torch.testing.assert_close(getattr(selected, name), tensor)


# Whole captions at once


def word_by_word(decoder, regions, captions, lengths):
    """The oracle of `teacher_forced`: the sheet's forward, once for each word of each caption."""
    scores, targets = [], []
    for image, caption, length in zip(regions, captions, lengths.tolist(), strict=True):
        state = decoder.begin(image[None])
        for t in range(length - 1):
            score, state = decoder(caption[t : t + 1], state)
            scores.append(score[0])
            targets.append(caption[t + 1])
    return torch.stack(scores), torch.stack(targets)


def gradients(path, decoder, regions, captions, lengths):
    regions = regions.clone().requires_grad_()
    scores, targets = path(decoder, regions, captions, lengths)
    order = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))  # each score gets a weight of its own
    loss = F.cross_entropy(scores, targets) + (scores * order).mean()
    found = torch.autograd.grad(loss, [*decoder.parameters(), regions])
    return scores.detach(), targets, found


def assert_equal(ours, theirs, atol):
    assert torch.equal(ours[1], theirs[1])
    torch.testing.assert_close((ours[0], ours[2]), (theirs[0], theirs[2]), atol=atol, rtol=0)


@pytest.mark.parametrize("kind", [Decoder, DecoderWithAttention])
@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(2, 7), min_size=1, max_size=6), regions=st.integers(1, 5))
def test_whole_captions_equal_word_by_word_with_all_gradients(kind, lengths, regions):
    decoder, features = make(kind), torch.randn(len(lengths), regions, 5)
    captions, counts = random_captions(lengths), torch.tensor(lengths)
    ours, theirs = (gradients(f, decoder, features, captions, counts) for f in (kind.teacher_forced, word_by_word))
    assert_equal(ours, theirs, atol=1e-5)


def twins(plain, fast, **options):
    """A plain and a fast decoder with the same weights."""
    decoders = make(plain, **options), make(fast, **options)
    decoders[1].load_state_dict(decoders[0].state_dict())
    return decoders


@every_pair
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(2, 7), min_size=1, max_size=6), regions=st.integers(1, 5))
def test_fast_equals_plain_with_all_gradients_and_the_same_dropout(plain, fast, dtype, atol, lengths, regions):
    features, captions = torch.randn(len(lengths), regions, 5, dtype=dtype), random_captions(lengths)
    found = []
    for decoder in twins(plain, fast, dropout=0.5):
        torch.manual_seed(0)
        decoder.to(dtype).train()
        found.append(gradients(plain.teacher_forced, decoder, features, captions, torch.tensor(lengths)))
    assert_equal(*found, atol=atol)


@every_pair
def test_fast_generation_equals_plain(plain, fast):
    regions = torch.randn(3, 6, 5, dtype=torch.float64)
    states = [(decoder, decoder.begin(regions)) for decoder in (one.double() for one in twins(plain, fast))]
    for word in torch.tensor([[1, 2, 3], [4, 5, 6]]):
        states = [(decoder, decoder.next_state(word, state)) for decoder, state in states]
        (_, one), (_, other) = states
        for ours, theirs in ((one.hidden, other.hidden), (one.cell, other.cell)):
            torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)
        assert (one.attention_weights is None) == (other.attention_weights is None) == (plain is Decoder)
        if plain is DecoderWithAttention:
            torch.testing.assert_close(one.attention_weights, other.attention_weights, atol=1e-10, rtol=0)


@every_decoder
def test_what_stands_in_the_padding_does_not_matter(kind):
    decoder, regions = make(kind), torch.randn(3, 6, 5)
    captions, lengths = random_captions([2, 5, 3]), torch.tensor([2, 5, 3])
    scores, targets = decoder.teacher_forced(regions, captions, lengths)
    other = torch.where(captions == 0, 6, captions)
    again, same = decoder.teacher_forced(regions, other, lengths)
    assert torch.equal(scores, again) and torch.equal(targets, same)


@every_decoder
def test_dropout_falls_between_lstm_and_vocabulary(kind):
    decoder = make(kind, dropout=0.5).train()
    regions, captions, lengths = torch.randn(2, 6, 5), random_captions([3, 6]), torch.tensor([3, 6])
    seen = {}
    decoder.dropout.register_forward_hook(lambda _, inputs, output: seen.update(dropout=(inputs[0], output)))
    decoder.fc.register_forward_pre_hook(lambda _, inputs: seen.update(fc=inputs[0]))
    decoder.teacher_forced(regions, captions, lengths)
    states, dropped = seen["dropout"]
    # All steps of the captions in the batch's own order, so that several processes can share one mask.
    assert states.shape == (2, 5, 4)
    assert torch.equal(states[1, :5], decoder.hidden_states(regions, captions[:, :-1], lengths - 1)[1])
    assert ((dropped == 0) | (dropped == 2 * states)).all() and (dropped == 0).any()
    assert torch.equal(seen["fc"], torch.cat([dropped[0, :2], dropped[1]]))
    state = decoder.begin(regions)
    assert not torch.equal(decoder(captions[:, 0], state)[0], decoder(captions[:, 0], state)[0])


@pytest.mark.skipif(not is_supported(torch.device("cpu")), reason="this CPU has no instructions for bf16")
@every_decoder
def test_mixed_precision_is_nearly_the_same(kind):
    decoder, regions = make(kind), torch.randn(3, 6, 5)
    captions, lengths = random_captions([4, 7, 2]), torch.tensor([4, 7, 2])
    scores, targets = decoder.teacher_forced(regions, captions, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        low, _ = decoder.teacher_forced(regions, captions, lengths)
        stepped = decoder.next_state(captions[:, 0], decoder.begin(regions)).hidden
    F.cross_entropy(low, targets).backward()
    torch.testing.assert_close(low.float(), scores, atol=0.05, rtol=0.05)
    assert all(parameter.grad.isfinite().all() for parameter in decoder.parameters())
    assert stepped.isfinite().all()


def test_the_loops_gradients_are_those_of_finite_differences():
    sizes, embed, regions, size, att, width = [3, 2, 2], 2, 2, 3, 2, 2
    shapes = {
        "embedded": (sum(sizes), embed), "weight_ih": (4 * width, embed + size), "weight_hh": (4 * width, width),
        "bias": (4 * width,), "hidden": (3, width), "cell": (3, width), "regions": (3, regions, size),
        "keys": (3, regions, att), "query_weight": (att, width), "score_weight": (att,)
    }  # fmt: skip
    numbers = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes.values()]
    assert torch.autograd.gradcheck(lambda *given: AttentionLoop.apply(*given, sizes, torch.float64), numbers)


def test_nothing_of_a_step_is_left_when_it_is_done():
    decoder = make(FastDecoderWithAttention)

    def step():
        regions, captions = torch.rand(2, 3, 5), random_captions([4, 3])
        scores, words = decoder.teacher_forced(regions, captions, torch.tensor([4, 3]))
        F.cross_entropy(scores, words).backward()
        return sum(type(thing) is Tensor for thing in gc.get_objects())

    step()
    gc.collect()
    counts = [step() for _ in range(3)]
    assert counts[0] == counts[1] == counts[2]


# Encoder and captioner


class Trunk(nn.Module):
    """A network whose outputs identify image and position, with batch normalization."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images):
        return self.norm(images)[:, :, ::2, ::2]


def test_regions_are_read_row_by_row():
    images = torch.randn(2, 3, 4, 6)
    regions = Encoder(Trunk())(images)
    assert regions.shape == (2, 6, 3)
    torch.testing.assert_close(regions[1, 4], images[1, :, 2, 2], atol=1e-4, rtol=1e-4)


def test_the_encoder_does_not_see_the_rest_of_the_batch():
    encoder = Encoder(Trunk()).train()
    images = torch.randn(4, 3, 4, 4)
    torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]))
    assert encoder.training and not encoder.trunk.norm.training
    assert torch.equal(encoder.trunk.norm.running_mean, torch.zeros(3))


@every_decoder
def test_decoders_side_by_side_learn_as_if_each_were_alone(kind):
    decoders = [make(kind) for _ in range(2)]
    regions, captions, lengths = torch.randn(2, 6, 5), random_captions([3, 6]), torch.tensor([3, 6])
    scores, targets = Captioner(nn.Identity(), decoders)(regions, captions, lengths)
    F.cross_entropy(scores, targets).backward()
    for decoder, part in zip(decoders, scores.split(7), strict=True):
        alone, same = decoder.teacher_forced(regions, captions, lengths)
        assert torch.equal(alone, part) and torch.equal(same, targets[:7])
        expected = torch.autograd.grad(F.cross_entropy(alone, same) / 2, list(decoder.parameters()))
        for parameter, gradient in zip(decoder.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_a_captioner_trains_its_encoder_too():
    captioner = Captioner(Encoder(Trunk()), [make(Decoder, encoder_dim=3)])
    scores, targets = captioner(torch.randn(2, 3, 4, 4), random_captions([3, 6]), torch.tensor([3, 6]))
    F.cross_entropy(scores, targets).backward()
    assert captioner.encoder.trunk.norm.weight.grad.abs().sum() > 0
