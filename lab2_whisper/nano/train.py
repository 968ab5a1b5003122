"""Train the nano model: python -m lab2_whisper.nano.train

A Whisper of about 1.5 million parameters beside its padded token table. It has heard espeak-ng's
men say Polish numbers, dates and requests, and two higher voices a little: the voices of the nano
corpus, all of women, are new to it, so fine-tuning has something to do. Clips come by length, a
word, then a few, then sentences; without that order the decoder learns the frequencies of words
long before it learns to listen.

While it learns, the token table has only the rows that its texts need. The rows that pad it to
Whisper's 51,865 are zeros and give the logit 0; the loss counts them, so that the padded model
gives the same probabilities.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from lab2_whisper.audio import decode
from lab2_whisper.context import window
from lab2_whisper.corpora import nano
from lab2_whisper.dataset import IGNORED, Augment, collate, label_ids
from lab2_whisper.metrics import score
from lab2_whisper.nano import make
from lab2_whisper.schema import HOP, NANO_MODEL, NANO_TOKENIZER, SAMPLE_RATE, WINDOW_SECONDS

SEED = 7
MEN = (
    "m1 m2 m3 m4 m5 m6 m7 m8 adam Andy antonio boris caleb david Denis ed edward Gene Hugo john Lee"
)
MEN = (
    MEN + " marcelo Mario max Michael miguel pablo paul pedro quincy rob robert sandro zac"
).split()
HIGH = ["grandma", "shelby"]  # not in the nano corpus
WORDS = "numer kod pokój dziś jest spotkanie godzina włącz wyłącz poproszę kup jaka pogoda będzie i"
BATCH = 24
FULL_BATCH = 8  # clips of a batch that is heard in a 30 s window
LEARNING_RATE = 2e-3
LAST_RATE = 7e-4  # falls to 0


@dataclass(frozen=True)
class Lesson:
    """So many clips, spoken by men at a pitch of 0 to 99, and for how many steps they are heard."""

    kind: str
    clips: int
    steps: int
    pitch: tuple[int, int] = (25, 60)
    masks: bool = False  # SpecAugment
    high: bool = False  # HIGH are heard as well, in one clip of five


LESSONS = (
    Lesson("word", 1500, 500),
    Lesson("words", 1500, 600),
    Lesson("sentence", 2500, 700),
)
# High voices, blurred: without it nine words in ten of a woman are wrong.
LAST = Lesson("sentence", 2000, 600, pitch=(30, 99), masks=True, high=True)


def texts(kind: str, count: int, rng: random.Random) -> list[str]:
    """What is said in a lesson. No sentence of the nano corpus's test or validation is in it."""
    held_out = {clip.text for clip in nano().listing()[0] if clip.split != "train"}
    found = []
    while len(found) < count:
        text = make.sentence(rng) if kind == "sentence" else _some_words(kind, rng)
        if text not in held_out:
            found.append(text)
    return found


def _some_words(kind: str, rng: random.Random) -> str:
    vocabulary = sorted({*_vocabulary(), *WORDS.split()})
    text = " ".join(rng.choices(vocabulary, k=1 if kind == "word" else rng.randint(2, 4)))
    return text[0].upper() + text[1:] + "."


def _vocabulary() -> set[str]:
    lists = [make.UNITS, make.TEENS, make.TENS, make.HUNDREDS, make.HOURS, make.DAYS, make.MONTHS]
    lists += [make.THINGS, make.ROOMS, make.FOOD, make.TIMES]
    return {word for phrases in lists for phrase in phrases for word in phrase.split()}


