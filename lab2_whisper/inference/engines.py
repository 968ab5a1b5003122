"""Load Whisper models that transcribe one window at a time.

    load("models/whisper_small_pl")      a folder as training publishes it, or a CTranslate2 copy
    load("openai/whisper-small")         a name on the Hugging Face Hub
    load_from_store(store, "common_voice_pl")

CTranslate2 runs a model where there is a copy for it, transformers any other. The prompt is the one
used in training: <|startoftranscript|>, language, task, <|notimestamps|>.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lab2_whisper.inference.segments import Word
from lab2_whisper.schema import (
    CT2_FOLDER,
    HOP_SAMPLES,
    N_FFT,
    RECORD,
    SAMPLE_RATE,
    WINDOW_SECONDS,
    LabError,
    max_text_tokens,
    model_of,
)
from lab2_whisper.text import UNSPACED
from labstore import Store

DEVICES = ("auto", "cpu", "cuda")
MAX_TOKENS = 224  # in a window: half of what Whisper's decoder holds
DOWNLOADED = ["*.json", "*.txt", "*.safetensors", "model.bin", f"{CT2_FOLDER}/*"]  # no pickles


class UnknownLanguage(LabError):
    """The model does not know the language that was asked for."""


@dataclass(frozen=True)
class WindowResult:
    """What a model made of one window. Times of `words` are seconds from the window's start.

    `confidence` is from 0 to 1. `finished` is False where the model did not reach the end of the
    text: it loops, or the window holds too many words.
    """

    text: str
    words: tuple[Word, ...]
    confidence: float
    finished: bool


@dataclass(frozen=True)
class Transcriber:
    """A loaded model. Threads may share one; their windows are transcribed one after the other."""

    name: str  # the model's name, for display
    engine: str  # what runs it, for display: "CTranslate2, int8, cpu"
    languages: tuple[str, ...]  # codes such as "pl"
    short_audio_context: bool  # windows need not be padded to 30 s
    word_times: bool
    transcribe_window: Callable[[np.ndarray, str], WindowResult] = field(repr=False)
    """Transcribes one window, 16 kHz mono float32 of at most 30 s, in the language given."""

    def check(self, language: str) -> None:
        """Raise UnknownLanguage unless the model knows the language."""
        if language not in self.languages:
            raise UnknownLanguage(
                f"The model {self.name} does not know the language {language!r}. "
                f"It knows {', '.join(self.languages)}."
            )


def load(model: str | Path, device: str = "auto", threads: int = 0) -> Transcriber:
    """Load a Whisper from a folder, or by its name on the Hugging Face Hub.

    `device` is "cpu", "cuda" or "auto"; `threads` counts CPU threads, 0 for one per core. A model
    with a CTranslate2 copy is run by CTranslate2, in int8 on a CPU and in float16 on a GPU, any
    other by transformers. Raises LabError for a model that is missing, damaged or English-only.
    """
    if device not in DEVICES:
        raise LabError(f"device {device!r} must be one of {', '.join(DEVICES)}.")
    folder = _folder(model)
    copies = (place for place in (folder / CT2_FOLDER, folder) if (place / "model.bin").is_file())
    copy = next(copies, None)
    with _damage_reported(folder):
        settings, record = _settings(folder), _json(folder / RECORD)
    traits = Traits(
        languages=tuple(str(code).strip("<|>") for code in settings.get("lang_to_id") or ()),
        word_times=bool(settings.get("alignment_heads")),
        short_audio_context=bool(record.get("short_context")),
    )
    engine: CTranslate2Engine | TransformersEngine
    if copy:
        engine = CTranslate2Engine(copy, traits, device, threads)
    else:
        engine = TransformersEngine(folder, traits, device, threads)
    if not engine.traits.languages:
        raise LabError(
            f"The model {model} lists no languages (lang_to_id in generation_config.json), so it is "
            "for English only. Give a multilingual one, such as 'openai/whisper-small'."
        )
    return Transcriber(
        folder.resolve().name if Path(model).is_dir() else str(model),
        engine.label,
        engine.traits.languages,
        engine.traits.short_audio_context,
        engine.traits.word_times,
        engine.transcribe_window,
    )


def load_from_store(
    store: Store, corpus: str, version: str = "best", device: str = "auto", threads: int = 0
) -> Transcriber:
    """Load a model that was tuned on a corpus: the best one, the latest, or the version given.

    `device` and `threads` are those of `load`. Raises StoreError where there is no such model or
    one of its files has changed, and LabError as `load` does.
    """
    found = store.load_model(model_of(corpus), version)
    return replace(load(found.path, device, threads), name=f"{found.name}, {found.version}")


def _folder(model: str | Path) -> Path:
    """Return the model's folder, downloaded first if a name on the Hub is given."""
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
    except Exception as error:  # of the network, the Hub or the disk: they share no base class
        raise LabError(
            f"{model} is not a folder here, and could not be fetched from the Hub "
            f"({_one_line(error)}). Give the folder of a model, or try again with a network."
        ) from error


