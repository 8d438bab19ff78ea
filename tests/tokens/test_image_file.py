"""Image files of every kind decode to the right RGB, and broken ones are refused by name."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from db1.errors import DataError
from db1.tokens.image_file import ImageFile


def encode(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def picture(height: int = 24, width: int = 40) -> np.ndarray:
    """A smooth picture whose four corners differ."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([y * 255 // height, x * 255 // width, (y + x) * 2], axis=-1).astype(np.uint8)


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(ImageFile(content, "x").decode())


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_rgb_survives_each_format(image_format: str) -> None:
    options = {"lossless": True} if image_format == "WEBP" else {"quality": 95, "subsampling": 0}
    content = encode(Image.fromarray(picture()), image_format, **options)
    file = ImageFile(content, "x")
    assert (file.info.format, file.info.height, file.info.width) == (image_format, 24, 40)
    difference = np.abs(np.asarray(file.decode()).astype(int) - picture())
    assert difference.max() <= (6 if image_format == "JPEG" else 0)


def test_first_frame_of_a_gif() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(content)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_and_palette(mode: str) -> None:
    grey = Image.fromarray(np.where(np.arange(64).reshape(8, 8) < 32, 0, 255).astype(np.uint8))
    found = pixels(encode(grey.convert(mode)))
    assert found.shape == (8, 8, 3)
    assert (found[:4] == 0).all() and (found[4:] == 255).all()


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32_768, 65_535]], dtype=np.uint16)
    found = pixels(encode(Image.fromarray(values)))
    assert found[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (found[..., 0] == found[..., 2]).all()


def test_cmyk_jpeg_shows_its_colours() -> None:
    red = Image.new("RGB", (16, 16), (220, 20, 20)).convert("CMYK")
    found = pixels(encode(red, "JPEG", quality=95))[8, 8].astype(int)
    assert np.abs(found - [220, 20, 20]).max() < 12


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_alpha_lies_on_white(image_format: str) -> None:
    rgba = np.zeros((2, 16, 4), dtype=np.uint8)
    rgba[..., 0] = 200
    rgba[:, :8, 3] = 255
    found = pixels(encode(Image.fromarray(rgba), image_format, lossless=True))
    assert found[0, 0].tolist() == [200, 0, 0]
    assert found[0, 15].tolist() == [255, 255, 255]


def test_transparent_palette_entry_lies_on_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([9, 9, 9, 0, 0, 255])
    image.putpixel((0, 0), 0)
    found = pixels(encode(image, transparency=0))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[3, 3].tolist() == [0, 0, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(orientation: int) -> None:
    upright = picture()
    mirrored = upright.transpose(1, 0, 2)
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: mirrored, 6: np.rot90(upright), 7: np.rot90(mirrored, 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = ImageFile(encode(Image.fromarray(stored.copy()), exif=exif), "x")
    assert (file.info.height, file.info.width) == upright.shape[:2]
    np.testing.assert_array_equal(np.asarray(file.decode()), upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_counts_as_none() -> None:
    content = encode(Image.fromarray(picture()), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert pixels(content).shape == (24, 40, 3)


def test_a_large_jpeg_is_decoded_smaller_but_never_too_small() -> None:
    content = encode(Image.fromarray(picture(480, 640)), "JPEG", quality=95)
    small = ImageFile(content, "x").decode(height=100, width=100)
    assert (small.height, small.width) == (120, 160)
    assert ImageFile(content, "x").decode(height=300, width=300).size == (640, 480)


def test_too_many_pixels_are_refused_before_decoding() -> None:
    content = encode(Image.new("1", (3_000, 3_000)))
    with pytest.raises(
        DataError, match=r"photo.png: an image of 3000 x 3000 pixels.*at most 1000000"
    ):
        ImageFile(content, "photo.png", max_pixels=1_000_000)


def test_a_decompression_bomb_is_refused() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    )
    with pytest.raises(DataError, match="bomb.png: an image of .* pixels.*shrink it"):
        ImageFile(b"\x89PNG\r\n\x1a\n" + chunks, "bomb.png")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_cut_file_is_refused_by_name(image_format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encode(Image.fromarray(noise), image_format)
    with pytest.raises(DataError, match="train/9.jpg"):
        ImageFile(content[: len(content) // 2], "train/9.jpg").decode()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"BM" + bytes(60)])
def test_what_is_no_image_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(DataError, match="train/9.jpg"):
        ImageFile(content, "train/9.jpg")


@settings(max_examples=60, deadline=None)
@given(
    image_format=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]),
    changes=st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8
    ),
)
def test_damaged_bytes_never_raise_anything_else(
    image_format: str, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(encode(Image.fromarray(picture(16, 16)), image_format))
    for place, value in changes:
        content[place % len(content)] = value
    try:
        decoded = ImageFile(bytes(content), "x", max_pixels=1_000_000).decode()
    except DataError:
        return
    assert decoded.mode == "RGB"


def test_notes_say_what_is_done_to_a_file() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    film = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    print_file = encode(Image.new("CMYK", (16, 16)), "JPEG")
    assert ImageFile(film, "x").notes() == ("only the first of its frames is used",)
    assert ImageFile(print_file, "x").notes() == ("converted from CMYK without its colour profile",)
    assert ImageFile(encode(frames[0]), "x").notes() == ()
    file = ImageFile(film, "x")
    file.notes()
    assert np.asarray(file.decode())[0, 0].tolist() == [255, 0, 0]
