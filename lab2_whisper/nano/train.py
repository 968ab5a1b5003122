"""Train the nano model: python -m lab2_whisper.nano.train

The model is a Whisper of about two million parameters beside its padded token table. It learns
Polish numbers, dates and requests from espeak-ng's male voices in clean audio. The nano corpus is
new to it: female voices, in MP3 at a low bitrate. It is the MP3 that causes its errors
(benchmarks/training.py measures with and without), so fine-tuning has something to do. Training
takes about a quarter of an hour on two cores.

Two things make it learn in minutes what takes hours without them. Clips come in order of length,
first a few words, then sentences. And the encoder is trained directly: a second output on top of
it, discarded at the end, spells the text by connectionist temporal classification (Watanabe et al.
2017, "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition"), so the decoder soon
has something worth attending to.

During training the token table has only the rows that the texts need. The rows that pad it to
Whisper's 51,865 are zeros and give the logit 0; the loss counts them, so that the padded model
gives the same probabilities.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, ctc_loss
from tqdm.auto import tqdm
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from lab2_whisper.audio import decode
from lab2_whisper.features.sources import Drop, nano
from lab2_whisper.nano import make
from lab2_whisper.schema import HOP_SAMPLES, NANO_MODEL, NANO_TOKENIZER, SAMPLE_RATE, WINDOW_SECONDS
from lab2_whisper.training.audio_context import FRAMES_PER_POSITION, window
from lab2_whisper.training.dataset import IGNORED, Augment, collate, label_ids
from lab2_whisper.training.metrics import score

SEED = 7
# fmt: off
MEN = [
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "adam", "Andy", "antonio", "boris", "caleb",
    "david", "Denis", "ed", "edward", "Gene", "Hugo", "john", "Lee", "marcelo", "Mario", "max",
    "Michael", "miguel", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "zac",
]
# fmt: on
PITCH = (25, 60)  # of 0 to 99
WORDS_PER_MINUTE = (130, 210)
WARP = (0.9, 1.1)  # playback rate: it changes pitch and formants, like another vocal tract
WORDS = "numer kod pokój dziś jest spotkanie godzina włącz wyłącz poproszę kup jaka pogoda będzie i"
BATCH_SIZE = 24
FULL_BATCH_SIZE = 8  # of a batch in windows of 30 s
FULL_SHARE = 0.03  # of the steps; without them the model would never learn long silence
MAX_LEARNING_RATE = 2e-3  # the peak of the one cycle
CTC_SHARE = 0.5  # the weight of the encoder's own loss beside the decoder's
HELD_OUT_CLIPS = 60  # of a lesson, only evaluated
REPEATED_CLIPS = 1000  # of the lesson before
MAX_TOKENS = 60  # of a transcript


@dataclass(frozen=True)
class Lesson:
    """How many clips of which kind ("words" or "sentence") to train on, and for how many steps."""

    kind: str
    clips: int
    steps: int


LESSONS = (Lesson("words", 3000, 400), Lesson("sentence", 6000, 1400))


def texts(kind: str, count: int, rng: random.Random) -> list[str]:
    """Return the texts of a lesson, without sentences of the nano corpus's test or validation."""
    held_out = {clip.text for clip in nano().listing()[0] if clip.split != "train"}
    found: list[str] = []
    while len(found) < count:
        text = make.sentence(rng) if kind == "sentence" else _some_words(rng)
        if text not in held_out:
            found.append(text)
    return found


def _some_words(rng: random.Random) -> str:
    vocabulary = sorted({*_vocabulary(), *WORDS.split()})
    text = " ".join(rng.choices(vocabulary, k=rng.randint(2, 4)))
    return text[0].upper() + text[1:] + "."


def _vocabulary() -> set[str]:
    lists = [make.UNITS, make.TEENS, make.TENS, make.HUNDREDS, make.HOURS, make.DAYS, make.MONTHS]
    lists += [make.THINGS, make.PLACES, make.FOOD, make.TIMES]
    return {word for phrases in lists for phrase in phrases for word in phrase.split()}


