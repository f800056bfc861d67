"""Speed of our captioner compared with the course's code, as ratios within one run.

    python benchmarks/caption.py [--rounds 5] [--threads 1] [--precision fp32 bf16]

For each word, the course's code calls the LSTMCell and the last layer once and, with attention, projects the regions
again. It uses torch's dropout, Adam and gradient clamping, and generates one caption at a time. Ours is the code
that `hw_caption.train` runs. The sizes are those of the Sydney data set: 190 words, 49 regions of 512 features, and
captions with the lengths of its training captions. The course's batches are in random order; ours have captions of
similar length. Both get the same captions and threads and are timed alternately; the median of the ratios is printed.
"""

import statistics
from collections.abc import Callable, Sequence
from functools import partial

import harness
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from hw_caption import decoding
from hw_caption.experiment import loss_function
from hw_caption.fast_attention import FastDecoder, FastDecoderWithAttention
from hw_caption.models import Captioner, Decoder, DecoderWithAttention, State
from hw_caption.presets import MAX_GRADIENT
from hw_caption.vocabulary import END, START, UNKNOWN
from hw_common.training.batches import batches_of_similar_length
from hw_common.training.experiment import make_optimizer
from hw_common.training.memory import keep_freed_memory

VOCABULARY, REGIONS, MAX_LENGTH, TEST_IMAGES = 190, 49, 22, 58
CAPTIONS = {8: 96, 64: 384}  # captions in a round, by batch size
# Numbers of Sydney's training captions that have 7, 8, … 22 words, START and END included.
COUNTS = (1, 0, 87, 119, 277, 225, 271, 313, 331, 428, 210, 128, 46, 27, 10, 12)
USUAL_LENGTH = 11  # words in a typical caption of Sydney
GOALS = {("attention", 8): 3.0, ("attention", 64): 4.5, ("vanilla", 8): 3.0}
PLAIN = {"vanilla": Decoder, "attention": DecoderWithAttention}  # the course's code calls these for every word
FAST = {"vanilla": FastDecoder, "attention": FastDecoderWithAttention}

Batch = tuple[Tensor, Tensor, Tensor]


class Examples:
    """Batches of random images and captions in memory, in the form that `fit` takes."""

    def __init__(self, groups: Sequence[Sequence[int]], lengths: Tensor) -> None:
        """Random captions with the given `lengths`; `groups` lists the captions of each batch."""
        generator = torch.Generator().manual_seed(1)
        words = torch.randint(UNKNOWN + 1, VOCABULARY, (len(lengths), MAX_LENGTH), generator=generator)
        words[:, 0] = START
        words[torch.arange(len(lengths)), lengths - 1] = END
        words *= torch.arange(MAX_LENGTH) < lengths[:, None]
        regions = torch.randn(len(lengths), REGIONS, 512, generator=generator).relu()
        self.batches = [(regions[rows], words[rows, : lengths[rows].max()], lengths[rows]) for rows in groups]

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, start: int = 0) -> list[Batch]:  # noqa: D102
        return self.batches[start:]


def like_sydney(batch_size: int) -> tuple[Examples, Examples]:
    """The course's batches and ours, of captions with the same lengths."""
    generator = torch.Generator().manual_seed(1)
    lengths = 7 + torch.multinomial(
        torch.tensor(COUNTS).float(), CAPTIONS[batch_size], replacement=True, generator=generator
    )
    similar = batches_of_similar_length(lengths.tolist(), batch_size, seed=1, epoch=0)
    return Examples(torch.arange(len(lengths)).split(batch_size), lengths), Examples(similar, lengths)


def course_training(decoder: Decoder, examples: Examples) -> None:
    optimizer = torch.optim.Adam(decoder.parameters(), lr=4e-4)
    criterion = nn.CrossEntropyLoss()
    decoder.train()
    for regions, captions, lengths in examples.epoch(0):
        lengths, order = lengths.sort(descending=True)
        regions, captions, steps = regions[order], captions[order], (lengths - 1).tolist()
        state = decoder.begin(regions)
        scores = regions.new_zeros(len(regions), steps[0], VOCABULARY)
        for t in range(steps[0]):
            active = sum(length > t for length in steps)
            state = State(state.hidden[:active], state.cell[:active], regions[:active])
            scores[:active, t], state = decoder(captions[:active, t], state)
        loss = criterion(
            pack_padded_sequence(scores, steps, batch_first=True).data,
            pack_padded_sequence(captions[:, 1:], steps, batch_first=True).data,
        )
        optimizer.zero_grad()
        loss.backward()
        for parameter in decoder.parameters():
            parameter.grad.data.clamp_(-MAX_GRADIENT, MAX_GRADIENT)
        optimizer.step()
        loss.item()


