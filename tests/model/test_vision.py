"""Patches, their normalisation, and row and column positions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from db1.errors import DataError
from db1.model.config import ModelConfig
from db1.model.vision import PatchProjection, VisionEncoder, scale, standardize, to_patches

CONFIG = ModelConfig(
    num_layers=1, num_heads=1, width=10, vision_channels=4, vision_groups=2, patch_size=16
)


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    drawn = np.random.default_rng(seed).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    return torch.from_numpy(drawn)


def test_patches_are_row_major() -> None:
    pixels = image(32, 48)
    patches = to_patches(pixels, 16)
    assert patches.shape == (1, 6, 3, 16, 16)
    for number in range(6):
        row, column = divmod(number, 3)
        cut = pixels[0, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
        assert torch.equal(patches[0, number], cut.permute(2, 0, 1))


def test_standardize_is_the_formula_by_patch_and_channel() -> None:
    patches = to_patches(image(32, 48), 16).numpy().astype(np.float64)
    flat = patches.reshape(1, 6, 3, 256)
    mean, deviation = flat.mean(-1, keepdims=True), flat.std(-1, ddof=1, keepdims=True)
    expected = ((flat - mean) / (deviation + 1e-6) / 4).reshape(patches.shape)
    got = standardize(to_patches(image(32, 48), 16)).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_flat_patch_becomes_zeros() -> None:
    assert standardize(torch.full((1, 1, 3, 4, 4), 200, dtype=torch.uint8)).abs().max() == 0


def test_scaled_pixels_keep_their_color() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None].expand(1, 1, 3, 16, 16)
    assert scale(pixels)[0, 0, :, 3, 5].tolist() == pytest.approx([-0.25, -0.15, 0.25])


def test_only_scaled_pixels_tell_plain_dark_colors_apart() -> None:
    """Teal and brown on white differ in every channel, and not once they are standardised."""
    images = torch.full((2, 16, 16, 3), 255, dtype=torch.uint8)
    images[:, 4:12, 4:12] = torch.tensor([[0, 128, 128], [165, 42, 42]])[:, None, None]
    for pixels, differs in (("standardized", False), ("scaled", True)):
        torch.manual_seed(0)
        encoder = VisionEncoder(replace(CONFIG, pixels=pixels)).eval()
        teal, brown = encoder(images)
        assert torch.allclose(teal, brown, atol=1e-3) != differs, pixels


@pytest.mark.parametrize("shape", [(30, 48), (32, 40)])
def test_odd_sizes_raise(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="multiples of the patch size 16"):
        VisionEncoder(CONFIG)(image(*shape))


def test_other_channels_raise() -> None:
    with pytest.raises(DataError, match="1 channels, expected 3"):
        VisionEncoder(CONFIG)(image(32, 48)[..., :1])


def test_projection_is_the_convolution() -> None:
    projection = PatchProjection(4, 10, 16)
    x = torch.randn(3, 4, 16, 16)
    expected = F.conv2d(x, projection.weight, projection.bias).flatten(1)
    torch.testing.assert_close(projection(x), expected, atol=1e-4, rtol=1e-4)


def test_evaluation_uses_the_floored_middle() -> None:
    """128 rows over 3 patches: intervals [0, 42), [42, 85), [85, 128)."""
    encoder = VisionEncoder(CONFIG).eval()
    assert encoder._position_ids(1, 3, torch.device("cpu")).tolist() == [[21, 63, 106]]
    pixels = image(32, 48)
    assert torch.equal(encoder(pixels), encoder(pixels))
    assert encoder(pixels).shape == (1, 6, 10)


@pytest.mark.parametrize("count", [1, 3, 128, 200])
def test_training_draws_inside_the_interval(count: int) -> None:
    encoder = VisionEncoder(CONFIG).train()
    torch.manual_seed(0)
    drawn = encoder._position_ids(400, count, torch.device("cpu"))
    low = torch.arange(count) * 128 // count
    high = torch.maximum((torch.arange(count) + 1) * 128 // count, low + 1)
    assert ((drawn >= low) & (drawn < high)).all()
    if count == 3:
        assert torch.equal(drawn.amin(0), low) and torch.equal(drawn.amax(0), high - 1)


def test_row_and_column_positions_are_told_apart() -> None:
    """The same patch everywhere: embeddings differ by row and column vectors alone."""
    encoder = VisionEncoder(CONFIG).eval()
    pixels = image(16, 16).repeat(1, 2, 3, 1)
    out = encoder(pixels)[0].view(2, 3, 10)
    rows, columns = encoder.row_position.weight, encoder.column_position.weight
    torch.testing.assert_close(out[1, 0] - out[0, 0], rows[96] - rows[32], atol=1e-5, rtol=1e-4)
    expected = columns[106] - columns[21]
    torch.testing.assert_close(out[0, 2] - out[0, 0], expected, atol=1e-5, rtol=1e-4)
