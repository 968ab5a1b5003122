"""A stored corpus as training clips: decode, augment, log-mel, labels.

    clips = TrainingClips(open_corpus(store, "nano_pl", "train"), tokenizer, Augment(), seed=0)
    DataLoader(clips, batch_size=16, collate_fn=collate)

The augmentation of a clip depends on (seed, epoch, index) alone: not on workers, order or restarts.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import datasets
import librosa
import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import WhisperTokenizer

from lab2_whisper.audio import TooLong, Undecodable, decode_blocks, log_mel
from lab2_whisper.schema import HOP_SAMPLES, N_MELS, SAMPLE_RATE, WINDOW_SECONDS
from lab2_whisper.training.presets import devices

IGNORED = -100  # a label that the loss leaves out
START = "<|startoftranscript|>"


@dataclass(frozen=True)
class Augment:
    """How much a clip may change each time it is used; each range is drawn from uniformly.

    Speed perturbation after Ko et al. (2015), masks after SpecAugment (Park et al., 2019).
    """

    speed: tuple[float, float] = (0.9, 1.1)  # the pitch changes with it
    noise_db: tuple[float, float] = (15, 50)  # signal-to-noise ratio of white noise
    masks: int = 2  # bands of time, and as many of frequency, that are set to the mean
    mask_seconds: float = 0.4  # width at most, and at most a fifth of the clip
    mask_mels: int = 12  # width at most

    def change(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a clip at another speed and with noise: 16 kHz mono float32, shape (samples,)."""
        rate = rng.uniform(*self.speed)
        rate = max(rate, len(samples) / (WINDOW_SECONDS * SAMPLE_RATE))  # it must still fit
        samples = librosa.resample(samples, orig_sr=rate, target_sr=1, res_type="soxr_mq")
        power = np.mean(samples**2) * 10 ** (-rng.uniform(*self.noise_db) / 10)
        noise = rng.standard_normal(len(samples), dtype=np.float32) * np.float32(power**0.5)
        return (samples + noise)[: WINDOW_SECONDS * SAMPLE_RATE]

    def bands(self, frames: int, rng: np.random.Generator) -> list[tuple[str, int, int]]:
        """Draw SpecAugment's masks for a clip of so many frames: ("time" or "mel", start, stop)."""
        widest = min(round(self.mask_seconds * SAMPLE_RATE / HOP_SAMPLES), frames // 5)
        found = []
        for axis, length, width in [("time", frames, widest), ("mel", N_MELS, self.mask_mels)]:
            for _ in range(self.masks):
                size = int(rng.integers(0, width + 1))
                start = int(rng.integers(0, length - size + 1))
                found.append((axis, start, start + size))
        return found


class TrainingClips(Dataset[dict[str, Any]]):
    """A map-style dataset for torch's DataLoader and transformers' Trainer.

    Item: {"samples": 16 kHz mono float32 (n,), "labels": token ids, "bands": SpecAugment's masks}.
    `clips` are the rows of open_corpus() or mix(); `tokenizer` has its language and task set.
    Without `augment` the clips are as they were stored.
    """

    def __init__(
        self,
        clips: datasets.Dataset,
        tokenizer: WhisperTokenizer,
        augment: Augment | None = None,
        seed: int = 0,
    ):
        self.clips, self.tokenizer, self.augment, self.seed = clips, tokenizer, augment, seed
        # in shared memory, so that running workers see it change
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Draw other augmentations; `callbacks.Epochs` calls it at the start of each epoch."""
        self._epoch[0] = epoch

    @property
    def seconds(self) -> np.ndarray:
        """The length of each clip in seconds, shape (clips,), without decoding any."""
        return np.array(self.clips.select_columns("seconds")["seconds"], dtype=np.float32)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.clips[int(index)]
        samples, bands = decode_clip(row["audio"]), []
        if self.augment:
            rng = np.random.default_rng((self.seed, int(self._epoch), int(index)))
            samples = self.augment.change(samples, rng)
            bands = self.augment.bands(len(samples) // HOP_SAMPLES, rng)
        labels = label_ids(self.tokenizer, row["text"])
        return {"samples": samples, "labels": labels, "bands": bands}


def decode_clip(audio: bytes) -> np.ndarray:
    """Decode as much of a clip as possible: 16 kHz mono float32, shape (samples,).

    Corpora that keep their source's bytes may hold damage that audio.measure does not see; it must
    not end an epoch or an evaluation. A clip that cannot be decoded at all is a second of silence.
    """
    blocks = []
    with contextlib.suppress(Undecodable, TooLong):  # CutShort is an Undecodable
        for block in decode_blocks(audio, WINDOW_SECONDS + 1):
            blocks.append(block)  # one by one: what came before the damage stays
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    return samples if len(samples) else np.zeros(SAMPLE_RATE, np.float32)


def label_ids(tokenizer: WhisperTokenizer, text: str) -> list[int]:
    """Return the ids that the decoder is to predict: language, task, text, end.

    <|startoftranscript|> is not among them: the model puts it in front of the labels itself.
    """
    ids = tokenizer(text).input_ids
    return ids[1:] if ids[0] == tokenizer.convert_tokens_to_ids(START) else ids


def clips_with_short_texts(
    clips: datasets.Dataset, tokenizer: WhisperTokenizer, max_tokens: int
) -> datasets.Dataset:
    """Return the clips whose labels are at most `max_tokens` long, without reading any audio.

    The number of others is printed. The decoder has no positions for them, so that a single one
    would end a training.
    """
    texts = clips.select_columns("text")["text"]
    special = len(label_ids(tokenizer, ""))
    long = [
        i
        for i, text in enumerate(texts)
        if len(text.encode()) + special > max_tokens  # no token is shorter than a byte
        and len(label_ids(tokenizer, text)) > max_tokens
    ]
    if not long:
        return clips
    devices().print(
        f"{len(long)} of {len(clips)} clips are left out: their texts have over {max_tokens} tokens."
    )
    return clips.select(np.delete(np.arange(len(clips)), long))


def decoder_inputs(labels: torch.Tensor, config) -> torch.Tensor:
    """Shift labels (B, T) one to the right, behind the start of transcript, as (B, T)."""
    start = torch.full_like(labels[:, :1], config.decoder_start_token_id)
    inputs = torch.cat([start, labels[:, :-1]], dim=1)
    return inputs.masked_fill(inputs == IGNORED, config.pad_token_id)


def collate(
    items: list[dict[str, Any]], window_seconds: float | None = None, n_mels: int = N_MELS
) -> dict[str, torch.Tensor]:
    """Make a batch of items: {"input_features": (B, n_mels, frames), "labels": (B, T)}.

    The window is as long as the longest clip, in whole seconds, unless `window_seconds` is given;
    an unmodified Whisper takes 30.
    """
    return to_features(collate_samples(items, window_seconds), n_mels)


def collate_samples(
    items: list[dict[str, Any]], window_seconds: float | None = None
) -> dict[str, Any]:
    """Make a batch before log-mel, to be moved to a GPU and given to `to_features` there.

    Returns {"samples": (B, window), "labels": (B, T), "bands": one list per clip}; for the window
    see `collate`.
    """
    longest = max(len(item["samples"]) for item in items)
    seconds = window_seconds or min(WINDOW_SECONDS, -(-longest // SAMPLE_RATE))
    samples = torch.zeros(len(items), round(seconds * SAMPLE_RATE))
    tokens = max(len(item["labels"]) for item in items)
    labels = torch.full((len(items), tokens), IGNORED)
    for i, item in enumerate(items):
        clip = torch.from_numpy(item["samples"][: samples.shape[1]])
        samples[i, : len(clip)] = clip
        labels[i, : len(item["labels"])] = torch.tensor(item["labels"])
    return {"samples": samples, "labels": labels, "bands": [item["bands"] for item in items]}


def to_features(batch: dict[str, Any], n_mels: int = N_MELS) -> dict[str, torch.Tensor]:
    """Turn `collate_samples`' batch into log-mel (B, n_mels, frames) with its masks, and labels.

    It stays on the device that the samples are on.
    """
    features = log_mel(batch["samples"], n_mels)
    for feature, bands in zip(features, batch["bands"], strict=True):
        for axis, start, stop in bands:
            if axis == "time":
                feature[:, start:stop] = 0  # about the mean, as in transformers
            else:
                feature[start * n_mels // N_MELS : stop * n_mels // N_MELS] = 0
    return {"input_features": features, "labels": batch["labels"]}
