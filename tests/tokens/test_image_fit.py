"""Pictures of one size: what each fit shows, and augmentation that only its generator decides."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from db1.errors import ConfigError
from db1.tokens.image_file import ImageFile
from db1.tokens.image_fit import Augmentation, fit_image


def image_file(pixels: np.ndarray, image_format: str = "PNG") -> ImageFile:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format)
    return ImageFile(buffer.getvalue(), "x")


@pytest.fixture
def wide() -> np.ndarray:
    """64 x 128: a red, a green and a blue stretch of 32, 64 and 32 columns."""
    pixels = np.zeros((64, 128, 3), dtype=np.uint8)
    pixels[:, :32, 0] = pixels[:, 32:96, 1] = pixels[:, 96:, 2] = 255
    return pixels


def test_crop_keeps_the_centre(wide: np.ndarray) -> None:
    np.testing.assert_array_equal(fit_image(image_file(wide), 64, "crop"), wide[:, 32:96])


def test_stretch_keeps_everything(wide: np.ndarray) -> None:
    found = fit_image(image_file(wide), 64, "stretch")
    assert found[32, 2, 0] == 255 and found[32, 32, 1] == 255 and found[32, 61, 2] == 255


def test_pad_keeps_everything_and_adds_black_bars(wide: np.ndarray) -> None:
    found = fit_image(image_file(wide), 64, "pad")
    assert (found[:16] == 0).all() and (found[48:] == 0).all()
    assert found[32, 2, 0] == 255 and found[32, 61, 2] == 255


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 5), (224, 224), (333, 500)])
def test_any_shape_fits(shape: tuple[int, int], fit: str) -> None:
    pixels = np.full((*shape, 3), 200, dtype=np.uint8)
    for augmentation in (None, Augmentation(flip=True)):
        found = fit_image(image_file(pixels), 32, fit, augmentation, np.random.default_rng(0))
        assert found.shape == (32, 32, 3) and found.dtype == np.uint8


def test_a_jpeg_decoded_smaller_shows_the_same(wide: np.ndarray) -> None:
    large = np.asarray(Image.fromarray(wide).resize((1024, 512), Image.Resampling.BICUBIC))
    from_jpeg = fit_image(image_file(large, "JPEG"), 32, "stretch").astype(int)
    from_png = fit_image(image_file(large), 32, "stretch")
    assert np.abs(from_jpeg - from_png).mean() < 4


def test_augmentation_is_a_function_of_its_generator() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    augmentation = Augmentation(min_area=0.3, flip=True)

    def draw(seed: int) -> np.ndarray:
        generator = np.random.default_rng(seed)
        return fit_image(image_file(pixels), 32, "crop", augmentation, generator)

    np.testing.assert_array_equal(draw(0), draw(0))
    assert len({draw(seed).tobytes() for seed in range(8)}) == 8


def test_every_augmentation_uses_as_many_draws() -> None:
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    left = []
    for augmentation in (Augmentation(), Augmentation(min_area=1.0, color_jitter=0.0)):
        generator = np.random.default_rng(0)
        fit_image(image_file(pixels), 16, "crop", augmentation, generator)
        left.append(generator.random())
    assert left[0] == left[1]


def test_flip_mirrors_half_of_the_pictures(wide: np.ndarray) -> None:
    augmentation = Augmentation(min_area=1.0, flip=True, color_jitter=0.0)
    generator = np.random.default_rng(0)
    is_flipped = [
        fit_image(image_file(wide), 32, "stretch", augmentation, generator)[16, 1, 2] > 128
        for _ in range(200)
    ]
    assert 70 < sum(is_flipped) < 130


def test_crops_cover_at_least_the_share_asked_for() -> None:
    x = np.broadcast_to(np.linspace(0, 255, 256)[None, :, None], (256, 256, 3)).astype(np.uint8)
    augmentation = Augmentation(min_area=0.5, max_aspect=1.0, color_jitter=0.0)
    generator = np.random.default_rng(0)
    for _ in range(30):
        row = fit_image(image_file(x), 64, "crop", augmentation, generator)[32, :, 0].astype(int)
        assert (row[-1] - row[0]) / 255 > 0.5**0.5 - 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 100}, "image_size: got 100, expected a multiple of the patch size 16"),
        ({"image_size": 0}, "image_size: got 0"),
        ({"fit": "cropp"}, "fit: got 'cropp'.*did you mean 'crop'"),
        ({"augmentation": Augmentation()}, "augmentation: needs a generator"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, object], message: str) -> None:
    file = image_file(np.zeros((16, 16, 3), dtype=np.uint8))
    with pytest.raises(ConfigError, match=message):
        fit_image(file, **{"image_size": 16, **options})


@pytest.mark.parametrize("change", [{"min_area": 0.0}, {"max_aspect": 0.5}, {"color_jitter": 1.0}])
def test_bad_augmentations_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(Augmentation(), **change)
