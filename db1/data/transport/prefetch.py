"""Copies batches to a GPU while it works on the batch before."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from db1.data.collate import PackedBatch
from db1.model.batch import Batch


def copied_ahead(batches: Iterator[PackedBatch], device: torch.device) -> Iterator[Batch]:
    """Yields batches on a CUDA device; each is copied on a stream of its own, one batch ahead.

        copies     batch 0 | batch 1 | batch 2
        model                batch 0 | batch 1 | ...

    Args:
        batches: In page-locked memory.
        device: A CUDA device.
    """
    copies = torch.cuda.Stream(device)

    def copy_next() -> PackedBatch | None:
        packed = next(batches, None)
        if packed is None:
            return None
        with torch.cuda.stream(copies):
            return packed.to(device)

    ahead = copy_next()
    while ahead is not None:
        model = torch.cuda.current_stream(device)
        model.wait_stream(copies)
        ahead.block.record_stream(model)  # its memory stays until the model is done with it
        current, ahead = ahead, copy_next()
        yield current.batch()
