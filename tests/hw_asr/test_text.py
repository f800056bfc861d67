"""The alphabet: 35 characters with the course's token ids."""

from hypothesis import given
from hypothesis import strategies as st

from hw_asr.text import ALPHABET, EMPTY, START, STOP, UNKNOWN, decode, encode


def test_the_alphabet_is_the_course_s():
    assert len(ALPHABET) == 35
    assert [ALPHABET[i] for i in (START, STOP, EMPTY, UNKNOWN)] == ["<", ">", "@", "#"]
    assert ALPHABET[4:9] == " ,.?-" and ALPHABET[9:] == "abcdefghijklmnopqrstuvwxyz"


def test_token_ids_of_a_transcript():
    assert encode("A z, 7é") == [0, 9, 4, 34, 5, 4, 3, 3, 1]
    assert decode(encode("The “Gothic” type; 1455?")) == "the #gothic# type# ####?"


def test_special_tokens_in_a_transcript_become_unknown():
    assert encode("<a>@#") == [START, UNKNOWN, 9, UNKNOWN, UNKNOWN, UNKNOWN, STOP]


def test_long_transcripts_are_truncated():
    assert encode("abcd", max_length=3) == [START, 9, 10, 11, STOP]
    assert len(encode("x" * 500, max_length=97)) == 99
    assert encode("", max_length=97) == [START, STOP]


@given(st.text(alphabet=ALPHABET[4:]))
def test_decoding_inverts_encoding(text):
    assert decode(encode(text)) == text


@given(st.text())
def test_any_text_can_be_encoded(text):
    tokens = encode(text)
    assert tokens[0] == START and tokens[-1] == STOP
    assert all(UNKNOWN <= token < len(ALPHABET) for token in tokens[1:-1])
    assert encode(decode(tokens)) == tokens


@given(st.lists(st.integers(0, 34)))
def test_decoding_ends_at_the_first_stop(tokens):
    before_stop = tokens[: tokens.index(STOP)] if STOP in tokens else tokens
    assert decode(tokens) == "".join(ALPHABET[token] for token in before_stop if token not in (START, EMPTY))