def synthesized(lesson: Lesson, tokens: Tokens, rng: random.Random) -> list[dict[str, Any]]:
    """Return a lesson's clips as items for `collate`, each in a random male voice."""
    written = texts(lesson.kind, lesson.clips, rng)
    voices = [
        (rng.choice(MEN), rng.randint(*PITCH), rng.randint(*WORDS_PER_MINUTE)) for _ in written
    ]
    with ThreadPoolExecutor(2) as pool:
        made = pool.map(lambda text, voice: make.synthesize(text, *voice), written, voices)
        clips = list(tqdm(made, f"{lesson.kind}, synthesized", len(written)))
    return [
        {"samples": samples, "labels": tokens.short(text), "bands": [], "text": text}
        for samples, text in zip(clips, written, strict=True)
    ]


class Tokens:
    """Nano's tokens under short ids, which are rows of the short token table.

    Only the tokens that nano's texts and prompt need are there.
    """

    def __init__(self) -> None:
        self.tokenizer = WhisperTokenizer.from_pretrained(
            NANO_TOKENIZER, language="pl", task="transcribe"
        )
        unused = self.tokenizer.convert_tokens_to_ids("<|endoftext|>")
        pieces = [
            i for i in range(unused) if "unused" not in self.tokenizer.convert_ids_to_tokens(i)
        ]
        self.kept = [i for i in pieces if self.tokenizer.convert_ids_to_tokens(i)]
        self.kept += [*self.tokenizer.prefix_tokens, self.tokenizer.eos_token_id]
        self.rows = {token: row for row, token in enumerate(self.kept)}
        self.start = self.rows[self.tokenizer.prefix_tokens[0]]
        self.end = self.rows[self.tokenizer.eos_token_id]
        self.padding = len(self.tokenizer) - len(self.kept)  # rows of zeros in the padded table

    def short(self, text: str) -> list[int]:
        """Return the short ids of a text with its prompt and end."""
        return [self.rows[token] for token in label_ids(self.tokenizer, text)]

    def text(self, rows: list[int]) -> str:
        """Return the text of short ids."""
        return self.tokenizer.decode([self.kept[row] for row in rows], skip_special_tokens=True)


def small_config(vocabulary: int, end: int, start: int) -> WhisperConfig:
    """Return nano's configuration; `end` and `start` are ids in a vocabulary of that size."""
    return WhisperConfig(
        vocab_size=vocabulary, d_model=144, encoder_layers=4, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=576,
        decoder_ffn_dim=576, dropout=0.0, suppress_tokens=None, begin_suppress_tokens=None,
        pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=start,
    )  # fmt: skip


