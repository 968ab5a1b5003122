"""Whisper models that hear one window at a time: CTranslate2's, and transformers' as the fallback.

    load("models/whisper_small_pl")      a folder as training publishes it, or of CTranslate2 alone
    load("openai/whisper-small")         a name on the Hugging Face Hub
    load_from_store(store, "common_voice_pl")

The prompt is the one that training teaches: <|startoftranscript|>, language, task, no time stamps.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lab2_whisper.inference.segments import Word
from lab2_whisper.schema import (
    FOR_PAGES,
    HOP_SAMPLES,
    N_FFT,
    RECORD,
    SAMPLE_RATE,
    WINDOW_SECONDS,
    LabError,
    model_of,
)
from lab2_whisper.text import UNSPACED
from labstore import Store

MAX_TOKENS = 224  # of a window: half of what Whisper's decoder holds
TOKENS_PER_SECOND = 25  # nobody speaks faster, even in a vocabulary of letters
DOWNLOADED = ["*.json", "*.txt", "*.safetensors", "model.bin", f"{FOR_PAGES}/*"]  # no pickles


class UnknownLanguage(LabError):
    """The model was not made for the language asked for."""


@dataclass(frozen=True)
class WindowResult:
    """What a model heard in a window. Times of `words` count from the window's start.

    `finished` is False where the model came to no end: it loops, or there were too many words.
    """

    text: str
    words: tuple[Word, ...]
    confidence: float
    finished: bool


@dataclass(frozen=True)
class Transcriber:
    """A loaded model. Many threads may share one; they are served one after the other."""

    name: str  # of the model, to show
    engine: str  # what runs it, to show: "CTranslate2, int8, cpu"
    languages: tuple[str, ...]  # codes such as "pl"
    short_audio_context: bool  # it hears windows as long as the speech in them
    word_times: bool
    transcribe_window: Callable[[np.ndarray, str], WindowResult] = field(repr=False)
    """Takes one window, 16 kHz mono float32 of at most 30 s, and a language."""

    def check(self, language: str) -> None:
        """Raise UnknownLanguage unless the model knows the language."""
        if language not in self.languages:
            raise UnknownLanguage(
                f"The model {self.name} does not know the language {language!r}. "
                f"It knows {', '.join(self.languages)}."
            )


def load(model: str | Path, device: str = "auto", threads: int = 0) -> Transcriber:
    """A Whisper from a folder, or by its name on the Hugging Face Hub.

    `device` is "cpu", "cuda" or "auto"; `threads` on a CPU, 0 for as many as there are cores. A
    folder with a CTranslate2 copy is served by that, in int8 on a CPU and float16 on a GPU, else
    by transformers. Raises LabError for what is missing or damaged.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise LabError(f"device {device!r} is none of 'auto', 'cpu', 'cuda'.")
    folder = _folder(model)
    copies = (place for place in (folder / FOR_PAGES, folder) if (place / "model.bin").is_file())
    copy = next(copies, None)
    try:
        settings = _json(folder / "generation_config.json") or _json(folder / "config.json")
        traits = Traits(
            languages=tuple(code.strip("<|>") for code in settings.get("lang_to_id") or ()),
            word_times=bool(settings.get("alignment_heads")),
            short_audio_context=bool(_json(folder / RECORD).get("short_context")),
        )
        kind = CTranslate2Engine if copy else TransformersEngine
        engine = kind(copy or folder, traits, device, threads)
    except ModuleNotFoundError as error:
        raise LabError(
            f"The model {model} needs {error.name}: install it, or give a model with a CTranslate2 copy, "
            "as training publishes it, or one such as 'Systran/faster-whisper-small'."
        ) from None
    except Exception as error:  # libraries differ in what they raise for a damaged file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise LabError(
            f"The model in {folder} is damaged or no Whisper ({reason}). Publish it anew, or give "
            "another folder."
        ) from None
    name = folder.resolve().name if Path(model).is_dir() else str(model)
    traits = engine.traits
    if not traits.languages:
        raise LabError(
            f"The model {model} names no languages (lang_to_id in generation_config.json), so it was made "
            "for English alone. Give one for many, such as 'openai/whisper-small'."
        )
    return Transcriber(
        name,
        engine.label,
        traits.languages,
        traits.short_audio_context,
        traits.word_times,
        engine.transcribe_window,
    )