@contextmanager
def _damage_reported(folder: Path) -> Iterator[None]:
    """Turn whatever libraries raise for a model's files into one sentence, a LabError.

    Only library calls and reading belong inside: for a damaged file libraries raise TypeError and
    AttributeError as well, which in our own code would be bugs and must not be called damage.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise LabError(
            f"The model in {folder} needs {error.name}: install it, or give one with a CTranslate2 "
            "copy, as training publishes it, or one such as 'Systran/faster-whisper-small'."
        ) from error
    except Exception as error:  # tokenizers 0.23.3 raises a plain Exception for a damaged file
        raise LabError(
            f"The model in {folder} is damaged, or is not a Whisper model ({_one_line(error)}). "
            "Publish it again, or give another folder."
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _json(file: Path) -> dict[str, Any]:
    """Return a JSON file's object, empty where there is no file. Raises ValueError."""
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{file.name} holds no JSON object")
    return found


def _settings(folder: Path) -> dict[str, Any]:
    """Return how the model generates text. Raises ValueError for languages that are not a table."""
    settings = _json(folder / "generation_config.json") or _json(folder / "config.json")
    if not isinstance(settings.get("lang_to_id") or {}, dict):
        raise ValueError("lang_to_id in generation_config.json is not an object")
    return settings


# ---------------------------------------------------------------------------------- engines


@dataclass(frozen=True)
class Traits:
    """What a model can do."""

    languages: tuple[str, ...]
    word_times: bool
    short_audio_context: bool


