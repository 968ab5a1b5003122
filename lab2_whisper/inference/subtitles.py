"""Segments to subtitles: cues that a person can read in time, then VTT, SRT, TXT and JSON.

    made = cues(transcribe("interview.mp4", transcriber))
    Path("interview.vtt").write_text(to_vtt(made), encoding="utf-8")

The norms are those of the Polish and the general guides of Netflix: two lines of 42 characters,
5/6 s to 7 s a cue, 2 frames between cues, 17 characters a second aimed at.
"""

from __future__ import annotations

import bisect
import html
import itertools
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import Any, NamedTuple

from lab2_whisper.inference.segments import Segment, Word
from lab2_whisper.schema import LabError

LINE = 42  # characters
LINES = 2
SHORTEST, LONGEST = 833, 7000  # of a cue, ms
GAP = 80  # between two cues, ms: 2 frames at 25 a second
SPEED = 17  # characters a second to aim at
PAUSE = 1000  # ms of silence that always end a cue
A_CUE = 1.5  # what one more cue costs, beside a break after a sentence (0) or a comma (0.5)
LAST = 100 * 3600 * 1000 - 1  # ms: the latest time that SRT can write

# Polish and English conjunctions and prepositions: a line breaks before them, not after.
_SMALL_WORDS = (
    "a aby albo ale ani bez bo chociaż choć co czy dla do gdy gdyż gdzie i iż jak jako jeśli jeżeli "
    "kiedy ku lecz lub na nad nie niż o od oraz po pod podczas ponieważ poza przed przez przy "
    "przeciw u w we więc wśród z za ze zanim że żeby "
    "about after an and as at because before but by for from if in into my nor of on or so "
    "than that the then though to under until when where which while who with without"
)
SMALL_WORDS = frozenset(_SMALL_WORDS.split())
CLOSING = "\"')]»\u201d\u2019"  # may follow the end of a sentence
SENTENCE_ENDS = (".", "!", "?", "…")
CLAUSE_ENDS = (",", ";", ":", "\u2013", "\u2014")

KEPT_FORMATS = "\u200c\u200d\u200e\u200f"  # invisible, but scripts need them to join and to turn


@dataclass(frozen=True)
class Cue:
    """What is on the screen from `start` to `end`, in seconds; `text` has its line breaks."""

    start: float
    end: float
    text: str


class _Token(NamedTuple):
    """A word as it is written, with what follows it up to the next space. Times in ms."""

    text: str
    start: int
    end: int


