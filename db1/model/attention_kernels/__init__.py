"""Interchangeable forms of relative-position attention behind one registry.

    reference   all scores in plain operations, in at least float32; the definition
    sdpa        PyTorch's fused attention with the position scores as its mask
    blocked     CPU: block by block in the cache, hidden blocks skipped
    token       CPU: one query a row, keys read as they lie in memory
    fused       NVIDIA GPU: Triton kernels that hold no (T, S) scores in memory

Importing this package enters all of them in `ATTENTION_KERNELS`; Triton itself is imported at the
first use of `fused`.
"""

from db1.model.attention_kernels import blocked, fused, reference, sdpa, single_token
from db1.model.attention_kernels.interface import (
    ATTENTION_KERNELS,
    AttentionInputs,
    AttentionKernel,
    AttentionRequest,
    shift,
)

__all__ = [
    "ATTENTION_KERNELS",
    "AttentionInputs",
    "AttentionKernel",
    "AttentionRequest",
    "blocked",
    "fused",
    "reference",
    "sdpa",
    "shift",
    "single_token",
]
