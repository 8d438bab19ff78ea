"""Ways to store one image frame losslessly: `raw`, `png`, `zlib`.

Frames are compressed one by one, so that a window of a few steps decodes its own frames only.
A frame whose channels are all equal (a grey picture handed out as RGB) is stored with one.

`zlib` deflates the pixels as they are. On frames of games it is smaller than PNG and decodes in a
fifth of the time; on rendered scenes it is as small and twice as fast (docs/log.md). `png`
is for stores whose frames other programs should read.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from PIL import Image, PngImagePlugin

from db1.errors import DataError

RAW = "raw"
_LEVEL = 6


@dataclass(frozen=True, kw_only=True)
class FrameCodec:
    """A lossless way to store one frame.

    Args:
        encode: uint8 (H, W) or (H, W, C) -> bytes.
        decode: Bytes and the frame's shape (H, W, C) -> uint8 (H, W, C), or (H, W) where the
            channels were equal; raises ValueError, OSError or SyntaxError for anything else.
    """

    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes, tuple[int, ...]], np.ndarray]


def encode_frame(codec: FrameCodec, frame: np.ndarray) -> bytes:
    """Stores one frame, uint8 (H, W, C)."""
    first = frame[:, :, 0]
    is_grey = all(np.array_equal(first, frame[:, :, c]) for c in range(1, frame.shape[2]))
    return codec.encode(np.ascontiguousarray(first if is_grey else frame))


def decode_frame(codec: FrameCodec, content: bytes, out: np.ndarray, where: str) -> None:
    """Fills `out`, uint8 (H, W, C), with a stored frame.

    Raises:
        DataError: The bytes are no frame of that shape; `where` names its place.
    """
    try:
        frame = codec.decode(content, out.shape)
        if frame.ndim == 3:
            out[...] = frame
        else:
            for channel in range(out.shape[2]):  # three times as fast as broadcasting
                out[:, :, channel] = frame
    except (ValueError, OSError, SyntaxError, zlib.error) as error:
        raise DataError(
            f"{where}: {len(content)} bytes that are not a frame of shape "
            f"{out.shape} ({error}); the "
            "store is damaged, make it again"
        ) from None


def _encode_zlib(frame: np.ndarray) -> bytes:
    return zlib.compress(frame, _LEVEL)


def _decode_zlib(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    height, width, channels = shape
    inflater = zlib.decompressobj()
    pixels = inflater.decompress(content, height * width * channels + 1)  # never a bomb's worth
    is_grey = len(pixels) == height * width
    return np.frombuffer(pixels, dtype=np.uint8).reshape((height, width) if is_grey else shape)


def _encode_png(frame: np.ndarray) -> bytes:
    """Pictures of 1, 3 or 4 channels as such; others as a grey picture of C columns a pixel."""
    if frame.ndim == 3 and frame.shape[2] not in (3, 4):
        frame = frame.reshape(len(frame), -1)
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", compress_level=_LEVEL)
    return buffer.getvalue()


def _decode_png(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    height, width, channels = shape
    with PngImagePlugin.PngImageFile(io.BytesIO(content)) as image:
        if image.height != height or image.width not in (width, width * channels):
            raise ValueError(f"a picture of {image.width} x {image.height} pixels")
        frame = np.asarray(image)
    return frame.reshape(shape) if frame.size == height * width * channels else frame


FRAME_CODECS: Mapping[str, FrameCodec] = MappingProxyType(
    {
        "png": FrameCodec(encode=_encode_png, decode=_decode_png),
        "zlib": FrameCodec(encode=_encode_zlib, decode=_decode_zlib),
    }
)
IMAGE_FORMATS = (RAW, *FRAME_CODECS)
