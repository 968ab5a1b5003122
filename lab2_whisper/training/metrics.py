"""Word and character error rates of transcripts, with intervals, offline.

Orthographic: as written, case and punctuation count. Normalised: lower case, no punctuation, as
on most model cards. The two differ by 10 to 20 points on Polish, so both are always told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import datasets
import evaluate
import jiwer
import numpy as np

from lab2_whisper.schema import LabError
from lab2_whisper.text import normalise_for_wer

RESAMPLES = 1000
PERCENTILES = (2.5, 97.5)  # of the bootstrap: a 95 % interval


@dataclass(frozen=True)
class Rate:
    """An error rate, 0.1 for one word in ten, and its 95 % bootstrap interval over clips."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True)
class Score:
    """How far transcripts are from what was said. `wer` and `cer` are normalised."""

    wer: Rate
    cer: Rate
    wer_orthographic: Rate
    cer_orthographic: Rate
    words: int  # in the references
    clips: int

    def __str__(self) -> str:
        return (
            f"WER {self.wer} normalised, {self.wer_orthographic} as written; "
            f"CER {self.cer.value:.1%} and {self.cer_orthographic.value:.1%}; "
            f"{self.words} words in {self.clips} clips"
        )

    def figures(self) -> dict[str, float]:
        """The same flat, for a model's record."""
        names = ("wer", "cer", "wer_orthographic", "cer_orthographic")
        rates = {name: getattr(self, name) for name in names}
        ends = {
            f"{name}_{end}": getattr(r, end) for name, r in rates.items() for end in ("low", "high")
        }
        return {name: r.value for name, r in rates.items()} | ends | {"words": self.words}


def score(references: Sequence[str], transcripts: Sequence[str]) -> Score:
    """Compare transcripts with what was said, clip by clip. The same input gives the same Score."""
    if len(references) != len(transcripts):
        raise LabError(f"{len(transcripts)} transcripts do not fit {len(references)} references.")
    if not any(normalise_for_wer(text) for text in references):
        raise LabError("There is no word in the references, so there is no word error rate.")
    plain = [list(map(normalise_for_wer, texts)) for texts in (references, transcripts)]
    written = [[" ".join(text.split()) for text in texts] for texts in (references, transcripts)]
    return Score(
        wer=_rate(*_errors(*plain, str.split)),
        cer=_rate(*_errors(*plain, list)),
        wer_orthographic=_rate(*_errors(*written, str.split)),
        cer_orthographic=_rate(*_errors(*written, list)),
        words=sum(len(text.split()) for text in plain[0]),
        clips=len(references),
    )


def clip_errors(references: Sequence[str], transcripts: Sequence[str]) -> np.ndarray:
    """Wrong words of each clip, normalised, shape (clips,): to find the worst."""
    return _errors(
        *[list(map(normalise_for_wer, x)) for x in (references, transcripts)], str.split
    )[0]


def difference(references: Sequence[str], before: Sequence[str], after: Sequence[str]) -> Rate:
    """WER of `after` minus WER of `before` on the same clips; below 0 where it got better."""
    plain = [list(map(normalise_for_wer, texts)) for texts in (references, before, after)]
    first, lengths = _errors(plain[0], plain[1], str.split)
    second, _ = _errors(plain[0], plain[2], str.split)
    return _rate(second - first, lengths)


def confusions(
    references: Sequence[str], transcripts: Sequence[str], most: int = 20
) -> list[tuple[str, str, int]]:
    """The most frequent mistakes: (said, heard, times). "" stands for a word left out or added."""
    pairs = [
        (normalise_for_wer(r), normalise_for_wer(t))
        for r, t in zip(references, transcripts, strict=True)
    ]
    pairs = [pair for pair in pairs if pair[0]]
    counts: Counter[tuple[str, str]] = Counter()
    output = jiwer.process_words([r for r, _ in pairs], [t for _, t in pairs])
    for said, heard, chunks in zip(
        output.references, output.hypotheses, output.alignments, strict=True
    ):
        for chunk in chunks:
            if chunk.type != "equal":
                left = said[chunk.ref_start_idx : chunk.ref_end_idx]
                right = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
                longest = max(len(left), len(right))
                left, right = ([*words, *[""] * (longest - len(words))] for words in (left, right))
                counts.update(zip(left, right, strict=True))
    return [(*pair, times) for pair, times in counts.most_common(most)]


class WordErrorRate(evaluate.Metric):
    """`score` as a metric of the evaluate library, of which nothing is fetched."""

    def __init__(self, **options):
        super().__init__(keep_in_memory=True, **options)

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions and references: texts, one a clip",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return score(references, predictions).figures()


def _errors(
    references: Sequence[str], transcripts: Sequence[str], split: Callable[[str], list[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Errors and length of the reference, in words or characters, of each clip."""
    from rapidfuzz.distance import Levenshtein  # what jiwer counts with

    pairs = list(zip(map(split, references), map(split, transcripts), strict=True))
    errors = [Levenshtein.distance(said, heard) for said, heard in pairs]
    return np.array(errors, dtype=float), np.array([len(said) for said, _ in pairs], dtype=float)


def _rate(errors: np.ndarray, lengths: np.ndarray) -> Rate:
    """Errors over lengths; the interval from clips drawn anew, always with the same seed."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(errors), size=len(errors)) for _ in range(RESAMPLES))
    rates = [errors[d].sum() / max(1.0, lengths[d].sum()) for d in drawn]
    low, high = np.percentile(rates, PERCENTILES)
    return Rate(float(errors.sum() / max(1.0, lengths.sum())), float(low), float(high))
