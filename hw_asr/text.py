"""The vocabulary: 35 characters and their token ids, as in the course (ist-2023-24-hw2 Q3, |V| = 35)."""

from collections.abc import Iterable

START, STOP, EMPTY, UNKNOWN = range(4)  # EMPTY pads the texts of a batch
_SPECIALS = "<>@#"
ALPHABET = f"{_SPECIALS} ,.?-abcdefghijklmnopqrstuvwxyz"
NOTEBOOK_MAX_TEXT = 97  # characters of a transcript in the course's notebook: 99 tokens with START and STOP

_IDS = {character: token for token, character in enumerate(ALPHABET) if character not in _SPECIALS}


def encode(text: str, max_length: int | None = None) -> list[int]:
    """Token ids of a transcript: START, the characters of `text` in lower case, and STOP.

    Every character that is not in the alphabet, such as a digit, a quote or an accented letter, becomes UNKNOWN, as in
    the course. The characters < > @ # become UNKNOWN too, so that no transcript contains START, STOP or EMPTY. `text`
    is truncated to `max_length` characters; None for no limit.
    """
    return [START, *(_IDS.get(character, UNKNOWN) for character in text.lower()[:max_length]), STOP]


def decode(tokens: Iterable[int]) -> str:
    """The text of `tokens` up to the first STOP, without START and EMPTY; UNKNOWN is written as `#`."""
    characters = []
    for token in tokens:
        if token == STOP:
            break
        if token not in (START, EMPTY):
            characters.append(ALPHABET[token])
    return "".join(characters)
