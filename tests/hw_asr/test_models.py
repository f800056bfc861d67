"""The networks of hw_asr: sizes, order of operations, and outputs that do not depend on padding or later tokens."""

import dataclasses
import math

import asr_notebook
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hw_asr.attention import MultiHeadAttention
from hw_asr.fast_attention import FastMultiHeadAttention
from hw_asr.generation import InferenceSettings, generate
from hw_asr.kernels import build_model
from hw_asr.models import sinusoids
from hw_asr.presets import PRESETS, Sizes
from hw_asr.text import START

TINY = {
    "sheet": Sizes(encoder_blocks=2, mels=3, width=8, vocabulary=9, text_positions=9),
    "notebook": Sizes(encoder_blocks=2, outer_norm=False, mels=3, width=8, vocabulary=9, text_positions=9),
}
GREEDY = InferenceSettings(None, max_length=8)
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=4)
FILLERS = (0.0, 1e4, 1e30, math.inf, math.nan)
every_preset = pytest.mark.parametrize("preset", TINY)
every_decoder = pytest.mark.parametrize("decoder", ["lstm", "transformer"])


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(42)


def tiny(preset, decoder, **changes):
    """A small network with larger weights than new networks, so that its logits differ more."""
    model = build_model(decoder=decoder, sizes=dataclasses.replace(TINY[preset], **changes)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(1.5)
    return model


def clips(lengths, mels=3):
    return [torch.randn(mels, length) for length in lengths]


def batch(spectrograms, filler=0.0):
    """One batch of clips, padded with `filler`, and the number of frames of each."""
    frames = torch.tensor([clip.shape[1] for clip in spectrograms])
    rows = [F.pad(clip, (0, int(frames.max()) - clip.shape[1]), value=filler) for clip in spectrograms]
    return torch.stack(rows), frames


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@every_decoder
@every_preset
def test_the_parameters_are_those_of_the_layers(preset, decoder):
    sizes = PRESETS[preset]
    d, vocabulary = 200, 35
    sub_block = 4 * d * d + 3 * d + 2 * d * (2 if sizes.outer_norm else 1)  # attention without key bias, or the MLP
    convolutions = d * 80 * 3 + d + d * d * 3 + d
    encoder = convolutions + 2 * sizes.encoder_blocks * sub_block + (0 if sizes.outer_norm else 2 * d)
    text = {"lstm": 2 * d + 8 * d * d + 8 * d, "transformer": sizes.text_positions * d + sub_block}[decoder]
    both_decoders = vocabulary * d + 2 * sub_block + 2 * d + d * vocabulary + vocabulary
    assert parameters(build_model(preset, decoder)) == encoder + text + both_decoders


def test_the_notebook_has_the_published_numbers_of_parameters():
    assert parameters(build_model("notebook", "lstm")) == 1_471_235
    assert parameters(build_model("notebook", "transformer")) == 1_329_835


@every_decoder
def test_the_sheet_has_four_blocks_of_two_sub_blocks(decoder):
    model = build_model("sheet", decoder)
    assert len(model.encoder.blocks) == 4
    assert model.encoder.blocks[0].attention.module.heads == 2
    assert model.encoder.blocks[0].mlp.module[0].out_features == 400


@every_decoder
@pytest.mark.parametrize(
    ("preset", "frames", "padded", "tokens"), [("sheet", 31, 31, (2, 7)), ("notebook", 900, 2754, (1, 98))]
)
def test_the_logits_equal_those_of_the_oracle(decoder, preset, frames, padded, tokens):
    model = build_model(preset, decoder).double()
    rows = torch.randn(tokens[0], 80, frames, dtype=torch.float64)
    spectrograms, tokens = asr_notebook.padded([*rows], padded), torch.randint(35, tokens)
    with torch.inference_mode():
        w = model.state_dict()
        expected = asr_notebook.decode(w, tokens, asr_notebook.encode(w, spectrograms), asr_notebook.lstm_of(w))
        logits = model(spectrograms, None, tokens)
    assert logits.shape == (*tokens.shape, 35)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)  # the sinusoids are float32


def test_a_sub_block_of_the_sheet_is_as_printed():
    block = build_model("sheet").encoder.blocks[0].mlp
    x = torch.randn(2, 3, 200)

    def norm(x):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()

    torch.testing.assert_close(block(x), norm(x + block.module(norm(x))))


@pytest.mark.parametrize("length", [1, 2, 9])
def test_positions_are_sines_and_cosines(length):
    table = sinusoids(length, 10, torch.device("cpu"))
    for position in range(length):
        for i in range(5):
            angle = position * math.exp(-i * math.log(3000) / 4)
            assert table[position, i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 5 + i].item() == pytest.approx(math.cos(angle), abs=1e-6)


def torchs(ours):
    """torch's attention layer with the weights of our layer `ours`, and 0 as the bias of the keys."""
    width = ours.out.in_features
    theirs = nn.MultiheadAttention(width, ours.heads, batch_first=True)
    theirs.in_proj_weight.data = torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]).detach()
    theirs.in_proj_bias.data = torch.cat([ours.query.bias, torch.zeros(width), ours.value.bias]).detach()
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    return theirs


@pytest.mark.parametrize("kernels", ["plain", "fast"])
@settings(max_examples=20, deadline=None)
@given(heads=st.integers(1, 3), width=st.integers(1, 4), queries=st.integers(1, 5), lengths=LENGTHS)
def test_attention_equals_torchs(kernels, heads, width, queries, lengths):
    ours = MultiHeadAttention(heads * width, heads)
    theirs = torchs(ours)
    ours = FastMultiHeadAttention(ours) if kernels == "fast" else ours
    x, z = torch.randn(len(lengths), queries, heads * width), torch.randn(len(lengths), max(lengths), heads * width)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    expected, weights = theirs(x, z, z, key_padding_mask=~mask, average_attn_weights=False)
    mask = mask[:, None, None]
    torch.testing.assert_close(ours(x, z, mask), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.weights(x, z, mask), weights, atol=1e-5, rtol=0)
    future = torch.ones(queries, queries, dtype=torch.bool).triu(1)
    torch.testing.assert_close(ours(x, causal=True), theirs(x, x, x, attn_mask=future)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0], atol=1e-5, rtol=0)


