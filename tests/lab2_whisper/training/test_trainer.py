"""Training steps: labels and loss are Whisper's own, windows and batches are as planned."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiktoken
import torch
from helpers.models import ranks, real_tokenizer
from safetensors.torch import load_file
from transformers import TrainerState, WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import shift_tokens_right

from lab2_whisper.features.stored import open_corpus
from lab2_whisper.training import presets
from lab2_whisper.training.dataset import (
    IGNORED,
    TrainingClips,
    collate,
    collate_samples,
    decoder_inputs,
    label_ids,
)
from lab2_whisper.training.evaluation import load_whisper
from lab2_whisper.training.loop import arguments
from lab2_whisper.training.metrics import score
from lab2_whisper.training.trainer import ByLength, WhisperTrainer


def test_labels_of_the_real_tokenizer_begin_after_the_start_of_transcript():
    tokenizer = real_tokenizer()
    assert len(tokenizer) == 51_865
    items = [{"samples": torch.zeros(16_000).numpy(), "labels": label_ids(tokenizer, text),
              "bands": []} for text in ("Dzień dobry.", "Tak")]  # fmt: skip
    labels = collate(items)["labels"]
    start = tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    assert start == 50258 and not (labels == start).any()
    assert labels[:, :3].tolist() == [[50269, 50359, 50363]] * 2
    config = type("Config", (), {"decoder_start_token_id": start, "pad_token_id": 50257})
    inputs = decoder_inputs(labels, config)
    assert (inputs[:, 0] == start).all() and (inputs == start).sum() == 2
    assert inputs[0, 1:].tolist() == labels[0, :-1].tolist()
    assert not (inputs == IGNORED).any()


def test_a_batch_equals_the_one_that_transformers_makes():
    """Labels, inputs of the decoder and log-mel of three padded clips."""
    tokenizer, rng = real_tokenizer(), np.random.default_rng(0)
    texts = ["Zażółć gęślą jaźń.", "Tak", "Dwadzieścia pięć minut po ósmej"]
    clips = [rng.standard_normal(n).astype(np.float32) / 9 for n in (80_000, 17_000, 48_123)]
    items = [{"samples": clip, "labels": label_ids(tokenizer, text), "bands": []}
             for clip, text in zip(clips, texts, strict=True)]  # fmt: skip
    ours = collate(items, window_seconds=30)
    theirs = WhisperFeatureExtractor()(clips, sampling_rate=16_000, return_tensors="pt")
    torch.testing.assert_close(ours["input_features"], theirs.input_features, atol=1e-5, rtol=0)
    tokenizer.pad_token = tokenizer.eos_token
    written = tokenizer(texts, padding=True, return_tensors="pt")
    labels = written.input_ids.masked_fill(written.attention_mask == 0, IGNORED)[:, 1:]
    assert torch.equal(ours["labels"], labels)
    config = WhisperConfig(decoder_start_token_id=50258, pad_token_id=50257)
    expected = shift_tokens_right(labels, config.pad_token_id, config.decoder_start_token_id)
    assert torch.equal(decoder_inputs(labels, config), expected)


def test_the_tokenizer_of_these_tests_is_whispers():
    tokenizer, known = real_tokenizer(), ranks()
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    reference = tiktoken.Encoding("w", pat_str=pattern, mergeable_ranks=known, special_tokens={})
    for text in ("Zażółć gęślą jaźń, 5% z 20 °C!", " It's   fine ", "你好, Привет", "\n\nraz"):
        ours = tokenizer(text, add_special_tokens=False).input_ids
        assert ours == reference.encode(text)


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_whisper(tiny_model)


@pytest.fixture
def clips(store, loaded) -> TrainingClips:
    return TrainingClips(open_corpus(store, "nano_pl", "train"), loaded[1])


def trainer_of(run, loaded, clips, folder, batch_size) -> WhisperTrainer:
    model, tokenizer = loaded
    settings = arguments(folder, run, presets.choose(10_000), batch_size)
    return WhisperTrainer(run, tokenizer, model=model, args=settings, train_dataset=clips,
                          eval_dataset=clips, data_collator=collate_samples)  # fmt: skip


def test_the_loss_equals_that_of_transformers(run, loaded, clips, tmp_path):
    trainer, model = trainer_of(run, loaded, clips, tmp_path, 4), loaded[0]
    batch = collate([clips[i] for i in range(4)], window_seconds=30)
    with torch.no_grad():
        expected = model.eval()(**batch).loss
        torch.testing.assert_close(trainer.compute_loss(model, dict(batch)), expected)


def test_a_step_in_parts_has_the_gradient_of_the_whole_batch(run, loaded, clips, tmp_path):
    """Fewer clips of 30 s fit at a time, so the step is taken in parts."""
    gradients, model = [], loaded[0]
    for batch_size in (4, 12):  # 12: four clips of 30 s at a time
        full = replace(run, short_audio_context=False)
        trainer = trainer_of(full, loaded, clips, tmp_path, batch_size)
        items = collate_samples([clips[i] for i in range(4)])
        labels = (items["labels"] != IGNORED).sum()
        model.zero_grad()
        trainer.training_step(model, items, labels)
        gradients.append([w.grad.clone() for w in model.parameters() if w.grad is not None])
    model.zero_grad(set_to_none=True)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_validation_is_scored_by_the_metric_of_evaluate(run, loaded, clips, tmp_path, monkeypatch):
    trainer, tokenizer = trainer_of(run, loaded, clips, tmp_path, 4), loaded[1]
    references, hypotheses = ["Raz, dwa", "Trzy"], ["raz", "trzy"]
    padded = [np.full((2, 12), IGNORED) for _ in range(2)]
    for ids, texts in zip(padded, (references, hypotheses), strict=True):
        for row, text in zip(ids, texts, strict=True):
            tokens = label_ids(tokenizer, text)
            row[: len(tokens)] = tokens
    computed, compute = [], trainer.metric.compute
    monkeypatch.setattr(trainer.metric, "compute", lambda **o: computed.append(o) or compute(**o))
    rates = trainer.compute_metrics(SimpleNamespace(label_ids=padded[0], predictions=padded[1]))
    assert computed == [{"references": references, "predictions": hypotheses}]
    expected = score(references, hypotheses)
    assert rates == {"wer": expected.wer.value, "cer": expected.cer.value,
                     "wer_orthographic": expected.wer_orthographic.value}  # fmt: skip


def test_batches_have_clips_of_similar_length_and_no_clip_comes_twice(clips):
    order = ByLength(clips, 8, 16, seed=1)
    first, seconds = list(order), clips.seconds
    assert len(first) == len(order) == 288 and len(set(first)) == 288
    spread = [seconds[first[i : i + 8]].max() - seconds[first[i : i + 8]].min()
              for i in range(0, 288, 8)]  # fmt: skip
    assert sum(spread) / len(spread) < 0.3
    order.set_epoch(1)
    assert list(order) != first
    order.set_epoch(0)
    assert list(order) == first


def test_full_windows_are_the_last_steps_before_each_evaluation(run):
    def full(**changes) -> list[int]:
        plan = replace(run, **changes)
        at = [
            SimpleNamespace(run=plan, state=TrainerState(global_step=i)) for i in range(plan.steps)
        ]
        return [i for i, trainer in enumerate(at) if WhisperTrainer._full_window(trainer)]

    assert full(steps=10, full_windows=0.25) == [3, 7, 9]  # it is evaluated at 4, 8 and the end
    assert full(steps=8, full_windows=0.5) == [2, 3, 6, 7]
    assert full(steps=8, full_windows=0.0) == []
    assert full(steps=3, short_audio_context=False) == [0, 1, 2]


def test_all_weights_are_learned_but_the_table_of_positions(tiny_model, final_weights):
    before = load_file(tiny_model / "model.safetensors")
    unchanged = {name for name in before if torch.equal(before[name], final_weights[name])}
    assert unchanged == {"model.encoder.embed_positions.weight"}
