"""The committed nano model: size, training data, and that it works wherever a Whisper does."""

import random
import shutil

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from lab2_whisper.features.sources import nano
from lab2_whisper.nano import make, train
from lab2_whisper.schema import NANO_MODEL
from lab2_whisper.training.evaluation import load_whisper


def test_it_is_small():
    model, tokenizer = load_whisper(NANO_MODEL)
    table = model.get_input_embeddings().weight
    assert table.shape[0] == len(tokenizer) == 51_865
    assert not table[300:50_256].any()  # padding
    assert 1e6 < model.num_parameters() - table.numel() < 3e6
    size = sum(file.stat().st_size for file in NANO_MODEL.iterdir())
    assert size < 25e6  # a few MB in git, since rows of zeros compress


def test_its_table_of_positions_is_whispers():
    model, _ = load_whisper(NANO_MODEL)
    fresh = WhisperForConditionalGeneration(model.config).model.encoder.embed_positions.weight
    learned = model.model.encoder.embed_positions.weight
    torch.testing.assert_close(learned, fresh, atol=1e-3, rtol=0)  # stored in half precision


def test_no_held_out_voice_or_sentence_is_in_its_training():
    voices = {voice.lower() for split in make.VOICES.values() for voice in split}
    assert not {voice.lower() for voice in train.MEN} & voices
    held_out = {clip.text for clip in nano().listing()[0] if clip.split != "train"}
    for lesson in train.LESSONS:
        assert not held_out & set(train.texts(lesson.kind, 300, random.Random(1)))


def test_the_short_table_and_the_padded_one_give_the_same_loss(monkeypatch):
    monkeypatch.setattr(train, "CTC_SHARE", 0.0)
    tokens = train.Tokens()
    learner = train.Learner(tokens).eval()
    whole = train.padded(learner.whisper, tokens).eval()
    labels = torch.tensor([tokens.short("Kup mleko.")])
    features = torch.randn(1, 80, 3000)
    batch = {"input_features": features, "labels": labels, "positions": torch.tensor([1500])}
    long = torch.tensor([[tokens.kept[row] for row in labels[0].tolist()]])
    torch.testing.assert_close(learner.loss(batch), whole(features, labels=long).loss)


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs espeak-ng")
def test_its_training_makes_a_model(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "BATCH_SIZE", 2)
    monkeypatch.setattr(train, "HELD_OUT_CLIPS", 2)
    lessons = (train.Lesson("words", 12, 1), train.Lesson("sentence", 12, 2))
    train.train(tmp_path / "model", lessons)
    assert load_whisper(tmp_path / "model")[0].num_parameters() > 1e6


def test_the_prompt_served_equals_the_prompt_trained(tmp_path):
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer

    from lab2_whisper.training.dataset import label_ids
    from lab2_whisper.training.publish import convert

    folder = convert(shutil.copytree(NANO_MODEL, tmp_path / "nano"), True)
    model = WhisperModel(str(folder), device="cpu", cpu_threads=1)
    served = Tokenizer(model.hf_tokenizer, True, task="transcribe", language="pl")
    tokenizer = load_whisper(NANO_MODEL)[1]
    prompt = [*served.sot_sequence, served.no_timestamps]
    assert model.model.is_multilingual
    assert prompt == [50258, *label_ids(tokenizer, "Raz")[:3]]
