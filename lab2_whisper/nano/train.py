"""Train the nano model: python -m lab2_whisper.nano.train

A Whisper of about two million parameters beside its padded token table. It has heard espeak-ng's
men say Polish numbers, dates and requests, in clean sound. The nano corpus is new to it: women, in
MP3 of few bits, and it is the MP3 that it trips over (benchmarks/training.py hears both), so
fine-tuning has something to do. It takes about a quarter of an hour on two cores.

Two things make it learn in minutes what takes hours without them. Clips come by length, first a
few words, then sentences. And the encoder is taught directly: a second output on top of it, thrown
away in the end, spells the text by connectionist temporal classification (Watanabe et al. 2017,
Hybrid CTC/attention), so the decoder soon finds something worth attending to.

While it learns, the token table has only the rows that its texts need. The rows that pad it to
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
from lab2_whisper.features.sources import nano
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
SPEED = (130, 210)  # words a minute
WARP = (0.9, 1.1)  # played so much faster: another length of throat, and another pitch
WORDS = "numer kod pokój dziś jest spotkanie godzina włącz wyłącz poproszę kup jaka pogoda będzie i"
BATCH = 24
FULL_BATCH = 8  # clips of a batch that is heard in a 30 s window
FULL_SHARE = 0.03  # of the steps; or silence would be known in small doses only
LEARNING_RATE = 2e-3  # of one cycle
CTC_SHARE = 0.5  # of the encoder's own loss beside the decoder's
HELD_BACK = 60  # clips that are only scored


@dataclass(frozen=True)
class Lesson:
    """So many clips, and for how many steps they are heard, some of an earlier lesson as well."""

    kind: str
    clips: int
    steps: int


LESSONS = (Lesson("words", 3000, 400), Lesson("sentence", 6000, 1400))
REPEATED = 1000  # clips of the lesson before


def texts(kind: str, count: int, rng: random.Random) -> list[str]:
    """What is said in a lesson. No sentence of the nano corpus's test or validation is in it."""
    held_out = {clip.text for clip in nano().listing()[0] if clip.split != "train"}
    found = []
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
    lists += [make.THINGS, make.ROOMS, make.FOOD, make.TIMES]
    return {word for phrases in lists for phrase in phrases for word in phrase.split()}


def spoken(lesson: Lesson, tokens: Tokens, rng: random.Random) -> list[dict[str, Any]]:
    """A lesson's clips as items for `collate`, each by a man, at some speed and pitch."""
    said = texts(lesson.kind, lesson.clips, rng)
    how = [(rng.choice(MEN), rng.randint(*PITCH), rng.randint(*SPEED)) for _ in said]
    with ThreadPoolExecutor(2) as pool:
        sounds = pool.map(lambda text, how: make.synthesize(text, *how), said, how)
        sounds = list(tqdm(sounds, f"{lesson.kind}, spoken", len(said)))
    return [
        {"samples": sound, "labels": tokens.short(text), "bands": [], "text": text}
        for sound, text in zip(sounds, said, strict=True)
    ]


class Tokens:
    """Nano's tokens under short ids: only those that its texts and its prompt need."""

    def __init__(self):
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
        return [self.rows[token] for token in label_ids(self.tokenizer, text)]

    def text(self, rows: list[int]) -> str:
        return self.tokenizer.decode([self.kept[row] for row in rows], skip_special_tokens=True)


def small_config(vocabulary: int, end: int, start: int) -> WhisperConfig:
    return WhisperConfig(
        vocab_size=vocabulary, d_model=144, encoder_layers=4, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=576,
        decoder_ffn_dim=576, dropout=0.0, suppress_tokens=None, begin_suppress_tokens=None,
        pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=start,
    )  # fmt: skip


