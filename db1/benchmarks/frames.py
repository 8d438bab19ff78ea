"""Frames that are drawn: of a small game, and with the noise of a camera."""

from __future__ import annotations

import numpy as np


def drawn_frames(num_frames: int, size: int = 96) -> np.ndarray:
    """Frames that look like a 2-D game: a still background and a few moving sprites.

    Returns:
        uint8 (num_frames, size, size, 3).
    """
    rng = np.random.default_rng(0)
    background = np.kron(rng.integers(0, 80, (8, 8, 3)), np.ones((size // 8, size // 8, 1)))
    sprites = rng.integers(100, 256, (6, 8, 8, 3))
    places, speeds = rng.uniform(0, size - 8, (6, 2)), rng.uniform(-3, 3, (6, 2))
    frames = np.repeat(background[None].astype(np.uint8), num_frames, axis=0)
    for frame in frames:
        places = np.clip(places + speeds, 0, size - 8)
        speeds = np.where((places <= 0) | (places >= size - 8), -speeds, speeds)
        for sprite, (y, x) in zip(sprites, places.astype(int), strict=True):
            frame[y : y + 8, x : x + 8] = sprite
    return frames


def camera_frames(num_frames: int, size: int = 96) -> np.ndarray:
    """The same frames with a camera's noise, which packs as badly as that of real ones.

    Returns:
        uint8 (num_frames, size, size, 3).
    """
    frames = drawn_frames(num_frames, size)
    noise = np.random.default_rng(0).normal(0, 2, (16, size, size, 3))
    for number, frame in enumerate(frames):
        frames[number] = np.clip(frame + noise[number % len(noise)], 0, 255)
    return frames
