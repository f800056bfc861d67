"""The vocabulary: the words that a decoder knows, and their ids."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hw_common.runs import files
from hw_common.runs.errors import UserError

PAD, START, END, UNKNOWN = range(4)
SPECIALS = ("<pad>", "<start_seq>", "<end_seq>", "<unk>")
_MAX_WORDS = 1_000_000


@dataclass(frozen=True)
class Vocabulary:
    """Words in a fixed order; a word's id is its index."""

    words: tuple[str, ...]  # SPECIALS first, then the words of the training captions in alphabetical order

    @classmethod
    def from_captions(cls, captions: Iterable[Sequence[str]], min_count: int = 1) -> "Vocabulary":
        """The vocabulary of all words that occur at least `min_count` times in `captions`."""
        counts = Counter(itertools.chain.from_iterable(captions))
        kept = {word for word, count in counts.items() if count >= min_count} - set(SPECIALS)
        return cls((*SPECIALS, *sorted(kept)))

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def __contains__(self, word: str) -> bool:
        return self._ids.get(word, PAD) > UNKNOWN

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """START, the ids of `tokens` (UNKNOWN for a word that is not in the vocabulary), and END."""
        return [START, *(self._ids[token] if token in self else UNKNOWN for token in tokens), END]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words before END, without padding and START."""
        before_end = itertools.takewhile(lambda index: index != END, ids)
        return [self.words[index] for index in before_end if index not in (PAD, START)]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the words in their order."""
        return hashlib.sha256(json.dumps(self.words).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Writes the words as a JSON list."""
        files.write_json(path, list(self.words))

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Reads a file that `save` wrote.

        Raises:
            UserError: the file is missing, or it is not a list of different words that begins with SPECIALS.
        """
        words = files.read_json(path)
        if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
            raise UserError(f"{path} is damaged: expected a list of words")
        if tuple(words[: len(SPECIALS)]) != SPECIALS or len(set(words)) != len(words) or len(words) > _MAX_WORDS:
            raise UserError(f"{path} is damaged: expected different words, beginning with {' '.join(SPECIALS)}")
        return cls(tuple(words))
