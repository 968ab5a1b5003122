"""Subtitles: readable cues from segments in any state, and files that every reader accepts."""

import html
import itertools
import json
import math
import random
import unicodedata

import pytest
import webvtt.srt
from hypothesis import given, settings
from hypothesis import strategies as st

from lab2_whisper.inference.segments import Segment, Word
from lab2_whisper.inference.subtitles import (
    Cue,
    checked,
    cues,
    to_json,
    to_srt,
    to_txt,
    to_vtt,
)
from lab2_whisper.schema import LabError

STORY = (
    "W ubiegłym roku pojechaliśmy z Anną Kowalską do Krakowa, żeby zobaczyć Wawel i Sukiennice. "
    "Pogoda była piękna, ale wiał silny wiatr, więc po południu poszliśmy do muzeum. Nie "
    "wiedziałem, że obraz jest tak mały! A ty? Byłeś tam kiedyś? W roku 1984 u nas go nie było."
)
WORDS = """--> {\\an8} {y:i} <i>x</i> <script> & &amp; \\N C:\\new { } < > <3 1984 WEBVTT NOTE 5:05
00:00:01.000 00:00:02,000 zażółć שלום 漢字 👩\u200d👩\u200d👧 \u202eabc\u202c \ufeffpoczątek a\x00b \x1bx"""
SIGNS = ["\n\n", "\r\n", "\u2028", "x" * 43, "ą" * 100, "e\u0301" * 30, "\ud800", "\u200b"]
HOSTILE = [*WORDS.split(" "), *SIGNS]


def spoken(text: str, start: float = 0.0, speed: float = 15.0, pause: float = 0.0) -> Segment:
    """A segment whose words take time by their length, at `speed` characters a second."""
    words, clock = [], start
    for word in text.split():
        end = clock + len(word) / speed
        words.append(Word(clock, end, word, 0.9))
        clock = end + pause
    return Segment(start, words[-1].end, text, tuple(words), 0.9)


def visible(text: str) -> str:
    """Return the characters that must be kept, by a definition independent of the product's."""
    hidden = {"Cc", "Cs", "Zs", "Zl", "Zp"}
    kept = (c for c in text if unicodedata.category(c) not in hidden)
    return "".join(c for c in kept if not (unicodedata.category(c) == "Cf" and c != "\u200d"))


def joined(made) -> str:
    return visible("".join(cue.text for cue in made))


def assert_readable(made: list[Cue]) -> None:
    for cue in made:
        lines = cue.text.split("\n")
        assert len(lines) <= 2
        assert all(0 < len(line) <= 42 and line == line.strip() for line in lines), cue
        assert 0.833 <= round(cue.end - cue.start, 3) <= 7.0, cue
    for cue, following in itertools.pairwise(made):
        assert round(following.start - cue.end, 3) >= 0.08, (cue, following)


def random_segments(rng: random.Random) -> list[Segment]:
    """Segments from tidy to senseless: missing words, other words than the text, absurd times."""
    segments, clock = [], rng.choice([0.0, rng.uniform(0, 7200)])
    for _ in range(rng.randint(0, 5)):
        words = [rng.choice([*STORY.split(), *HOSTILE]) for _ in range(rng.randint(0, 40))]
        length = rng.choice([0.0, 0.1, 1.0, 8.0, rng.uniform(0, 30), 30.0])
        start = clock + rng.choice([0.0, 0.0, 0.3, 5.0, -3.0, -100.0])
        edges = sorted(start + rng.uniform(0, length) for _ in range(2 * len(words)))
        if rng.random() < 0.1:
            rng.shuffle(edges)
        if edges and rng.random() < 0.1:
            edges[rng.randrange(len(edges))] = rng.choice([math.nan, math.inf, -1.0, 1e9])
        timed = tuple(
            Word(edges[2 * i], edges[2 * i + 1], word, 0.5) for i, word in enumerate(words)
        )
        timed = rng.choice([timed, timed, (), timed[1:]])
        segments.append(Segment(start, start + length, " ".join(words), timed, 0.5))
        clock = start + length
    return segments


@pytest.mark.parametrize("count", [500, pytest.param(2000, marks=pytest.mark.slow)])
def test_random_transcripts_become_readable_cues_with_all_their_text(count):
    rng = random.Random(6)
    for _ in range(count):
        segments = random_segments(rng)
        made = cues(segments)
        assert_readable(made)
        assert joined(made) == visible("".join(segment.text for segment in segments))


@pytest.mark.parametrize("count", [100, pytest.param(400, marks=pytest.mark.slow)])
def test_random_transcripts_are_read_back_from_every_format(count):
    rng = random.Random(7)
    for _ in range(count):
        made = cues(random_segments(rng))
        assert from_vtt(to_vtt(made)) == spaced(made)
        assert_same_after_vtt(to_srt(made))
        assert [Cue(**cue) for cue in json.loads(to_json(made))] == made
        assert visible(to_txt(made)) == joined(made)


