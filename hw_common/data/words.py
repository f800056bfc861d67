"""Splits captions into words by Unicode's rules."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import regex

# A word begins with a letter, digit or underscore. Combining marks belong to it, and so do the invisible joiners that
# Hindi and Persian write inside words. Hyphens, apostrophes and their counterparts in other scripts connect its parts.
_PART = r"[\p{L}\p{N}_](?:[\u200c\u200d]*[\p{L}\p{N}\p{M}_])*"
# Invisible characters that are not part of the spelling, such as soft hyphens and marks of the writing direction.
_INVISIBLE = regex.compile(r"(?V1)[\p{Cf}--[\u200b-\u200d]]")


def _spelled_alike(text: str) -> str:
    """`text` in lower case, without invisible characters, and normalized (NFC), since é can be encoded in two ways."""
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", text).lower())


@dataclass(frozen=True)
class WordRules:
    """Rules that split captions into lower-cased words."""

    spell: Callable[[str], str]  # converts a text to the spelling in which words are compared
    word: Any  # the pattern of a word, compiled by `re` or `regex`

    def tokenize(self, text: str) -> list[str]:
        """The words of `text`, without punctuation except for hyphens and apostrophes inside words.

        Scripts that put no spaces between words, such as Thai and Chinese, are split at spaces and punctuation only.
        """
        return self.word.findall(self.spell(text))

    def clean(self, tokens: Sequence[str]) -> list[str]:
        """The words of a caption that is split into `tokens` already: those with a letter or digit."""
        parts = [part for token in tokens for part in self.spell(token).split()]
        return [part for part in parts if any(character.isalnum() for character in part)]


UNICODE = WordRules(_spelled_alike, regex.compile(rf"{_PART}(?:['’‐‑·־׳״-]{_PART})*"))
# The rules of earlier versions, which cut words at combining marks. A run that used them is resumed with them.
EARLIER = WordRules(str.lower, re.compile(r"\w+(?:['’-]\w+)*"))
