"""The networks of hw_asr: sizes, order of operations, padding without influence, and no look into the future."""

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
FILLERS = (0.0, 1e4, 1e30, math.inf, math.nan)
every_preset = pytest.mark.parametrize("preset", TINY)
every_decoder = pytest.mark.parametrize("decoder", ["lstm", "transformer"])


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(42)


def tiny(preset, decoder, **changes):
    """A small network that is surer of itself than new ones are."""
    model = build_model(decoder=decoder, sizes=dataclasses.replace(TINY[preset], **changes)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(1.5)
    return model


def clips(lengths, mels=3):
    return [torch.randn(mels, length) for length in lengths]


def batch(spectrograms, filler=0.0):
    """One batch of clips with `filler` behind their ends, and how many frames each has."""
    frames = torch.tensor([clip.shape[1] for clip in spectrograms])
    rows = [F.pad(clip, (0, int(frames.max()) - clip.shape[1]), value=filler) for clip in spectrograms]
    return torch.stack(rows), frames


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


# Sizes


@every_decoder
@every_preset
def test_parameters_are_as_many_as_the_layers_say(preset, decoder):
    sizes = PRESETS[preset]
    d, vocabulary = 200, 35
    sub_block = 4 * d * d + 3 * d + 2 * d * (2 if sizes.outer_norm else 1)  # attention without key bias, or the MLP
    convolutions = d * 80 * 3 + d + d * d * 3 + d
    encoder = convolutions + 2 * sizes.encoder_blocks * sub_block + (0 if sizes.outer_norm else 2 * d)
    reader = {"lstm": 2 * d + 8 * d * d + 8 * d, "transformer": sizes.text_positions * d + sub_block}[decoder]
    both = vocabulary * d + 2 * sub_block + 2 * d + d * vocabulary + vocabulary
    assert parameters(build_model(preset, decoder)) == encoder + reader + both


def test_the_notebook_has_its_published_numbers_of_parameters():
    assert parameters(build_model("notebook", "lstm")) == 1_471_235
    assert parameters(build_model("notebook", "transformer")) == 1_329_835


@every_decoder
def test_the_sheet_has_four_blocks_of_two_sub_blocks(decoder):
    model = build_model("sheet", decoder)
    assert len(model.encoder.blocks) == 4
    assert model.encoder.blocks[0].attention.module.heads == 2
    assert model.encoder.blocks[0].mlp.module[0].out_features == 400


# Order of operations


@every_decoder
def test_the_notebooks_network_with_its_padding_is_the_plain_one(decoder):
    model = build_model("notebook", decoder).double()
    spectrograms = asr_notebook.padded([torch.randn(80, 900, dtype=torch.float64)])
    assert spectrograms.shape == (1, 80, 2754)
    tokens = torch.randint(35, (1, 98))
    with torch.inference_mode():
        w = model.state_dict()
        expected = asr_notebook.decode(w, tokens, asr_notebook.encode(w, spectrograms), asr_notebook.lstm_of(w))
        scores = model(spectrograms, None, tokens)
    assert scores.shape == (1, 98, 35)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)  # the sinusoids are float32


@every_decoder
def test_the_sheets_network_is_the_plain_one(decoder):
    model = build_model("sheet", decoder).double()
    spectrograms, tokens = torch.randn(2, 80, 31, dtype=torch.float64), torch.randint(35, (2, 7))
    with torch.inference_mode():
        w = model.state_dict()
        expected = asr_notebook.decode(w, tokens, asr_notebook.encode(w, spectrograms), asr_notebook.lstm_of(w))
        torch.testing.assert_close(model(spectrograms, None, tokens), expected, atol=1e-5, rtol=0)


def test_a_sub_block_of_the_sheet_is_as_printed():
    block = build_model("sheet").encoder.blocks[0].mlp
    x = torch.randn(2, 3, 200)

    def norm(x):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()

    torch.testing.assert_close(block(x), norm(x + block.module(norm(x))))