class Learner(torch.nn.Module):
    """The model with its short token table, and the encoder's own output on top."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self.tokens, self.blank = tokens, len(tokens.kept)
        config = small_config(len(tokens.kept), end=tokens.end, start=tokens.start)
        self.whisper = WhisperForConditionalGeneration(config)
        self.spelling = torch.nn.Linear(config.d_model, len(tokens.kept) + 1)

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the decoder's cross-entropy plus a share of the encoder's CTC loss.

        `batch` is a batch of `collate` with "positions", the encoder positions that hold audio,
        shape (B,). The cross-entropy equals the padded model's: each of the rows of zeros that
        are missing here has the logit 0.
        """
        labels = batch["labels"]  # (B, T)
        inputs = torch.cat([torch.full_like(labels[:, :1], self.tokens.start), labels[:, :-1]], 1)
        inputs = inputs.masked_fill(inputs == IGNORED, self.tokens.end)
        with window(self.whisper, batch["input_features"].shape[-1]):
            outputs = self.whisper(batch["input_features"], decoder_input_ids=inputs)
        # n rows with the logit 0 add to the softmax as one with the logit log n
        padding = torch.full((*outputs.logits.shape[:2], 1), math.log(self.tokens.padding))
        logits = torch.cat([outputs.logits, padding], dim=2)  # (B, T, rows + 1)
        ctc = self._ctc_loss(outputs.encoder_last_hidden_state, labels, batch["positions"])
        return cross_entropy(logits.transpose(1, 2), labels) + CTC_SHARE * ctc

    def _ctc_loss(
        self, hidden: torch.Tensor, labels: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Return CTC of the text alone, without prompt and end, over the positions with audio.

        `hidden`: (B, positions, d_model); `labels`: (B, T); `positions`: (B,).
        """
        scores = self.spelling(hidden).log_softmax(dim=-1).transpose(0, 1)  # (positions, B, rows)
        prompt = len(self.tokens.tokenizer.prefix_tokens) - 1
        written = [row[row != IGNORED][prompt:-1] for row in labels]
        lengths = torch.tensor([len(row) for row in written])
        return ctc_loss(
            scores, torch.cat(written), positions, lengths, self.blank, zero_infinity=True
        )


def batches(
    clips: list[dict[str, Any]], steps: int, full_share: float, rng: random.Random
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of similar length, augmented, in windows a little longer or of 30 s."""
    by_length = sorted(clips, key=lambda clip: len(clip["samples"]))
    for _ in range(steps):
        full = rng.random() < full_share
        start = rng.randrange(len(clips) - 4 * BATCH_SIZE)
        similar = by_length[start : start + 4 * BATCH_SIZE]
        some = rng.sample(similar, FULL_BATCH_SIZE if full else BATCH_SIZE)
        some = [augmented(clip, rng) for clip in some]
        seconds = WINDOW_SECONDS if full else _seconds(some) + rng.choice([0, 0, 0, 1, 2])
        positions = [len(clip["samples"]) // (HOP_SAMPLES * FRAMES_PER_POSITION) for clip in some]
        yield collate(some, seconds) | {"positions": torch.tensor(positions)}


def augmented(clip: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a clip at another playback rate, with bands of its log-mel to be blanked."""
    samples, rate = clip["samples"], rng.uniform(*WARP)
    times = np.arange(int(len(samples) / rate)) * rate
    samples = np.interp(times, np.arange(len(samples)), samples).astype(np.float32)
    seed = rng.getrandbits(32)
    bands = Augment().bands(len(samples) // HOP_SAMPLES, np.random.default_rng(seed))
    return clip | {"samples": samples, "bands": bands}


def _seconds(clips: list[dict[str, Any]]) -> int:
    return math.ceil(max(len(clip["samples"]) for clip in clips) / SAMPLE_RATE)


@torch.no_grad()
def transcribe(learner: Learner, clips: list[dict[str, Any]]) -> list[str]:
    """Transcribe some clips greedily, in a window as long as the longest of them."""
    model, tokens = learner.whisper.eval(), learner.tokens
    features = collate(clips, _seconds(clips))["input_features"]
    prompt = [tokens.rows[token] for token in tokens.tokenizer.prefix_tokens]
    rows = torch.tensor([prompt] * len(clips))  # (B, T)
    with window(model, features.shape[-1]):
        encoded = model.model.encoder(features)
        for _ in range(MAX_TOKENS):
            logits = model(encoder_outputs=encoded, decoder_input_ids=rows).logits[:, -1]
            rows = torch.cat([rows, logits.argmax(dim=-1, keepdim=True)], dim=1)
            if (rows[:, len(prompt) :] == tokens.end).any(dim=1).all():
                break
    model.train()
    cut = [row[: row.index(tokens.end)] if tokens.end in row else row for row in rows.tolist()]
    return [tokens.text(row) for row in cut]


def padded(
    model: WhisperForConditionalGeneration, tokens: Tokens
) -> WhisperForConditionalGeneration:
    """Return the model with a token table of Whisper's 51,865 rows: unused ones are zeros."""
    end, start = tokens.tokenizer.eos_token_id, tokens.tokenizer.prefix_tokens[0]
    whole = WhisperForConditionalGeneration(
        small_config(len(tokens.tokenizer), end=end, start=start)
    )
    weights = model.state_dict()
    table = torch.zeros(len(tokens.tokenizer), whole.config.d_model)
    table[tokens.kept] = weights["model.decoder.embed_tokens.weight"]
    for name in ("model.decoder.embed_tokens.weight", "proj_out.weight"):
        weights[name] = table
    whole.load_state_dict(weights)
    start, polish, transcribe, no_timestamps = tokens.tokenizer.prefix_tokens
    whole.generation_config = GenerationConfig(
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=start,
        no_timestamps_token_id=no_timestamps,
        lang_to_id={"<|pl|>": polish},
        task_to_id={"transcribe": transcribe},
        is_multilingual=True,
        language="pl",
        task="transcribe",
        max_length=whole.config.max_target_positions,
        alignment_heads=[[1, head] for head in range(4)],  # all of the last layer
    )
    return whole


def save(model: WhisperForConditionalGeneration, tokens: Tokens, folder: Path) -> None:
    """Save the padded model in half precision, in a folder like those on the Hub."""
    padded(model, tokens).half().save_pretrained(folder)
    shutil.copytree(NANO_TOKENIZER, folder, dirs_exist_ok=True)
    WhisperFeatureExtractor().save_pretrained(folder)


def validation_clips(tokens: Tokens) -> list[dict[str, Any]]:
    """Return the nano corpus's validation clips as items for `collate`.

    They are female voices in MP3, and nano is trained on neither.
    """
    clips = [clip for clip in nano().listing()[0] if clip.split == "validation"]
    return [
        {"samples": decode(data), "labels": tokens.short(clip.text), "bands": []}
        | {"text": clip.text}
        for clip, data in nano().read(clips)
        if not isinstance(data, Drop)
    ]


def word_error_rate(learner: Learner, clips: list[dict[str, Any]]) -> float:
    """Return the normalised WER of greedy transcripts of some clips, 0.1 for 10 %."""
    return score([clip["text"] for clip in clips], transcribe(learner, clips)).wer.value


def train(folder: Path, lessons: tuple[Lesson, ...] = LESSONS) -> None:
    """Train on all lessons under one cycle of the learning rate, print WER every 200 steps, save."""
    torch.manual_seed(SEED)
    rng, tokens = random.Random(SEED), Tokens()
    learner, women = Learner(tokens), validation_clips(tokens)
    print(f"{sum(p.numel() for p in learner.whisper.parameters()) / 1e6:.2f} million parameters")
    optimizer = torch.optim.AdamW(learner.parameters(), MAX_LEARNING_RATE, weight_decay=0.01)
    steps = sum(lesson.steps for lesson in lessons)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, MAX_LEARNING_RATE, total_steps=steps, pct_start=0.1
    )
    step = 0
    before: list[dict[str, Any]] = []  # clips of the lesson before
    for lesson in lessons:
        clips = synthesized(lesson, tokens, rng)
        men, clips = clips[:HELD_OUT_CLIPS], clips[HELD_OUT_CLIPS:]
        share = FULL_SHARE if before else 0.0
        for batch in tqdm(batches(clips + before, lesson.steps, share, rng), total=lesson.steps):
            loss = learner.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            if step % 200 == 0:
                rates = [word_error_rate(learner, some) for some in (men, women)]
                print(
                    f"step {step}, loss {loss:.3f}, WER of men {rates[0]:.2f}, women {rates[1]:.2f}"
                )
        before = clips[:REPEATED_CLIPS]
    save(learner.whisper, tokens, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=NANO_MODEL)
    train(parser.parse_args().folder)
