"""Fine-tune Whisper so that the machine may vanish at any minute.

    outcome = train(store, Run("small_pl", "openai/whisper-small", (("common_voice_pl", 1.0),)),
                    minutes=210)
    run again                     it goes on from its newest whole checkpoint on the store

Validation decides when to stop and which weights are best; the test split is heard once, at the
end. On several GPUs: accelerate launch -m lab2_whisper.training STORE --run small_pl ...
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from torch.nn.functional import pad
from torch.utils.data import Sampler
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    WhisperFeatureExtractor,
    WhisperTokenizer,
    set_seed,
)

from lab2_whisper import checkpoints
from lab2_whisper.context import Vocabulary, window
from lab2_whisper.dataset import IGNORED, Augment, TrainingClips, collate_sound, to_features
from lab2_whisper.metrics import Rate, difference, score
from lab2_whisper.presets import Preset, choose, forecast, largest_batch
from lab2_whisper.schema import LANGUAGE, NANO_MODEL, SAMPLE_RATE, WINDOW_SECONDS, LabError
from lab2_whisper.scoring import Heard, generate, listen, load_whisper
from lab2_whisper.stored import mix, open_corpus
from labstore import Store, open_store

LORA_RANK = 32
POOL = 50  # batches among which clips are sorted by length
FULL_CLIPS = 8  # the most clips of a 30 s window that are heard at once


@dataclass(frozen=True)
class Run:
    """A training, whole: the same Run on the same store gives the same weights on a CPU.

    `corpora` are (name, weight); the first one's validation and test splits are heard.
    `full_windows` is the share of steps in 30 s windows: without any, Whisper forgets them.
    """

    name: str
    model: str = str(NANO_MODEL)
    corpora: tuple[tuple[str, float], ...] = (("nano_pl", 1.0),)
    language: str = LANGUAGE
    steps: int = 1000
    warmup: float = 0.1  # of the steps
    evaluate_every: int = 200  # steps; a checkpoint is published as often
    patience: int = 3  # evaluations without a better WER before it stops
    validation_clips: int = 400  # at most, the first ones
    full_windows: float = 0.1
    short_context: bool = True
    augment: Augment | None = field(default_factory=Augment)
    dropout: float = 0.0
    learning_rate: float | None = None  # None: the preset's
    batch: int | None = None  # clips at once; None: found by a dry run
    machine: str | None = None  # None: found out
    seed: int = 0


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
    seconds_per_step: float


def train(
    store: Store, run: Run, minutes: float | None = None, folder: str | Path = "build/whisper"
) -> Outcome:
    """Train, or go on with a training, for at most so many minutes.

    `folder` is on a local disk; checkpoints go from there to the store.
    """
    home = Path(folder).expanduser() / run.name
    model, tokenizer = load_whisper(run.model, run.language)
    preset = _preset(model, run)
    clips, validation, data = _clips(store, run, tokenizer)
    settings = {**asdict(run), "preset": asdict(preset), "data": data}
    settings = {k: v for k, v in settings.items() if k not in ("batch", "machine")}
    set_seed(run.seed)  # before LoRA's random weights are drawn
    model = adapt(model, preset, run.dropout)
    trainer = WhisperTrainer(
        run,
        tokenizer,
        model=model,
        args=arguments(home, run, preset, run.batch or find_batch(model, run, preset)),
        train_dataset=clips,
        eval_dataset=validation,
        data_collator=collate_sound,
        callbacks=[Best(home, run.patience), Publish(store, run.name, settings)],
    )
    trainer.add_callback(Epochs(trainer))
    if minutes:
        trainer.add_callback(TimeBudget(minutes))
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
    preset = choose(model.num_parameters(), run.machine)
    print(f"{preset.machine}, {preset.size}: {preset.method}, since {preset.reason}.")
    return replace(preset, learning_rate=run.learning_rate or preset.learning_rate)


def _resume_point(trainer: WhisperTrainer, store: Store, settings: dict[str, Any]) -> Path | None:
    """The checkpoint to go on from, unpacked by one process for all."""
    home = Path(trainer.args.output_dir)
    if trainer.accelerator.is_main_process:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        found = checkpoints.latest_valid(store, trainer.run.name, home, settings)
        if found:
            shutil.copytree(found / "best", home / "best")
            print(f"Going on from step {checkpoints.step(found)}.")
    trainer.accelerator.wait_for_everyone()
    return next(home.glob("checkpoint-*"), None)


def _go_on(trainer: WhisperTrainer, found: Path | None) -> float:
    """Train from a checkpoint or from the start; seconds a step."""
    trainer.args.eval_on_start = found is None  # the baseline comes first
    started, first = time.monotonic(), checkpoints.step(found) if found else 0
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    return (time.monotonic() - started) / max(1, trainer.state.global_step - first)


def _finished(state, run: Run) -> bool:
    return state.global_step >= run.steps or Best.had_enough(state, run.patience)


def _clips(
    store: Store, run: Run, tokenizer: WhisperTokenizer
) -> tuple[TrainingClips, TrainingClips, dict[str, str]]:
    versions = {name: store.open_files(name).version for name, _ in run.corpora}
    opened = [
        (open_corpus(store, name, "train", versions[name]), weight) for name, weight in run.corpora
    ]
    first = run.corpora[0][0]
    heard = open_corpus(store, first, "validation", versions[first])
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
    for part in (model, *model.modules()):
        if hasattr(part, "dropout") and isinstance(part.dropout, float):
            part.dropout = dropout
    if preset.method == "frozen encoder":
        model.model.encoder.requires_grad_(False)
    if preset.method == "lora":
        from peft import LoraConfig, get_peft_model

        half = getattr(torch, preset.precision)
        # task_type stays None: peft's own wrapper for seq2seq calls Whisper with input_ids
        config = LoraConfig(
            r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=["q_proj", "v_proj"]
        )
        model = get_peft_model(model.to(half), config)
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()  # half-precision weights cannot be scaled back
        if preset.checkpointing:
            model.enable_input_require_grads()
    return model


def arguments(home: Path, run: Run, preset: Preset, batch: int) -> Seq2SeqTrainingArguments:
    """transformers' settings for a run. `batch` clips at once on each device."""
    launched = os.environ.get("WORLD_SIZE")  # by accelerate: a process for each device
    devices = int(launched) if launched else max(1, torch.cuda.device_count())
    return Seq2SeqTrainingArguments(
        output_dir=str(home),
        max_steps=run.steps,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=max(batch, 8),
        gradient_accumulation_steps=max(1, preset.clips_per_step // (batch * devices)),
        learning_rate=preset.learning_rate,
        warmup_steps=round(run.warmup * run.steps),
        lr_scheduler_type="linear",
        optim=preset.optimizer,
        fp16=preset.precision == "float16" and torch.cuda.is_available(),
        bf16=preset.precision == "bfloat16" and torch.cuda.is_available(),
        activation_checkpointing=preset.checkpointing,
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


# ------------------------------------------------------------------------------- the trainer


class ByLength(Sampler[int]):
    """Clips in a new order each epoch, those of like length together, so that windows are short.

    Batches of `batch` clips in a row are of like length; which comes first is drawn at random.
    """

    def __init__(self, clips: TrainingClips, batch: int, seed: int):
        self.clips, self.batch, self.seed, self.epoch = clips, batch, seed, 0
        self.seconds = clips.seconds

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.clips.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.seconds)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order, size = rng.permutation(len(self.seconds)), self.batch * POOL
        pools = [order[i : i + size] for i in range(0, len(order), size)]
        order = np.concatenate([pool[np.argsort(self.seconds[pool])] for pool in pools])
        batches = [order[i : i + self.batch] for i in range(0, len(order), self.batch)]
        last = [batches.pop()] if len(batches[-1]) < self.batch else []  # the small one stays last
        rng.shuffle(batches)
        yield from (int(i) for i in np.concatenate([*batches, *last]))


class WhisperTrainer(Seq2SeqTrainer):
    """Seq2SeqTrainer with log-mel on the device, windows as long as the speech, and our loss."""

    def __init__(self, run: Run, tokenizer: WhisperTokenizer, **options):
        self.run, self.tokenizer = run, tokenizer
        super().__init__(compute_metrics=self._word_errors, **options)
        self.vocabulary = Vocabulary(self.model)
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the tokens of the whole step

    def _get_train_sampler(self, train_dataset=None) -> Sampler:
        together = self._train_batch_size * self.args.world_size
        self.sampler = ByLength(self.train_dataset, together, self.run.seed)
        return self.sampler

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The batches of one step, and how many labels they have on all devices together."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        labels = sum((batch["labels"] != IGNORED).sum() for batch in batches)
        return batches, self.accelerator.gather(torch.as_tensor(labels, device=device)).sum()

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        if not self._full_window():
            return super().training_step(model, inputs, num_items_in_batch)
        whole = WINDOW_SECONDS * SAMPLE_RATE - inputs["samples"].shape[1]
        inputs["samples"] = pad(inputs["samples"], (0, whole))
        # few at once: a batch that just fits in short windows would not in long ones
        losses = [
            super(WhisperTrainer, self).training_step(model, part, num_items_in_batch)
            for part in _parts(inputs, FULL_CLIPS)
        ]
        return sum(losses)

    def _full_window(self) -> bool:
        """Drawn from the step alone, so that all devices do the same, after a restart, too."""
        if not self.run.short_context:
            return True
        rng = np.random.default_rng((self.run.seed, self.state.global_step))
        return bool(rng.random() < self.run.full_windows)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        batch = super()._prepare_inputs(inputs)
        return to_features(batch, self.model.config.num_mel_bins) if "samples" in batch else batch

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Cross-entropy, summed and divided by the labels of the whole step on all devices."""
        features, labels = inputs["input_features"], inputs["labels"]
        bare = self.accelerator.unwrap_model(model)
        with window(bare, features.shape[-1]), self.vocabulary.fewer_logits(bare):
            outputs = model(
                input_features=features.to(_dtype(bare)),
                decoder_input_ids=decoder_inputs(labels, bare.config),
                use_cache=False,
            )
        loss = self.vocabulary.cross_entropy(outputs.logits, labels)
        if num_items_in_batch is None:
            loss = loss / (labels != IGNORED).sum()
        else:  # the devices' gradients are averaged, so the sum is wanted
            loss = loss * self.accelerator.num_processes / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None, **_):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs)
        with self.accelerator.autocast():
            heard = generate(self.accelerator.unwrap_model(model), inputs["input_features"])
        return loss.detach(), heard, inputs["labels"]

    def _word_errors(self, prediction) -> dict[str, float]:
        heard, said = (self._texts(ids) for ids in (prediction.predictions, prediction.label_ids))
        result = score(said, heard)
        return {
            "wer": result.wer.value,
            "wer_orthographic": result.wer_orthographic.value,
            "cer": result.cer.value,
        }

    def _texts(self, ids: np.ndarray) -> list[str]:
        ids = np.where(ids < 0, self.tokenizer.eos_token_id, ids)
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)


def decoder_inputs(labels: torch.Tensor, config) -> torch.Tensor:
    """Labels moved one to the right behind the start of transcript, shape (B, longest)."""
    start = torch.full_like(labels[:, :1], config.decoder_start_token_id)
    inputs = torch.cat([start, labels[:, :-1]], dim=1)
    return inputs.masked_fill(inputs == IGNORED, config.pad_token_id)


def _parts(inputs: dict[str, Any], clips: int) -> Iterator[dict[str, Any]]:
    for start in range(0, len(inputs["labels"]), clips):
        yield {name: value[start : start + clips] for name, value in inputs.items()}


def _dtype(model) -> torch.dtype:
    return model.get_encoder().conv1.weight.dtype


def find_batch(model, run: Run, preset: Preset) -> int:
    """The clips at once that the GPU's memory holds; on a CPU, the clips of a step."""
    if not torch.cuda.is_available():
        return preset.clips_per_step
    model.to("cuda")
    seconds = 10 if run.short_context else WINDOW_SECONDS  # most clips are shorter
    batch = largest_batch(lambda clips: dry_step(model, preset, clips, seconds))
    print(f"{batch} clips at once fit into {torch.cuda.get_device_name()}.")
    return min(batch, preset.clips_per_step)


def dry_step(model, preset: Preset, clips: int, seconds: float, tokens: int = 100) -> None:
    """One forward and backward pass on noise, in the preset's precision, and nothing learned.

    Room for the optimizer is taken as well: four bytes twice for each trained weight.
    """
    device = next(model.parameters()).device
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    features = torch.randn(clips, bare.config.num_mel_bins, round(seconds * 100), device=device)
    labels = torch.full((clips, tokens), 50, device=device)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    bits = 2 if "8bit" in preset.optimizer else 8
    room = torch.empty(bits * sum(w.numel() for w in trained), dtype=torch.uint8, device=device)
    if preset.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    half = getattr(torch, preset.precision)
    mixed = torch.autocast(device.type, half, enabled=half != torch.float32)
    vocabulary = Vocabulary(bare)
    with window(bare, features.shape[-1]), vocabulary.fewer_logits(bare), mixed:
        logits = model(
            input_features=features.to(_dtype(bare)),
            decoder_input_ids=decoder_inputs(labels, bare.config),
            use_cache=False,
        ).logits
    (vocabulary.cross_entropy(logits, labels) / labels.numel()).backward()
    model.zero_grad(set_to_none=True)
    del room


def rehearse(store: Store, run: Run) -> str:
    """What a run will take on this machine, in words, from a few passes timed now.

    Reading and scoring are not in it: a tenth or so on top.
    """
    model, _ = load_whisper(run.model, run.language)
    preset = choose(model.num_parameters())
    model = adapt(model, preset)
    batch = run.batch or find_batch(model, run, preset)
    rows = open_corpus(store, run.corpora[0][0], "train").select_columns("seconds")
    seconds = math.ceil(np.mean(rows["seconds"]) + 1)
    share, few = (run.full_windows, min(batch, FULL_CLIPS)) if run.short_context else (1.0, batch)
    short = _seconds_a_clip(model, preset, batch, seconds) if share < 1 else 0.0
    full = _seconds_a_clip(model, preset, few, WINDOW_SECONDS) if share else 0.0
    a_step = preset.clips_per_step * ((1 - share) * short + share * full)
    return f"{preset.method}, {batch} clips at once. {forecast(a_step, run.steps)}."


def _seconds_a_clip(model, preset: Preset, clips: int, seconds: float) -> float:
    """Of a forward and backward pass, once it is warm."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        dry_step(model, preset, clips, seconds)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times) / clips


# ------------------------------------------------------------------------------ the callbacks


class Epochs(TrainerCallback):
    """Tells clips and sampler which epoch it is: accelerate forgets to, after some restarts."""

    def __init__(self, trainer: WhisperTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **_):
        self.trainer.sampler.set_epoch(math.floor(state.epoch or 0))


class TimeBudget(TrainerCallback):
    """Stops and saves before a session ends."""

    def __init__(self, minutes: float):
        self.ends = time.monotonic() + 60 * minutes

    def on_step_end(self, args, state, control, **_):
        if time.monotonic() > self.ends:
            control.should_save = control.should_training_stop = True


class Best(TrainerCallback):
    """Keeps the weights of the best WER on validation, and stops when it rises no more.

    What is best is read from the log, which every checkpoint has, so a restart changes nothing.
    """

    def __init__(self, home: Path, patience: int):
        self.folder, self.patience = home / "best", patience

    @staticmethod
    def rates(state) -> list[float]:
        return [entry["eval_wer"] for entry in state.log_history if "eval_wer" in entry]

    @staticmethod
    def had_enough(state, patience: int) -> bool:
        rates = Best.rates(state)
        return bool(rates) and len(rates) - 1 - rates.index(min(rates)) >= patience

    def on_step_end(self, args, state, control, **_):
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_evaluate(self, args, state, control, model=None, **_):
        rates = self.rates(state)
        if rates.index(min(rates)) == len(rates) - 1 and state.is_world_process_zero:
            model.save_pretrained(self.folder)
        if self.had_enough(state, self.patience):
            control.should_save = control.should_training_stop = True


class Publish(TrainerCallback):
    """Copies each checkpoint, with the best weights so far, to the store."""

    def __init__(self, store: Store, run: str, settings: dict[str, Any]):
        self.store, self.run, self.settings = store, run, settings

    def on_save(self, args, state, control, **_):
        PartialState().wait_for_everyone()  # each process writes its own random states
        if not state.is_world_process_zero:
            return
        home = Path(args.output_dir)
        folder = home / f"checkpoint-{state.global_step}"
        shutil.copytree(home / "best", folder / "best", dirs_exist_ok=True)
        checkpoints.publish(self.store, self.run, folder, self.settings)
        for old in home.glob("checkpoint-*"):
            if old != folder:
                shutil.rmtree(old)


# -------------------------------------------------------------------------------- afterwards


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


def judge(store: Store, outcome: Outcome, out_of_domain: tuple[str, ...] = ()) -> list[Verdict]:
    """Hear the test split of the run's first corpus, and of others, once, before and after."""
    if not outcome.finished:
        raise LabError(
            f"Run {outcome.run.name!r} is at step {outcome.step} of {outcome.run.steps}. Run the "
            "training again, it goes on from there; the test split is heard once, at the end."
        )
    verdicts = []
    for corpus in (outcome.run.corpora[0][0], *out_of_domain):
        clips = open_corpus(store, corpus, "test", outcome.data.get(corpus, "latest"))
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

    Whatever runs differ in is compared, model or data: steps, learning rate, size, corpora. Their
    validation clips should be the same ones, so let the first corpus be the same.
    """
    rows = []
    for run in runs:
        outcome = train(store, run, **options)
        rates = outcome.history.dropna(subset=["eval_wer"])
        best = rates.loc[rates["eval_wer"].idxmin()]
        rows.append(
            {
                "run": run.name,
                "model": run.model,
                "corpora": ", ".join(f"{name} x{weight:g}" for name, weight in run.corpora),
                "learning_rate": outcome.preset.learning_rate,
                "steps": outcome.step,
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
    )
    outcome = train(open_store(given.store), run, given.minutes, given.folder)
    if PartialState().is_main_process:
        print(f"step {outcome.step}, finished: {outcome.finished}, best weights in {outcome.best}")


if __name__ == "__main__":
    main()
