"""A tuned model to the registry, and to the Hugging Face Hub: weights, int8 copy, model card."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from lab2_whisper.schema import FOR_PAGES, RECORD, LabError, model_of
from lab2_whisper.training import checkpoints
from lab2_whisper.training.evaluation import BeforeAfter
from lab2_whisper.training.run import Outcome
from labstore import Damaged, ModelVersion, NotFound, Store, secret


def register(store: Store, outcome: Outcome, comparisons: list[BeforeAfter]) -> ModelVersion:
    """Keep the best weights as a version of the model of their corpus.

    The folder is one as of the Hub (any LoRA merged in), with MODEL_CARD.md, training.csv and, in
    `ctranslate2`, an int8 copy that faster-whisper serves. Where the newest version is this one
    already, that is returned. Of the run's checkpoints one is kept from then on.
    """
    first, *others = comparisons
    metrics = first.after.score.figures()
    metrics |= {f"{name}_before": rate for name, rate in first.before.score.figures().items()}
    for comparison in others:
        metrics |= {f"wer_{comparison.corpus}": comparison.after.score.wer.value}
    metadata = {
        "base": _base(outcome),
        "language": outcome.run.language,
        "data": outcome.data,
        "windows": "short" if outcome.run.short_audio_context else "30 s",
        "settings": json.loads(
            json.dumps(asdict(outcome.run) | {"preset": asdict(outcome.preset)})
        ),
        "steps": outcome.step,
    }
    model = model_of(first.corpus)
    with contextlib.suppress(NotFound, Damaged):
        latest = store.load_model(model, "latest")
        if latest.metrics == metrics and metadata.items() <= latest.metadata.items():
            checkpoints.keep_newest(store, outcome.run.name)  # it may have been cut off before
            return latest
    with tempfile.TemporaryDirectory(prefix="whisper-") as temporary:
        folder = Path(temporary) / "model"
        shutil.copytree(outcome.best, folder)
        convert(folder, outcome.run.short_audio_context)
        outcome.history.to_csv(folder / "training.csv", index=False)
        (folder / "MODEL_CARD.md").write_text(model_card(outcome, comparisons), encoding="utf-8")
        version = store.save_model(model, folder, metrics, metadata)
    checkpoints.keep_newest(store, outcome.run.name)
    return version


def convert(folder: Path, short_audio_context: bool) -> Path:
    """Add to a Whisper's folder its CTranslate2 copy in int8, and how it is to be served; the copy.

    A model tuned on `short_audio_context` is served on windows as long as the speech in them.
    """
    from ctranslate2.converters import TransformersConverter

    files = ["tokenizer.json", "preprocessor_config.json"]
    target = folder / FOR_PAGES
    TransformersConverter(str(folder), copy_files=files).convert(str(target), quantization="int8")
    record = {"short_context": short_audio_context}
    (folder / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
    return target


def model_card(outcome: Outcome, comparisons: list[BeforeAfter]) -> str:
    """The card: what it is, what it was made from, how well it hears, before and after."""
    run, preset = outcome.run, outcome.preset
    rows = []
    for comparison in comparisons:
        for when, heard in (("before", comparison.before), ("after", comparison.after)):
            s = heard.score
            rows.append(f"| {comparison.corpus} | {when} | {s.wer} | {s.wer_orthographic} | "
                        f"{s.cer.value:.1%} | {s.words} |")  # fmt: skip
    table = "\n".join(rows)
    changes = "; ".join(
        f"{v.corpus} {100 * v.change.value:+.1f} points ({100 * v.change.low:+.1f} to "
        f"{100 * v.change.high:+.1f})"
        for v in comparisons
    )
    data = "\n".join(f"- {name}, version {version}" for name, version in outcome.data.items())
    rate = preset.learning_rate
    return f"""---
language: {run.language}
library_name: transformers
pipeline_tag: automatic-speech-recognition
base_model: {_base(outcome)}
{_license(outcome)}metrics: [wer, cer]
---
# {_base(outcome)}, tuned for {run.language}

## How well it hears
Test splits, heard once, in windows of 30 s, greedily. Normalised: lower case, no punctuation.
In brackets, 95 % bootstrap intervals over clips.

| corpus | | WER, normalised | WER, as written | CER | words |
|---|---|---|---|---|---|
{table}

Change of the normalised WER: {changes}.

## What it was made from
{data}

Trained on a corpus's train split; validation chose the weights and when to stop.

## How
{preset.method} fine-tuning ({preset.reason}), {preset.precision}, {preset.optimizer}, learning rate
{rate:g} with {run.warmup:.0%} warm-up and linear decay, {preset.clips_per_step} clips a step,
{outcome.step} steps, seed {run.seed}. Windows: {_windows(outcome)}.
Augmentation: {json.dumps(asdict(run.augment)) if run.augment else "none"}.
"""


def to_hub(version: ModelVersion, repo: str, token: str | None = None, private: bool = True) -> str:
    """Upload a registered model; its address. The token is by default that of HF_TOKEN."""
    token = token or secret("HF_TOKEN")
    if not token:
        raise LabError(
            "HF_TOKEN is not set. Make a token that may write at "
            "https://huggingface.co/settings/tokens and set it, in Colab under Secrets (the key "
            "icon), elsewhere with `export HF_TOKEN=...`."
        )
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repo, private=private, exist_ok=True)
    card = (version.path / "MODEL_CARD.md").read_bytes()
    api.upload_folder(repo_id=repo, folder_path=version.path, ignore_patterns=["manifest.json"])
    api.upload_file(repo_id=repo, path_or_fileobj=card, path_in_repo="README.md")
    return f"https://huggingface.co/{repo}"


def _base(outcome: Outcome) -> str:
    """The name of the model that was tuned; of a folder, only its last parts."""
    path = Path(outcome.run.model)
    return "/".join(path.parts[-2:]) if path.is_dir() else outcome.run.model


def _license(outcome: Outcome) -> str:
    """The card's line, where it is known: that of OpenAI's models."""
    return "license: apache-2.0\n" if _base(outcome).startswith("openai/whisper-") else ""


def _windows(outcome: Outcome) -> str:
    if not outcome.run.short_audio_context:
        return "30 s"
    share = f"{outcome.run.full_windows:.0%}"
    return (
        f"as long as the speech, and 30 s in the last {share} of the steps before each evaluation"
    )
