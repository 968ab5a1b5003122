"""Register a tuned model and upload it to the Hugging Face Hub: weights, int8 copy, model card."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import huggingface_hub
from huggingface_hub import EvalResult, ModelCardData

from lab2_whisper.schema import CT2_FOLDER, RECORD, LabError, model_of
from lab2_whisper.training import checkpoints
from lab2_whisper.training.evaluation import BeforeAfter
from lab2_whisper.training.run import Outcome, stored_settings
from labstore import Damaged, ModelVersion, NotFound, Store, secret


def register(store: Store, outcome: Outcome, comparisons: list[BeforeAfter]) -> ModelVersion:
    """Register the best weights as a version of the model of the run's first corpus.

    The folder is like those on the Hub (LoRA merged in), with MODEL_CARD.md, training.csv and, in
    `ctranslate2`, an int8 copy for faster-whisper. Where the newest version already is this model,
    it is returned. Only the newest of the run's checkpoints is kept afterwards.
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
        "settings": stored_settings(outcome.run, outcome.preset),
        "steps": outcome.step,
    }
    model = model_of(first.corpus)
    with contextlib.suppress(NotFound, Damaged):
        latest = store.load_model(model, "latest")
        if latest.metrics == metrics and metadata.items() <= latest.metadata.items():
            # an earlier call may have been interrupted before this
            checkpoints.keep_newest(store, outcome.run.name)
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
    """Add an int8 CTranslate2 copy to a Whisper's folder, and return the copy's path.

    schema.RECORD, beside it, has what else serving needs: a model tuned with `short_audio_context`
    is served on windows as long as the speech in them.
    """
    from ctranslate2.converters import TransformersConverter

    files = ["tokenizer.json", "preprocessor_config.json"]
    target = folder / CT2_FOLDER
    TransformersConverter(str(folder), copy_files=files).convert(str(target), quantization="int8")
    record = {"short_context": short_audio_context}
    (folder / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
    return target


def model_card(outcome: Outcome, comparisons: list[BeforeAfter]) -> str:
    """Return the card: base model, data and method, and the error rates before and after."""
    run, preset = outcome.run, outcome.preset
    rows = []
    for comparison in comparisons:
        for when, result in (("before", comparison.before), ("after", comparison.after)):
            s = result.score
            rows.append(f"| {comparison.corpus} | {when} | {s.wer} | {s.wer_orthographic} | "
                        f"{s.cer.value:.1%} | {s.words} |")  # fmt: skip
    table = "\n".join(rows)
    changes = "; ".join(
        f"{c.corpus} {100 * c.change.value:+.1f} points ({100 * c.change.low:+.1f} to "
        f"{100 * c.change.high:+.1f})"
        for c in comparisons
    )
    data = "\n".join(f"- {name}, version {version}" for name, version in outcome.data.items())
    rate = preset.learning_rate
    return f"""---
{_card_data(outcome, comparisons).to_yaml()}
---
# {_base(outcome)}, tuned for {run.language}

## Error rates
Test splits, used once, in windows of 30 s, decoded greedily. Normalised: lower case, no
punctuation. In brackets, 95 % bootstrap intervals over clips.

| corpus | | WER, normalised | WER, as written | CER | words |
|---|---|---|---|---|---|
{table}

Change of the normalised WER: {changes}.

## Data
{data}

Trained on each corpus's train split; validation chose the weights and when to stop.

## Method
{preset.method} fine-tuning ({preset.reason}), {preset.precision}, {preset.optimizer}, learning rate
{rate:g} with {run.warmup:.0%} warm-up and linear decay, {preset.clips_per_step} clips a step,
{outcome.step} steps, seed {run.seed}. Windows: {_windows(outcome)}.
Augmentation: {json.dumps(asdict(run.augment)) if run.augment else "none"}.
"""


def _card_data(outcome: Outcome, comparisons: list[BeforeAfter]) -> ModelCardData:
    """Return the card's YAML header; error rates are in percent, as on other cards."""
    base = _base(outcome)
    results = [
        EvalResult(
            task_type="automatic-speech-recognition",
            dataset_type=comparison.corpus,
            dataset_name=comparison.corpus,
            dataset_split="test",
            metric_type=metric,
            metric_name=name,
            metric_value=round(100 * rate.value, 2),
        )
        for comparison in comparisons
        for metric, name, rate in (
            ("wer", "WER, normalised", comparison.after.score.wer),
            ("wer", "WER, as written", comparison.after.score.wer_orthographic),
            ("cer", "CER, normalised", comparison.after.score.cer),
        )
    ]
    return ModelCardData(
        language=outcome.run.language,
        library_name="transformers",
        pipeline_tag="automatic-speech-recognition",
        base_model=base,
        license="apache-2.0" if base.startswith("openai/whisper-") else None,
        metrics=["wer", "cer"],
        model_name=model_of(comparisons[0].corpus).name,
        eval_results=results,
    )


def to_hub(version: ModelVersion, repo: str, token: str | None = None, private: bool = True) -> str:
    """Upload a registered model to the Hub, and return its address there.

    `token` is by default that of HF_TOKEN. Raises LabError where there is none.
    """
    token = token or secret("HF_TOKEN")
    if not token:
        raise LabError(
            "HF_TOKEN is not set. Make a token with write access at "
            "https://huggingface.co/settings/tokens and set it, in Colab under Secrets (the key "
            "icon), elsewhere with `export HF_TOKEN=...`."
        )
    api = huggingface_hub.HfApi(token=token)
    api.create_repo(repo, private=private, exist_ok=True)
    card = (version.path / "MODEL_CARD.md").read_bytes()
    api.upload_folder(repo_id=repo, folder_path=version.path, ignore_patterns=["manifest.json"])
    api.upload_file(repo_id=repo, path_or_fileobj=card, path_in_repo="README.md")
    return f"https://huggingface.co/{repo}"


def _base(outcome: Outcome) -> str:
    """Return the name of the model that was tuned; for a folder, only the last parts of its path."""
    path = Path(outcome.run.model)
    return "/".join(path.parts[-2:]) if path.is_dir() else outcome.run.model


def _windows(outcome: Outcome) -> str:
    if not outcome.run.short_audio_context:
        return "30 s"
    share = f"{outcome.run.full_windows:.0%}"
    return (
        f"as long as the speech, and 30 s in the last {share} of the steps before each evaluation"
    )
