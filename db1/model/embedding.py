"""Tokens of every kind -> vectors: id table, place inside the step, image patches.

    ids              17   -1   -1   -2   96   33        (-1: an image patch, -2: a number patch)
    token table      e17   .    .    .   e96  e33
    vision            .   p0   p1    .    .    .
    numbers           .    .    .   n0    .    .
    local position   l1   l2   l3   l4   l5   l0        (nothing where NO_LOCAL_POSITION)
                     --------------------------- sum

Shapes: B batch, T tokens, D width, N images, P patches an image, V vocabulary.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from db1.errors import ConfigError, DataError
from db1.model.batch import ImageGroup, NumberGroup
from db1.model.config import ModelConfig
from db1.model.numbers import NumberEncoder
from db1.model.vision import VisionEncoder
from db1.tokens.vocabulary import NUMBER_PLACEHOLDER

_NUM_HARMONICS = 48


class Embedding(nn.Module):
    """Embeds a batch of token ids with their images and local positions.

    Args:
        config: Width, sizes of the tables, vision.
        vocabulary_size: V.
        bin_range: Ids of the continuous bins, for `bin_init: smooth`.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int, bin_range: range | None) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary_size, config.width)
        self.local_position = nn.Embedding(config.num_local_positions, config.width)
        self.vision = VisionEncoder(config)
        self.numbers = NumberEncoder(config) if config.number_patch > 1 else None
        self._bin_range = bin_range
        if config.bin_init == "smooth" and bin_range is None:
            raise ConfigError("model.bin_init: smooth needs the range of the continuous bins")

    def initialize_bins(self) -> None:
        """Overwrites the rows of the continuous bins by smooth random functions of the bin."""
        rows = self.token.weight.detach()[self._bin_range.start : self._bin_range.stop]
        rows.copy_(smooth_rows(*rows.shape, norm=float(rows.norm(dim=1).mean())))

    def forward(
        self,
        ids_BT: Tensor,
        local_positions_BT: Tensor,
        images: tuple[ImageGroup, ...],
        numbers: NumberGroup | None = None,
    ) -> Tensor:
        """Embeds (B, T) ids; returns (B, T, D).

        Raises:
            DataError: When the placeholders and the patches do not match in number.
        """
        x_BTD = self.token(ids_BT.clamp(min=0))
        if images:
            x_BTD = self._with_images(x_BTD, images)
        elif self.training and num_processes() > 1:
            x_BTD = x_BTD + 0.0 * self._idle_vision()
        if numbers is not None:
            x_BTD = self._with_numbers(x_BTD, numbers)
        elif self.numbers is not None and self.training and num_processes() > 1:
            x_BTD = x_BTD + 0.0 * self._idle_numbers()
        _check_placeholders(ids_BT, images, numbers)
        _check_local_positions(local_positions_BT, self.local_position.num_embeddings)
        places_BTD = self.local_position(local_positions_BT.clamp(min=0))
        return x_BTD + places_BTD.masked_fill((local_positions_BT < 0)[..., None], 0.0)

    def _with_images(self, x_BTD: Tensor, images: tuple[ImageGroup, ...]) -> Tensor:
        """Puts patch embeddings at their positions; position B * T is a row that is dropped."""
        flat = F.pad(x_BTD.flatten(0, 1), (0, 0, 0, 1))
        for group in images:
            patches = self.vision(group.pixels).flatten(0, 1).to(flat.dtype)
            flat = flat.index_copy(0, group.positions.flatten(), patches)
        return flat[:-1].view_as(x_BTD)

    def _with_numbers(self, x_BTD: Tensor, numbers: NumberGroup) -> Tensor:
        """Puts the embeddings of number patches at their positions."""
        expected = 1 if self.numbers is None else self.numbers.patch_size
        if numbers.values.shape[1] != expected:
            raise DataError(
                f"number patches of {numbers.values.shape[1]} numbers, expected {expected}, the "
                "model's number_patch"
            )
        flat = x_BTD.flatten(0, 1)
        patches = self.numbers(numbers).to(flat.dtype)
        return flat.index_copy(0, numbers.positions, patches).view_as(x_BTD)

    def _idle_numbers(self) -> Tensor:
        """The same of an empty number patch."""
        device, size = self.token.weight.device, self.numbers.patch_size
        blank = torch.zeros(1, size, device=device)
        group = NumberGroup(
            values=blank, codes=blank.int(), layouts=blank[:, 0].int(), positions=blank[:, 0].long()
        )
        return self.numbers(group).sum()

    def _idle_vision(self) -> Tensor:
        """One number from a blank patch: all processes must have gradients for all weights."""
        side = self.vision.patch_size
        weight = self.token.weight
        blank = weight.new_zeros(1, side, side, self.vision.image_channels)
        return self.vision(blank).sum()


def smooth_rows(num_bins: int, width: int, norm: float) -> Tensor:
    """Random rows that change slowly from bin to bin.

    Each column is a sum of cosines of random phase whose periods are 2 * num_bins / k for
    k = 1, 2, ...; their weights decay as 1 / k.

    Args:
        num_bins: Number of rows.
        width: D.
        norm: Norm of each row.

    Returns:
        float32 (num_bins, width), drawn from PyTorch's global generator.
    """
    k = torch.arange(1, min(_NUM_HARMONICS, num_bins) + 1, dtype=torch.float32)
    bins = torch.arange(num_bins, dtype=torch.float32) + 0.5
    angles = bins[:, None] * k * (math.pi / num_bins)
    waves = torch.cat([angles.cos(), angles.sin()], dim=1)
    weights = torch.randn(2 * len(k), width) / k.repeat(2)[:, None]
    return F.normalize(waves @ weights, dim=1) * norm


def num_processes() -> int:
    """Processes of this training; 1 outside of one."""
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return 1
    return distributed.get_world_size()


def _check_local_positions(local_positions_BT: Tensor, num_positions: int) -> None:
    """Looks on the CPU only: elsewhere it would wait for the device at every step."""
    if local_positions_BT.device.type != "cpu" or local_positions_BT.numel() == 0:
        return
    largest = int(local_positions_BT.max())
    if largest >= num_positions:
        raise DataError(
            f"an observation has {largest} tokens, the table of local positions ends at "
            f"{num_positions - 1}; shrink its images or leave fields out, or raise "
            "model.num_local_positions"
        )


def _check_placeholders(
    ids_BT: Tensor, images: tuple[ImageGroup, ...], numbers: NumberGroup | None
) -> None:
    """Counts on the CPU only: elsewhere it would wait for the device at every step."""
    if ids_BT.device.type != "cpu":
        return
    num_patches = sum(int((group.positions < ids_BT.numel()).sum()) for group in images)
    num_numbers = 0 if numbers is None else len(numbers.positions)
    num_placeholders = int((ids_BT < 0).sum())
    if num_placeholders == num_patches == num_numbers == 0:
        return
    wanted_numbers = int((ids_BT == NUMBER_PLACEHOLDER).sum())
    for what, wanted, given in (
        ("image", num_placeholders - wanted_numbers, num_patches),
        ("number", wanted_numbers, num_numbers),
    ):
        if wanted != given:
            raise DataError(
                f"{wanted} {what} placeholders in the ids, but {given} patches for them"
            )
