"""Transcribe clips and score them against their texts: with a Whisper, or any model with CTC."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoTokenizer,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from lab2_whisper.audio import log_mel
from lab2_whisper.features.stored import open_corpus
from lab2_whisper.schema import LANGUAGE, SAMPLE_RATE, WINDOW_SECONDS, LabError, max_text_tokens
from lab2_whisper.training.audio_context import window
from lab2_whisper.training.dataset import collate_samples, decode_clip
from lab2_whisper.training.metrics import Rate, Score, clip_errors, difference, score
from lab2_whisper.training.run import Outcome
from labstore import Store

EVALUATION_BATCH_SIZE = 16  # windows of 30 s: nothing is kept for gradients
PROMPT_TOKENS = 4  # start of transcript, language, task, no timestamps

Loaded = tuple[WhisperForConditionalGeneration, WhisperTokenizer]
TranscribeBatch = Callable[[list[np.ndarray]], list[str]]  # 16 kHz mono, each (samples,) -> texts


@dataclass(frozen=True)
class EvaluationResult:
    """A model's transcripts of some clips, and their score.

    `table` has one row per clip: clip_id, speaker, seconds, reference, hypothesis, errors (words).
    """

    score: Score
    table: pd.DataFrame

    def worst(self, count: int = 10) -> pd.DataFrame:
        """Return the rows of the clips with the most wrong words, the worst first."""
        return self.table.sort_values("errors", ascending=False, kind="stable").head(count)


def load_whisper(
    model: str | Path, language: str = LANGUAGE, dtype: torch.dtype = torch.float32
) -> Loaded:
    """Load a Whisper from the Hub or a folder and set it to transcribe one language.

    float32 by default: transformers 5 would load an fp16 checkpoint as fp16, and full fine-tuning
    in mixed precision needs float32 weights. Raises LabError where there is no such Whisper.
    """
    try:
        whisper = WhisperForConditionalGeneration.from_pretrained(
            model, dtype=dtype, attn_implementation="sdpa"
        )
        tokenizer = WhisperTokenizer.from_pretrained(model, language=language, task="transcribe")
    except (OSError, ValueError) as error:
        raise LabError(
            f"No Whisper could be loaded from {model} ({_first_words(error)}). Give a name such as "
            "'openai/whisper-small', or a folder that training has saved."
        ) from error
    settings: Any = whisper.generation_config  # its class does not declare Whisper's own fields
    settings.language, settings.task, settings.forced_decoder_ids = language, "transcribe", None
    return whisper, tokenizer


@torch.no_grad()
def generate(
    model: WhisperForConditionalGeneration, features: torch.Tensor, seconds: float | None = None
) -> torch.Tensor:
    """Decode log-mel (B, n_mels, frames) greedily into token ids (B, tokens), in any window length.

    `seconds` is how much of the window is sound, by default all of it: it limits the tokens, so
    that a model that repeats itself ends.
    """
    frames = features.shape[-1]
    limit = max_text_tokens(seconds or frames / 100)
    longest = model.config.max_target_positions - 2 * PROMPT_TOKENS
    settings = copy.deepcopy(model.generation_config)
    settings.update(max_length=min(limit, longest) + PROMPT_TOKENS, num_beams=1, do_sample=False)
    with window(model, frames):
        return model.generate(input_features=features.to(model.dtype), generation_config=settings)


def evaluate(
    model: str | Path | Loaded, clips: datasets.Dataset, language: str = LANGUAGE
) -> EvaluationResult:
    """Transcribe the rows of open_corpus(), in windows of 30 s, and score them.

    `model` is a name on the Hub, a folder, or a loaded (Whisper, tokenizer). A model with a CTC
    head, such as wav2vec2, works as well. Raises LabError for no clips and for other models.
    """
    if not len(clips):
        raise LabError("There are no clips to evaluate on. Is the split empty?")
    transcribe_batch = _whisper(model, language) if _is_whisper(model) else _ctc(str(model))
    order = np.argsort(np.array(clips.select_columns("seconds")["seconds"]), kind="stable")
    hypotheses = [""] * len(clips)
    for start in tqdm(range(0, len(clips), EVALUATION_BATCH_SIZE), desc="evaluating"):
        rows = order[start : start + EVALUATION_BATCH_SIZE]
        samples = [decode_clip(clips[int(row)]["audio"]) for row in rows]
        for row, text in zip(rows, transcribe_batch(samples), strict=True):
            hypotheses[row] = " ".join(text.split())
    table = clips.select_columns(["clip_id", "speaker", "seconds", "text"]).to_pandas()
    table = table.rename(columns={"text": "reference"})
    references = list(table["reference"])
    table = table.assign(hypothesis=hypotheses, errors=clip_errors(references, hypotheses))
    return EvaluationResult(score(references, hypotheses), table)


def _is_whisper(model: str | Path | Loaded) -> bool:
    if isinstance(model, tuple):
        return True
    try:
        return AutoConfig.from_pretrained(model).model_type == "whisper"
    except (OSError, ValueError) as error:
        raise LabError(
            f"There is no model {model} ({_first_words(error)}). Give a name on the Hub, such as "
            "'openai/whisper-small', or a folder."
        ) from error


def _first_words(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _whisper(model: str | Path | Loaded, language: str) -> TranscribeBatch:
    gpu = torch.cuda.is_available()
    half = torch.float16 if gpu else torch.float32
    loaded = model if isinstance(model, tuple) else load_whisper(model, language, half)
    whisper, tokenizer = loaded
    whisper.eval().to("cuda" if gpu else "cpu")

    def transcribe_batch(samples: list[np.ndarray]) -> list[str]:
        items = [{"samples": clip, "labels": [0], "bands": []} for clip in samples]
        padded = collate_samples(items, WINDOW_SECONDS)["samples"].to(whisper.device)
        longest_seconds = max(map(len, samples)) / SAMPLE_RATE
        ids = generate(whisper, log_mel(padded, whisper.config.num_mel_bins), longest_seconds)
        return tokenizer.batch_decode(ids, skip_special_tokens=True)

    return transcribe_batch


def _ctc(name: str) -> TranscribeBatch:
    try:
        model = AutoModelForCTC.from_pretrained(name).eval()
    except ValueError as error:
        raise LabError(
            f"{name} is neither a Whisper nor a model with a CTC head ({str(error)[:100]} ...). Give "
            "one such as 'openai/whisper-small' or 'facebook/wav2vec2-base-960h'."
        ) from error
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    # not AutoProcessor: it may need a language model's decoder, which is not used here
    extractor = AutoFeatureExtractor.from_pretrained(name)
    tokenizer = AutoTokenizer.from_pretrained(name)

    @torch.no_grad()
    def transcribe_batch(samples: list[np.ndarray]) -> list[str]:
        inputs = extractor(samples, sampling_rate=SAMPLE_RATE, padding=True, return_tensors="pt")
        ids = model(**inputs.to(model.device)).logits.argmax(dim=-1)
        return tokenizer.batch_decode(ids)

    return transcribe_batch


@dataclass(frozen=True)
class BeforeAfter:
    """One corpus's clips transcribed before and after training, in windows of 30 s."""

    corpus: str
    before: EvaluationResult
    after: EvaluationResult
    change: Rate  # of the normalised WER, paired by clip

    def __str__(self) -> str:
        return f"{self.corpus}\n  before {self.before.score}\n  after  {self.after.score}"


def evaluate_before_after(
    store: Store,
    outcome: Outcome,
    out_of_domain: tuple[str, ...] = (),
    cache_dir: str | Path | None = None,
) -> list[BeforeAfter]:
    """Evaluate the test split of the run's first corpus, and of others, before and after training.

    Raises LabError for a run that is not finished: the test split is used once, at the end.
    """
    if not outcome.finished:
        raise LabError(
            f"Run {outcome.run.name!r} is at step {outcome.step} of {outcome.run.steps}. Run the "
            "training again to resume it; the test split is used once, at the end."
        )
    comparisons = []
    for corpus in (outcome.run.corpora[0][0], *out_of_domain):
        clips = open_corpus(store, corpus, "test", outcome.data.get(corpus, "latest"), cache_dir)
        before, after = (
            evaluate(model, clips, outcome.run.language)
            for model in (outcome.run.model, outcome.best)
        )
        references, old, new = (
            list(texts)
            for texts in (
                after.table["reference"],
                before.table["hypothesis"],
                after.table["hypothesis"],
            )
        )
        comparisons.append(BeforeAfter(corpus, before, after, difference(references, old, new)))
    return comparisons
