"""The alphabet: 35 characters as the course numbers them."""

from hypothesis import given
from hypothesis import strategies as st

from hw_asr.text import ALPHABET, EMPTY, START, STOP, UNKNOWN, decode, encode


def test_the_alphabet_is_the_course_s():
    assert len(ALPHABET) == 35
    assert [ALPHABET[i] for i in (START, STOP, EMPTY, UNKNOWN)] == ["<", ">", "@", "#"]
    assert ALPHABET[4:9] == " ,.?-" and ALPHABET[9:] == "abcdefghijklmnopqrstuvwxyz"


def test_a_transcript_in_numbers():
    assert encode("A z, 7é") == [0, 9, 4, 34, 5, 4, 3, 3, 1]
    assert decode(encode("The “Gothic” type; 1455?")) == "the #gothic# type# ####?"


def test_a_transcript_cannot_end_itself():
    assert encode("<a>@#") == [START, UNKNOWN, 9, UNKNOWN, UNKNOWN, UNKNOWN, STOP]


def test_what_is_too_long_is_cut():
    assert encode("abcd", max_length=3) == [START, 9, 10, 11, STOP]
    assert len(encode("x" * 500, max_length=97)) == 99
    assert encode("", max_length=97) == [START, STOP]


@given(st.text(alphabet=ALPHABET[4:]))
def test_what_the_alphabet_has_comes_back(text):
    assert decode(encode(text)) == text


@given(st.text())
def test_any_text_has_numbers(text):
    numbers = encode(text)
    assert numbers[0] == START and numbers[-1] == STOP
    assert all(UNKNOWN <= number < len(ALPHABET) for number in numbers[1:-1])
    assert encode(decode(numbers)) == numbers


@given(st.lists(st.integers(0, 34)))
def test_decoding_ends_at_the_first_stop(numbers):
    text = decode(numbers)
    before = numbers[: numbers.index(STOP)] if STOP in numbers else numbers
    assert text == "".join(ALPHABET[number] for number in before if number not in (START, EMPTY))
