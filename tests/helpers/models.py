"""Tiny random Whispers, a short run to train them, and the real tokenizer."""

import base64
import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from lab2_whisper.schema import NANO_TOKENIZER
from lab2_whisper.training import checkpoints
from lab2_whisper.training.presets import choose
from lab2_whisper.training.run import Run
from labstore import Store

Weights = dict[str, torch.Tensor]
STEPS = 8
SMALL_STEPS = replace(choose(10_000, "cpu"), clips_per_step=4)  # nano's preset takes 16
VOCABULARY = Path(__file__).parents[2] / "build" / "whisper" / "multilingual.tiktoken"


def tiny_whisper(folder: Path) -> Path:
    """A random Whisper with nano's tokenizer and a token table padded as nano's is."""
    tokenizer = WhisperTokenizer.from_pretrained(NANO_TOKENIZER, language="pl", task="transcribe")
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, suppress_tokens=None, begin_suppress_tokens=None,
        pad_token_id=50257, bos_token_id=50257, eos_token_id=50257, decoder_start_token_id=50258,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    used = torch.zeros(len(tokenizer), 1)
    used[:274] = used[[50257, 50258, 50269, 50359, 50363]] = 1
    model.proj_out.weight.data *= 10 * used
    model.generation_config = GenerationConfig(
        bos_token_id=50257, eos_token_id=50257, pad_token_id=50257, decoder_start_token_id=50258,
        no_timestamps_token_id=50363, lang_to_id={"<|pl|>": 50269}, is_multilingual=True,
        task_to_id={"transcribe": 50359}, language="pl", task="transcribe",
    )  # fmt: skip
    for part in (model, tokenizer, WhisperFeatureExtractor()):
        part.save_pretrained(folder)
    return folder


def tiny_run(model: Path | str, **changes: Any) -> Run:
    """A run of seconds: evaluated at steps 0, 4 and 8, each step two batches of two clips."""
    run = Run("r", str(model), steps=STEPS, evaluate_every=4, validation_clips=2, batch_size=2,
              preset=SMALL_STEPS, full_windows=0.2, dropout=0.1)  # fmt: skip
    return replace(run, **changes)


def last_weights(store: Store, folder: Path) -> Weights:
    """The weights of run "r" after its last step, unpacked below `folder`."""
    saved = store.open_files("checkpoint_r")
    shutil.unpack_archive(saved.path / checkpoints.ARCHIVE, folder / "last")
    assert checkpoints.step(folder / "last") == STEPS
    return load_file(folder / "last" / "model.safetensors")


def equal(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def tiktoken_file() -> Path:
    """Whisper's own vocabulary, fetched by tools/whisper_vocabulary.py; skips without it."""
    if not VOCABULARY.is_file():
        pytest.skip("needs Whisper's vocabulary: python tools/whisper_vocabulary.py")
    return VOCABULARY


def ranks() -> dict[bytes, int]:
    lines = tiktoken_file().read_bytes().splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}


def real_tokenizer() -> WhisperTokenizer:
    """openai/whisper-small's tokenizer, 51,865 tokens, made from Whisper's own vocabulary."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters, known = bytes_to_unicode(), ranks()
    written = {token: "".join(letters[byte] for byte in token) for token in known}
    merges = [tuple(written[part] for part in _merge(token, known)) for token in known
              if len(token) > 1]  # fmt: skip
    languages = [code for code in LANGUAGES if code != "yue"]
    special = ["endoftext", "startoftranscript", *languages, "translate", "transcribe"]
    special += ["startoflm", "startofprev", "nospeech", "notimestamps"]
    special = [f"<|{name}|>" for name in special]
    vocabulary = {written[token]: rank for token, rank in known.items()}
    vocabulary |= {"": len(vocabulary)} if len(vocabulary) == 50_256 else {}
    vocabulary |= {name: 50_257 + i for i, name in enumerate(special)}
    tokenizer = WhisperTokenizer(
        vocab=vocabulary, merges=merges, extra_special_tokens=special[1:], language="pl",
        task="transcribe",
    )  # fmt: skip
    tokenizer.add_tokens([f"<|{i * 0.02:.2f}|>" for i in range(1501)])
    return tokenizer


def _merge(token: bytes, known: dict[bytes, int]) -> list[bytes]:
    """The two parts from which byte-pair encoding makes a token: all merges but the last."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        rank = [known.get(a + b, len(known)) for a, b in itertools.pairwise(parts)]
        i = rank.index(min(rank))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts
