"""Every figure of the lab can be drawn from what its callers have."""

import numpy as np
import pandas as pd
from helpers.speech import tone

from lab2_whisper import pictures
from lab2_whisper.inference.subtitles import Cue


def test_clip_lengths():
    assert pictures.clip_lengths(np.array([1.0, 2.5, 3.0])).axes


def test_a_clip_has_a_waveform_and_a_log_mel():
    assert len(pictures.waveform_and_log_mel(tone(1), "title").axes) == 2


def test_a_waveform_shows_its_cues():
    figure = pictures.waveform(tone(2), [Cue(0.5, 1.5, "Raz, dwa")])
    assert [text.get_text() for text in figure.axes[0].texts] == ["Raz, dwa"]


def test_curves_have_the_loss_and_both_error_rates():
    history = pd.DataFrame({
        "step": [0, 10, 10], "loss": [None, 2.0, None], "eval_loss": [3.0, None, 2.5],
        "eval_wer": [0.9, None, 0.8], "eval_wer_orthographic": [0.95, None, 0.85],
    })  # fmt: skip
    loss, rates = pictures.curves(history).axes
    assert len(loss.lines) == 2 and len(rates.lines) == 2