def our_training(decoder: Decoder, examples: Examples, precision: str, lr: float = 4e-4) -> None:
    model = Captioner(nn.Identity(), [decoder])
    optimizer = make_optimizer("adam", model.parameters(), lr, 0.0)
    harness.train(model, optimizer, examples, loss_function, clip_value=MAX_GRADIENT, precision=precision)


@torch.inference_mode()
def course_greedy(decoder: Decoder, regions: Tensor) -> None:
    for image in regions.split(1):
        word = torch.tensor([START])
        state = decoder.begin(image)
        for _ in range(MAX_LENGTH - 1):
            scores, state = decoder(word, state)
            word = scores.argmax(dim=1)
            if word.item() == END:
                break


@torch.inference_mode()
def our_greedy(decoder: Decoder, regions: Tensor) -> None:
    decoding.greedy([decoder], regions, MAX_LENGTH - 1)


def course_trainer(kind: str, batch_size: int) -> Callable[[], None]:
    decoder, (examples, _) = PLAIN[kind](VOCABULARY), like_sydney(batch_size)
    decoder.dropout = nn.Dropout(0.5)
    return partial(course_training, decoder, examples)


def our_trainer(kind: str, batch_size: int) -> Callable[[str], None]:
    keep_freed_memory()  # every training command calls this, too
    decoder, (_, examples) = FAST[kind](VOCABULARY), like_sydney(batch_size)
    return partial(our_training, decoder, examples)


def compare_training(kind: str, batch_size: int, precisions: list[str], rounds: int) -> None:
    course, ours = partial(course_trainer, kind, batch_size), partial(our_trainer, kind, batch_size)
    seconds = harness.time_trainings(course, ours, precisions, rounds)
    for precision in precisions:
        goal = GOALS.get((kind, batch_size)) if precision == precisions[-1] else None
        harness.print_ratio(
            f"training captions, {kind}, batch {batch_size}", seconds, "baseline", precision, at_least=goal
        )


def compare_greedy(kind: str, rounds: int) -> None:
    decoder, (examples, _) = FAST[kind](VOCABULARY), like_sydney(64)
    sentence = torch.tensor([START, *range(UNKNOWN + 1, UNKNOWN + 1 + USUAL_LENGTH), END])
    examples.batches = [
        (r, sentence.expand(len(r), -1), torch.full_like(n, len(sentence))) for r, _, n in 4 * examples.batches
    ]
    our_training(decoder, examples, "fp32", lr=5e-3)  # so that it generates captions as long as `sentence`
    decoder.eval()
    course = PLAIN[kind](VOCABULARY).eval()
    course.load_state_dict(decoder.state_dict())
    regions = torch.cat([regions for regions, _, _ in examples.batches[:1]])[:TEST_IMAGES]
    words = statistics.mean(len(caption.tokens) for caption in decoding.greedy([decoder], regions, MAX_LENGTH - 1))
    calls = {"baseline": partial(course_greedy, course, regions), "ours": partial(our_greedy, decoder, regions)}
    seconds, title = harness.time_interleaved(calls, rounds, warm_up=1), f"greedy captions, {kind}, {words:.0f} words"
    harness.print_ratio(title, seconds, "baseline", "ours", (TEST_IMAGES, TEST_IMAGES), at_least=5)


def main() -> None:
    flags = harness.parser(__doc__, rounds=5)
    flags.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    arguments = harness.parse(flags)
    torch.manual_seed(42)
    for kind, batch_size in (("attention", 8), ("attention", 64), ("vanilla", 8), ("vanilla", 64)):
        compare_training(kind, batch_size, arguments.precision, arguments.rounds)
    for kind in FAST:
        compare_greedy(kind, arguments.rounds)


if __name__ == "__main__":
    main()
