"""Compute only the part of Whisper that a batch needs, with the same result.

Short audio context (`audio_ctx` in whisper.cpp): the encoder adds a fixed table of sinusoids, one
row for each 20 ms, so on a window shorter than 30 s it needs only the first rows, and a third of
the rows takes a third of the time or less. Short vocabulary: a small model's token table is padded
with rows of zeros to Whisper's 51,865, and what these add to the loss is known without multiplying
by them.
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

    transformers 5 raises unless the frames are twice `max_source_positions`. Only this count and
    the table's are changed and restored; the table itself is not, so a saved model is the same bit
    for bit. Other models are left alone. Raises LabError for a window longer than the table.
    """
    encoder = model.get_encoder() if hasattr(model, "get_encoder") else None
    if encoder is None or not hasattr(encoder, "embed_positions"):
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
    """Return the dtype that a Whisper takes its log-mel in: its weights may be in half precision."""
    return model.get_encoder().conv1.weight.dtype


class Vocabulary:
    """The rows of a model's token table that are not padding, and the loss over them.

    The table of a real Whisper has no padding; nothing changes for it.
    """

    def __init__(self, model):
        used = model.get_input_embeddings().weight.detach().ne(0).any(dim=1)
        used[model.config.eos_token_id] = True  # zero in a fresh model, and learned later
        self.padding = int((~used).sum())
        self.rows = used.nonzero().flatten()
        row_of_token = torch.cumsum(used, dim=0) - 1
        # an unused token as a label is out of range, which cross_entropy reports
        self.row_of_token = row_of_token.where(used, used.numel())

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
        """Return the summed loss of logits (B, T, rows) for labels (B, T), without those of -100.

        Each row of padding has the logit 0 and gets no gradient, so it stays zero.
        """
        logits, labels = logits.flatten(0, 1).float(), labels.flatten()
        if self.padding:
            padding = logits.new_full((len(logits), 1), math.log(self.padding))
            logits = torch.cat([logits, padding], dim=1)
            labels = torch.where(labels < 0, labels, self.row_of_token.to(labels.device)[labels])
        return cross_entropy(logits, labels, reduction="sum")
