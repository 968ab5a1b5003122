"""Fine-tune Whisper so that the machine may vanish at any minute.

    outcome = train(store, Run("small_pl", "openai/whisper-small", (("common_voice_pl", 1.0),)),
                    minutes=210)
    run again                     it goes on from its newest whole checkpoint on the store

Validation decides when to stop and which weights are best; the test split is heard once, at the
end. On several GPUs of one machine:

    accelerate launch -m lab2_whisper.training STORE --run small_pl ...
"""

from __future__ import annotations

import argparse
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import torch
from transformers import (
    Seq2SeqTrainingArguments,
    TrainerState,
    WhisperFeatureExtractor,
    WhisperTokenizer,
    set_seed,
)

from lab2_whisper import checkpoints
from lab2_whisper.dataset import TrainingClips, clips_that_fit, collate_sound
from lab2_whisper.dry_run import (
    clips_at_once,
    devices,
    find_batch,
    optimizer_bytes,
    seconds_a_clip,
)
from lab2_whisper.metrics import Rate, difference
from lab2_whisper.presets import Preset, choose, forecast
from lab2_whisper.run import Run
from lab2_whisper.schema import NANO_MODEL, WINDOW_SECONDS, LabError
from lab2_whisper.scoring import Heard, listen, load_whisper
from lab2_whisper.stored import mix, open_corpus
from lab2_whisper.trainer import Best, Epochs, Publish, SaveBetween, TimeBudget, WhisperTrainer
from labstore import Store, open_store
from labstore.files import FileStore

LORA_RANK = 32
SAVE_MINUTES = 20  # between checkpoints: what a machine that vanishes may cost
MINUTES_PER_GB = 10  # of a checkpoint, or longer: Drive may upload so slowly


@dataclass(frozen=True)
class Outcome:
    """What a training came to. `finished` is False when its time was up before its steps."""

    run: Run
    preset: Preset
    finished: bool
    step: int
    best: Path  # a folder with the best weights, as from_pretrained takes it
    history: pd.DataFrame  # a row a log: step, loss, learning_rate, eval_loss, eval_wer, ...
    data: dict[str, str]  # corpus -> version
    seconds_per_step: float  # of this session, with its validations and checkpoints


def train(
    store: Store,
    run: Run,
    minutes: float | None = None,
    folder: str | Path = "build/whisper",
    copy_to: str | Path | None = None,
) -> Outcome:
    """Train, or go on with a training, for at most so many minutes.

    `folder` is on a local disk; checkpoints go from there to the store. `copy_to` is a local
    folder for a copy of the corpora, where the store is on a slow Drive.
    """
    started = time.monotonic()
    devices()  # on several: which one is this process's
    home = Path(folder).expanduser() / run.name
    model, tokenizer = load_whisper(run.model, run.language)
    preset = _preset(model, run)
    longest = model.config.max_target_positions
    clips, validation, data = _clips(store, run, tokenizer, longest, copy_to)
    settings = {**asdict(run), "preset": asdict(preset), "data": data}
    settings = {k: v for k, v in settings.items() if k not in ("batch", "machine")}
    if run.model == str(NANO_MODEL):
        settings["model"] = "nano"  # wherever the project's folder is
    set_seed(run.seed)  # before LoRA's random weights are drawn
    model = adapt(model, preset, run.dropout)
    trainer = WhisperTrainer(
        run,
        tokenizer,
        model=model,
        args=arguments(home, run, preset, run.batch or find_batch(model, preset)),
        train_dataset=clips,
        eval_dataset=validation,
        data_collator=collate_sound,
        callbacks=[Best(home, run.patience), Publish(store, run.name, settings)],
    )
    between = max(SAVE_MINUTES, MINUTES_PER_GB * _checkpoint_gb(model, preset))
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


def _preset(model, run: Run) -> Preset:
    preset = run.preset or choose(model.num_parameters(), run.machine)
    print(f"{preset.machine}, {preset.size}: {preset.method}, since {preset.reason}.")
    if "bnb" in preset.optimizer and not find_spec("bitsandbytes"):
        raise LabError(
            f"The preset for {preset.size} on this GPU needs the 8-bit optimizer of bitsandbytes, "
            "which is not installed. Run: pip install bitsandbytes"
        )
    return replace(preset, learning_rate=run.learning_rate or preset.learning_rate)


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
    store: Store, run: Run, tokenizer: WhisperTokenizer, longest: int, copy_to: str | Path | None
) -> tuple[TrainingClips, TrainingClips, dict[str, str]]:
    versions = {name: store.open_files(name).version for name, _ in run.corpora}

    def fitting(name: str, split: str) -> datasets.Dataset:
        clips = open_corpus(store, name, split, versions[name], copy_to)
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


def adapt(model, preset: Preset, dropout: float = 0.0):
    """The model with what the preset freezes frozen, or with LoRA's adapters around it."""
    model.config.dropout = dropout
    for part in model.modules():
        if hasattr(part, "dropout") and isinstance(part.dropout, float):
            part.dropout = dropout
    # sinusoids, which short windows need as they are; from_pretrained forgets that they are fixed
    model.get_encoder().embed_positions.requires_grad_(False)
    if preset.method == "frozen encoder":
        model.model.encoder.requires_grad_(False)
    if preset.method == "lora":
        from peft import LoraConfig, get_peft_model

        half = getattr(torch, preset.precision)
        # task_type stays None: peft's own wrapper for seq2seq calls Whisper with input_ids
        config = LoraConfig(
            r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=["q_proj", "v_proj"]
        )
        model = get_peft_model(model.to(half), config)  # the adapters themselves are float32
    return model


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