def cues(segments: Iterable[Segment]) -> list[Cue]:
    """Readable cues of a transcription, in order and apart, whatever the segments are like.

    Of the text everything stays but white space and invisible signs. A word of more than 42
    characters is cut. Where speech leaves less than 5/6 s for a cue, the cues after it come late.
    """
    groups = _grouped(_in_order(_tokens(segments)))
    starts = _starts(groups)
    made = []
    for group, start, following in itertools.zip_longest(groups, starts, starts[1:]):
        text = " ".join(token.text for token in group)
        shown = max(SHORTEST, group[-1].end - start, len(text) * 1000 // SPEED)
        room = following - GAP - start if following is not None else LONGEST
        made.append(_cue(start, start + min(shown, room, LONGEST), broken(text)))
    return made


def _cue(start: int, end: int, text: str) -> Cue:
    return Cue(start / 1000, end / 1000, text)


# Segments to words with times


def _tokens(segments: Iterable[Segment]) -> Iterator[_Token]:
    for segment in segments:
        text = _visible(segment.text)
        pieces = [piece for word in text.split() for piece in _cut(word)]
        if not pieces:
            continue
        letters = _letter_times(segment, "".join(pieces))
        place = 0
        for piece in pieces:
            last = place + len(piece) - 1
            yield _Token(piece, letters[place][0], letters[last][1])
            place = last + 1


def _letter_times(segment: Segment, letters: str) -> list[tuple[int, int]]:
    """When each character of a text without spaces is said, from the word that holds it.

    Where the words are not those of the text, the text is spread over the segment.
    """
    words = [word for word in segment.words if "".join(_visible(word.text).split())]
    said = ["".join(_visible(word.text).split()) for word in words]
    if "".join(said) != letters:
        words = [Word(segment.start, segment.end, letters, segment.confidence)]
        said = [letters]
    times = []
    for word, spelled in zip(words, said, strict=True):
        start, end = (_within(segment, seconds) for seconds in (word.start, word.end))
        step = max(0, end - start) / len(spelled)
        steps = range(len(spelled))
        times += [(round(start + step * i), round(start + step * (i + 1))) for i in steps]
    return times


def _within(segment: Segment, seconds: float) -> int:
    """A time as whole ms inside its segment. What is no number becomes 0, which is mended later."""
    low, high = (_milliseconds(edge) for edge in (segment.start, segment.end))
    return min(max(_milliseconds(seconds), low), max(low, high))


def _milliseconds(seconds: float) -> int:
    return round(min(max(seconds * 1000, 0), LAST)) if math.isfinite(seconds) else 0


def _cut(word: str) -> Iterator[str]:
    """A word in pieces of at most a line, letters with their accents left whole."""
    while len(word) > LINE:
        place = LINE
        while place > 1 and unicodedata.category(word[place]).startswith("M"):
            place -= 1
        yield word[:place]
        word = word[place:]
    yield word


def _in_order(tokens: Iterable[_Token]) -> list[_Token]:
    """No word starts before the one before it has ended, or ends before it starts."""
    ordered, clock = [], 0
    for token in tokens:
        start = max(clock, token.start)
        clock = max(start, token.end)
        ordered.append(_Token(token.text, start, clock))
    return ordered


# Words to the cues that they share


def _grouped(tokens: list[_Token]) -> list[list[_Token]]:
    """Words shared out among cues at the least cost in all (dynamic programming)."""
    ends = list(itertools.accumulate(len(token.text) + 1 for token in tokens))
    breaks = [_break_cost(*pair) for pair in itertools.pairwise(tokens)] + [0.0]
    best = [0.0]  # of the first n words
    begin = [0]  # of the last cue among the first n words
    for end in range(1, len(tokens) + 1):
        cost, start = min(
            (best[start] + cost, start) for start, cost in _last_cues(tokens, ends, end)
        )
        best.append(cost + breaks[end - 1])
        begin.append(start)
    groups, end = [], len(tokens)
    while end:
        groups.append(tokens[begin[end] : end])
        end = begin[end]
    return groups[::-1]


def _last_cues(tokens: list[_Token], ends: list[int], end: int) -> Iterator[tuple[int, float]]:
    """Where a cue that ends before word `end` may begin, and what it costs, breaks apart."""
    last = tokens[end - 1]
    for start in range(end - 1, -1, -1):
        first = tokens[start]
        before = ends[start - 1] if start else 0
        if start < end - 1 and (
            tokens[start + 1].start - first.end >= PAUSE
            or last.end - first.start > LONGEST
            or not _fits(ends, before, start, end)
        ):
            return
        room = tokens[end].start - GAP - first.start if end < len(tokens) else LONGEST
        yield start, A_CUE + _haste(ends[end - 1] - before - 1, min(room, LONGEST))


def _fits(ends: list[int], before: int, start: int, end: int) -> bool:
    """Whether words fill at most two lines: as many as go on the first, the others on the next."""
    total = ends[end - 1] - before - 1
    if total <= LINE:
        return True
    first = bisect.bisect_right(ends, before + LINE + 1, start, end) - 1
    return ends[end - 1] - ends[first] - 1 <= LINE


def _haste(characters: int, room: int) -> float:
    """The cost of too little time to read: a hundred where others would have to come late."""
    if room < SHORTEST:
        return 100.0 + (SHORTEST - room) / SHORTEST
    return 4 * max(0.0, characters * 1000 / room / SPEED - 1)


def _starts(groups: list[list[_Token]]) -> list[int]:
    """When each cue comes, in ms: with its first word, or once the one before had its time."""
    starts: list[int] = []
    earliest = 0
    for group in groups:
        starts.append(max(group[0].start, earliest))
        earliest = starts[-1] + SHORTEST + GAP
    return starts


# Where a text may be broken


def _break_cost(word: _Token, following: _Token) -> float:
    """What it costs to end a cue between two words, by the habits of Polish and the silence."""
    silence = min(1.0, (following.start - word.end) / 500)
    return _line_break_cost(word.text, following.text) - silence


def _line_break_cost(word: str, following: str) -> float:
    """0 after a sentence, to 6 after a word of one letter, which no line ends with."""
    ending = word.rstrip(CLOSING)
    if ending.endswith(SENTENCE_ENDS):
        return 0.0
    if ending.endswith(CLAUSE_ENDS):
        return 0.5
    if len(word) == 1 and word.isalpha():
        return 6.0
    if word.lower() in SMALL_WORDS:
        return 4.0
    if word[0].isupper() and following[0].isupper():
        return 4.0  # perhaps a name
    return 1.0 if following.lower() in SMALL_WORDS else 2.0


def broken(text: str) -> str:
    """A text in as few lines of at most 42 characters as it needs, broken where one would pause.

    Words are kept whole, so a line with one long word may be longer.
    """
    words = text.split()
    whole = " ".join(words)
    if len(whole) <= LINE:
        return whole
    two = [
        (_two_lines_cost(words, place), place)
        for place in range(1, len(words))
        if len(whole) <= 2 * LINE + 1  # or no place will do, and joining at each takes long
        and max(len(" ".join(words[:place])), len(" ".join(words[place:]))) <= LINE
    ]
    if not two:
        return "\n".join(_filled(words))
    place = min(two)[1]
    return " ".join(words[:place]) + "\n" + " ".join(words[place:])


def _two_lines_cost(words: list[str], place: int) -> float:
    lopsided = abs(len(" ".join(words[:place])) - len(" ".join(words[place:])))
    return _line_break_cost(words[place - 1], words[place]) + lopsided / 20


def _filled(words: list[str]) -> Iterator[str]:
    line = words[0]
    for word in words[1:]:
        if len(line) + 1 + len(word) > LINE:
            yield line
            line = word
        else:
            line += " " + word
    yield line


# Cues that people edited


def checked(edited: Iterable[Cue]) -> list[Cue]:
    """Cues in order, without empty ones, each ended before the next starts, times in whole ms.

    A text with more than two lines, or lines of more than 42 characters, gets its breaks anew.
    Raises LabError, which quotes the cue, for times that are missing, negative or the wrong way
    round, and for two cues that start at once.
    """
    return [replace(cue, text=_fitted(cue.text)) for cue in _sound(edited)]


def _sound(edited: Iterable[Cue]) -> list[Cue]:
    kept = [(*_times(cue), text) for cue in edited if (text := _lines(cue.text))]
    kept.sort(key=lambda cue: cue[:2])
    for (start, _, text), (following, _, other) in itertools.pairwise(kept):
        if start == following:
            raise LabError(
                f"The cues “{short(text)}” and “{short(other)}” both start at "
                f"{start / 1000:g} s. Give one another start, or join them."
            )
    limits = [cue[0] for cue in kept[1:]] + [LAST]
    return [
        _cue(start, min(end, limit), text)
        for (start, end, text), limit in zip(kept, limits, strict=False)
    ]


def _times(cue: Cue) -> tuple[int, int]:
    name = f"The cue “{short(cue.text)}”"
    for edge, seconds in (("start", cue.start), ("end", cue.end)):
        if not _is_time(seconds):
            raise LabError(
                f"{name} has no {edge} that is a time ({seconds}). "
                "Give seconds from 0 to under 360000, such as 12.5."
            )
    start, end = round(cue.start * 1000), round(cue.end * 1000)
    if end <= start:
        raise LabError(
            f"{name} ends at {cue.end:g} s, and starts at {cue.start:g} s. "
            "Give it an end after its start."
        )
    return start, end


def _is_time(seconds: Any) -> bool:
    if isinstance(seconds, bool) or not isinstance(seconds, Real):
        return False
    return math.isfinite(seconds) and seconds >= 0 and seconds * 1000 <= LAST


def _lines(text: str | None) -> str:
    lines = [" ".join(line.split()) for line in _visible(text or "").splitlines()]
    return "\n".join(filter(None, lines))


def _fitted(text: str) -> str:
    lines = text.split("\n")
    fits = len(lines) <= LINES and all(len(line) <= LINE for line in lines)
    return text if fits else broken(text)


def short(text: str) -> str:
    """What an error quotes of a text: one line of at most 30 characters."""
    text = " ".join(_visible(text).split())
    return text if len(text) <= 30 else text[:29] + "…"


def _visible(text: str) -> str:
    """A text without what nobody sees: controls, byte-order marks, turns of direction."""
    return "".join(
        character
        for character in text
        if character.isspace()
        or character in KEPT_FORMATS
        or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
    )


# The files


def to_vtt(made: Iterable[Cue]) -> str:
    """WebVTT, which every browser's player takes. Raises LabError as `checked` does."""
    return _written("vtt", made, lambda text: html.escape(text, quote=False))


def to_srt(made: Iterable[Cue]) -> str:
    """SubRip. It has no way to escape, so a space keeps apart what a player would take for code."""
    return _written("srt", made, _plain_srt)


def _plain_srt(text: str) -> str:
    text = text.replace("-->", "-- >")
    return re.sub(r"<(?=[a-zA-Z/])", "< ", text)


def to_txt(made: Iterable[Cue]) -> str:
    """The text alone: a new line where a sentence ends with its cue."""
    lines = [[]]
    for cue in _sound(made):
        text = " ".join(cue.text.split())
        lines[-1].append(text)
        if text.rstrip(CLOSING).endswith(SENTENCE_ENDS):
            lines.append([])
    return "".join(" ".join(line) + "\n" for line in lines if line)


def to_json(made: Iterable[Cue]) -> str:
    """A list of objects with start and end in seconds and text, lines broken by \\n."""
    return json.dumps([asdict(cue) for cue in _sound(made)], ensure_ascii=False, indent=1) + "\n"


def _written(form: str, made: Iterable[Cue], escape) -> str:
    import pysubs2

    file = pysubs2.SSAFile()
    for cue in _sound(made):
        event = pysubs2.SSAEvent(round(cue.start * 1000), round(cue.end * 1000))
        event.plaintext = _no_overrides(escape(cue.text))
        file.append(event)
    return file.to_string(form, keep_ssa_tags=True)  # without it, {...} would be left out


def _no_overrides(text: str) -> str:
    r"""A space keeps pysubs2 from taking \N for a line break, and players {\an8} for a place."""
    text = re.sub(r"\\(?=[hnN])", r"\\ ", text)
    return re.sub(r"\{(?=\S)", "{ ", text)


WRITERS = {"vtt": to_vtt, "srt": to_srt, "txt": to_txt, "json": to_json}  # by the file's ending
