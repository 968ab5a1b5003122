"""What a model hears in clips, and how far that is from what was said: Whisper, or any with CTC."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path

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
from lab2_whisper.schema import LANGUAGE, SAMPLE_RATE, WINDOW_SECONDS, LabError
from lab2_whisper.training.audio_context import window
from lab2_whisper.training.dataset import collate_sound, decode_clip
from lab2_whisper.training.metrics import Rate, Score, clip_errors, difference, score
from lab2_whisper.training.run import Outcome
from labstore import Store

TOKENS_PER_SECOND = 25  # a letter each in nano's vocabulary; no one speaks faster


@dataclass(frozen=True)
class EvaluationResult:
    """The transcripts of some clips. `table` has a row a clip: reference, hypothesis, errors, seconds."""

    score: Score
    table: pd.DataFrame

    def worst(self, most: int = 10) -> pd.DataFrame:
        """The clips with the most wrong words, to evaluate to."""
        return self.table.sort_values("errors", ascending=False, kind="stable").head(most)


def load_whisper(
    model: str | Path, language: str = LANGUAGE, dtype: torch.dtype = torch.float32
) -> tuple[WhisperForConditionalGeneration, WhisperTokenizer]:
    """A Whisper of the Hub or of a folder, set to transcribe one language.

    float32 by default: transformers would take an fp16 checkpoint as it is, and full fine-tuning
    in mixed precision needs whole weights.
    """
    try:
        whisper = WhisperForConditionalGeneration.from_pretrained(
            model, dtype=dtype, attn_implementation="sdpa"
        )
        tokenizer = WhisperTokenizer.from_pretrained(model, language=language, task="transcribe")
    except (OSError, ValueError) as error:
        raise LabError(
            f"{model} is no Whisper that could be loaded ({' '.join(str(error).split())[:200]}). "
            "Give a name such as 'openai/whisper-small', or a folder that training has saved."
        ) from None
    whisper.generation_config.language = language
    whisper.generation_config.task = "transcribe"
    whisper.generation_config.forced_decoder_ids = None
    return whisper, tokenizer


@torch.no_grad()
def generate(model, features: torch.Tensor, seconds: float | None = None) -> torch.Tensor:
    """Token ids heard, greedily, in log-mel (B, n_mels, frames) of a window of any length.

    `seconds` of sound are in the window, all of it by default: a model that loops ends with them.
    """
    frames = features.shape[-1]
    limit = 20 + math.ceil((seconds or frames / 100) * TOKENS_PER_SECOND)
    most = model.config.max_target_positions - 8  # the prompt takes four
    settings = copy.deepcopy(model.generation_config)
    settings.update(max_length=min(limit, most) + 4, num_beams=1, do_sample=False)
    with window(model, frames):
        return model.generate(input_features=features.to(model.dtype), generation_config=settings)


def evaluate(
    model: str | Path | tuple,
    clips: datasets.Dataset,
    language: str = LANGUAGE,
    window_seconds: float | None = WINDOW_SECONDS,
    batch: int = 16,
) -> EvaluationResult:
    """Transcribe the rows of open_corpus() and score them.

    `model` is a name of the Hub, a folder, or a loaded (Whisper, tokenizer). Anything with a CTC
    head, as wav2vec2, is served as well. `window_seconds` None: as long as each batch needs.
    """
    if not len(clips):
        raise LabError("There are no clips to evaluate to. Is the split empty?")
    speak = _whisper(model, language, window_seconds) if _is_whisper(model) else _ctc(str(model))
    order = np.argsort(np.array(clips.select_columns("seconds")["seconds"]), kind="stable")
    heard = [""] * len(clips)
    for start in tqdm(range(0, len(clips), batch), desc="listening"):
        some = order[start : start + batch]
        sounds = [decode_clip(clips[int(i)]["audio"]) for i in some]
        for i, text in zip(some, speak(sounds), strict=True):
            heard[i] = " ".join(text.split())
    rows = clips.select_columns(["clip_id", "speaker", "seconds", "text"]).to_pandas()
    rows = rows.rename(columns={"text": "reference"}).assign(hypothesis=heard)
    references = list(rows["reference"])
    rows = rows.assign(errors=clip_errors(references, heard))
    return EvaluationResult(score(references, heard), rows)


def _is_whisper(model: str | Path | tuple) -> bool:
    if isinstance(model, tuple):
        return True
    try:
        return AutoConfig.from_pretrained(model).model_type == "whisper"
    except (OSError, ValueError) as error:
        raise LabError(
            f"There is no model {model} ({' '.join(str(error).split())[:200]}). Give a name of the "
            "Hub, such as 'openai/whisper-small', or a folder."
        ) from None


def _whisper(model: str | Path | tuple, language: str, window_seconds: float | None):
    gpu = torch.cuda.is_available()
    half = torch.float16 if gpu else torch.float32
    loaded = model if isinstance(model, tuple) else load_whisper(model, language, half)
    whisper, tokenizer = loaded
    whisper.eval().to("cuda" if gpu else "cpu")

    def speak(sounds: list[np.ndarray]) -> list[str]:
        items = [{"samples": sound, "labels": [0], "bands": []} for sound in sounds]
        samples = collate_sound(items, window_seconds)["samples"].to(whisper.device)
        longest = max(map(len, sounds)) / SAMPLE_RATE
        ids = generate(whisper, log_mel(samples, whisper.config.num_mel_bins), longest)
        return tokenizer.batch_decode(ids, skip_special_tokens=True)

    return speak


def _ctc(name: str):
    try:
        model = AutoModelForCTC.from_pretrained(name).eval()
    except ValueError as error:
        raise LabError(
            f"{name} is neither a Whisper nor a model with a CTC head ({str(error)[:100]} ...). Give one "
            "such as 'openai/whisper-small' or 'facebook/wav2vec2-base-960h'."
        ) from None
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    # each alone: a processor may want a language model's decoder, which is not used here
    extract, tokenizer = (
        part.from_pretrained(name) for part in (AutoFeatureExtractor, AutoTokenizer)
    )

    @torch.no_grad()
    def speak(sounds: list[np.ndarray]) -> list[str]:
        inputs = extract(sounds, sampling_rate=SAMPLE_RATE, padding=True, return_tensors="pt")
        ids = model(**inputs.to(model.device)).logits.argmax(dim=-1)
        return tokenizer.batch_decode(ids)

    return speak


@dataclass(frozen=True)
class BeforeAfter:
    """The same clips heard by the model as it was and as it is now, in windows of 30 s."""

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
    """Hear the test split of the run's first corpus, and of others, once, before and after."""
    if not outcome.finished:
        raise LabError(
            f"Run {outcome.run.name!r} is at step {outcome.step} of {outcome.run.steps}. Run the "
            "training again, it goes on from there; the test split is heard once, at the end."
        )
    comparisons = []
    for corpus in (outcome.run.corpora[0][0], *out_of_domain):
        clips = open_corpus(store, corpus, "test", outcome.data.get(corpus, "latest"), cache_dir)
        before, after = (
            evaluate(model, clips, outcome.run.language)
            for model in (outcome.run.model, outcome.best)
        )
        said = list(after.table["reference"])
        change = difference(said, list(before.table["hypothesis"]), list(after.table["hypothesis"]))
        comparisons.append(BeforeAfter(corpus, before, after, change))
    return comparisons