@pytest.mark.parametrize("length", [1, 2, 9])
def test_positions_are_sines_and_cosines(length):
    table = sinusoids(length, 10, torch.device("cpu"))
    for place in range(length):
        for i in range(5):
            angle = place * math.exp(-i * math.log(3000) / 4)
            assert table[place, i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[place, 5 + i].item() == pytest.approx(math.cos(angle), abs=1e-6)


# Attention


def torchs(ours):
    """torch's attention with the weights of ours, and 0 as the bias of the keys."""
    width = ours.out.in_features
    theirs = nn.MultiheadAttention(width, ours.heads, batch_first=True)
    theirs.in_proj_weight.data = torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]).detach()
    theirs.in_proj_bias.data = torch.cat([ours.query.bias, torch.zeros(width), ours.value.bias]).detach()
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    return theirs


@pytest.mark.parametrize("kernels", ["plain", "fast"])
@settings(max_examples=20, deadline=None)
@given(
    heads=st.integers(1, 3),
    width=st.integers(1, 4),
    queries=st.integers(1, 5),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
)
def test_attention_is_torchs(kernels, heads, width, queries, lengths):
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
def test_an_alignment_is_where_the_decoder_looks(decoder):
    model = tiny("sheet", decoder)
    spectrograms, frames = batch(clips([9, 4]))
    tokens = torch.tensor([[START, 4, 5], [START, 6, 6]])
    audio, mask = model.encoder(spectrograms, frames)
    looks = model.decoder.alignment(tokens, audio, mask)
    assert looks.shape == (2, 3, 5)
    torch.testing.assert_close(looks.sum(dim=2), torch.ones(2, 3))
    assert not looks[1, :, 2:].any() and (looks[1, :, :2] > 0).all()
    # Keys that are all alike are looked at alike.
    torch.testing.assert_close(model.decoder.alignment(tokens, torch.ones(2, 4, 8), None), torch.full((2, 3, 4), 0.25))


# Padding


@every_decoder
@every_preset
@settings(max_examples=8, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    characters=st.integers(1, 5),
    filler=st.sampled_from(FILLERS),
)
def test_a_clip_says_the_same_whatever_it_is_batched_with(preset, decoder, lengths, characters, filler):
    # In double precision, since these weights make rounding errors larger; at full size, single precision will do.
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
def test_a_clip_says_the_same_at_full_size(preset, decoder):
    model, spectrograms = build_model(preset, decoder).eval(), clips([50, 1, 36, 23], mels=80)
    tokens = torch.randint(35, (4, 6))
    with torch.inference_mode():
        together = model(*batch(spectrograms, 1e3), tokens)
        for i, clip in enumerate(spectrograms):
            assert (together[i] - model(clip[None], None, tokens[[i]])[0]).abs().max() <= 1e-5


@every_decoder
def test_without_the_mask_the_padding_would_be_heard(decoder):
    model, (spectrograms, frames) = tiny("notebook", decoder), batch(clips([9, 3]))
    tokens = torch.tensor([[START, 4]] * 2)
    difference = (model(spectrograms, frames, tokens) - model(spectrograms, None, tokens)).abs().amax(dim=(1, 2))
    assert difference[0] <= 1e-5 and difference[1] > 1e-3


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_convolutions_see_silence_beyond_the_end(length):
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


# The future


@every_decoder
@every_preset
@pytest.mark.parametrize("place", [1, 2, 4])
def test_a_later_character_changes_no_earlier_score(preset, decoder, place):
    model, (spectrograms, frames) = tiny(preset, decoder), batch(clips([9, 5]))
    tokens = torch.randint(4, 9, (2, 6))
    changed = tokens.clone()
    changed[:, place] = 4 + (tokens[:, place] - 3) % 5  # another one of 4 to 8
    difference = (model(spectrograms, frames, tokens) - model(spectrograms, frames, changed)).abs().amax(dim=2)
    assert not difference[:, :place].any()
    assert (difference[:, place] > 1e-6).all()


# Learning


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


def test_dropout_stands_behind_every_module():
    model = tiny("sheet", "transformer", dropout=0.5)
    assert sum(isinstance(module, nn.Dropout) for module in model.modules()) == 2 * 2 + 2 + 1
    spectrograms, frames = batch(clips([9, 4]))
    tokens = torch.tensor([[START, 4]] * 2)
    assert torch.equal(model(spectrograms, frames, tokens), model(spectrograms, frames, tokens))
    model.train()
    assert not torch.equal(model(spectrograms, frames, tokens), model(spectrograms, frames, tokens))
