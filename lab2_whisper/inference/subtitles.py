"""Turn segments into subtitles: cues that can be read in time, then VTT, SRT, TXT and JSON.

    made = cues(transcribe("interview.mp4", transcriber))
    Path("interview.vtt").write_text(to_vtt(made), encoding="utf-8")

The limits are those of Netflix's Timed Text Style Guides, general and Polish: two lines of 42
characters, 5/6 s to 7 s per cue, 2 frames between cues, a target of 17 characters per second.
"""

from __future__ import annotations

import bisect
import html
import itertools
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import Any, NamedTuple

from lab2_whisper.inference.segments import Segment, Word
from lab2_whisper.schema import LabError

MAX_LINE_CHARS = 42
MAX_LINES = 2
MIN_CUE_MS, MAX_CUE_MS = 833, 7000
CUE_GAP_MS = 80  # between two cues: 2 frames at 25 frames per second
CHARS_PER_SECOND = 17  # the reading speed to aim at
MAX_PAUSE_MS = 1000  # a longer silence always ends a cue
CUE_COST = 1.5  # of each cue, where a break costs 0 after a sentence and 0.5 after a comma
MAX_TIME_MS = 100 * 3600 * 1000 - 1  # the latest time that SRT can hold: 99:59:59,999
MAX_QUOTE_CHARS = 30  # of a cue, in an error message

# Polish and English conjunctions and prepositions: a line may break before them, not after.
_SMALL_WORDS = (
    "a aby albo ale ani bez bo chociaż choć co czy dla do gdy gdyż gdzie i iż jak jako jeśli jeżeli "
    "kiedy ku lecz lub na nad nie niż o od oraz po pod podczas ponieważ poza przed przez przy "
    "przeciw u w we więc wśród z za ze zanim że żeby "
    "about after an and as at because before but by for from if in into my nor of on or so "
    "than that the then though to under until when where which while who with without"
)
SMALL_WORDS = frozenset(_SMALL_WORDS.split())
CLOSING = "\"')]»\u201d\u2019"  # these may follow the end of a sentence
SENTENCE_ENDS = (".", "!", "?", "…")
CLAUSE_ENDS = (",", ";", ":", "\u2013", "\u2014")

# Invisible, but scripts need them: joiners and direction marks.
KEPT_FORMATS = "\u200c\u200d\u200e\u200f"


@dataclass(frozen=True)
class Cue:
    """The text on the screen from `start` to `end`, in seconds; `text` has its line breaks."""

    start: float
    end: float
    text: str


class _Token(NamedTuple):
    """A written word with its punctuation, up to the next space. Times in ms."""

    text: str
    start: int
    end: int


