"""How text is normalised, compared and checked: the one place for the lab's rules about text.

normalise("Zażółć  gęślą")          text as it is stored: Unicode NFC, single spaces
normalise_for_wer("Ale, jak to?!")  "ale jak to": what the normalised error rates compare
letters_only("Ala - ma kota.")      "ala ma kota": equal for sentences that leak between splits
text_problem("Привет", "pl")        why a clip with this text is dropped, or None
"""

from __future__ import annotations

import unicodedata

from lab2_whisper.schema import LETTERS, DropReason

# Languages written without spaces, the same as in openai/whisper's split_to_word_tokens
UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})


def normalise(text: str) -> str:
    """Return the text in Unicode NFC, where a Polish letter is one character, with single spaces."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def normalise_for_wer(text: str) -> str:
    """Return the text in lower case without punctuation and without what brackets enclose.

    This is the basic normaliser of Radford et al. 2022, "Robust Speech Recognition via Large-Scale
    Weak Supervision", appendix C, as transformers has it. Polish letters stay. Most model cards
    give error rates of texts normalised like this.
    """
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    return BasicTextNormalizer()(text).strip()


def letters_only(text: str) -> str:
    """Return the letters and digits of a text in lower case, with single spaces between words.

    Two sentences that differ only in case and punctuation give the same result.
    """
    kept = "".join(c for c in text.lower() if c.isalnum() or c == " ")
    return " ".join(kept.split())  # a dash between words leaves two spaces


def text_problem(text: str, locale: str) -> DropReason | None:
    """Return why a clip with this text (as normalise returns it) is dropped, or None.

    Digits, punctuation and signs such as % are accepted. Letters must be in schema.LETTERS for
    the locale; a locale that is not there accepts any letter.
    """
    if not any(character.isalnum() for character in text):
        return "empty text"
    letters = LETTERS.get(locale)
    for character in text.lower():
        if character.isalpha() or unicodedata.combining(character):
            fits = letters is None or character in letters
        else:
            fits = unicodedata.category(character)[0] in "NPZ" or character in "+=°€$£"
        if not fits:
            return "characters outside the language"
    return None
