"""Fine-tune Whisper so that the machine may disappear at any minute.

    outcome = train(store, Run("small_pl", "openai/whisper-small", (("common_voice_pl", 1.0),)),
                    minutes=210)

The same call again resumes from the newest intact checkpoint on the store. Validation decides when
to stop and which weights are best; the test split is used once, at the end. On several GPUs of one
machine:

    accelerate launch -m lab2_whisper.training STORE --run small_pl ...
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import torch
from transformers import (
    Seq2SeqTrainingArguments,
    TrainerState,
    WhisperFeatureExtractor,
    WhisperTokenizer,
    set_seed,
)

from lab2_whisper.features.stored import mix, open_corpus
from lab2_whisper.schema import NANO_MODEL, LabError
from lab2_whisper.training import checkpoints
from lab2_whisper.training.callbacks import Best, Epochs, Publish, SaveBetween, TimeBudget
from lab2_whisper.training.dataset import TrainingClips, clips_with_short_texts, collate_samples
from lab2_whisper.training.estimate import checkpoint_gb, find_batch_size
from lab2_whisper.training.evaluation import EVALUATION_BATCH_SIZE, load_whisper
from lab2_whisper.training.presets import Preset, adapt, devices
from lab2_whisper.training.run import Outcome, Run, preset_for, stored_settings
from lab2_whisper.training.trainer import WhisperTrainer
from labstore import Store

SAVE_MINUTES = 20  # between checkpoints: the most that a machine's end can cost
MINUTES_PER_GB = 10  # or longer, by the checkpoint's size: Drive may upload as slowly
NOT_COMPARED = ("batch", "machine")  # settings with which the same weights come out


def train(
    store: Store,
    run: Run,
    minutes: float | None = None,
    folder: str | Path = "build/whisper",
    cache_dir: str | Path | None = None,
) -> Outcome:
    """Train, or resume a run, for at most `minutes`.

    `folder` is on a local disk; checkpoints are copied from there to the store. `cache_dir` is a
    local folder for a copy of the corpora, where the store is on a slow Drive. Raises LabError for
    settings or data that cannot be trained with, and StoreError for a store that cannot be read.
    """
    started = time.monotonic()
    devices()  # chooses this process's device before a model is loaded
    home = Path(folder).expanduser() / run.name
    # before a model is fetched, which a wrong name would make useless
    data = {name: store.open_files(name).version for name, _ in run.corpora}
    model, tokenizer = load_whisper(run.model, run.language)
    preset = preset_for(model, run)
    max_tokens = model.config.max_target_positions
    clips, validation = _clips(
        store, run, tokenizer, versions=data, max_tokens=max_tokens, cache_dir=cache_dir
    )
    settings = _compared_settings(run, preset, data)
    set_seed(run.seed)  # before LoRA's random weights are drawn
    adapted = adapt(model, preset, run.dropout)
    batch_size = run.batch_size or find_batch_size(adapted, preset)
    trainer = WhisperTrainer(
        run,
        tokenizer,
        model=adapted,
        args=arguments(home, run, preset, batch_size),
        train_dataset=clips,
        eval_dataset=validation,
        data_collator=collate_samples,
        callbacks=[Best(home, run.patience), Publish(store, run.name, settings)],
    )
    save_minutes = max(SAVE_MINUTES, MINUTES_PER_GB * checkpoint_gb(adapted, preset))
    trainer.add_callback(SaveBetween(60 * save_minutes))
    trainer.add_callback(Epochs(trainer))
    if minutes:
        trainer.add_callback(TimeBudget(started + 60 * minutes))
    seconds_per_step = _run_steps(trainer, _resume_point(trainer, store, home, settings))
    return Outcome(
        run=run,
        preset=preset,
        finished=_finished(trainer.state, run),
        step=trainer.state.global_step,
        best=_whole_model(home, run, preset, tokenizer, trainer),
        history=pd.DataFrame(trainer.state.log_history),
        data=data,
        seconds_per_step=seconds_per_step,
    )


def _compared_settings(run: Run, preset: Preset, data: dict[str, str]) -> dict[str, Any]:
    """Return the settings in which a resumed run must not differ."""
    settings = {**stored_settings(run, preset), "data": data}
    if run.model == str(NANO_MODEL):
        settings["model"] = "nano"  # wherever the project's folder is
    return {name: value for name, value in settings.items() if name not in NOT_COMPARED}


def _resume_point(
    trainer: WhisperTrainer, store: Store, home: Path, settings: dict[str, Any]
) -> Path | None:
    """Return the checkpoint to resume from: one that was not published, else the store's newest.

    One process finds and unpacks it for all.
    """
    if trainer.accelerator.is_main_process:
        home.mkdir(parents=True, exist_ok=True)
        found = checkpoints.unpublished(store, trainer.run.name, home, settings)
        if found:
            checkpoints.try_publish(store, trainer.run.name, found, settings)
        else:
            found = checkpoints.latest_valid(store, trainer.run.name, home, settings)
        # nothing but the trainer's own folders: a user's files may lie beside them
        for left in {*home.glob("checkpoint-*"), home / "best", home / "merged"} - {found}:
            shutil.rmtree(left, ignore_errors=True)
        if found:
            shutil.copytree(found / checkpoints.BEST, home / "best")
            print(f"Resuming from step {checkpoints.step(found)}.")
    trainer.accelerator.wait_for_everyone()
    return next(home.glob("checkpoint-*"), None)


def _run_steps(trainer: WhisperTrainer, checkpoint: Path | None) -> float:
    """Train from a checkpoint or from the start, unless finished; return the seconds per step."""
    if checkpoint:
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if _finished(trainer.state, trainer.run):
            return 0.0
    trainer.args.eval_on_start = checkpoint is None  # the baseline comes first
    started, first = time.monotonic(), checkpoints.step(checkpoint) if checkpoint else 0
    with _deterministic(trainer.args.device):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return (time.monotonic() - started) / max(1, trainer.state.global_step - first)


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Make sums on a CPU the same each time.

    By default PyTorch adds up the gradient of the table of positions in any order.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _finished(state: TrainerState, run: Run) -> bool:
    return state.global_step >= run.steps or Best.had_enough(state, run.patience)


def _clips(
    store: Store,
    run: Run,
    tokenizer: WhisperTokenizer,
    *,
    versions: dict[str, str],
    max_tokens: int,
    cache_dir: str | Path | None,
) -> tuple[TrainingClips, TrainingClips]:
    """Return the train clips of all corpora and the validation clips of the first."""

    def fitting(name: str, split: str) -> datasets.Dataset:
        clips = open_corpus(store, name, split, versions[name], cache_dir)
        return clips_with_short_texts(clips, tokenizer, max_tokens)

    opened = [(fitting(name, "train"), weight) for name, weight in run.corpora]
    first = run.corpora[0][0]
    validation = fitting(first, "validation")
    validation = validation.select(range(min(len(validation), run.validation_clips)))
    if not len(validation) or not all(len(rows) for rows, _ in opened):
        raise LabError(
            f"There are too few clips: {', '.join(versions)} each need a train split, and {first} "
            "a validation split. Build the corpus again with more clips."
        )
    rows = opened[0][0] if len(opened) == 1 else mix(opened, run.seed)
    train_clips = TrainingClips(rows, tokenizer, run.augment, run.seed)
    return train_clips, TrainingClips(validation, tokenizer)


def arguments(home: Path, run: Run, preset: Preset, batch_size: int) -> Seq2SeqTrainingArguments:
    """Return transformers' settings for a run. `batch_size` counts the clips of one device."""
    all_devices = batch_size * devices().num_processes
    settings = Seq2SeqTrainingArguments(
        output_dir=str(home),
        max_steps=run.steps,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=EVALUATION_BATCH_SIZE,
        gradient_accumulation_steps=max(1, preset.clips_per_step // all_devices),
        learning_rate=preset.learning_rate,
        warmup_steps=round(run.warmup * run.steps),
        lr_scheduler_type="linear",
        optim=preset.optimizer,
        use_cpu=not torch.cuda.is_available(),
        fp16=preset.precision == "float16" and torch.cuda.is_available(),
        bf16=preset.precision == "bfloat16" and torch.cuda.is_available(),
        activation_checkpointing=preset.gradient_checkpointing,
        # reentrant checkpoints give LoRA no gradients (seen with transformers 5.23, peft 0.21.2)
        activation_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps",
        eval_steps=run.evaluate_every,
        predict_with_generate=True,
        save_strategy="steps",
        save_steps=run.evaluate_every,
        logging_steps=max(1, min(25, run.evaluate_every // 4)),
        seed=run.seed,
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_num_workers=2 if torch.cuda.is_available() else 0,
        dataloader_persistent_workers=torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=False,
    )
    # transformers would split each batch over all GPUs that this process sees (DataParallel)
    settings._n_gpu = min(1, settings.n_gpu)
    return settings


def _whole_model(
    home: Path, run: Run, preset: Preset, tokenizer: WhisperTokenizer, trainer: WhisperTrainer
) -> Path:
    """Return the folder of the best weights, complete like those on the Hub, LoRA merged in."""
    best = home / "best"
    if trainer.accelerator.is_main_process:
        if preset.method == "lora":
            from peft import PeftModel

            whole, _ = load_whisper(run.model, run.language, getattr(torch, preset.precision))
            whole = PeftModel.from_pretrained(whole, best).merge_and_unload()
            best = home / "merged"
            whole.save_pretrained(best)
        tokenizer.save_pretrained(best)
        n_mels = trainer.model.config.num_mel_bins
        WhisperFeatureExtractor(feature_size=n_mels).save_pretrained(best)
    trainer.accelerator.wait_for_everyone()
    return best


def compare_runs(store: Store, runs: list[Run], **options: Any) -> pd.DataFrame:
    """Train each run and return a table with a row each: its settings and its WER, best first.

    Runs may differ in anything: steps, learning rate, size, corpora, or the method, optimizer and
    clips per step of their presets. Give all the same first corpus, so that the WER is measured on
    the same validation clips. `options` are train's.
    """
    rows = []
    for run in runs:
        outcome = train(store, run, **options)
        checkpoints.keep_newest(store, run.name)
        rates = outcome.history.dropna(subset=["eval_wer"])
        best = rates.loc[rates["eval_wer"].idxmin()]
        rows.append(
            {
                "run": run.name,
                "model": run.model,
                "corpora": ", ".join(f"{name} x{weight:g}" for name, weight in run.corpora),
                "method": outcome.preset.method,
                "optimizer": outcome.preset.optimizer,
                "clips_per_step": outcome.preset.clips_per_step,
                "learning_rate": outcome.preset.learning_rate,
                "steps": outcome.step,
                "finished": outcome.finished,
                "baseline_wer": rates["eval_wer"].iloc[0],
                "wer": best["eval_wer"],
                "wer_orthographic": best["eval_wer_orthographic"],
                "best_step": int(best["step"]),
                "seconds_per_step": outcome.seconds_per_step,
            }
        )
    return pd.DataFrame(rows).sort_values("wer", ignore_index=True)
