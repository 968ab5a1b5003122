"""Short audio context: Whisper on windows as long as the speech in them, not always 30 s.

The encoder adds a fixed table of sinusoids, one row for each 20 ms, so on a shorter window it
needs only the first rows. Attention over a third of the rows takes a third of the time or less.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab2_whisper.schema import LabError

FRAMES_PER_POSITION = 2  # two 10 ms frames of log-mel for each row of the table


@contextmanager
def window(model, frames: int) -> Iterator[None]:
    """Let a Whisper model take log-mel of shape (B, n_mels, frames) inside the `with`.

    Only two counts are changed, and put back; the table itself is never touched, so what is
    saved is bit for bit what it was. Models of other kinds are left alone.
    """
    encoder = getattr(getattr(model, "model", None), "encoder", None)
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
