"""Text is normalised, compared and checked by one set of rules."""

import unicodedata
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab2_whisper.schema import DropReason
from lab2_whisper.text import letters_only, normalise, normalise_for_wer, text_problem


def test_text_is_nfc_with_single_spaces():
    assert normalise(unicodedata.normalize("NFD", "Zażółć\tgęślą ")) == "Zażółć gęślą"
    assert text_problem(normalise(unicodedata.normalize("NFD", "Zażółć")), "pl") is None


def test_normalising_for_error_rates_keeps_polish_letters():
    assert normalise_for_wer("  Zażółć, „gęślą” - JAŹŃ… ") == "zażółć gęślą jaźń"
    assert normalise_for_wer("Kup (szeptem) mleko") == "kup mleko"


def test_sentences_are_the_same_apart_from_case_and_punctuation():
    assert letters_only("Ala - ma kota.") == letters_only("ALA MA KOTA!") == "ala ma kota"
    assert letters_only("Pokój 105?") == "pokój 105"


@pytest.mark.parametrize("text", ["„Tak” - 5% z 20°, 'no'… quiz & vox?", "2 + 2 = 4 €"])
def test_polish_text_is_accepted_with_digits_and_signs(text):
    assert text_problem(text, "pl") is None


@pytest.mark.parametrize(
    ("text", "locale"), [("Grüß Gott", "de"), ("Привет", "uk"), ("你好", "zh")]
)
def test_other_locales_accept_their_letters(text, locale):
    assert text_problem(text, locale) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("  ... ", "empty text"),
        ("Привет", "characters outside the language"),
        ("Cześć 😀", "characters outside the language"),
        ("Za\ufffd", "characters outside the language"),
    ],
)
def test_text_that_cannot_be_learned_from_has_a_reason(text, problem):
    assert text_problem(normalise(text), "pl") == problem
    assert problem in get_args(DropReason)


@given(st.text())
def test_any_text_is_accepted_or_has_a_reason(text):
    assert text_problem(normalise(text), "pl") in (
        None, "empty text", "characters outside the language",
    )  # fmt: skip
