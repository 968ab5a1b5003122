"""Less work gives the same result: short windows, short vocabulary."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from lab2_whisper.schema import LabError
from lab2_whisper.training.audio_context import Vocabulary, window
from lab2_whisper.training.evaluation import generate, load_whisper


@pytest.fixture(scope="module")
def model(tiny_model):
    return load_whisper(tiny_model)[0].eval()


def test_a_short_window_is_the_same_model_with_its_table_cut(model):
    from transformers import WhisperForConditionalGeneration

    features = torch.randn(2, 80, 300)
    with window(model, 300), torch.no_grad():
        short = model.model.encoder(features).last_hidden_state
    config = type(model.config).from_dict(model.config.to_dict() | {"max_source_positions": 150})
    cut = WhisperForConditionalGeneration(config).eval()
    weights = model.state_dict()
    table = "model.encoder.embed_positions.weight"
    cut.load_state_dict(weights | {table: weights[table][:150]})
    with torch.no_grad():
        assert torch.equal(short, cut.model.encoder(features).last_hidden_state)


def test_afterwards_everything_is_as_before(model, tmp_path):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(RuntimeError), window(model, 200):
        raise RuntimeError
    model.save_pretrained(tmp_path)
    assert model.config.max_source_positions == 1500
    again = type(model).from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in before.items())
    with torch.no_grad():
        model.model.encoder(torch.randn(1, 80, 3000))


def test_a_window_that_does_not_fit_is_refused(model):
    with pytest.raises(LabError, match="up to 3000"), window(model, 4000):
        pass


def test_text_is_generated_in_any_window(model):
    for frames in (100, 3000):
        ids = generate(model, torch.randn(2, 80, frames))
        assert ids.shape[0] == 2 and ids.shape[1] <= 448


def test_padding_costs_nothing_and_changes_nothing(model):
    vocabulary = Vocabulary(model)
    assert vocabulary.padding > 51_000
    features, labels = torch.randn(2, 80, 200), torch.tensor([[50269, 40, 41], [50269, 42, -100]])
    inputs = torch.tensor([[50258, 50269, 40], [50258, 50269, 42]])
    with window(model, 200):
        full = model(features, decoder_input_ids=inputs).logits
        with vocabulary.fewer_logits(model):
            few = model(features, decoder_input_ids=inputs).logits
    assert few.shape[2] == len(vocabulary.rows) < 300
    expected = cross_entropy(full.flatten(0, 1), labels.flatten(), reduction="sum")
    torch.testing.assert_close(vocabulary.cross_entropy(few, labels), expected, rtol=1e-5, atol=0)
    vocabulary.cross_entropy(few, labels).backward()
    gradient = model.get_input_embeddings().weight.grad
    assert gradient.any() and not gradient[1000:50_000].any()
    model.zero_grad()
