"""The nano corpus has no leak, and nano's tokenizer works wherever Whisper's does."""

import json
import shutil

import pytest
from transformers import WhisperTokenizer

from lab2_whisper.audio import decode
from lab2_whisper.features.sources import nano
from lab2_whisper.nano import make
from lab2_whisper.schema import LETTERS, NANO_CORPUS, NANO_TOKENIZER

TEXTS = [
    "Zażółć gęślą jaźń. ZAŻÓŁĆ GĘŚLĄ JAŹŃ!",
    "„Tak” - powiedział; 5% z 20 °C…",
    "Godzina dwunasta trzydzieści pięć.",
    "Привет, 你好, 😀",
]


@pytest.fixture(scope="module")
def tokenizer():
    return WhisperTokenizer.from_pretrained(NANO_TOKENIZER, language="pl", task="transcribe")


def by_split(clips):
    return {split: [c for c in clips if c.split == split] for split in make.CLIPS}


def test_the_corpus_has_the_layout_of_common_voice():
    names = {path.name for path in (NANO_CORPUS / "pl").iterdir()}
    tables = {f"{t}.tsv" for t in ["train", "dev", "test", "validated", "invalidated", "other"]}
    assert names == {*tables, "clips"}
    header = (NANO_CORPUS / "pl" / "train.tsv").read_text(encoding="utf-8").splitlines()[0]
    assert header.split("\t")[:4] == ["client_id", "path", "sentence_id", "sentence"]
    size = sum(f.stat().st_size for f in NANO_CORPUS.rglob("*") if f.is_file())
    assert size < 3.5e6


def test_no_held_out_sentence_or_voice_occurs_in_train():
    clips, drops = nano().listing()
    splits = by_split(clips)
    assert not drops
    assert {split: len(c) for split, c in splits.items()} == make.CLIPS
    for held_out in ("validation", "test"):
        assert not {c.text for c in splits["train"]} & {c.text for c in splits[held_out]}
        assert not {c.speaker for c in splits["train"]} & {c.speaker for c in splits[held_out]}
        words = make.words([c.text for c in splits[held_out]])
        assert words <= make.words([c.text for c in splits["train"]])
    assert sum(len(c.text.split()) for c in splits["test"]) >= 300


def test_clips_are_whole():
    clips, _ = nano().listing()
    for clip, data in nano().read(clips[::20]):
        assert len(decode(data)) > 0.4 * 16_000, clip


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs espeak-ng")
def test_the_script_makes_the_committed_files(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "CLIPS", {"train": 20, "validation": 1, "test": 1})
    make.make_corpus(tmp_path / "cv")
    again = (tmp_path / "cv" / "pl" / "train.tsv").read_text(encoding="utf-8").splitlines()
    kept = (NANO_CORPUS / "pl" / "train.tsv").read_text(encoding="utf-8").splitlines()
    assert again == kept[:21]
    make.make_tokenizer(tmp_path / "tokenizer")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        made, there = tmp_path / "tokenizer" / name, NANO_TOKENIZER / name
        assert json.loads(made.read_text()) == json.loads(there.read_text())


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_a_polish_letter_is_one_token(tokenizer):
    letters = LETTERS["pl"] + LETTERS["pl"].upper()
    assert len(tokenizer(letters, add_special_tokens=False).input_ids) == len(letters)


def test_special_tokens_have_whispers_ids(tokenizer):
    expected = {
        "<|endoftext|>": 50257, "<|startoftranscript|>": 50258, "<|en|>": 50259, "<|pl|>": 50269,
        "<|su|>": 50357, "<|translate|>": 50358, "<|transcribe|>": 50359, "<|startoflm|>": 50360,
        "<|startofprev|>": 50361, "<|nospeech|>": 50362, "<|notimestamps|>": 50363,
        "<|0.00|>": 50364, "<|30.00|>": 51864,
    }  # fmt: skip
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in expected} == expected
    assert len(tokenizer) == 51_865
    assert tokenizer.eos_token_id == 50257


def test_the_prompt_served_equals_the_prompt_trained(tokenizer, tmp_path):
    """Training labels begin with faster-whisper's prompt: shown with a tiny random model."""
    import numpy as np
    from ctranslate2.converters import TransformersConverter
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    for part in (WhisperForConditionalGeneration(config), tokenizer, WhisperFeatureExtractor()):
        part.save_pretrained(tmp_path / "hf")
    files = ["tokenizer.json", "preprocessor_config.json"]
    TransformersConverter(str(tmp_path / "hf"), copy_files=files).convert(str(tmp_path / "ct2"))
    model = WhisperModel(str(tmp_path / "ct2"), device="cpu", cpu_threads=1)
    assert model.model.is_multilingual
    served = Tokenizer(model.hf_tokenizer, True, task="transcribe", language="pl")
    trained = tokenizer("Raz").input_ids
    assert [*served.sot_sequence, served.no_timestamps] == trained[:4]
    assert served.timestamp_begin == tokenizer.convert_tokens_to_ids("<|0.00|>")
    assert served.encode("Zażółć") == tokenizer("Zażółć", add_special_tokens=False).input_ids
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    _, info = model.transcribe(noise, language="pl", beam_size=1, max_new_tokens=2)
    assert info.language == "pl"