def spaced(made) -> list[tuple[int, int, str]]:
    """Return cues to compare with a reader's, without the spaces that were added to codes."""
    return [(round(c.start * 1000), round(c.end * 1000), "".join(c.text.split())) for c in made]


def from_vtt(text: str) -> list[tuple[int, int, str]]:
    return spaced(read_vtt(text))


def read_vtt(text: str) -> list[Cue]:
    """Read with webvtt-py, which raises for an invalid file."""
    captions = webvtt.from_string(text, strict=True).captions
    return [
        Cue(seconds(c.start_time), seconds(c.end_time), html.unescape(c.text)) for c in captions
    ]


def seconds(stamp: webvtt.models.Timestamp) -> float:
    hours, minutes, whole, thousandths = stamp.to_tuple()
    return hours * 3600 + minutes * 60 + whole + thousandths / 1000


def assert_same_after_vtt(srt: str) -> None:
    """Convert SRT to VTT to SRT, each read by webvtt-py, which did not write it."""
    read = read_srt(srt)
    assert to_srt(read) == srt
    assert to_srt(read_vtt(to_vtt(read))) == srt


def read_srt(srt: str) -> list[Cue]:
    """Read with webvtt-py: pysubs2 1.8.1 drops a number on the last line, and times in the text."""
    captions = webvtt.srt.parse(srt.split("\n")) if srt else []
    return [Cue(seconds(c.start_time), seconds(c.end_time), c.raw_text) for c in captions]


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 9000), st.text(max_size=120))))
def test_any_text_that_a_visitor_types_gives_files_that_can_be_read(rows):
    starts = {start: (start / 1000, (start + length) / 1000, t) for start, length, t in rows}
    kept = checked(Cue(*row) for row in starts.values())
    assert [cue.start for cue in kept] == sorted(cue.start for cue in kept)
    assert all(a.end <= b.start for a, b in itertools.pairwise(kept))
    assert checked(kept) == kept
    assert from_vtt(to_vtt(kept)) == spaced(kept)
    assert_same_after_vtt(to_srt(kept))


def test_lines_are_broken_where_a_reader_would_pause():
    made = cues([spoken(STORY, start=3)])
    assert [cue.text for cue in made] == [
        "W ubiegłym roku pojechaliśmy\nz Anną Kowalską do Krakowa,",
        "żeby zobaczyć Wawel i Sukiennice.\nPogoda była piękna, ale wiał silny wiatr,",
        "więc po południu poszliśmy do muzeum.\nNie wiedziałem, że obraz jest tak mały!",
        "A ty? Byłeś tam kiedyś?\nW roku 1984 u nas go nie było.",
    ]
    assert made[0].start == 3


@pytest.mark.parametrize("speed", [9, 15, 25])
def test_no_line_ends_with_a_word_of_one_letter(speed):
    letters = set("wzioua")
    lines = "\n".join(cue.text for cue in cues([spoken(STORY, speed=speed)])).split("\n")
    assert not [line for line in lines if line.split()[-1].lower() in letters]


def test_cues_leave_time_to_read_where_a_silence_follows():
    fast = "Pogoda była piękna i wiał wiatr."
    made = cues([spoken(fast, 0, speed=40), spoken(fast, 5, speed=40)])
    assert [cue.start for cue in made] == [0, 5]
    assert all(len(cue.text) / (cue.end - cue.start) <= 17.1 for cue in made)


def test_a_short_cue_before_a_long_silence_is_shown_for_the_minimum_time():
    made = cues([spoken("Tak.", 1), spoken("Nie.", 60)])
    assert [(cue.start, cue.end) for cue in made] == [(1, 1.833), (60, 60.833)]


def test_a_very_long_word_is_shown_for_seven_seconds():
    assert cues([Segment(0, 20, "Aaa", (Word(0, 20, "Aaa", 1),), 1)]) == [Cue(0, 7, "Aaa")]


def test_cues_are_on_time_wherever_some_distribution_of_the_words_allows_it():
    """All distributions of a few words are tried: a cue is late only where each has a late one."""
    rng = random.Random(8)
    late = 0
    for _ in range(300):
        words, clock = [], 0.0
        for _ in range(rng.randint(1, 7)):
            clock += rng.choice([0, 0.05, 0.4, 0.8])
            end = clock + rng.choice([0.05, 0.3, 0.9, 2.5])
            words.append(Word(round(clock, 3), round(end, 3), rng.choice(["tak", "k" * 30]), 1))
            clock = end
        text = " ".join(word.text for word in words)
        made = cues([Segment(0, clock, text, tuple(words), 1)])
        begins = {word.start for word in words}
        if {cue.start for cue in made} <= begins:
            continue
        late += 1
        assert not any(on_time(words, cuts) for cuts in range(2 ** (len(words) - 1))), [
            (w.start, w.end, w.text) for w in words
        ]
    assert late