@every_decoder
def test_an_alignment_has_the_weights_of_the_cross_attention(decoder):
    model = tiny("sheet", decoder)
    spectrograms, frames = batch(clips([9, 4]))
    tokens = torch.tensor([[START, 4, 5], [START, 6, 6]])
    audio, mask = model.encoder(spectrograms, frames)
    weights = model.decoder.alignment(tokens, audio, mask)
    assert weights.shape == (2, 3, 5)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 3))
    assert not weights[1, :, 2:].any() and (weights[1, :, :2] > 0).all()
    # Equal keys get equal weights.
    torch.testing.assert_close(model.decoder.alignment(tokens, torch.ones(2, 4, 8), None), torch.full((2, 3, 4), 0.25))


@every_decoder
@every_preset
@settings(max_examples=8, deadline=None)
@given(lengths=LENGTHS, characters=st.integers(1, 5), filler=st.sampled_from(FILLERS))
def test_the_output_for_a_clip_does_not_depend_on_its_batch(preset, decoder, lengths, characters, filler):
    # In double precision, since these large weights amplify rounding errors.
    model, spectrograms = tiny(preset, decoder).double(), [clip.double() for clip in clips(lengths)]
    tokens = torch.randint(4, 9, (len(lengths), characters))
    tokens[:, 0] = START
    with torch.inference_mode():
        together = model(*batch(spectrograms, filler), tokens)
        texts = generate(model, *batch(spectrograms, filler), GREEDY)
        for i, clip in enumerate(spectrograms):
            alone = model(clip[None], None, tokens[[i]])[0]
            assert (together[i] - alone).abs().max() <= 1e-9
            [text] = generate(model, clip[None], None, GREEDY)
            assert texts[i].tokens == text.tokens
            assert texts[i].score == pytest.approx(text.score, abs=1e-6)


@every_decoder
@every_preset
def test_the_output_for_a_clip_does_not_depend_on_its_batch_at_full_size(preset, decoder):
    model, spectrograms = build_model(preset, decoder).eval(), clips([50, 1, 36, 23], mels=80)
    tokens = torch.randint(35, (4, 6))
    with torch.inference_mode():
        together = model(*batch(spectrograms, 1e3), tokens)
        for i, clip in enumerate(spectrograms):
            assert (together[i] - model(clip[None], None, tokens[[i]])[0]).abs().max() <= 1e-5


@every_decoder
def test_without_the_mask_padding_would_influence_the_output(decoder):
    model, (spectrograms, frames) = tiny("notebook", decoder), batch(clips([9, 3]))
    tokens = torch.tensor([[START, 4]] * 2)
    difference = (model(spectrograms, frames, tokens) - model(spectrograms, None, tokens)).abs().amax(dim=(1, 2))
    assert difference[0] <= 1e-5 and difference[1] > 1e-3


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_convolutions_pad_a_clip_in_a_batch_with_zeros(length):
    encoder = tiny("sheet", "lstm", encoder_blocks=0).encoder
    [clip] = clips([length])
    spectrograms, frames = batch([clip, *clips([9])], filler=7.0)
    x, mask = encoder(spectrograms, frames)
    half = math.ceil(length / 2)
    assert mask[:, 0, 0].sum(dim=1).tolist() == [half, 5]
    alone = F.gelu(F.conv1d(clip[None], encoder.conv1.weight, encoder.conv1.bias, padding=1))
    alone = F.gelu(F.conv1d(alone, encoder.conv2.weight, encoder.conv2.bias, padding=1, stride=2))
    expected = alone[0].T + sinusoids(half, 8, alone.device)
    torch.testing.assert_close(x[0, :half], expected, atol=1e-6, rtol=0)


@every_decoder
@every_preset
@pytest.mark.parametrize("position", [1, 2, 4])
def test_a_token_changes_no_earlier_logits(preset, decoder, position):
    model, (spectrograms, frames) = tiny(preset, decoder), batch(clips([9, 5]))
    tokens = torch.randint(4, 9, (2, 6))
    changed = tokens.clone()
    changed[:, position] = 4 + (tokens[:, position] - 3) % 5  # another one of 4 to 8
    difference = (model(spectrograms, frames, tokens) - model(spectrograms, frames, changed)).abs().amax(dim=2)
    assert not difference[:, :position].any()
    assert (difference[:, position] > 1e-6).all()


@every_decoder
@every_preset
@pytest.mark.parametrize("filler", [0.0, math.nan])
def test_gradients_reach_every_parameter(preset, decoder, filler):
    model = tiny(preset, decoder).train()
    tokens = torch.tensor([[START, 4, 5, 6, 7, 8, 1, 2, 3]] * 2)
    model(*batch(clips([9, 4]), filler), tokens).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_every_sub_block_has_dropout():
    model = tiny("sheet", "transformer", dropout=0.5)
    assert sum(isinstance(module, nn.Dropout) for module in model.modules()) == 2 * 2 + 2 + 1
    spectrograms, frames = batch(clips([9, 4]))
    inputs = spectrograms, frames, torch.tensor([[START, 4]] * 2)
    assert torch.equal(model(*inputs), model(*inputs))
    model.train()
    assert not torch.equal(model(*inputs), model(*inputs))
