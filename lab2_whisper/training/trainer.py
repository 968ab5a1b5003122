"""transformers' trainer for Whisper: batches by length, short windows, checkpoints on the store."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from torch.utils.data import Sampler
from transformers import (
    Seq2SeqTrainer,
    WhisperTokenizer,
)

from lab2_whisper.schema import SAMPLE_RATE, WINDOW_SECONDS
from lab2_whisper.training.audio_context import Vocabulary, dtype_of, window
from lab2_whisper.training.dataset import IGNORED, TrainingClips, decoder_inputs, to_features
from lab2_whisper.training.estimate import max_batch_size
from lab2_whisper.training.evaluation import generate
from lab2_whisper.training.metrics import score
from lab2_whisper.training.run import Run

POOL = 50  # batches among which clips are sorted by length


class ByLength(Sampler[int]):
    """Clips in a new order each epoch, those of like length together, so that windows are short.

    Batches of `batch` clips in a row are of like length; which comes first is drawn at random. All
    steps of `step` clips are whole, so that every device has as many, and a restart finds its place:
    an epoch leaves a few clips out, others each time.
    """

    def __init__(self, clips: TrainingClips, batch: int, step: int, seed: int):
        self.clips, self.batch, self.step, self.seed, self.epoch = clips, batch, step, seed, 0
        self.seconds = clips.seconds

    def set_epoch(self, epoch: int) -> None:
        """Draw another order, and alter the clips otherwise."""
        self.epoch = epoch
        self.clips.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.seconds) // self.step * self.step or len(self.seconds)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order, size = rng.permutation(len(self.seconds))[: len(self)], self.batch * POOL
        pools = [order[i : i + size] for i in range(0, len(order), size)]
        order = np.concatenate([pool[np.argsort(self.seconds[pool])] for pool in pools])
        batches = [order[i : i + self.batch] for i in range(0, len(order), self.batch)]
        rng.shuffle(batches)
        yield from (int(i) for i in np.concatenate(batches))


class WhisperTrainer(Seq2SeqTrainer):
    """Seq2SeqTrainer with log-mel on the device, windows as long as the speech, and our loss."""

    def __init__(self, run: Run, tokenizer: WhisperTokenizer, **options):
        self.run, self.tokenizer = run, tokenizer
        super().__init__(compute_metrics=self._word_errors, **options)
        self.vocabulary = Vocabulary(self.model)
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the tokens of the whole step

    def _get_train_sampler(self, train_dataset=None) -> Sampler:
        together = self._train_batch_size * self.args.world_size
        step = together * self.args.gradient_accumulation_steps
        self.sampler = ByLength(self.train_dataset, together, step, self.run.seed)
        return self.sampler

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The batches of one step, and how many labels they have on all devices together."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        labels = sum((batch["labels"] != IGNORED).sum() for batch in batches)
        return batches, self.accelerator.gather(torch.as_tensor(labels, device=device)).sum()

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """One batch, in parts where its windows are longer than those of the dry run."""
        length = inputs["samples"].shape[1]
        window_length = (
            WINDOW_SECONDS * SAMPLE_RATE if self._full_window() else self._longest(length)
        )
        inputs["samples"] = pad(inputs["samples"], (0, window_length - length))
        parts = _parts(inputs, max_batch_size(self._train_batch_size, window_length / SAMPLE_RATE))
        step = super().training_step
        return sum(step(model, part, num_items_in_batch) for part in parts)

    def _longest(self, length: int) -> int:
        """Of all devices: windows of one length give the gradient that one device would have.

        And as many parts, or the devices would wait for each other for ever.
        """
        return int(self.accelerator.gather(torch.tensor([length], device=self.args.device)).max())

    def _full_window(self) -> bool:
        """Whether this is one of the last steps before an evaluation, which is heard in 30 s.

        By the step alone, so that all devices do the same, after a restart, too.
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
        """Cross-entropy, summed and divided by the labels of the whole step on all devices."""
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
        else:  # the devices' gradients are averaged, so the sum is wanted
            loss = loss * self.accelerator.num_processes / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None, **_):
        """Validation is heard in windows of 30 s, as the test split will be."""
        length = inputs["samples"].shape[1]
        whole = pad(inputs["samples"], (0, WINDOW_SECONDS * SAMPLE_RATE - length))
        inputs = self._prepare_inputs({**inputs, "samples": whole})
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs)
        with self.accelerator.autocast():
            bare = self.accelerator.unwrap_model(model)
            heard = generate(bare, inputs["input_features"], length / SAMPLE_RATE)
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


def _parts(inputs: dict[str, Any], clips: int) -> Iterator[dict[str, Any]]:
    for start in range(0, len(inputs["labels"]), clips):
        yield {name: value[start : start + clips] for name, value in inputs.items()}
