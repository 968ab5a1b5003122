"""How text is compared: the one place for the lab's rules about what people write.

normalise("Zażółć  gęślą")          the text as it is stored: NFC, single spaces
normalise_for_wer("Ale, jak to?!")  "ale jak to": what the normalised error rates compare
text_problem("Привет", "pl")        why a sentence cannot be learned from, or None
"""

from __future__ import annotations

import unicodedata

from lab2_whisper.schema import LETTERS

UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # languages written without spaces


def normalise(text: str) -> str:
    """Return the text in Unicode NFC (one character for each Polish letter) with single spaces."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def normalise_for_wer(text: str) -> str:
    """Lower the case and remove punctuation and brackets, by the rule Whisper's authors published.

    Polish letters stay. Error rates on most model cards are of texts normalised like this.
    """
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    return BasicTextNormalizer()(text).strip()


def letters_only(text: str) -> str:
    """Return letters, digits and single spaces in lower case: sentences equal by it are the same."""
    kept = "".join(c for c in text.lower() if c.isalnum() or c == " ")
    return " ".join(kept.split())  # a dash leaves two spaces


def text_problem(text: str, locale: str) -> str | None:
    """Return why a text cannot be learned from, one of schema.DROPPED, or None.

    Digits, punctuation and signs such as % are accepted; letters only those of the language, or
    any where schema.LETTERS has no row for it.
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
