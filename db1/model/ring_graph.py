"""A ring's step as a CUDA graph: captured at the first call, replayed as one launch from then on.

A step in bf16 at batch 1 takes the GPU well under a millisecond, and the host several to launch its
hundreds of kernels. The graph serves one batch size and one number of tokens: tensors go in and out
at fixed addresses. Not run yet, no GPU was at hand.
"""

from __future__ import annotations

import torch
from torch import Tensor

from db1.errors import ConfigError
from db1.model.ring import RingMemory

_WARM_UP_STEPS = 3
"""Before the capture, as torch asks: libraries allocate and choose at their first calls."""


class CapturedStep:
    """Runs `ring.decode` for token ids without images.

    Args:
        ring: On a CUDA device; nothing else may advance it while this is in use, `reset` apart.
        num_tokens: T of each step.

    Raises:
        ConfigError: For a ring elsewhere.
    """

    def __init__(self, ring: RingMemory, num_tokens: int = 1) -> None:
        device = ring.columns.device
        if device.type != "cuda":
            raise ConfigError(f"a CUDA graph needs a ring on a GPU, got one on {device.type}")
        self._ring = ring
        shape = (len(ring.written), num_tokens)
        self._ids_BT = torch.zeros(shape, dtype=torch.int64, device=device)
        self._places_BT = torch.zeros_like(self._ids_BT)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._hidden_BTD: Tensor | None = None

    def __call__(self, ids_BT: Tensor, local_positions_BT: Tensor) -> Tensor:
        """Runs the next tokens, int64 (B, T); the hidden states (B, T, D) stand until the next."""
        self._ids_BT.copy_(ids_BT)
        self._places_BT.copy_(local_positions_BT)
        if self._graph is None:
            self._capture()
        self._graph.replay()
        return self._hidden_BTD

    def _capture(self) -> None:
        """Warms up and captures; the ring is then what it was before."""
        ring = self._ring
        state = [(tensor, tensor.clone()) for tensor in (ring.columns, ring.written, ring.held)]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_STEPS):
                ring.decode(self._ids_BT, self._places_BT)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._hidden_BTD = ring.decode(self._ids_BT, self._places_BT)
        for tensor, before in state:
            tensor.copy_(before)