def load_from_store(
    store: Store, corpus: str, version: str = "best", device: str = "auto", threads: int = 0
) -> Transcriber:
    """The model that was tuned on a corpus: the best one, the latest, or the version given.

    Raises StoreError where there is none or a file of it has changed, else as `load`.
    """
    found = store.load_model(model_of(corpus), version)
    return replace(load(found.path, device, threads), name=f"{found.name}, {found.version}")


def _folder(model: str | Path) -> Path:
    """The model's folder, downloaded first where a name of the Hub is given."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    parts = str(model).split("/")
    if isinstance(model, Path) or len(parts) != 2 or not all(parts) or parts[0][0] in ".~":
        raise LabError(
            f"There is no model folder {model}. Give a folder that training has published, or a "
            "name on the Hub such as 'openai/whisper-small'."
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(model), allow_patterns=DOWNLOADED))
    except Exception as error:  # of the network, the Hub or the disk
        reason = " ".join(str(error).split())[:200]
        raise LabError(
            f"{model} is no folder here, and could not be fetched from the Hub ({reason}). Give "
            "the folder of a model, or try again with a network."
        ) from None


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


# ---------------------------------------------------------------------------------- engines


@dataclass(frozen=True)
class Traits:
    """What a model can do."""

    languages: tuple[str, ...]
    word_times: bool
    short_audio_context: bool


class CTranslate2Engine:
    """A CTranslate2 copy of a Whisper, loaded by faster-whisper."""

    def __init__(self, folder: Path, traits: Traits, device: str, threads: int):
        import ctranslate2
        from faster_whisper import WhisperModel

        if not (folder / "tokenizer.json").is_file():
            raise FileNotFoundError(f"{folder.name}/tokenizer.json is missing")
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        precision = "float16" if device == "cuda" else "int8"
        self._whisper = WhisperModel(
            str(folder),
            device=device,
            compute_type=precision,
            cpu_threads=threads or cores(),
            local_files_only=True,
        )
        known = [code for code in self._whisper.supported_languages
                 if self._whisper.hf_tokenizer.token_to_id(f"<|{code}|>") is not None]  # fmt: skip
        listed = [code for code in traits.languages if code in known]
        self.traits = replace(traits, languages=tuple(listed or known))
        self.label = f"CTranslate2, {precision}, {device}"

    def prompt(self, language: str) -> list[int]:
        """The ids that the decoder is given before the text."""
        tokens = self._tokens(language)
        return [*tokens.sot_sequence, tokens.no_timestamps]

    def transcribe_window(self, samples: np.ndarray, language: str) -> WindowResult:
        """What is said in a window, by the most probable token at each step."""
        import ctranslate2

        mel = self.log_mel(samples)
        encoded = self._whisper.model.encode(ctranslate2.StorageView.from_array(mel[None]))
        most = max_tokens(samples)
        result = self._whisper.model.generate(
            encoded,
            [self.prompt(language)],
            beam_size=1,
            max_length=2 * most,  # CTranslate2 gives half of it to the text
            return_scores=True,
        )[0]
        ids, tokens = result.sequences_ids[0], self._tokens(language)
        words = ()
        if self.traits.word_times:
            frames = min(mel.shape[1], len(samples) // HOP_SAMPLES)
            found = self._whisper.find_alignment(tokens, [text_ids(ids, tokens)], encoded, frames)
            words = joined(found[0] if found else [], language)
        return WindowResult(
            text=" ".join(tokens.decode(ids).split()),
            words=words,
            confidence=math.exp(result.scores[0]),
            finished=len(ids) < most,
        )

    def log_mel(self, samples: np.ndarray) -> np.ndarray:
        """Log-mel of a window, shape (n_mels, frames), as training made it.

        30 s padded with silence, or with short context as many whole seconds as there are.
        """
        seconds = WINDOW_SECONDS
        if self.traits.short_audio_context:
            seconds = min(seconds, math.ceil(len(samples) / SAMPLE_RATE))
        whole = np.pad(samples, (0, seconds * SAMPLE_RATE - len(samples)))
        beyond = min(N_FFT, (WINDOW_SECONDS - seconds) * SAMPLE_RATE)
        mel = self._whisper.feature_extractor(whole, padding=beyond)
        return np.ascontiguousarray(
            mel[:, : seconds * SAMPLE_RATE // HOP_SAMPLES], dtype=np.float32
        )

    def _tokens(self, language: str):
        from faster_whisper.tokenizer import Tokenizer

        whisper = self._whisper
        return Tokenizer(
            whisper.hf_tokenizer, whisper.model.is_multilingual, "transcribe", language
        )


class TransformersEngine:
    """A Whisper as transformers runs it, in windows of 30 s and without word times."""

    def __init__(self, folder: Path, traits: Traits, device: str, threads: int):
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperTokenizer

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if threads:
            torch.set_num_threads(threads)
        dtype = torch.float16 if device == "cuda" else torch.float32
        self._tokenizer = WhisperTokenizer.from_pretrained(folder)
        model = WhisperForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, use_safetensors=True
        )
        self._model = model.eval().to(device)
        self._model.generation_config.forced_decoder_ids = None  # of old models: another prompt
        self._lock = threading.Lock()  # generate() keeps notes in the model
        self.traits = replace(traits, word_times=False, short_audio_context=False)
        self.label = f"transformers, {str(dtype).removeprefix('torch.')}, {device}"

    def transcribe_window(self, samples: np.ndarray, language: str) -> WindowResult:
        """What is said in a window, by the most probable token at each step."""
        import torch

        from lab2_whisper.audio import log_mel

        whole = np.pad(samples, (0, WINDOW_SECONDS * SAMPLE_RATE - len(samples)))
        model, most = self._model, max_tokens(samples)
        mel = log_mel(torch.from_numpy(whole)[None], model.config.num_mel_bins)
        with self._lock, torch.inference_mode():
            result = model.generate(
                input_features=mel.to(model.device, model.dtype),
                language=language,
                task="transcribe",
                num_beams=1,
                do_sample=False,
                max_new_tokens=most,
                output_logits=True,
                return_dict_in_generate=True,
            )
        ids = result["sequences"][0][-len(result["logits"]) :].tolist()
        steps = torch.stack(result["logits"])[:, 0].float().log_softmax(dim=-1)
        likely = steps.gather(1, torch.tensor(ids, device=steps.device)[:, None]).mean()
        return WindowResult(
            text=" ".join(self._tokenizer.decode(ids, skip_special_tokens=True).split()),
            words=(),
            confidence=math.exp(likely),
            finished=ids[-1] == model.config.eos_token_id,
        )


def max_tokens(samples: np.ndarray) -> int:
    """The most tokens that the speech in a window may take, before it is taken for a loop."""
    return min(MAX_TOKENS, 20 + math.ceil(TOKENS_PER_SECOND * len(samples) / SAMPLE_RATE))


def text_ids(ids: list[int], tokens) -> list[int]:
    """Without special tokens, which have no place in the sound."""
    return [i for i in ids if i < tokens.eot]


def joined(pieces: Iterable[dict[str, Any]], language: str) -> tuple[Word, ...]:
    """faster-whisper's pieces as words: punctuation is a piece of its own there."""
    words: list[list] = []  # start, end, text, probabilities
    for piece in pieces:
        start, end, text = float(piece["start"]), float(piece["end"]), piece["word"]
        if words and not text.startswith(" ") and language not in UNSPACED:
            words[-1][1:3] = max(end, words[-1][1]), words[-1][2] + text
            words[-1][3].append(float(piece["probability"]))
        elif text.strip():
            words.append([start, end, text, [float(piece["probability"])]])
    return tuple(
        Word(start, end, text.strip(), sum(probabilities) / len(probabilities))
        for start, end, text, probabilities in words
    )


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
