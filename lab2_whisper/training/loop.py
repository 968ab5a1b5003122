"""Fine-tune Whisper so that the machine may vanish at any minute.

    outcome = train(store, Run("small_pl", "openai/whisper-small", (("common_voice_pl", 1.0),)),
                    minutes=210)
    run again                     it goes on from its newest whole checkpoint on the store

Validation decides when to stop and which weights are best; the test split is heard once, at the
end. On several GPUs of one machine:

    accelerate launch -m lab2_whisper.training STORE --run small_pl ...
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
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
from lab2_whisper.training.dataset import TrainingClips, clips_that_fit, collate_sound
from lab2_whisper.training.estimate import checkpoint_gb, devices, find_batch_size
from lab2_whisper.training.evaluation import load_whisper
from lab2_whisper.training.presets import Preset, adapt
from lab2_whisper.training.run import Outcome, Run, preset_for
from lab2_whisper.training.trainer import WhisperTrainer
from labstore import Store

SAVE_MINUTES = 20  # between checkpoints: what a machine that vanishes may cost
MINUTES_PER_GB = 10  # of a checkpoint, or longer: Drive may upload so slowly


def train(
    store: Store,
    run: Run,
    minutes: float | None = None,
    folder: str | Path = "build/whisper",
    cache_dir: str | Path | None = None,
) -> Outcome:
    """Train, or go on with a training, for at most so many minutes.

    `folder` is on a local disk; checkpoints go from there to the store. `cache_dir` is a local
    folder for a copy of the corpora, where the store is on a slow Drive.
    """
    started = time.monotonic()
    devices()  # on several: which one is this process's
    home = Path(folder).expanduser() / run.name
    model, tokenizer = load_whisper(run.model, run.language)
    preset = preset_for(model, run)
    longest = model.config.max_target_positions
    clips, validation, data = _clips(store, run, tokenizer, longest, cache_dir)
    settings = {**asdict(run), "preset": asdict(preset), "data": data}
    settings = {k: v for k, v in settings.items() if k not in ("batch_size", "machine")}
    if run.model == str(NANO_MODEL):
        settings["model"] = "nano"  # wherever the project's folder is
    set_seed(run.seed)  # before LoRA's random weights are drawn
    model = adapt(model, preset, run.dropout)
    trainer = WhisperTrainer(
        run,
        tokenizer,
        model=model,
        args=arguments(home, run, preset, run.batch_size or find_batch_size(model, preset)),
        train_dataset=clips,
        eval_dataset=validation,
        data_collator=collate_sound,
        callbacks=[Best(home, run.patience), Publish(store, run.name, settings)],
    )
    between = max(SAVE_MINUTES, MINUTES_PER_GB * checkpoint_gb(model, preset))
    trainer.add_callback(SaveBetween(60 * between))
    trainer.add_callback(Epochs(trainer))
    if minutes:
        trainer.add_callback(TimeBudget(started + 60 * minutes))
    seconds_per_step = _go_on(trainer, _resume_point(trainer, store, settings))
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


def _resume_point(trainer: WhisperTrainer, store: Store, settings: dict[str, Any]) -> Path | None:
    """The checkpoint to go on from, one that could not be published or else the store's newest.

    One process finds and unpacks it for all.
    """
    home = Path(trainer.args.output_dir)
    if trainer.accelerator.is_main_process:
        home.mkdir(parents=True, exist_ok=True)
        found = checkpoints.unpublished(store, trainer.run.name, home, settings)
        if found:
            checkpoints.try_publish(store, trainer.run.name, found, settings)
        else:
            found = checkpoints.latest_valid(store, trainer.run.name, home, settings)
        for left in {*home.glob("checkpoint-*"), home / "best", home / "merged"} - {found}:
            shutil.rmtree(left, ignore_errors=True)  # and nothing else that may lie there
        if found:
            shutil.copytree(found / checkpoints.BEST, home / "best")
            print(f"Going on from step {checkpoints.step(found)}.")
    trainer.accelerator.wait_for_everyone()
    return next(home.glob("checkpoint-*"), None)


def _go_on(trainer: WhisperTrainer, found: Path | None) -> float:
    """Train from a checkpoint or from the start; seconds a step. A finished run stays as it is."""
    if found:
        trainer.state = TrainerState.load_from_json(str(found / "trainer_state.json"))
        if _finished(trainer.state, trainer.run):
            return 0.0
    trainer.args.eval_on_start = found is None  # the baseline comes first
    started, first = time.monotonic(), checkpoints.step(found) if found else 0
    with _exact(trainer.args.device):
        trainer.train(resume_from_checkpoint=str(found) if found else None)
    return (time.monotonic() - started) / max(1, trainer.state.global_step - first)


@contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """The same sums on a CPU each time: the gradients of positions are else added in any order."""
    before = torch.are_deterministic_algorithms_enabled()
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _finished(state, run: Run) -> bool:
    return state.global_step >= run.steps or Best.had_enough(state, run.patience)


def _clips(
    store: Store, run: Run, tokenizer: WhisperTokenizer, longest: int, cache_dir: str | Path | None
) -> tuple[TrainingClips, TrainingClips, dict[str, str]]:
    versions = {name: store.open_files(name).version for name, _ in run.corpora}

    def fitting(name: str, split: str) -> datasets.Dataset:
        clips = open_corpus(store, name, split, versions[name], cache_dir)
        return clips_that_fit(clips, tokenizer, longest)

    opened = [(fitting(name, "train"), weight) for name, weight in run.corpora]
    first = run.corpora[0][0]
    heard = fitting(first, "validation")
    heard = heard.select(range(min(len(heard), run.validation_clips)))
    if not len(heard) or not all(len(rows) for rows, _ in opened):
        raise LabError(f"Each of {', '.join(versions)} needs train clips, and {first} validation.")
    rows = opened[0][0] if len(opened) == 1 else mix(opened, run.seed)
    return (
        TrainingClips(rows, tokenizer, run.augment, run.seed),
        TrainingClips(heard, tokenizer),
        versions,
    )


def arguments(home: Path, run: Run, preset: Preset, batch: int) -> Seq2SeqTrainingArguments:
    """transformers' settings for a run. `batch` clips at once on each device."""
    together = batch * devices().num_processes
    settings = Seq2SeqTrainingArguments(
        output_dir=str(home),
        max_steps=run.steps,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=16,  # windows of 30 s, but nothing is kept for gradients
        gradient_accumulation_steps=max(1, preset.clips_per_step // together),
        learning_rate=preset.learning_rate,
        warmup_steps=round(run.warmup * run.steps),
        lr_scheduler_type="linear",
        optim=preset.optimizer,
        use_cpu=not torch.cuda.is_available(),
        fp16=preset.precision == "float16" and torch.cuda.is_available(),
        bf16=preset.precision == "bfloat16" and torch.cuda.is_available(),
        activation_checkpointing=preset.gradient_checkpointing,
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
    settings._n_gpu = min(1, settings.n_gpu)  # else it would spread a batch over all GPUs, unasked
    return settings


def _whole_model(
    home: Path, run: Run, preset: Preset, tokenizer: WhisperTokenizer, trainer: WhisperTrainer
) -> Path:
    """The best weights as a folder like those of the Hub, LoRA's adapters merged in."""
    best = home / "best"
    if trainer.accelerator.is_main_process:
        if preset.method == "lora":
            from peft import PeftModel

            whole, _ = load_whisper(run.model, run.language, getattr(torch, preset.precision))
            whole = PeftModel.from_pretrained(whole, best).merge_and_unload()
            best = home / "merged"
            whole.save_pretrained(best)
        tokenizer.save_pretrained(best)
        mels = trainer.model.config.num_mel_bins
        WhisperFeatureExtractor(feature_size=mels).save_pretrained(best)
    trainer.accelerator.wait_for_everyone()
    return best


def compare_runs(store: Store, runs: list[Run], **options: Any) -> pd.DataFrame:
    """Train each run and tell its WER on validation, a row each, the best first.

    Whatever runs differ in is compared, model or data: steps, learning rate, size, corpora, or the
    method, optimizer and clips a step of their presets. Their validation clips should be the same
    ones, so let the first corpus be the same.
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
