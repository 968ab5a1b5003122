"""Doing only the part of Whisper's work that a batch needs, with the same result.

Short audio context: the encoder adds a fixed table of sinusoids, one row for each 20 ms, so on a
window shorter than 30 s it needs only the first rows, and a third of the rows takes a third of
the time or less. Short vocabulary: a small model's token table is padded with rows of zeros to
Whisper's 51,865, and what these add to the loss is known without multiplying by them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.functional import cross_entropy, linear

from lab2_whisper.schema import LabError

FRAMES_PER_POSITION = 2  # two 10 ms frames of log-mel for each row of the table


@contextmanager
def window(model, frames: int) -> Iterator[None]:
    """Let a Whisper model take log-mel of shape (B, n_mels, frames) inside the `with`.

    Only two counts are changed, and put back; the table itself is never touched, so what is
    saved is bit for bit what it was. Models of other kinds are left alone.
    """
    encoder = model.get_encoder() if hasattr(model, "get_encoder") else None
    if not hasattr(encoder, "embed_positions"):
        yield
        return
    table, config = encoder.embed_positions, encoder.config
    positions, whole = frames // FRAMES_PER_POSITION, table.num_embeddings
    if not 0 < positions <= whole:
        raise LabError(
            f"A window of {frames} frames does not fit this model; it takes up to "
            f"{whole * FRAMES_PER_POSITION} (10 ms each)."
        )
    table.num_embeddings = config.max_source_positions = positions
    try:
        yield
    finally:
        table.num_embeddings = config.max_source_positions = whole


def dtype_of(model) -> torch.dtype:
    """Of a Whisper's inputs: its weights may be in half precision."""
    return model.get_encoder().conv1.weight.dtype


class Vocabulary:
    """The rows of a model's token table that are not padding, and the loss over them.

    For a table without padding, as every real Whisper's, nothing changes.
    """

    def __init__(self, model):
        used = model.get_input_embeddings().weight.detach().ne(0).any(dim=1)
        used[model.config.eos_token_id] = True  # zero in a fresh model, yet to be learned
        self.padding = int((~used).sum())
        self.rows = used.nonzero().flatten()
        places = torch.cumsum(used, dim=0) - 1  # of a used token among the rows
        self.short = places.where(used, used.numel())  # any other as a label is an error

    @contextmanager
    def fewer_logits(self, model) -> Iterator[None]:
        """Let the model give logits for the used rows only, shape (B, T, rows)."""
        head = model.get_output_embeddings()
        if self.padding:
            rows = self.rows.to(head.weight.device)
            head.forward = lambda hidden: linear(hidden, head.weight[rows])
        try:
            yield
        finally:
            if self.padding:
                del head.forward

    def cross_entropy(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The summed loss of logits (B, T, rows) for labels (B, T), those of -100 left out.

        Rows of zeros have the logit 0 each. They stay zeros: nothing flows back to them.
        """
        logits, labels = logits.flatten(0, 1).float(), labels.flatten()
        if self.padding:
            others = logits.new_full((len(logits), 1), math.log(self.padding))
            logits = torch.cat([logits, others], dim=1)
            labels = torch.where(labels < 0, labels, self.short.to(labels.device)[labels])
        return cross_entropy(logits, labels, reduction="sum")