class Learner(torch.nn.Module):
    """The model with its short token table, and the encoder's own output on top."""

    def __init__(self, tokens: Tokens):
        super().__init__()
        self.tokens, self.blank = tokens, len(tokens.kept)
        config = small_config(len(tokens.kept), end=tokens.end, start=tokens.start)
        self.whisper = WhisperForConditionalGeneration(config)
        self.spelling = torch.nn.Linear(config.d_model, len(tokens.kept) + 1)

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The decoder's cross-entropy and a share of the encoder's loss.

        The first is as the padded model will have it: its rows of zeros give the logit 0.
        """
        labels = batch["labels"]
        inputs = torch.cat([torch.full_like(labels[:, :1], self.tokens.start), labels[:, :-1]], 1)
        inputs = inputs.masked_fill(inputs == IGNORED, self.tokens.end)
        with window(self.whisper, batch["input_features"].shape[-1]):
            heard = self.whisper(batch["input_features"], decoder_input_ids=inputs)
        others = torch.full((*heard.logits.shape[:2], 1), math.log(self.tokens.padding))
        logits = torch.cat([heard.logits, others], dim=2)  # (B, T, rows + 1)
        spelled = self._spelling_loss(heard.encoder_last_hidden_state, labels, batch["positions"])
        return cross_entropy(logits.transpose(1, 2), labels) + CTC_SHARE * spelled

    def _spelling_loss(
        self, hidden: torch.Tensor, labels: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """CTC of the text alone, without prompt and end, over the positions that have sound."""
        chances = self.spelling(hidden).log_softmax(dim=-1).transpose(0, 1)  # (positions, B, rows)
        prompt = len(self.tokens.tokenizer.prefix_tokens) - 1
        written = [row[row != IGNORED][prompt:-1] for row in labels]
        lengths = torch.tensor([len(row) for row in written])
        return ctc_loss(
            chances, torch.cat(written), positions, lengths, self.blank, zero_infinity=True
        )


def batches(
    clips: list[dict[str, Any]], steps: int, full_share: float, rng: random.Random
) -> Iterator[dict[str, torch.Tensor]]:
    """Clips of like length, altered, in windows a little longer than they are; some in 30 s."""
    by_length = sorted(clips, key=lambda clip: len(clip["samples"]))
    for _ in range(steps):
        full = rng.random() < full_share
        start = rng.randrange(len(clips) - 4 * BATCH)
        some = rng.sample(by_length[start : start + 4 * BATCH], FULL_BATCH if full else BATCH)
        some = [altered(clip, rng) for clip in some]
        seconds = WINDOW_SECONDS if full else _seconds(some) + rng.choice([0, 0, 0, 1, 2])
        sound = [len(clip["samples"]) // (HOP_SAMPLES * FRAMES_PER_POSITION) for clip in some]
        yield collate(some, seconds) | {"positions": torch.tensor(sound)}


def altered(clip: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A clip as another throat would say it, with bands of it blanked."""
    samples, rate = clip["samples"], rng.uniform(*WARP)
    times = np.arange(int(len(samples) / rate)) * rate
    samples = np.interp(times, np.arange(len(samples)), samples).astype(np.float32)
    bands = Augment().bands(len(samples) // HOP_SAMPLES, np.random.default_rng(rng.getrandbits(32)))
    return clip | {"samples": samples, "bands": bands}


def _seconds(clips: list[dict[str, Any]]) -> int:
    return math.ceil(max(len(clip["samples"]) for clip in clips) / SAMPLE_RATE)


@torch.no_grad()
def heard(learner: Learner, clips: list[dict[str, Any]]) -> list[str]:
    """What the model hears in some clips, greedily, in a window as long as the longest."""
    model, tokens = learner.whisper.eval(), learner.tokens
    features = collate(clips, _seconds(clips))["input_features"]
    prompt = [tokens.rows[token] for token in tokens.tokenizer.prefix_tokens]
    said = torch.tensor([prompt] * len(clips))
    with window(model, features.shape[-1]):
        sound = model.model.encoder(features)
        for _ in range(60):
            logits = model(encoder_outputs=sound, decoder_input_ids=said).logits[:, -1]
            said = torch.cat([said, logits.argmax(dim=-1, keepdim=True)], dim=1)
            if (said[:, len(prompt) :] == tokens.end).any(dim=1).all():
                break
    model.train()
    cut = [row[: row.index(tokens.end)] if tokens.end in row else row for row in said.tolist()]
    return [tokens.text(row) for row in cut]


def padded(model: WhisperForConditionalGeneration, tokens: Tokens):
    """The same model with Whisper's 51,865 rows: those of no use here are zeros."""
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
    """A folder as a Whisper of the Hub has it, in half precision."""
    padded(model, tokens).half().save_pretrained(folder)
    shutil.copytree(NANO_TOKENIZER, folder, dirs_exist_ok=True)
    WhisperFeatureExtractor().save_pretrained(folder)


def unheard(tokens: Tokens) -> list[dict[str, Any]]:
    """The nano corpus's validation clips: women, in MP3, neither of which nano has heard."""
    clips = [clip for clip in nano().listing()[0] if clip.split == "validation"]
    return [
        {"samples": decode(sound), "labels": tokens.short(clip.text), "bands": []}
        | {"text": clip.text}
        for clip, sound in nano().read(clips)
    ]


def word_errors(learner: Learner, clips: list[dict[str, Any]]) -> float:
    return score([clip["text"] for clip in clips], heard(learner, clips)).wer.value


def train(folder: Path, lessons: tuple[Lesson, ...] = LESSONS) -> None:
    """All lessons under one cycle of the learning rate. Every 200 steps it tells how it is doing."""
    torch.manual_seed(SEED)
    rng, tokens = random.Random(SEED), Tokens()
    learner, women, before = Learner(tokens), unheard(tokens), []
    print(f"{sum(p.numel() for p in learner.whisper.parameters()) / 1e6:.2f} million parameters")
    optimizer = torch.optim.AdamW(learner.parameters(), LEARNING_RATE, weight_decay=0.01)
    steps = sum(lesson.steps for lesson in lessons)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1
    )
    step = 0
    for lesson in lessons:
        clips = spoken(lesson, tokens, rng)
        men, clips = clips[:HELD_BACK], clips[HELD_BACK:]
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
                rates = [word_errors(learner, some) for some in (men, women)]
                print(
                    f"step {step}, loss {loss:.3f}, WER of men {rates[0]:.2f}, women {rates[1]:.2f}"
                )
        before = clips[:REPEATED]
    save(learner.whisper, tokens, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=NANO_MODEL)
    train(parser.parse_args().folder)