class CTranslate2Engine:
    """A Whisper that CTranslate2 runs, loaded by faster-whisper. It needs no torch."""

    def __init__(self, folder: Path, traits: Traits, device: str, threads: int) -> None:
        with _damage_reported(folder):
            import ctranslate2
            from faster_whisper import WhisperModel

            # without this file faster-whisper 1.2.1 would fetch a tokenizer from the Hub
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
        known = [
            code
            for code in self._whisper.supported_languages
            if self._whisper.hf_tokenizer.token_to_id(f"<|{code}|>") is not None
        ]
        listed = [code for code in traits.languages if code in known]
        self.traits = replace(traits, languages=tuple(listed or known))
        self.label = f"CTranslate2, {precision}, {device}"

    def prompt(self, language: str) -> list[int]:
        """Return the token ids that the decoder is given before the text."""
        tokens = self._tokens(language)
        return [*tokens.sot_sequence, tokens.no_timestamps]

    def transcribe_window(self, samples: np.ndarray, language: str) -> WindowResult:
        """Transcribe a window greedily. `samples`: 16 kHz mono float32 of at most 30 s."""
        import ctranslate2

        mel = self.log_mel(samples)
        encoded = self._whisper.model.encode(ctranslate2.StorageView.from_array(mel[None]))
        limit = max_tokens(samples)
        result = self._whisper.model.generate(
            encoded,
            [self.prompt(language)],
            beam_size=1,
            max_length=2 * limit,  # CTranslate2 4.8.5 gives half of it to the text
            return_scores=True,
        )[0]
        ids, tokens = result.sequences_ids[0], self._tokens(language)
        words: tuple[Word, ...] = ()
        if self.traits.word_times:
            frames = min(mel.shape[1], len(samples) // HOP_SAMPLES)
            found = self._whisper.find_alignment(tokens, [text_ids(ids, tokens)], encoded, frames)
            words = joined(found[0] if found else [], language)
        return WindowResult(
            text=" ".join(tokens.decode(ids).split()),
            words=words,
            confidence=math.exp(result.scores[0]),
            finished=len(ids) < limit,
        )

    def log_mel(self, samples: np.ndarray) -> np.ndarray:
        """Return the log-mel of a window, float32, shape (n_mels, frames), as in training.

        `samples`: 16 kHz mono float32, shape (samples,). They are padded with silence to 30 s, or,
        for a model tuned on a short audio context, to a whole number of seconds.
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

    def _tokens(self, language: str) -> Any:
        from faster_whisper.tokenizer import Tokenizer

        whisper = self._whisper
        return Tokenizer(
            whisper.hf_tokenizer, whisper.model.is_multilingual, "transcribe", language
        )


class TransformersEngine:
    """A Whisper that transformers runs, in windows of 30 s and without word times."""

    def __init__(self, folder: Path, traits: Traits, device: str, threads: int) -> None:
        with _damage_reported(folder):
            import torch
            from transformers import WhisperForConditionalGeneration, WhisperTokenizer

            if device == "auto":
                device = "cuda" if torch.cuda.is_available() else "cpu"
            dtype = torch.float16 if device == "cuda" else torch.float32
            self._tokenizer = WhisperTokenizer.from_pretrained(folder)
            model = WhisperForConditionalGeneration.from_pretrained(
                folder, dtype=dtype, use_safetensors=True
            )
        if threads:
            torch.set_num_threads(threads)
        self._model = model.eval().to(device)
        # older checkpoints carry a prompt of their own in this setting
        self._model.generation_config.forced_decoder_ids = None
        self._lock = threading.Lock()  # generate() writes to the model's attributes
        self.traits = replace(traits, word_times=False, short_audio_context=False)
        self.label = f"transformers, {str(dtype).removeprefix('torch.')}, {device}"

    def transcribe_window(self, samples: np.ndarray, language: str) -> WindowResult:
        """Transcribe a window greedily. `samples`: 16 kHz mono float32 of at most 30 s."""
        import torch

        from lab2_whisper.audio import log_mel

        whole = np.pad(samples, (0, WINDOW_SECONDS * SAMPLE_RATE - len(samples)))
        model = self._model
        mel = log_mel(torch.from_numpy(whole)[None], model.config.num_mel_bins)  # (1, n_mels, 3000)
        with self._lock, torch.inference_mode():
            result = model.generate(
                input_features=mel.to(model.device, model.dtype),
                language=language,
                task="transcribe",
                num_beams=1,
                do_sample=False,
                max_new_tokens=max_tokens(samples),
                output_logits=True,
                return_dict_in_generate=True,
            )
        ids = result["sequences"][0][-len(result["logits"]) :].tolist()
        log_probabilities = torch.stack(result["logits"])[:, 0].float().log_softmax(dim=-1)
        chosen = torch.tensor(ids, device=log_probabilities.device)[:, None]  # (tokens, 1)
        return WindowResult(
            text=" ".join(self._tokenizer.decode(ids, skip_special_tokens=True).split()),
            words=(),
            confidence=math.exp(log_probabilities.gather(1, chosen).mean()),
            finished=ids[-1] == model.config.eos_token_id,
        )


def max_tokens(samples: np.ndarray) -> int:
    """Return the largest number of tokens that speech in a window may take; more is a loop."""
    return min(MAX_TOKENS, max_text_tokens(len(samples) / SAMPLE_RATE))


def text_ids(ids: list[int], tokens: Any) -> list[int]:
    """Return the ids without special tokens, which cannot be aligned with the sound."""
    return [i for i in ids if i < tokens.eot]


def joined(pieces: Iterable[dict[str, Any]], language: str) -> tuple[Word, ...]:
    """Join the pieces of faster-whisper's alignment to words.

    In faster-whisper 1.2.1 punctuation is a piece of its own. Languages written without spaces
    keep their pieces.
    """
    words: list[list[Any]] = []  # start, end, text, probabilities
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
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