def cues(segments: Iterable[Segment]) -> list[Cue]:
    """Return the readable cues of a transcript, in order and without overlap.

    The segments may be in any state. All of their text is kept, except white space and invisible
    characters. A word of more than 42 characters is cut. Where speech leaves less than 5/6 s for a
    cue, the cues after it start late.
    """
    groups = _grouped(_in_order(_tokens(segments)))
    starts = _starts(groups)
    made = []
    for group, start, following in itertools.zip_longest(groups, starts, starts[1:]):
        text = " ".join(token.text for token in group)
        wanted = max(MIN_CUE_MS, group[-1].end - start, len(text) * 1000 // CHARS_PER_SECOND)
        free = following - CUE_GAP_MS - start if following is not None else MAX_CUE_MS
        made.append(_cue(start, start + min(wanted, free, MAX_CUE_MS), break_lines(text)))
    return made


def _cue(start: int, end: int, text: str) -> Cue:
    return Cue(start / 1000, end / 1000, text)


# From segments to words with times


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
    """Return start and end in ms of each of `letters`, the text without spaces.

    The letters of a word share its time. Where the words differ from the text, the letters share
    the time of the whole segment.
    """
    words = [word for word in segment.words if "".join(_visible(word.text).split())]
    spellings = ["".join(_visible(word.text).split()) for word in words]
    if "".join(spellings) != letters:
        words = [Word(segment.start, segment.end, letters, segment.confidence)]
        spellings = [letters]
    times = []
    for word, spelled in zip(words, spellings, strict=True):
        start, end = (_within(segment, seconds) for seconds in (word.start, word.end))
        step = max(0, end - start) / len(spelled)
        steps = range(len(spelled))
        times += [(round(start + step * i), round(start + step * (i + 1))) for i in steps]
    return times


def _within(segment: Segment, seconds: float) -> int:
    """Return a time in whole ms, clipped to its segment; NaN becomes 0, and _in_order fixes it."""
    low, high = (_milliseconds(edge) for edge in (segment.start, segment.end))
    return min(max(_milliseconds(seconds), low), max(low, high))


def _milliseconds(seconds: float) -> int:
    return round(min(max(seconds * 1000, 0), MAX_TIME_MS)) if math.isfinite(seconds) else 0


def _cut(word: str) -> Iterator[str]:
    """Yield a word in pieces of at most one line, without parting letters from their accents."""
    while len(word) > MAX_LINE_CHARS:
        place = MAX_LINE_CHARS
        while place > 1 and unicodedata.category(word[place]).startswith("M"):
            place -= 1
        yield word[:place]
        word = word[place:]
    yield word


def _in_order(tokens: Iterable[_Token]) -> list[_Token]:
    """Move words so that none starts before its predecessor ends, or ends before it starts."""
    ordered, clock = [], 0
    for token in tokens:
        start = max(clock, token.start)
        clock = max(start, token.end)
        ordered.append(_Token(token.text, start, clock))
    return ordered


# From words to cues


def _grouped(tokens: list[_Token]) -> list[list[_Token]]:
    """Distribute words over cues at the least total cost, by dynamic programming."""
    ends = list(itertools.accumulate(len(token.text) + 1 for token in tokens))
    breaks = [_break_cost(*pair) for pair in itertools.pairwise(tokens)] + [0.0]
    best = [0.0]  # best[n]: the least cost of the first n words
    begin = [0]  # begin[n]: where the last cue of the first n words starts
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
    """Yield where a cue that ends before word `end` may start, and its cost without breaks."""
    last = tokens[end - 1]
    for start in range(end - 1, -1, -1):
        first = tokens[start]
        before = ends[start - 1] if start else 0
        if start < end - 1 and (
            tokens[start + 1].start - first.end >= MAX_PAUSE_MS
            or last.end - first.start > MAX_CUE_MS
            or not _fits(ends, before, start, end)
        ):
            return
        free = tokens[end].start - CUE_GAP_MS - first.start if end < len(tokens) else MAX_CUE_MS
        yield start, CUE_COST + _haste_cost(ends[end - 1] - before - 1, min(free, MAX_CUE_MS))


def _fits(ends: list[int], before: int, start: int, end: int) -> bool:
    """Return whether words `start` to `end` fill at most two lines, the first as far as it goes."""
    total = ends[end - 1] - before - 1
    if total <= MAX_LINE_CHARS:
        return True
    first = bisect.bisect_right(ends, before + MAX_LINE_CHARS + 1, start, end) - 1
    return ends[end - 1] - ends[first] - 1 <= MAX_LINE_CHARS


def _haste_cost(characters: int, free_ms: int) -> float:
    """Return the cost of too little reading time: over 100 where it would make later cues late."""
    if free_ms < MIN_CUE_MS:
        return 100.0 + (MIN_CUE_MS - free_ms) / MIN_CUE_MS
    return 4 * max(0.0, characters * 1000 / free_ms / CHARS_PER_SECOND - 1)


def _starts(groups: list[list[_Token]]) -> list[int]:
    """Return when each cue starts, in ms: with its first word, or after its predecessor's time."""
    starts: list[int] = []
    earliest = 0
    for group in groups:
        starts.append(max(group[0].start, earliest))
        earliest = starts[-1] + MIN_CUE_MS + CUE_GAP_MS
    return starts


# Where a text may be broken


def _break_cost(word: _Token, following: _Token) -> float:
    """Return the cost of ending a cue between two words: by their grammar, less for a silence."""
    silence = min(1.0, (following.start - word.end) / 500)
    return _line_break_cost(word.text, following.text) - silence


def _line_break_cost(word: str, following: str) -> float:
    """Return the cost of a line break: from 0 after a sentence to 6 after a one-letter word."""
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
        return 4.0  # may be inside a name
    return 1.0 if following.lower() in SMALL_WORDS else 2.0


def break_lines(text: str) -> str:
    """Break a text into as few lines of at most 42 characters as possible, where a reader pauses.

    Words are kept whole, so the line of a very long word may be longer.
    """
    words = text.split()
    whole = " ".join(words)
    if len(whole) <= MAX_LINE_CHARS:
        return whole
    two = [
        (_two_lines_cost(words, place), place)
        for place in range(1, len(words))
        if len(whole) <= 2 * MAX_LINE_CHARS + 1  # no break fits a longer text: skip the slow joins
        and max(len(" ".join(words[:place])), len(" ".join(words[place:]))) <= MAX_LINE_CHARS
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
        if len(line) + 1 + len(word) > MAX_LINE_CHARS:
            yield line
            line = word
        else:
            line += " " + word
    yield line


# Cues that people edited


def checked(edited: Iterable[Cue]) -> list[Cue]:
    """Return cues in order, without empty ones or overlap, with times in whole ms.

    A text with more than two lines, or a line of more than 42 characters, gets new line breaks.
    Raises LabError, which quotes the cue, for times that are missing, negative or in the wrong
    order, and for two cues that start at the same time.
    """
    return [replace(cue, text=_fitted(cue.text)) for cue in _ordered(edited)]


def _ordered(edited: Iterable[Cue]) -> list[Cue]:
    """Return cues in order, without empty ones or overlap. Raises LabError as `checked` does."""
    kept = [(*_times(cue), text) for cue in edited if (text := _lines(cue.text))]
    kept.sort(key=lambda cue: cue[:2])
    for (start, _, text), (following, _, other) in itertools.pairwise(kept):
        if start == following:
            raise LabError(
                f"The cues “{short(text)}” and “{short(other)}” both start at "
                f"{start / 1000:g} s. Give one of them another start, or join them."
            )
    limits = [cue[0] for cue in kept[1:]] + [MAX_TIME_MS]
    return [
        _cue(start, min(end, limit), text)
        for (start, end, text), limit in zip(kept, limits, strict=False)
    ]


def _times(cue: Cue) -> tuple[int, int]:
    """Return start and end in ms. Raises LabError."""
    name = f"the cue “{short(cue.text)}”"
    for edge, seconds in (("start", cue.start), ("end", cue.end)):
        if not _is_time(seconds):
            raise LabError(
                f"The {edge} of {name} is not a time ({seconds}). "
                "Give seconds from 0 to under 360000, such as 12.5."
            )
    start, end = round(cue.start * 1000), round(cue.end * 1000)
    if end <= start:
        raise LabError(
            f"{name[0].upper()}{name[1:]} ends at {cue.end:g} s, but starts at {cue.start:g} s. "
            "Give it an end after its start."
        )
    return start, end


def _is_time(seconds: Any) -> bool:
    if isinstance(seconds, bool) or not isinstance(seconds, Real):  # numpy's numbers are Real, too
        return False
    return math.isfinite(seconds) and 0 <= float(seconds) * 1000 <= MAX_TIME_MS


def _lines(text: str | None) -> str:
    lines = [" ".join(line.split()) for line in _visible(text or "").splitlines()]
    return "\n".join(filter(None, lines))


def _fitted(text: str) -> str:
    lines = text.split("\n")
    fits = len(lines) <= MAX_LINES and all(len(line) <= MAX_LINE_CHARS for line in lines)
    return text if fits else break_lines(text)


def short(text: str) -> str:
    """Shorten a text for an error message to one line of at most 30 characters."""
    text = " ".join(_visible(text).split())
    return text if len(text) <= MAX_QUOTE_CHARS else text[: MAX_QUOTE_CHARS - 1] + "…"


def _visible(text: str) -> str:
    """Remove what nobody sees: control characters, byte-order marks, direction overrides."""
    return "".join(
        character
        for character in text
        if character.isspace()
        or character in KEPT_FORMATS
        or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
    )


# The files


def to_vtt(made: Iterable[Cue]) -> str:
    """Write WebVTT, which every browser plays. Raises LabError as `checked` does."""
    return _written("vtt", made, lambda text: html.escape(text, quote=False))


def to_srt(made: Iterable[Cue]) -> str:
    """Write SubRip. Raises LabError as `checked` does.

    The format has no escapes, so a space goes into what a player would read as code.
    """
    return _written("srt", made, _plain_srt)


def _plain_srt(text: str) -> str:
    text = text.replace("-->", "-- >")
    return re.sub(r"<(?=[a-zA-Z/])", "< ", text)


def to_txt(made: Iterable[Cue]) -> str:
    """Write the text alone, with a new line where a sentence and its cue end together."""
    lines: list[list[str]] = [[]]
    for cue in _ordered(made):
        text = " ".join(cue.text.split())
        lines[-1].append(text)
        if text.rstrip(CLOSING).endswith(SENTENCE_ENDS):
            lines.append([])
    return "".join(" ".join(line) + "\n" for line in lines if line)


def to_json(made: Iterable[Cue]) -> str:
    """Write a JSON list of objects with start and end in seconds, and text with line breaks."""
    return json.dumps([asdict(cue) for cue in _ordered(made)], ensure_ascii=False, indent=1) + "\n"


def _written(form: str, made: Iterable[Cue], escape: Callable[[str], str]) -> str:
    import pysubs2

    file = pysubs2.SSAFile()
    for cue in _ordered(made):
        event = pysubs2.SSAEvent(round(cue.start * 1000), round(cue.end * 1000))
        event.plaintext = _no_overrides(escape(cue.text))
        file.append(event)
    # without keep_ssa_tags, pysubs2 1.8.1 drops {...} from the text (tkarabela/pysubs2 issue 70)
    return file.to_string(form, keep_ssa_tags=True)


def _no_overrides(text: str) -> str:
    r"""Add a space so that \N stays text in pysubs2 1.8.1, and {\an8} in players.

    pysubs2 would write \h and \N as white space (tkarabela/pysubs2 issue 70).
    """
    text = re.sub(r"\\(?=[hnN])", r"\\ ", text)
    return re.sub(r"\{(?=\S)", "{ ", text)


WRITERS = {"vtt": to_vtt, "srt": to_srt, "txt": to_txt, "json": to_json}  # by file extension