def on_time(words: list[Word], cuts: int) -> bool:
    """Return whether cues that start after the words in the bits of `cuts` keep every limit."""
    groups = [[words[0]]]
    for place, word in enumerate(words[1:]):
        if cuts >> place & 1:
            groups.append([word])
        else:
            groups[-1].append(word)
    for group, following in zip(groups, [*groups[1:], None], strict=True):
        if len(group) > 1 and group[-1].end - group[0].start > 7:
            return False
        if following and following[0].start - 0.08 - group[0].start < 0.833:
            return False
        sizes = [len(word.text) for word in group]
        lines = [
            (sum(sizes[:n]) + n - 1, sum(sizes[n:]) + len(sizes) - n - 1)
            for n in range(1, len(sizes) + 1)
        ]
        if min(max(pair) for pair in lines) > 42:
            return False
    return True


def test_words_that_differ_from_the_text_lose_only_their_times():
    words = (Word(0, 1, "Dobry", 0.9), Word(1, 2, "dzień", 0.9))
    assert cues([Segment(0, 2, "Dzień dobry", words, 0.9)]) == [Cue(0, 2, "Dzień dobry")]


def test_a_word_far_outside_its_segment_does_not_move_later_cues():
    words = (Word(0, 1, "Dzień", 0.9), Word(1e6, 2e6, "dobry", 0.9))
    made = cues([Segment(0, 2, "Dzień dobry", words, 0.9), spoken("Tak", 10)])
    assert [cue.start for cue in made] == [0, 2, 10]


def test_silence_gives_no_cues_and_valid_empty_files():
    for nothing in ([], [Segment(0, 3, "", (), 0.0)], [Segment(0, 3, "\ufeff \u202e", (), 0.0)]):
        assert cues(nothing) == []
    assert webvtt.from_string(to_vtt([]), strict=True).captions == []
    assert (to_srt([]), to_txt([]), json.loads(to_json([]))) == ("", "", [])


def test_each_format_has_its_own_escapes():
    cue = Cue(1, 3661.5, "{\\an8}<i>R&D</i> --> C:\\new")
    assert to_vtt([cue]) == (
        "WEBVTT\n\n1\n00:00:01.000 --> 01:01:01.500\n"
        "{ \\an8}&lt;i&gt;R&amp;D&lt;/i&gt; --&gt; C:\\ new\n\n"
    )
    assert to_srt([cue]) == (
        "1\n00:00:01,000 --> 01:01:01,500\n{ \\an8}< i>R&D< /i> -- > C:\\ new\n\n"
    )
    assert json.loads(to_json([cue])) == [{"start": 1, "end": 3661.5, "text": cue.text}]


def test_plain_text_has_line_breaks_after_sentences():
    made = cues([spoken("Dzień dobry. " * 3 + STORY)])
    lines = to_txt(made).splitlines()
    assert len(lines) < len(made)
    assert all(line.endswith((".", "!", "?")) for line in lines)
    assert " ".join(lines) == "Dzień dobry. " * 3 + STORY


def test_a_book_pasted_into_one_cue_is_broken_into_lines():
    """It is a megabyte: trying every place for a break would take minutes."""
    (cue,) = checked([Cue(0, 1, "Było to dawno. " * 70_000)])
    lines = cue.text.split("\n")
    assert max(map(len, lines)) <= 42
    assert " ".join(lines).split() == ["Było", "to", "dawno."] * 70_000


def test_edited_cues_are_sorted_trimmed_and_empty_ones_dropped():
    edited = [
        Cue(5, 9, "drugi"),
        Cue(1, 6, "pierwszy\n\n\nwiersz"),
        Cue(2, 3, " \u202e "),
        Cue(math.nan, 3, ""),
        Cue(9.0004, 12, STORY[:70]),
    ]
    first, second, third = checked(edited)
    assert first == Cue(1, 5, "pierwszy\nwiersz")
    assert second == Cue(5, 9, "drugi")
    assert (third.start, third.text.count("\n")) == (9, 1)


@pytest.mark.parametrize(
    ("start", "end", "sentence"),
    [
        (2, 1, r"The cue “Dzień dobry” ends at 1 s, but starts at 2 s\. Give it an end after"),
        (1, 1.0001, "ends at"),
        (
            math.nan,
            1,
            r"The start of the cue “Dzień dobry” is not a time \(nan\)\. Give seconds from 0",
        ),
        (0, math.inf, "The end of .* is not a time"),
        (-1, 1, r"The start of .* is not a time \(-1\)"),
        (None, 1, "The start of .* is not a time"),
        (0, "1:05", "The end of .* is not a time"),
        (0, 360_000, "The end of .* is not a time"),
    ],
)
def test_an_invalid_time_in_an_edited_cue_is_reported_in_one_sentence(start, end, sentence):
    for write in (checked, to_vtt, to_srt, to_txt, to_json):
        with pytest.raises(LabError, match=sentence):
            write([Cue(0, 1, "Tak"), Cue(start, end, "Dzień\ndobry")])


def test_two_cues_with_the_same_start_are_refused():
    with pytest.raises(LabError, match="“Tak” and “Nie” both start at 1 s"):
        checked([Cue(1, 2, "Tak"), Cue(1, 3, "Nie")])
