"""The course's 35 characters and their numbers (ist-2023-24-hw2 Q3: a vocabulary of |V| = 35)."""

from collections.abc import Iterable

START, STOP, EMPTY, UNKNOWN = range(4)  # EMPTY pads
_SPECIALS = "<>@#"
ALPHABET = f"{_SPECIALS} ,.?-abcdefghijklmnopqrstuvwxyz"
NOTEBOOK_LONGEST = 97  # characters, which leaves room for START and STOP in the 99 tokens of the course's notebook

_NUMBERS = {character: number for number, character in enumerate(ALPHABET) if character not in _SPECIALS}


def encode(text: str, longest: int | None = None) -> list[int]:
    """START, the characters of `text` in lower case, STOP.

    Digits, quotes, accents and all else that is not in the alphabet is UNKNOWN, as in the course. So are < > @ and #
    themselves, which a transcript must not use to end itself.

    Args:
        text: a transcript.
        longest: characters that are kept; None keeps all.
    """
    return [START, *(_NUMBERS.get(character, UNKNOWN) for character in text.lower()[:longest]), STOP]


def decode(tokens: Iterable[int]) -> str:
    """The characters of `tokens` up to the first STOP, without START and EMPTY; UNKNOWN is `#`."""
    characters = []
    for token in tokens:
        if token == STOP:
            break
        if token not in (START, EMPTY):
            characters.append(ALPHABET[token])
    return "".join(characters)
