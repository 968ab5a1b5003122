"""Word and character error rates of transcripts, with confidence intervals, offline.

Orthographic: as written, case and punctuation count. Normalised: lower case, no punctuation, as
on most model cards. The two differ by 10 to 20 points on Polish, so both are always given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import datasets
import evaluate
import jiwer
import numpy as np

from lab2_whisper.schema import LabError
from lab2_whisper.text import normalise_for_wer

RESAMPLES = 1000
PERCENTILES = (2.5, 97.5)  # of the bootstrap samples: a 95 % interval


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
    """Error rates of hypotheses against references. `wer` and `cer` are normalised."""

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
        """Return the rates and their intervals under flat names, for a model's metrics."""
        names = ("wer", "cer", "wer_orthographic", "cer_orthographic")
        rates = {name: getattr(self, name) for name in names}
        ends = {
            f"{name}_{end}": getattr(r, end) for name, r in rates.items() for end in ("low", "high")
        }
        return {name: r.value for name, r in rates.items()} | ends | {"words": self.words}


def score(references: Sequence[str], hypotheses: Sequence[str]) -> Score:
    """Score hypotheses against references, clip by clip. The same input gives the same Score.

    Raises LabError where their numbers differ or the references hold no word.
    """
    if len(references) != len(hypotheses):
        raise LabError(
            f"There are {len(hypotheses)} hypotheses for {len(references)} references: each clip "
            "needs one of each."
        )
    if not any(normalise_for_wer(text) for text in references):
        raise LabError("The references hold no word, so there is no word error rate.")
    plain = _each(normalise_for_wer, references), _each(normalise_for_wer, hypotheses)
    written = _each(_single_spaces, references), _each(_single_spaces, hypotheses)
    return Score(
        wer=_rate(*_errors(*plain, str.split)),
        cer=_rate(*_errors(*plain, list)),
        wer_orthographic=_rate(*_errors(*written, str.split)),
        cer_orthographic=_rate(*_errors(*written, list)),
        words=sum(len(text.split()) for text in plain[0]),
        clips=len(references),
    )


def clip_errors(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """Count the wrong words of each clip, normalised, shape (clips,)."""
    plain = _each(normalise_for_wer, references), _each(normalise_for_wer, hypotheses)
    return _errors(*plain, str.split)[0]


def difference(references: Sequence[str], before: Sequence[str], after: Sequence[str]) -> Rate:
    """Return the WER of `after` minus that of `before` on the same clips; below 0 is better.

    The interval is paired: both rates are taken over the same bootstrap samples of clips.
    """
    plain = _each(normalise_for_wer, references)
    old, lengths = _errors(plain, _each(normalise_for_wer, before), str.split)
    new, _ = _errors(plain, _each(normalise_for_wer, after), str.split)
    return _rate(new - old, lengths)


def confusions(
    references: Sequence[str], hypotheses: Sequence[str], count: int = 20
) -> list[tuple[str, str, int]]:
    """Return the most frequent mistakes as (reference, hypothesis, times), normalised.

    "" stands for a word left out or added.
    """
    pairs = [
        (normalise_for_wer(reference), normalise_for_wer(hypothesis))
        for reference, hypothesis in zip(references, hypotheses, strict=True)
    ]
    pairs = [pair for pair in pairs if pair[0]]
    counts: Counter[tuple[str, str]] = Counter()
    output = jiwer.process_words([r for r, _ in pairs], [h for _, h in pairs])
    for reference_words, hypothesis_words, chunks in zip(
        output.references, output.hypotheses, output.alignments, strict=True
    ):
        for chunk in chunks:
            if chunk.type != "equal":
                left = reference_words[chunk.ref_start_idx : chunk.ref_end_idx]
                right = hypothesis_words[chunk.hyp_start_idx : chunk.hyp_end_idx]
                counts.update(zip_longest(left, right, fillvalue=""))
    return [(*pair, times) for pair, times in counts.most_common(count)]


class WordErrorRate(evaluate.Metric):
    """`score` as a metric of the evaluate library; unlike evaluate.load, it fetches nothing."""

    def __init__(self, **options):
        super().__init__(keep_in_memory=True, **options)

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions and references: one text per clip",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return score(references, predictions).figures()


def _each(change: Callable[[str], str], texts: Sequence[str]) -> list[str]:
    return [change(text) for text in texts]


def _single_spaces(text: str) -> str:
    return " ".join(text.split())


def _errors(
    references: Sequence[str], hypotheses: Sequence[str], split: Callable[[str], list[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return each clip's errors and reference length, in the units `split` cuts a text into."""
    from rapidfuzz.distance import Levenshtein  # the library that jiwer counts with

    pairs = list(zip(map(split, references), map(split, hypotheses), strict=True))
    errors = [Levenshtein.distance(reference, hypothesis) for reference, hypothesis in pairs]
    lengths = [len(reference) for reference, _ in pairs]
    return np.array(errors, dtype=float), np.array(lengths, dtype=float)


def _rate(errors: np.ndarray, lengths: np.ndarray) -> Rate:
    """Return errors over lengths, and its bootstrap interval over clips, always with one seed."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(errors), size=len(errors)) for _ in range(RESAMPLES))
    rates = [errors[d].sum() / max(1.0, lengths[d].sum()) for d in drawn]
    low, high = np.percentile(rates, PERCENTILES)
    return Rate(float(errors.sum() / max(1.0, lengths.sum())), float(low), float(high))