def rehearse(
    store: Store, run: Run, copy_to: str | Path | None = None, minutes: float | None = None
) -> str:
    """What a run will take on this machine, in words, from what is timed now.

    A few passes of training, and some clips of validation that are heard. Reading is not in it.
    `minutes` are those of a session, as for train().
    """
    model, tokenizer = load_whisper(run.model, run.language)
    preset = _preset(model, run)
    corpus = run.corpora[0][0]
    heard = open_corpus(store, corpus, "validation", copy_to=copy_to)
    times = 1 + -(-run.steps // run.evaluate_every)  # the baseline is one
    scored = times * min(len(heard), run.validation_clips)
    scored += 2 * len(open_corpus(store, corpus, "test", copy_to=copy_to))
    half, device = getattr(torch, preset.precision), devices().device
    with torch.autocast(device.type, half, enabled=half != torch.float32):  # as at validation
        a_clip = _seconds_heard((model, tokenizer), heard, run.language)
    model = adapt(model, preset).to(device)
    batch = run.batch or find_batch(model, preset)
    rows = open_corpus(store, corpus, "train", copy_to=copy_to).select_columns("seconds")
    share = run.full_windows if run.short_context else 1.0
    full = seconds_a_clip(model, preset, clips_at_once(batch, WINDOW_SECONDS), WINDOW_SECONDS)
    seconds = min(WINDOW_SECONDS, math.ceil(np.mean(rows["seconds"]) + 1))
    short = seconds_a_clip(model, preset, clips_at_once(batch, seconds), seconds)
    a_step = preset.clips_per_step * ((1 - share) * short + share * full)
    hours = forecast(a_step, run.steps, scored * a_clip, (minutes or 240) / 60)
    room = _room(store, run.name, _checkpoint_gb(model, preset))
    return f"{preset.method}, {batch} clips at once. {hours}. {room}"


def _room(store: Store, run: str, a_checkpoint: float) -> str:
    """What the checkpoints of a run will take of the store's disk, GB, in words."""
    said = f"A checkpoint takes {a_checkpoint:.1f} GB on the store, and two are kept"
    if not isinstance(store, FileStore):
        return f"{said}."
    free = shutil.disk_usage(store.root).free / 1e9
    wanted = a_checkpoint * (checkpoints.GENERATIONS - checkpoints.count(store, run))
    if wanted <= free:
        return f"{said}: {free:.1f} GB are free."
    return (
        f"{said}, but only {free:.1f} GB are free: make room first, or choose a smaller model or "
        "another store."
    )


def _seconds_heard(model: tuple, clips, language: str, some: int = 16) -> float:
    """Of one clip in a window of 30 s, once it is warm."""
    for _ in range(2):
        started = time.perf_counter()
        count = len(listen(model, clips.select(range(min(some, len(clips)))), language).table)
    return (time.perf_counter() - started) / count


def _checkpoint_gb(model, preset: Preset) -> float:
    """Weights, the best weights and the optimizer's state; of LoRA, its adapters' alone."""
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    kept = trained if preset.method == "lora" else model.num_parameters()
    return (2 * 4 * kept + optimizer_bytes(model, preset.optimizer)) / 1e9


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


@dataclass(frozen=True)
class Verdict:
    """The same clips heard by the model as it was and as it is now, in windows of 30 s."""

    corpus: str
    before: Heard
    after: Heard
    change: Rate  # of the normalised WER, paired by clip

    def __str__(self) -> str:
        return f"{self.corpus}\n  before {self.before.score}\n  after  {self.after.score}"


def judge(
    store: Store,
    outcome: Outcome,
    out_of_domain: tuple[str, ...] = (),
    copy_to: str | Path | None = None,
) -> list[Verdict]:
    """Hear the test split of the run's first corpus, and of others, once, before and after."""
    if not outcome.finished:
        raise LabError(
            f"Run {outcome.run.name!r} is at step {outcome.step} of {outcome.run.steps}. Run the "
            "training again, it goes on from there; the test split is heard once, at the end."
        )
    verdicts = []
    for corpus in (outcome.run.corpora[0][0], *out_of_domain):
        clips = open_corpus(store, corpus, "test", outcome.data.get(corpus, "latest"), copy_to)
        before, after = (
            listen(model, clips, outcome.run.language)
            for model in (outcome.run.model, outcome.best)
        )
        said = list(after.table["text"])
        change = difference(said, list(before.table["heard"]), list(after.table["heard"]))
        verdicts.append(Verdict(corpus, before, after, change))
    return verdicts


def compare(store: Store, runs: list[Run], **options: Any) -> pd.DataFrame:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", help="a folder, or drive:FOLDER")
    parser.add_argument("--run", required=True, help="a name for the run and its checkpoints")
    parser.add_argument("--model", default=str(NANO_MODEL))
    parser.add_argument("--corpora", nargs="+", default=["nano_pl"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--evaluate-every", type=int, default=200)
    parser.add_argument("--batch", type=int, help="clips at once on each device")
    parser.add_argument("--machine", help="whose preset to take; by default this machine's")
    parser.add_argument("--minutes", type=float, help="stop and save after so many")
    parser.add_argument("--folder", default="build/whisper")
    given = parser.parse_args()
    run = Run(
        given.run,
        given.model,
        tuple((name, 1.0) for name in given.corpora),
        steps=given.steps,
        evaluate_every=given.evaluate_every,
        batch=given.batch,
        machine=given.machine,
    )
    outcome = train(open_store(given.store), run, given.minutes, given.folder)
    if devices().is_main_process:
        print(f"step {outcome.step}, finished: {outcome.finished}, best weights in {outcome.best}")


if __name__ == "__main__":
    main()
