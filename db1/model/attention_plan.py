"""Attention of the layers in one forward pass: the kernel and the prepared visibility.

The choice is made before the layers, from the device and the sizes:

    CPU     one token: `token`; learning: `blocked`; otherwise, and with dropout, `sdpa`
    CUDA    `fused` where it can, otherwise `sdpa`
    other   `sdpa`

`model.attention` names another kernel. One that cannot serve is replaced by the choice of `auto`
without it, with one warning that names the reason.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache

from db1.model.attention_kernels import ATTENTION_KERNELS, AttentionKernel, AttentionRequest
from db1.model.visibility import Visibility

logger = logging.getLogger(__name__)

_BY_DEVICE = {"cpu": ("token", "blocked", "sdpa"), "cuda": ("fused", "sdpa")}


@dataclass(frozen=True, kw_only=True)
class AttentionPlan:
    """Made once a forward pass and shared by the layers.

    Args:
        kernel: What computes attention.
        visibility: Which keys are seen, prepared for the kernel.
    """

    kernel: AttentionKernel
    visibility: Visibility


def attention_plan(name: str, request: AttentionRequest, visibility: Visibility) -> AttentionPlan:
    """Chooses the kernel and lets it prepare the visibility.

    Args:
        name: `auto` or a name in `ATTENTION_KERNELS`.
        request: Device and sizes.
        visibility: Which keys are seen.
    """
    kernel = choose_kernel(name, request)
    return AttentionPlan(kernel=kernel, visibility=kernel.prepare(visibility))


def choose_kernel(name: str, request: AttentionRequest) -> AttentionKernel:
    """The kernel of that name, or with `auto` the fastest one that can serve the request."""
    if name != "auto":
        kernel = ATTENTION_KERNELS[name]
        reason = kernel.refusal(request)
        if reason is None:
            return kernel
        chosen = _automatic(request, without=name)
        _warn(name, chosen.name, reason)
        return chosen
    return _automatic(request)


def _automatic(request: AttentionRequest, without: str = "") -> AttentionKernel:
    for name in _BY_DEVICE.get(request.device.type, ()):
        kernel = ATTENTION_KERNELS[name]
        if name == without or _skipped(name, request):
            continue
        reason = kernel.refusal(request)
        if reason is None:
            return kernel
        if name == "fused":
            _warn(name, "sdpa", reason)
    return ATTENTION_KERNELS["sdpa"]


def _skipped(name: str, request: AttentionRequest) -> bool:
    """True for kernels that can serve, but not faster than the next one."""
    if name == "blocked":
        return not request.needs_grad
    return name == "fused" and request.num_queries == 1


@lru_cache(maxsize=64)
def _warn(wanted: str, used: str, reason: str) -> None:
    """Warns once of each reason."""
    logger.warning("attention kernel %r: %s; %r is used instead", wanted, reason, used)
