"""transformers' trainer for Whisper: batches by length, short windows, log-mel on the device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from torch.utils.data import Sampler
from transformers import EvalPrediction, PreTrainedModel, Seq2SeqTrainer, WhisperTokenizer

from lab2_whisper.schema import SAMPLE_RATE, WINDOW_SECONDS
from lab2_whisper.training.audio_context import Vocabulary, dtype_of, window
from lab2_whisper.training.dataset import IGNORED, TrainingClips, decoder_inputs, to_features
from lab2_whisper.training.estimate import max_batch_size
from lab2_whisper.training.evaluation import generate
from lab2_whisper.training.metrics import WordErrorRate
from lab2_whisper.training.run import Run

POOL_BATCHES = 50  # batches among which clips are sorted by length
LOGGED = ("wer", "wer_orthographic", "cer")


class ByLength(Sampler[int]):
    """Clips in a new order each epoch, those of similar length together, so that windows are short.

    The batches of `batch_size` are shuffled. An epoch has a whole number of steps of
    `clips_per_step`, so that every device gets as many and a resumed run finds its place; it leaves
    out the few clips that remain, others each time.
    """

    def __init__(self, clips: TrainingClips, batch_size: int, clips_per_step: int, seed: int):
        self.clips, self.batch_size, self.clips_per_step = clips, batch_size, clips_per_step
        self.seed, self.epoch, self.seconds = seed, 0, clips.seconds

    def set_epoch(self, epoch: int) -> None:
        """Draw another order and other augmentations."""
        self.epoch = epoch
        self.clips.set_epoch(epoch)

    def __len__(self) -> int:
        clips = len(self.seconds)
        return clips // self.clips_per_step * self.clips_per_step or clips

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order, size = (
            rng.permutation(len(self.seconds))[: len(self)],
            self.batch_size * POOL_BATCHES,
        )
        pools = [order[i : i + size] for i in range(0, len(order), size)]
        order = np.concatenate([pool[np.argsort(self.seconds[pool])] for pool in pools])
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        rng.shuffle(batches)
        yield from (int(i) for i in np.concatenate(batches))


class WhisperTrainer(Seq2SeqTrainer):
    """Seq2SeqTrainer with log-mel on the device, windows as long as the speech, and our loss."""

    model: PreTrainedModel

    def __init__(
        self, run: Run, tokenizer: WhisperTokenizer, train_dataset: TrainingClips, **options
    ):
        self.run, self.tokenizer, self.clips = run, tokenizer, train_dataset
        self.metric = WordErrorRate()
        super().__init__(train_dataset=train_dataset, compute_metrics=self._word_errors, **options)
        self.vocabulary = Vocabulary(self.model)
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the tokens of the whole step

    def _get_train_sampler(self, train_dataset=None) -> Sampler:
        batch_size = self._train_batch_size * self.args.world_size
        clips_per_step = batch_size * self.args.gradient_accumulation_steps
        self.sampler = ByLength(self.clips, batch_size, clips_per_step, self.run.seed)
        return self.sampler

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Return the batches of one step, and the number of their labels on all devices together."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        labels = sum((batch["labels"] != IGNORED).sum() for batch in batches)
        return batches, self.accelerator.gather(torch.as_tensor(labels, device=device)).sum()

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """Train on one batch, in parts where its windows are too long for all clips together."""
        length = inputs["samples"].shape[1]
        window_length = (
            WINDOW_SECONDS * SAMPLE_RATE if self._full_window() else self._longest(length)
        )
        inputs["samples"] = pad(inputs["samples"], (0, window_length - length))
        size = max_batch_size(self._train_batch_size, window_length / SAMPLE_RATE)
        step = super().training_step
        losses = [step(model, part, num_items_in_batch) for part in _parts(inputs, size)]
        return torch.stack(losses).sum()

    def _longest(self, length: int) -> int:
        """Return the longest window, in samples, of all devices.

        With equal windows they compute the gradient that one device would. They also make equally
        many parts, without which one would wait for the others for ever.
        """
        return int(self.accelerator.gather(torch.tensor([length], device=self.args.device)).max())

    def _full_window(self) -> bool:
        """Return whether this is one of the last steps before an evaluation, in windows of 30 s.

        It depends on the step alone, so that all devices and a resumed run do the same.
        """
        if not self.run.short_audio_context:
            return True
        step, every = self.state.global_step, self.run.evaluate_every
        left = min(every - step % every, self.run.steps - step)
        return left <= math.ceil(self.run.full_windows * every)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        batch = super()._prepare_inputs(inputs)
        return to_features(batch, self.model.config.num_mel_bins) if "samples" in batch else batch

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the summed cross-entropy divided by the labels of the whole step on all devices."""
        features, labels = inputs["input_features"], inputs["labels"]
        bare = self.accelerator.unwrap_model(model)
        with window(bare, features.shape[-1]), self.vocabulary.fewer_logits(bare):
            outputs = model(
                input_features=features.to(dtype_of(bare)),
                decoder_input_ids=decoder_inputs(labels, bare.config),
                use_cache=False,
            )
        loss = self.vocabulary.cross_entropy(outputs.logits, labels)
        if num_items_in_batch is None:
            loss = loss / (labels != IGNORED).sum()
        else:  # the devices' gradients are averaged, and their sum is needed
            loss = loss * self.accelerator.num_processes / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None, **_):
        """Return loss, generated ids and labels of a batch in windows of 30 s, as on the test split."""
        length = inputs["samples"].shape[1]
        whole = pad(inputs["samples"], (0, WINDOW_SECONDS * SAMPLE_RATE - length))
        inputs = self._prepare_inputs({**inputs, "samples": whole})
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs)
        with self.accelerator.autocast():
            bare = self.accelerator.unwrap_model(model)
            ids = generate(bare, inputs["input_features"], length / SAMPLE_RATE)
        return loss.detach(), ids, inputs["labels"]

    def _word_errors(self, prediction: EvalPrediction) -> dict[str, float]:
        hypotheses, references = (
            self._texts(prediction.predictions),
            self._texts(prediction.label_ids),
        )
        rates = self.metric.compute(predictions=hypotheses, references=references)
        return {name: rates[name] for name in LOGGED}

    def _texts(self, ids: Any) -> list[str]:
        ids = np.where(ids < 0, self.tokenizer.eos_token_id, ids)
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)


def _parts(inputs: dict[str, Any], batch_size: int) -> Iterator[dict[str, Any]]:
    for start in range(0, len(inputs["labels"]), batch_size):
        yield {name: value[start : start + batch_size] for name, value in inputs.items()}
