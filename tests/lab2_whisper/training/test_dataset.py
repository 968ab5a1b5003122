"""Clips for training: labels, windows, augmentation that depends on (seed, epoch, index) alone."""

import datasets
import numpy as np
import pytest
import torch
from helpers.speech import mp3
from torch.utils.data import DataLoader
from transformers import WhisperTokenizer

from lab2_whisper.audio import CutShort, decode, log_mel
from lab2_whisper.features.stored import open_corpus
from lab2_whisper.schema import NANO_TOKENIZER
from lab2_whisper.training.dataset import (
    Augment,
    TrainingClips,
    clips_with_short_texts,
    collate,
    collate_samples,
    label_ids,
    to_features,
)  # fmt: skip
from labstore import open_store


@pytest.fixture(scope="module")
def tokenizer():
    return WhisperTokenizer.from_pretrained(NANO_TOKENIZER, language="pl", task="transcribe")


@pytest.fixture(scope="module")
def train(nano_store):
    return open_corpus(open_store(nano_store), "nano_pl", "train")


def same(a, b):
    return all(
        np.array_equal(x["samples"], y["samples"]) and x["bands"] == y["bands"]
        for x, y in zip(a, b, strict=True)
    )


def test_labels_begin_after_the_start_of_transcript(tokenizer):
    ids = label_ids(tokenizer, "Godzina ósma.")
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens[:3] == ["<|pl|>", "<|transcribe|>", "<|notimestamps|>"]
    assert tokens[-1] == "<|endoftext|>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Godzina ósma."


def test_texts_with_more_tokens_than_the_decoder_takes_are_left_out_with_a_message(
    tokenizer, capsys
):
    """Four of 448 tokens are special. Only texts are read."""
    texts = ["raz", "r" * 444, "r" * 445, "Raz dwa trzy cztery " * 60, "Dwa."]
    rows = datasets.Dataset.from_dict({"text": texts, "audio": [None] * 5})
    lengths = [len(label_ids(tokenizer, text)) for text in texts]
    assert [length <= 448 for length in lengths] == [True, True, False, False, True]
    assert list(clips_with_short_texts(rows, tokenizer, 448)["text"]) == ["raz", "r" * 444, "Dwa."]
    assert "2 of 5 clips are left out" in capsys.readouterr().out
    assert clips_with_short_texts(rows.select([0, 1, 4]), tokenizer, 448).num_rows == 3
    assert not capsys.readouterr().out


def test_batches(train, tokenizer):
    clips = TrainingClips(train, tokenizer)
    batch = collate([clips[i] for i in range(4)])
    window_seconds = np.ceil(train[:4]["seconds"]).max()
    assert batch["input_features"].shape == (4, 80, 100 * window_seconds)
    assert (batch["labels"][:, 0] == tokenizer.convert_tokens_to_ids("<|pl|>")).all()
    assert (batch["labels"] == -100).any()
    full = collate([clips[0]], window_seconds=30, n_mels=128)
    assert full["input_features"].shape == (1, 128, 3000)


def test_log_mel_after_collating_gives_the_same(train, tokenizer):
    clips = TrainingClips(train, tokenizer, Augment())
    items = [clips[i] for i in range(3)]
    batch = collate_samples(items)
    torch.testing.assert_close(to_features(batch), collate(items))
    plain = log_mel(batch["samples"])
    assert (to_features(batch)["input_features"] != plain).any()


def test_without_augmentation_clips_are_as_stored(train, tokenizer):
    a, b = TrainingClips(train, tokenizer, seed=1), TrainingClips(train, tokenizer, seed=2)
    assert same([a[0]], [b[0]])
    assert a[0]["bands"] == []
    assert len(a[0]["samples"]) / 16_000 == pytest.approx(a.seconds[0], abs=0.01)


def test_augmentation_depends_on_seed_epoch_and_index_alone(train, tokenizer):
    def epoch(seed, epoch, order):
        clips = TrainingClips(train, tokenizer, Augment(), seed)
        clips.set_epoch(epoch)
        return [clips[i] for i in order]

    first = epoch(0, 1, [3, 4, 5])
    assert same(first, epoch(0, 1, [5, 4, 3])[::-1])
    assert not same(first, epoch(1, 1, [3, 4, 5]))
    assert not same(first, epoch(0, 2, [3, 4, 5]))


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_follow_the_epoch(train, tokenizer, workers):
    clips = TrainingClips(train.select(range(4)), tokenizer, Augment())
    loader = DataLoader(clips, collate_fn=list, num_workers=workers,
                        persistent_workers=workers > 0)  # fmt: skip
    for epoch in (0, 1):
        clips.set_epoch(epoch)
        items = [item for (item,) in loader]
        assert same(items, [clips[i] for i in range(4)])


def test_augmented_clips_stay_within_limits(train, tokenizer):
    augment = Augment()
    rng = np.random.default_rng(0)
    long = rng.standard_normal(30 * 16_000).astype(np.float32)
    for _ in range(3):
        samples = augment.change(long, rng)
        assert samples.dtype == np.float32
        assert len(samples) <= 30 * 16_000
    for frames in (1, 20, 3000):
        for axis, start, stop in augment.bands(frames, rng):
            assert 0 <= start <= stop <= (frames if axis == "time" else 80)


def test_damage_that_went_unnoticed_does_not_end_an_epoch(tmp_path, tokenizer):
    """Source bytes with a break in the middle: the part that can be decoded is used."""
    broken = bytearray(mp3(4))
    broken[len(broken) // 2 :] = bytes(len(broken) - len(broken) // 2)
    with pytest.raises(CutShort):
        decode(bytes(broken))
    rows = [{"audio": audio, "text": "Raz", "seconds": 4.0} for audio in
            (bytes(broken), b"", b"text" * 99, mp3(33, 16_000), mp3(1))]  # fmt: skip
    clips = TrainingClips(datasets.Dataset.from_list(rows), tokenizer)
    lengths = [len(clips[i]["samples"]) / 16_000 for i in range(len(rows))]
    assert lengths == pytest.approx([2, 1, 1, 31, 1], abs=0.2)
    clips.augment = Augment()
    assert len(list(DataLoader(clips, 2, collate_fn=collate))) == 3


def test_memory_stays_flat(train, tokenizer):
    """Rows come from memory-mapped files: reading all of them keeps none in memory."""
    from pathlib import Path

    def private_kb():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    clips = TrainingClips(train, tokenizer)
    for i in range(100):
        clips[i]
    before = private_kb()
    for _ in range(5):
        for i in range(100):
            clips[i]
    assert private_kb() - before < 8_000
