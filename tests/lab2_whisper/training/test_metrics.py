"""Error rates agree with jiwer, intervals cover what they should, and nothing is fetched."""

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab2_whisper.schema import LabError
from lab2_whisper.text import normalise_for_wer
from lab2_whisper.training import metrics
from lab2_whisper.training.metrics import WordErrorRate, clip_errors, confusions, difference, score

REFERENCES = ["Zażółć gęślą jaźń!", "Dziś jest ósmego maja.", "Kup mleko (jutro)."]
HYPOTHESES = ["zażółć gęślą jaźń", "Dziś jest siódmego maja.", "Kup chleb i mleko."]
sentences = st.lists(st.text("ab ąż", max_size=12), min_size=1, max_size=8)


def test_both_rates():
    result = score(REFERENCES, HYPOTHESES)
    assert result.wer.value == pytest.approx(3 / 9)
    assert result.wer_orthographic.value == pytest.approx(jiwer.wer(REFERENCES, HYPOTHESES))
    assert result.cer_orthographic.value == pytest.approx(jiwer.cer(REFERENCES, HYPOTHESES))
    assert result.words == 9 and result.clips == 3
    assert "WER 33.3%" in str(result)
    assert list(clip_errors(REFERENCES, HYPOTHESES)) == [0, 1, 2]


@settings(deadline=None, max_examples=100)
@given(sentences, st.randoms())
def test_rates_are_those_of_jiwer(references, random):
    """The intervals, which cost the time, are not looked at here."""
    references = [*references, "a b"]
    hypotheses = [random.choice(references) for _ in references]
    plain = [[" ".join(text.split()) for text in texts] for texts in (references, hypotheses)]
    spoken = [pair for pair in zip(*plain, strict=True) if pair[0]]
    added = sum(len(h.split()) for s, h in zip(*plain, strict=True) if not s)
    words = sum(len(s.split()) for s, _ in spoken)
    expected = jiwer.wer([s for s, _ in spoken], [h for _, h in spoken]) + added / words
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "RESAMPLES", 1)
        rate = score(references, hypotheses).wer_orthographic.value
    assert rate == pytest.approx(expected)


def test_normalising_keeps_polish_letters():
    assert normalise_for_wer("  Zażółć, „gęślą” - JAŹŃ… ") == "zażółć gęślą jaźń"
    assert normalise_for_wer("Kup (szeptem) mleko") == "kup mleko"


def test_intervals_are_of_the_right_width():
    rng = np.random.default_rng(0)
    references = ["raz dwa trzy cztery pięć"] * 200
    hypotheses = [" ".join(word if rng.random() < 0.8 else "nie" for word in text.split())
                  for text in references]  # fmt: skip
    rate = score(references, hypotheses).wer
    assert rate.low < rate.value < rate.high
    assert (rate.high - rate.low) / 2 == pytest.approx(1.96 * (0.2 * 0.8 / 1000) ** 0.5, rel=0.2)
    assert score(references, hypotheses) == score(references, hypotheses)


def test_differences_are_paired():
    worse = ["raz"] * 50
    rate = difference(["raz dwa"] * 50, worse, ["raz dwa"] * 50)
    assert (rate.value, rate.low, rate.high) == (-0.5, -0.5, -0.5)


def test_confusions():
    found = confusions([*REFERENCES, "ósmego", ""], [*HYPOTHESES, "siódmego", "szum"])
    assert found[0] == ("ósmego", "siódmego", 2)
    assert ("", "chleb", 1) in found or ("", "i", 1) in found


def test_as_a_metric_of_evaluate_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setattr("socket.socket.connect", None)
    metric = WordErrorRate(cache_dir=str(tmp_path))
    metric.add_batch(predictions=HYPOTHESES[:2], references=REFERENCES[:2])
    metric.add_batch(predictions=HYPOTHESES[2:], references=REFERENCES[2:])
    assert metric.compute() == score(REFERENCES, HYPOTHESES).figures()


def test_errors_name_what_is_wrong():
    with pytest.raises(LabError, match="2 hypotheses for 3 references"):
        score(REFERENCES, HYPOTHESES[:2])
    with pytest.raises(LabError, match="references hold no word"):
        score(["...", ""], ["a", "b"])
