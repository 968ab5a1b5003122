"""A stored corpus as training clips: decode, augment, log-mel, labels.

    clips = TrainingClips(open_corpus(store, "nano_pl", "train"), tokenizer, Augment(), seed=0)
    DataLoader(clips, batch_size=16, collate_fn=collate)

How a clip is altered depends on (seed, epoch, index) alone: not on workers, order or restarts.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import datasets
import librosa
import numpy as np
import torch

from lab2_whisper.audio import TooLong, Undecodable, decode_blocks, log_mel
from lab2_whisper.schema import HOP_SAMPLES, N_MELS, SAMPLE_RATE, WINDOW_SECONDS

IGNORED = -100  # a label that the loss passes over
START = "<|startoftranscript|>"


@dataclass(frozen=True)
class Augment:
    """How much a clip may be altered each time it is heard; each range is drawn from evenly."""

    speed: tuple[float, float] = (0.9, 1.1)  # and pitch (Ko et al. 2015, speed perturbation)
    noise_db: tuple[float, float] = (15, 50)  # the voice above white noise
    masks: int = 2  # SpecAugment: so many bands of time and of frequency are blanked
    mask_seconds: float = 0.4  # at most, and at most a fifth of the clip
    mask_mels: int = 12  # at most

    def sound(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """16 kHz mono float32, shape (samples,), at another speed and with noise."""
        rate = rng.uniform(*self.speed)
        rate = max(rate, len(samples) / (WINDOW_SECONDS * SAMPLE_RATE))  # must still fit
        samples = librosa.resample(samples, orig_sr=rate, target_sr=1, res_type="soxr_mq")
        power = np.mean(samples**2) * 10 ** (-rng.uniform(*self.noise_db) / 10)
        noise = rng.standard_normal(len(samples), dtype=np.float32) * np.float32(power**0.5)
        return (samples + noise)[: WINDOW_SECONDS * SAMPLE_RATE]

    def bands(self, frames: int, rng: np.random.Generator) -> list[tuple[str, int, int]]:
        """SpecAugment's masks for a clip of so many frames: ("time" or "mel", start, stop)."""
        widest = min(round(self.mask_seconds * SAMPLE_RATE / HOP_SAMPLES), frames // 5)
        found = []
        for axis, length, width in [("time", frames, widest), ("mel", N_MELS, self.mask_mels)]:
            for _ in range(self.masks):
                size = int(rng.integers(0, width + 1))
                start = int(rng.integers(0, length - size + 1))
                found.append((axis, start, start + size))
        return found


class TrainingClips:
    """A map-style dataset for torch's DataLoader and transformers' Trainer.

    Item: {"samples": 16 kHz mono float32 (n,), "labels": token ids, "bands": SpecAugment's masks}.
    `clips` are the rows of open_corpus() or mix(); `tokenizer` is a WhisperTokenizer with its
    language and task set. Without `augment` the clips are as they were stored.
    """

    def __init__(
        self, clips: datasets.Dataset, tokenizer, augment: Augment | None = None, seed: int = 0
    ):
        self.clips, self.tokenizer, self.augment, self.seed = clips, tokenizer, augment, seed
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # seen by living workers

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch, by `trainer.Epochs`."""
        self._epoch[0] = epoch

    @property
    def seconds(self) -> np.ndarray:
        """The length of each clip, shape (clips,), without decoding any."""
        return np.array(self.clips.select_columns("seconds")["seconds"], dtype=np.float32)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.clips[int(index)]
        samples, bands = decode_clip(row["audio"]), []
        if self.augment:
            rng = np.random.default_rng((self.seed, int(self._epoch), int(index)))
            samples = self.augment.sound(samples, rng)
            bands = self.augment.bands(len(samples) // HOP_SAMPLES, rng)
        labels = label_ids(self.tokenizer, row["text"])
        return {"samples": samples, "labels": labels, "bands": bands}


def decode_clip(audio: bytes) -> np.ndarray:
    """A clip, 16 kHz mono float32, shape (samples,): what of it can be decoded.

    No damage may end an epoch, or the scoring after many. Source bytes are kept with damage that
    `measure` does not see. Where nothing can be decoded it is a second of silence.
    """
    blocks = []
    with contextlib.suppress(Undecodable, TooLong):  # CutShort is an Undecodable
        for block in decode_blocks(audio, WINDOW_SECONDS + 1):
            blocks.append(block)  # each alone: what came before the damage stays
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    return samples if len(samples) else np.zeros(SAMPLE_RATE, np.float32)


def label_ids(tokenizer, text: str) -> list[int]:
    """The ids that the decoder is to predict: language, task, text, end.

    Without <|startoftranscript|>, which the model itself puts before them.
    """
    ids = tokenizer(text).input_ids
    return ids[1:] if ids[0] == tokenizer.convert_tokens_to_ids(START) else ids


def clips_that_fit(clips: datasets.Dataset, tokenizer, tokens: int) -> datasets.Dataset:
    """The clips whose labels are at most so many tokens, without reading any sound.

    Others are said: a decoder has no places for them, and one would end a training.
    """
    texts = clips.select_columns("text")["text"]
    special = len(label_ids(tokenizer, ""))
    long = [
        i
        for i, text in enumerate(texts)
        if len(text.encode()) + special > tokens  # no token is shorter than a byte
        and len(label_ids(tokenizer, text)) > tokens
    ]
    if not long:
        return clips
    print(f"{len(long)} of {len(clips)} clips are left out: their texts are over {tokens} tokens.")
    return clips.select(np.delete(np.arange(len(clips)), long))


def decoder_inputs(labels: torch.Tensor, config) -> torch.Tensor:
    """Labels moved one to the right behind the start of transcript, shape (B, longest)."""
    start = torch.full_like(labels[:, :1], config.decoder_start_token_id)
    inputs = torch.cat([start, labels[:, :-1]], dim=1)
    return inputs.masked_fill(inputs == IGNORED, config.pad_token_id)


def collate(
    items: list[dict[str, Any]], window_seconds: float | None = None, n_mels: int = N_MELS
) -> dict[str, torch.Tensor]:
    """A batch of items: {"input_features": (B, n_mels, frames), "labels": (B, longest)}.

    The window is as long as the longest clip, in whole seconds, unless `window_seconds` is given;
    Whisper as it comes takes 30.
    """
    return to_features(collate_sound(items, window_seconds), n_mels)


def collate_sound(
    items: list[dict[str, Any]], window_seconds: float | None = None
) -> dict[str, Any]:
    """The same before log-mel, to be moved to a GPU and given to `to_features` there.

    {"samples": (B, window), "labels": (B, longest), "bands": of each clip}.
    """
    longest = max(len(item["samples"]) for item in items)
    seconds = window_seconds or min(WINDOW_SECONDS, -(-longest // SAMPLE_RATE))
    samples = torch.zeros(len(items), round(seconds * SAMPLE_RATE))
    most = max(len(item["labels"]) for item in items)
    labels = torch.full((len(items), most), IGNORED)
    for i, item in enumerate(items):
        sound = torch.from_numpy(item["samples"][: samples.shape[1]])
        samples[i, : len(sound)] = sound
        labels[i, : len(item["labels"])] = torch.tensor(item["labels"])
    return {"samples": samples, "labels": labels, "bands": [item["bands"] for item in items]}


def to_features(batch: dict[str, Any], n_mels: int = N_MELS) -> dict[str, torch.Tensor]:
    """Log-mel with SpecAugment's masks, on the device that the samples are on."""
    features = log_mel(batch["samples"], n_mels)
    for feature, bands in zip(features, batch["bands"], strict=True):
        for axis, start, stop in bands:
            if axis == "time":
                feature[:, start:stop] = 0  # about the mean, as transformers does it
            else:
                feature[start * n_mels // N_MELS : stop * n_mels // N_MELS] = 0
    return {"input_features": features, "labels": batch["labels"]}
