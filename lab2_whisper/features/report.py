"""What is in a corpus: hours, speakers, lengths, characters, sentences that leak."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import datasets
import numpy as np
import pandas as pd

from lab2_whisper.schema import SPLITS
from lab2_whisper.text import letters_only


@dataclass(frozen=True)
class CorpusReport:
    """Facts of a corpus. `splits` has one row a split: clips, hours, speakers, words."""

    splits: pd.DataFrame
    seconds: np.ndarray  # of each clip
    characters: Counter[str]  # lower case
    shared_sentences: list[str]  # in train and in validation or test, case and punctuation aside
    shared_speakers: list[str]

    def __str__(self) -> str:
        letters = "".join(sorted(c for c in self.characters if c.isalpha()))
        return (
            f"{self.splits.to_string()}\n"
            f"clips last {np.median(self.seconds):.1f} s (median), {self.seconds.min():.1f} to "
            f"{self.seconds.max():.1f} s\n"
            f"letters: {letters}\n"
            f"sentences of train that are also in validation or test: {len(self.shared_sentences)}"
            f"\nspeakers of train who are also there: {len(self.shared_speakers)}"
        )


def describe(corpus: datasets.Dataset) -> CorpusReport:
    """The report of a whole corpus as open_corpus() gives it. No audio is read."""
    rows = corpus.select_columns(["text", "split", "speaker", "seconds"]).to_pandas()
    rows["words"] = rows["text"].str.split().str.len()
    splits = rows.groupby("split").agg(
        clips=("text", "size"),
        hours=("seconds", lambda seconds: round(seconds.sum() / 3600, 3)),
        speakers=("speaker", "nunique"),
        words=("words", "sum"),
    )
    rows["sentence"] = rows["text"].map(letters_only)
    train, held_out = rows[rows["split"] == "train"], rows[rows["split"] != "train"]
    return CorpusReport(
        splits=splits.reindex([split for split in SPLITS if split in splits.index]),
        seconds=rows["seconds"].to_numpy(),
        characters=Counter("".join(rows["text"]).lower()),
        shared_sentences=sorted(set(train["sentence"]) & set(held_out["sentence"])),
        shared_speakers=sorted((set(train["speaker"]) & set(held_out["speaker"])) - {""}),
    )
