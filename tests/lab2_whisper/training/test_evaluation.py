"""Evaluation: any Whisper or CTC model, before and after, on clips that may be damaged."""

import json

import datasets
import pytest
from helpers.models import tiny_run

from lab2_whisper.features.stored import open_corpus
from lab2_whisper.schema import LabError
from lab2_whisper.training import evaluation
from lab2_whisper.training.evaluation import evaluate, evaluate_before_after, load_whisper
from lab2_whisper.training.loop import train


@pytest.fixture
def few(store):
    """Four clips of the test split."""
    return open_corpus(store, "nano_pl", "test").select(range(4))


def test_the_test_splits_are_evaluated_before_and_after(
    two_corpora, tiny_model, tmp_path, monkeypatch
):
    store = two_corpora
    outcome = train(store, tiny_run(tiny_model, steps=2, evaluate_every=2), folder=tmp_path)
    few = lambda *a, **k: open_corpus(*a, **k).select(range(4))  # noqa: E731
    monkeypatch.setattr(evaluation, "open_corpus", few)
    comparisons = evaluate_before_after(
        store, outcome, ("other_pl",), cache_dir=tmp_path / "copies"
    )
    assert [comparison.corpus for comparison in comparisons] == ["nano_pl", "other_pl"]
    for comparison in comparisons:
        assert comparison.before.score.clips == comparison.after.score.clips == 4
        worst = comparison.after.worst(2)
        assert len(worst) == 2 and {"reference", "hypothesis", "errors"} <= set(worst.columns)
        assert "before WER" in str(comparison)
    assert list((tmp_path / "copies").iterdir())


def test_a_damaged_clip_does_not_end_an_evaluation(tiny_model, few):
    clips = few.select(range(2)).to_list()
    clips[1]["audio"] = b"not audio"
    assert evaluate(tiny_model, datasets.Dataset.from_list(clips)).score.clips == 2


def test_a_wav2vec2_is_scored_on_the_same_clips(few, tmp_path):
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"aąbcćdeęfghijklłmnńoóprsśtuwyzźż"]
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    processor = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), Wav2Vec2CTCTokenizer(vocabulary))
    config = Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, conv_dim=(16,) * 7, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    for part in (Wav2Vec2ForCTC(config), processor):
        part.save_pretrained(tmp_path / "ctc")
    result = evaluate(tmp_path / "ctc", few)
    assert result.score.clips == 4 and result.score.wer.value > 0
    extractor = tmp_path / "ctc" / "preprocessor_config.json"  # of a model with a language model
    (tmp_path / "ctc" / "processor_config.json").unlink()
    settings = Wav2Vec2FeatureExtractor().to_dict()
    extractor.write_text(json.dumps(settings | {"processor_class": "Wav2Vec2ProcessorWithLM"}))
    again = evaluate(tmp_path / "ctc", few)
    assert again.table["hypothesis"].equals(result.table["hypothesis"])


def test_what_cannot_be_loaded_is_named_with_its_cause(few):
    with pytest.raises(LabError, match="No Whisper could be loaded from no/such-model") as caught:
        load_whisper("no/such-model")
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(LabError, match="There is no model no/such-model"):
        evaluate("no/such-model", few)
    with pytest.raises(LabError, match="no clips to evaluate on"):
        evaluate("no/such-model", few.select([]))


def test_an_error_of_our_own_is_not_reported_as_a_bad_model(monkeypatch):
    def broken(*_, **__):
        raise TypeError("ours")

    monkeypatch.setattr(evaluation.WhisperTokenizer, "from_pretrained", broken)
    monkeypatch.setattr(evaluation.WhisperForConditionalGeneration, "from_pretrained", broken)
    with pytest.raises(TypeError, match="ours"):
        load_whisper("no/such-model")
