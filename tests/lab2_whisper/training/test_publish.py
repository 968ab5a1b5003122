"""Publishing: a model card with both WERs, a copy that faster-whisper serves."""

import shutil
import sys
import types
from dataclasses import replace
from unittest.mock import create_autospec

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard

from lab2_whisper.schema import LabError, model_of
from lab2_whisper.training import checkpoints, publish
from lab2_whisper.training.evaluation import BeforeAfter, EvaluationResult, load_whisper
from lab2_whisper.training.metrics import difference, score
from lab2_whisper.training.presets import choose
from lab2_whisper.training.run import Outcome, Run
from labstore import open_store

REFERENCES = ["Kup mleko.", "Numer sto dwa."]


def result(hypotheses: list[str]) -> EvaluationResult:
    table = pd.DataFrame({"reference": REFERENCES, "hypothesis": hypotheses})
    return EvaluationResult(score(REFERENCES, hypotheses), table)


@pytest.fixture(scope="module")
def published(tiny_model, tmp_path_factory):
    return publish.register(*evaluated(tiny_model, tmp_path_factory.mktemp("published")))


def evaluated(tiny_model, folder):
    """A store, a training's outcome and its evaluation."""
    tiny = shutil.copytree(tiny_model, folder / "tiny")
    run = Run("r", str(tiny), preset=choose(10_000))
    history = pd.DataFrame({"step": [0], "eval_wer": [0.5]})
    data = {"nano_pl": "20261123T000000000000Z-00000000"}
    outcome = Outcome(run, choose(10_000), True, 7, tiny, history, data, 0.1)
    before, after = ["Kup chleb.", "Numer sto."], ["kup mleko", "Numer sto dwa."]
    change = difference(REFERENCES, before, after)
    comparisons = [BeforeAfter(name, result(before), result(after), change)
                for name in ("nano_pl", "fleurs_pl")]  # fmt: skip
    return open_store(folder / "store"), outcome, comparisons


def test_registering_again_keeps_one_version_and_one_checkpoint(tiny_model, tmp_path):
    store, outcome, comparisons = evaluated(tiny_model, tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "trainer_state.json").write_text('{"global_step": 7}')
    for _ in range(2):
        checkpoints.publish(store, "r", tmp_path / "state", {})
    first = publish.register(store, outcome, comparisons)
    assert len(store.list_files("checkpoint_r")) == 1
    checkpoints.publish(store, "r", tmp_path / "state", {})  # as after a call that was interrupted
    again = publish.register(store, outcome, comparisons)
    assert first.version == again.version and len(store.list_files("checkpoint_r")) == 1
    later = publish.register(store, replace(outcome, step=8), comparisons)
    assert later.version != first.version


def test_the_model_records_both_rates_before_and_after_and_the_data(published):
    metrics = published.metrics
    assert (metrics["wer_before"], metrics["wer"]) == (pytest.approx(0.4), 0)
    assert metrics["wer_orthographic"] == pytest.approx(0.4)
    assert metrics["wer_low"] <= metrics["wer"] <= metrics["wer_high"]
    assert metrics["wer_fleurs_pl"] == 0
    assert published.metadata["data"] == {"nano_pl": "20261123T000000000000Z-00000000"}
    settings = published.metadata["settings"]  # under the names that older models have, too
    assert settings["preset"]["clips_per_step"] == 16
    assert settings["short_context"] is True and settings["batch"] is None
    assert published.name == model_of("nano_pl").name == "whisper_nano_pl"


def test_the_card(published):
    card = (published.path / "MODEL_CARD.md").read_text()
    for words in ("| nano_pl | before | 40.0%", "fleurs_pl", "-40.0 points", "7 steps",
                  "version 20261123T", "normalised", "learning rate"):  # fmt: skip
        assert words in card
    assert str(published.path.parent) not in card and "license:" not in card


def test_the_cards_header_is_what_the_hub_reads(tiny_model, tmp_path):
    _, outcome, comparisons = evaluated(tiny_model, tmp_path)
    run = replace(outcome.run, model="openai/whisper-small")
    data = ModelCard(publish.model_card(replace(outcome, run=run), comparisons)).data
    assert (data.base_model, data.license) == ("openai/whisper-small", "apache-2.0")
    assert (data.language, data.metrics) == ("pl", ["wer", "cer"])
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "automatic-speech-recognition"
    rates = {(r.dataset_name, r.metric_name): r.metric_value for r in data.eval_results}
    assert rates["nano_pl", "WER, normalised"] == 0 and rates["fleurs_pl", "WER, as written"] == 40
    assert data.model_name == "whisper_nano_pl" and len(rates) == 6


def test_the_prompt_served_is_the_prompt_trained_and_pages_get_int8(published):
    from faster_whisper import WhisperModel

    model = WhisperModel(str(published.path / publish.CT2_FOLDER), device="cpu", cpu_threads=1)
    assert model.model.is_multilingual
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    _, info = model.transcribe(noise, language="pl", beam_size=1, max_new_tokens=2)
    assert info.language == "pl"
    whole = (published.path / "model.safetensors").stat().st_size
    assert (published.path / publish.CT2_FOLDER / "model.bin").stat().st_size < whole / 2


def test_a_missing_token_is_named(published, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(LabError, match="HF_TOKEN is not set"):
        publish.to_hub(published, "me/whisper-pl")


@pytest.fixture
def api(monkeypatch):
    """The Hub's client as an autospec of the real class."""
    client = create_autospec(huggingface_hub.HfApi)
    monkeypatch.setattr(huggingface_hub, "HfApi", client)
    return client.return_value


def test_the_token_may_come_from_colabs_secrets(published, api, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    userdata = types.SimpleNamespace(get={"HF_TOKEN": "from colab"}.__getitem__)
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(userdata=userdata))
    publish.to_hub(published, "me/whisper-pl")
    huggingface_hub.HfApi.assert_called_once_with(token="from colab")


def test_upload_to_the_hub(published, api):
    address = publish.to_hub(published, "me/whisper-pl", "token")
    assert address == "https://huggingface.co/me/whisper-pl"
    api.create_repo.assert_called_once_with("me/whisper-pl", private=True, exist_ok=True)
    assert api.upload_file.call_args.kwargs["path_in_repo"] == "README.md"


def test_a_copy_of_the_folder_is_enough(published, tmp_path):
    """It loads elsewhere: no path of the training machine is in it."""
    load_whisper(shutil.copytree(published.path, tmp_path / "copy"))