def spoken(lesson: Lesson, tokens: Tokens, rng: random.Random) -> list[dict[str, Any]]:
    """A lesson's clips as items for `collate`, each by a man, at some speed and pitch."""
    said = texts(lesson.kind, lesson.clips, rng)
    voices = MEN + HIGH * (len(MEN) // (4 * len(HIGH)) if lesson.high else 0)
    how = [(rng.choice(voices), rng.randint(*lesson.pitch), rng.randint(130, 210)) for _ in said]
    with ThreadPoolExecutor(2) as pool:
        sounds = list(pool.map(lambda text, how: make.speak(text, *how), said, how))
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


def small_config(tokens: Tokens, vocabulary: int, end: int, start: int) -> WhisperConfig:
    return WhisperConfig(
        vocab_size=vocabulary, d_model=128, encoder_layers=3, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=512,
        decoder_ffn_dim=512, dropout=0.0, suppress_tokens=None, begin_suppress_tokens=None,
        pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=start,
    )  # fmt: skip


def loss_of(model, tokens: Tokens, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy as the padded model will have it: its rows of zeros give the logit 0."""
    labels = batch["labels"]
    inputs = torch.cat([torch.full((len(labels), 1), tokens.start), labels[:, :-1]], dim=1)
    inputs = inputs.masked_fill(inputs == IGNORED, tokens.end)
    with window(model, batch["input_features"].shape[-1]):
        logits = model(batch["input_features"], decoder_input_ids=inputs).logits  # (B, T, rows)
    others = torch.full((*logits.shape[:2], 1), math.log(tokens.padding))
    return cross_entropy(torch.cat([logits, others], dim=2).transpose(1, 2), labels)


def batches(
    clips: list[dict[str, Any]], lesson: Lesson, full_share: float, rng: random.Random
) -> Iterator[dict[str, torch.Tensor]]:
    """Clips of like length, in windows a little longer than they are; a share in windows of 30 s."""
    by_length = sorted(clips, key=lambda clip: len(clip["samples"]))
    for _ in range(lesson.steps):
        if rng.random() < full_share:
            some, seconds = rng.sample(clips, FULL_BATCH), WINDOW_SECONDS
        else:
            start = rng.randrange(len(clips) - 4 * BATCH)
            some = rng.sample(by_length[start : start + 4 * BATCH], BATCH)
            seconds = _seconds(some) + rng.choice([0, 0, 0, 1, 2])
        yield collate([masked(clip, rng) if lesson.masks else clip for clip in some], seconds)


def masked(clip: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    generator = np.random.default_rng(rng.getrandbits(32))
    return clip | {"bands": Augment().bands(len(clip["samples"]) // HOP, generator)}


def _seconds(clips: list[dict[str, Any]]) -> int:
    return math.ceil(max(len(clip["samples"]) for clip in clips) / SAMPLE_RATE)


@torch.no_grad()
def heard(model, tokens: Tokens, clips: list[dict[str, Any]]) -> list[str]:
    """What the model hears in some clips, greedily, in windows of 4 s or as long as needed."""
    model.eval()
    features = collate(clips, max(4, _seconds(clips)))
    prompt = [tokens.rows[token] for token in tokens.tokenizer.prefix_tokens]
    said = torch.tensor([prompt] * len(clips))
    with window(model, features["input_features"].shape[-1]):
        sound = model.model.encoder(features["input_features"])
        for _ in range(60):
            logits = model(encoder_outputs=sound, decoder_input_ids=said).logits[:, -1]
            said = torch.cat([said, logits.argmax(dim=-1, keepdim=True)], dim=1)
            if (said[:, len(prompt) :] == tokens.end).any(dim=1).all():
                break
    model.train()
    cut = [row[: row.index(tokens.end)] if tokens.end in row else row for row in said.tolist()]
    return [tokens.text(row) for row in cut]


def padded(model, tokens: Tokens) -> WhisperForConditionalGeneration:
    """The same model with Whisper's 51,865 rows: those of no use here are zeros."""
    end, start = tokens.tokenizer.eos_token_id, tokens.tokenizer.prefix_tokens[0]
    whole = WhisperForConditionalGeneration(
        small_config(tokens, len(tokens.tokenizer), end=end, start=start)
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


def save(model, tokens: Tokens, folder: Path) -> None:
    """A folder as a Whisper of the Hub has it, in half precision."""
    padded(model, tokens).half().save_pretrained(folder)
    tokens.tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)


def unheard(tokens: Tokens) -> list[dict[str, Any]]:
    """The nano corpus's validation clips: women, whom nano has not heard."""
    clips = [clip for clip in nano().listing()[0] if clip.split == "validation"]
    return [
        {
            "samples": decode(sound),
            "labels": tokens.short(clip.text),
            "bands": [],
            "text": clip.text,
        }
        for clip, sound in nano().read(clips)
    ]


def word_errors(model, tokens: Tokens, clips: list[dict[str, Any]]) -> float:
    said = [clip["text"] for clip in clips]
    return score(said, heard(model, tokens, clips)).wer.value


class School:
    """The model on its way, and what is told of it."""

    def __init__(self, folder: Path):
        torch.manual_seed(SEED)
        self.folder, self.rng, self.tokens = folder, random.Random(SEED), Tokens()
        start, end = self.tokens.start, self.tokens.end
        config = small_config(self.tokens, len(self.tokens.kept), end=end, start=start)
        self.model = WhisperForConditionalGeneration(config)
        self.women, self.clips, self.step = unheard(self.tokens), [], 0

    def teach(self, lesson: Lesson, optimizer, schedule, full_share: float) -> None:
        """Hear a lesson's clips, and those before it; every 100 steps print and save."""
        self.clips += spoken(lesson, self.tokens, self.rng)
        men, known = self.clips[-40:], self.clips[:-40]
        for batch in tqdm(batches(known, lesson, full_share, self.rng), lesson.kind, lesson.steps):
            loss = loss_of(self.model, self.tokens, batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            self.step += 1
            if self.step % 100 == 0:
                rates = [word_errors(self.model, self.tokens, some) for some in (men, self.women)]
                print(
                    f"step {self.step} loss {loss:.3f} WER men {rates[0]:.2f} women {rates[1]:.2f}"
                )
                save(self.model, self.tokens, self.folder)

    def optimizer(self, rate: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=0.01)


def train(folder: Path) -> None:
    """All lessons. The first three share one cycle of the rate, which the last cuts off."""
    school = School(folder)
    print(f"{sum(p.numel() for p in school.model.parameters()) / 1e6:.2f} million parameters")
    optimizer = school.optimizer(LEARNING_RATE)
    steps = round(4 / 3 * sum(lesson.steps for lesson in LESSONS))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1
    )
    for lesson in LESSONS:
        # the last ones also have full windows, or silence would be known in small doses only
        school.teach(lesson, optimizer, schedule, 0.05 if lesson is LESSONS[-1] else 0.0)
    finish(school)


def finish(school: School) -> None:
    """The last lesson."""
    optimizer = school.optimizer(LAST_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, LAST.steps)
    school.teach(LAST, optimizer, schedule, 0.05)
    save(school.model, school.tokens, school.folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=NANO_MODEL)
    train(parser.parse_args().folder)
