"""Images -> patch embeddings.

    uint8 (N, H, W, C) -> patches, standardised or scaled -> 3x3 convolution
        -> residual block -> patch-sized projection -> + row embedding + column embedding

Shapes: N images, H x W pixels, C channels, P patches an image (row-major), s patch side, D width.
"""

from __future__ import annotations

from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from db1.errors import DataError
from db1.model.config import ModelConfig


def to_patches(pixels_NHWC: Tensor, patch_size: int) -> Tensor:
    """Cuts images into patches, row-major: (N, H, W, C) -> (N, P, C, s, s).

    Raises:
        DataError: Unless H and W are multiples of the patch size.
    """
    n, height, width, channels = pixels_NHWC.shape
    if height % patch_size or width % patch_size:
        raise DataError(
            f"image of {height} x {width} pixels, expected multiples of the patch size "
            f"{patch_size}; resize or pad it in the suite or source"
        )
    rows, columns, s = height // patch_size, width // patch_size, patch_size
    cut = pixels_NHWC.reshape(n, rows, s, columns, s, channels).permute(0, 1, 3, 5, 2, 4)
    return cut.reshape(n, rows * columns, channels, s, s)


def standardize(patches: Tensor) -> Tensor:
    """Zero mean, unit deviation (n - 1, plus 1e-6) by patch and channel, over sqrt(patch side).

    Args:
        patches: (..., C, s, s), any number type.

    Returns:
        float32 (float64 for float64), same shape.

    Source: released DB1 model; Reed et al. 2022, section 2.1.
    """
    values = patches if patches.dtype == torch.float64 else patches.float()
    deviation = values.std(dim=(-2, -1), keepdim=True) + 1e-6
    return (values - values.mean(dim=(-2, -1), keepdim=True)) / deviation / values.shape[-1] ** 0.5


def scale(patches: Tensor) -> Tensor:
    """0..255 -> [-1, 1], over sqrt(patch side): black and white stay what they are.

    Args:
        patches: (..., C, s, s), any number type.

    Returns:
        float32 (float64 for float64), same shape.

    Source: Reed et al. 2022, section 2.1.
    """
    values = patches if patches.dtype == torch.float64 else patches.float()
    return (values / 127.5 - 1.0) / values.shape[-1] ** 0.5


NORMALIZATIONS = MappingProxyType({"standardized": standardize, "scaled": scale})
"""`model.pixels` -> function of patches."""


class PatchProjection(nn.Conv2d):
    """A convolution as large as its input, run as the one matrix product that it is."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, s, s) -> (N, D)."""
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(x.permute(0, 2, 3, 1).flatten(1), weight, self.bias)


class PatchEncoder(nn.Module):
    """Embeds single patches: (N, C, s, s) -> (N, D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels, groups = config.vision_channels, config.vision_groups
        self.stem = nn.Conv2d(config.image_channels, channels, 3, padding=1)
        self.residual = nn.Sequential(
            nn.GroupNorm(groups, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(groups, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.projection = PatchProjection(channels, config.width, config.patch_size)

    def forward(self, patches: Tensor) -> Tensor:  # (N, C, s, s) -> (N, D)
        x = self.stem(patches.contiguous(memory_format=torch.channels_last))
        return self.projection(x + self.residual(x))


class VisionEncoder(nn.Module):
    """Embeds images of any size in multiples of the patch.

    Source: Reed et al. 2022, appendix C.2; released DB1 model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.image_channels = config.image_channels
        self.num_positions = config.num_image_positions
        self._normalize = NORMALIZATIONS[config.pixels]
        self.patches = PatchEncoder(config)
        self.row_position = nn.Embedding(config.num_image_positions, config.width)
        self.column_position = nn.Embedding(config.num_image_positions, config.width)

    def forward(self, pixels_NHWC: Tensor) -> Tensor:
        """(N, H, W, C) uint8 or float 0..255 -> (N, P, D).

        Row and column positions are drawn inside their intervals in training mode, and are the
        floored middles in evaluation mode.
        """
        n, height, width, channels = pixels_NHWC.shape
        if channels != self.image_channels:
            raise DataError(f"image of {channels} channels, expected {self.image_channels}")
        patches = self._normalize(to_patches(pixels_NHWC, self.patch_size))
        flat = patches.flatten(0, 1).to(self.row_position.weight.dtype)
        embedded = self.patches(flat).unflatten(0, (n, -1))
        rows, columns = height // self.patch_size, width // self.patch_size
        row_ids = self._position_ids(n, rows, embedded.device)
        column_ids = self._position_ids(n, columns, embedded.device)
        places = self.row_position(row_ids)[:, :, None] + self.column_position(column_ids)[:, None]
        return embedded + places.flatten(1, 2)

    def _position_ids(self, n: int, count: int, device: torch.device) -> Tensor:
        """Position of each of `count` rows or columns, int64 (n, count)."""
        edges = torch.arange(count + 1, device=device) * self.num_positions // count
        low, high = edges[:-1], edges[1:]
        if not self.training:
            return ((low + high) // 2).expand(n, count)
        drawn = torch.rand(n, count, device=device) * (high - low)
        return low + torch.minimum(drawn.long(), (high - low - 1).clamp(min=0))
