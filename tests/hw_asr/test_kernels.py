"""The fast kernels give the values, gradients and metrics of the plain ones, `attention.py`."""

import dataclasses

import asr_files
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_asr import attention, models, presets, train
from hw_asr.attention import MultiHeadAttention
from hw_asr.fast_attention import ClipByClip, FastMultiHeadAttention
from hw_asr.kernels import build_model
from hw_asr.presets import Sizes
from hw_common.runs import files

torch.set_num_threads(1)

TINY = Sizes(encoder_blocks=2, mels=3, width=8, vocabulary=9, text_positions=9)
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=4)
every_decoder = pytest.mark.parametrize("decoder", ["lstm", "transformer"])


def padding_mask(lengths):
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])[:, None, None]


def both(decoder, sizes):
    """The plain and the fast network, with the same weights."""
    plain, fast = (build_model(decoder=decoder, sizes=sizes, kernels=name).double() for name in ("plain", "fast"))
    fast.load_state_dict(plain.state_dict())  # fails unless the names are the same
    return plain, fast


def gradients(network, *inputs):
    """The output of `network` and the gradients of all parameters."""
    network.zero_grad()
    output = network(*inputs)
    output.square().sum().backward()
    return [output.detach(), *(parameter.grad for parameter in network.parameters())]


@every_decoder
@settings(max_examples=15, deadline=None)
@given(lengths=LENGTHS, characters=st.integers(1, 9), dropout=st.sampled_from([0.0, 0.5]), seed=st.integers(0, 1000))
def test_networks_have_equal_outputs_and_gradients(decoder, lengths, characters, dropout, seed):
    torch.manual_seed(seed)
    spectrograms = torch.randn(len(lengths), 3, max(lengths), dtype=torch.float64)
    inputs = spectrograms, torch.tensor(lengths), torch.randint(9, (len(lengths), characters))
    found = []
    for network in both(decoder, dataclasses.replace(TINY, dropout=dropout)):
        torch.manual_seed(seed)  # both draw the same dropout masks
        found.append(gradients(network.train(), *inputs))
    for plain, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-10, rtol=1e-10)


@settings(max_examples=20, deadline=None)
@given(heads=st.integers(1, 2), queries=st.integers(1, 4), lengths=LENGTHS, padded=st.booleans())
def test_attention_clip_by_clip_has_equal_values_and_gradients(heads, queries, lengths, padded):
    sizes = [(len(lengths), heads, count, 3) for count in (queries, max(lengths), max(lengths))]
    parts = [torch.randn(size, dtype=torch.double, requires_grad=True) for size in sizes]
    mask = padding_mask(lengths) if padded else None
    expected, found = attention.attention(*parts, mask), ClipByClip.apply(*parts, mask)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    weights = torch.randn_like(expected)
    grads = [torch.autograd.grad((output * weights).sum(), parts) for output in (expected, found)]
    for plain, fast in zip(*grads, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-10, rtol=0)


@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_bfloat16_is_equal_within_rounding(queries, causal):
    torch.manual_seed(0)
    plain = MultiHeadAttention(8, 2)
    fast, x, z = FastMultiHeadAttention(plain), torch.randn(2, queries, 8), torch.randn(2, 5, 8)
    inputs = (x, None, None, True) if causal else (x, z, padding_mask([5, 3]))
    expected = gradients(plain, *inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert plain(*inputs).dtype == fast(*inputs).dtype == torch.bfloat16
        for network in (plain, fast):
            for exact, found in zip(expected, gradients(network, *inputs), strict=True):
                torch.testing.assert_close(found.float(), exact, atol=0.02 * exact.abs().max().item(), rtol=0.05)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return asr_files.write(tmp_path_factory.mktemp("clips"))


def counted(monkeypatch, owner, name):
    """Returns a list to which every later call of `owner.name` appends an entry."""
    calls, function = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *inputs, **more: (calls.append(1), function(*inputs, **more))[1])
    return calls


@pytest.mark.parametrize(("kernels", "encoder_and_decoder"), [("plain", 4 + 2), ("fast", 0)])
def test_a_plain_training_step_runs_the_textbooks_attention(clips, tmp_path, monkeypatch, kernels, encoder_and_decoder):
    arguments = train.COMMAND.parse(
        ["--dataset_dir", str(clips), "--results_dir", str(tmp_path), "--decoder", "transformer", "--batch_size", "4",
         "--kernels", kernels, "--dry_run"]
    )  # fmt: skip
    prepared = train.COMMAND.prepare(arguments, torch.device("cpu"))
    step = next(iter(prepared.batches.epoch(0)))
    attentions, cached = counted(monkeypatch, attention, "attention"), counted(monkeypatch, ClipByClip, "apply")
    prefixes = counted(monkeypatch, models.Prefixes, "step")
    loss, _, _ = prepared.loss_function(prepared.model, step)
    loss.backward()
    assert len(attentions) == encoder_and_decoder and not cached
    with torch.inference_mode():
        prepared.evaluate(prepared.model.eval())
    assert bool(prefixes) == (kernels == "plain")


@every_decoder
@pytest.mark.usefixtures("undrawn")
def test_trainings_have_the_same_metrics(clips, tmp_path, monkeypatch, decoder):
    monkeypatch.setattr(presets, "PRESETS", {"sheet": Sizes(encoder_blocks=1, width=4, text_positions=100)})
    rows = []
    for kernels in ("plain", "fast"):
        flags = ["--dataset_dir", str(clips), "--results_dir", str(tmp_path), "--threads", "1", "--name", kernels]
        flags += ["--decoder", decoder, "--kernels", kernels, "--epochs", "2", "--batch_size", "4", "--dropout", "0.1"]
        train.main(flags)
        rows.append([{**row, "seconds": 0.0} for row in files.read_csv(tmp_path / "hw_asr" / kernels / "metrics.csv")])
    assert len(rows[0]) == 2
    for plain, fast in zip(*rows, strict=True):
        assert fast == pytest.approx(plain, abs=1e-4)
