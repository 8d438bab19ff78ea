"""Compressed frames: lossless for every shape, and a window decodes its own frames only."""

from __future__ import annotations

import dataclasses
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from toy_episodes import HEADER, assert_holds, assert_same, make_episode, write

from db1.errors import DataError
from db1.store import columns
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.store.frames import FRAME_CODECS, FrameCodec, decode_frame, encode_frame
from db1.tokens.spec import Episode, FieldSpec, StepSpec

CODECS = pytest.mark.parametrize("name", list(FRAME_CODECS))


@CODECS
@given(
    height=st.sampled_from([16, 32]),
    width=st.sampled_from([16, 48]),
    channels=st.integers(1, 6),
    style=st.sampled_from(["noise", "equal channels", "constant", "stripes"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_frames_come_back_bit_for_bit(
    name: str, height: int, width: int, channels: int, style: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if style == "equal channels":
        frame = np.repeat(frame[:, :, :1], channels, axis=2)
    elif style == "constant":
        frame[:] = frame[0, 0]
    elif style == "stripes":
        frame = np.broadcast_to(frame[:, :1], frame.shape)
    content = encode_frame(FRAME_CODECS[name], frame)
    out = np.empty(frame.shape, dtype=np.uint8)
    decode_frame(FRAME_CODECS[name], content, out, "here")
    np.testing.assert_array_equal(out, frame)


def test_a_grey_picture_in_colour_is_stored_with_one_channel() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (64, 64, 1), dtype=np.uint8)
    for codec in FRAME_CODECS.values():
        size = len(encode_frame(codec, grey))
        assert len(encode_frame(codec, np.repeat(grey, 3, axis=2))) == size < 64 * 64 + 200


@CODECS
@pytest.mark.parametrize("spoil", ["empty", "cut", "other size", "text", "bomb"])
def test_bytes_that_are_no_frame(name: str, spoil: str) -> None:
    codec, frame = FRAME_CODECS[name], np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    content = encode_frame(codec, frame.astype(np.uint8))
    spoiled = {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "other size": encode_frame(codec, np.zeros((32, 16, 3), np.uint8)),
        "text": b"not a picture",
        "bomb": _bomb(name),
    }[spoil]
    with pytest.raises(DataError, match=r"here: .* not a frame of shape \(16, 16, 3\)"):
        decode_frame(codec, spoiled, np.empty((16, 16, 3), np.uint8), "here")


def _bomb(name: str) -> bytes:
    if name == "zlib":
        return zlib.compress(bytes(50_000_000))
    buffer = io.BytesIO()
    Image.new("L", (9_000, 9_000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("image_format", list(FRAME_CODECS))
def test_a_window_reads_and_decodes_its_own_frames_only(
    tmp_path: Path, image_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = dataclasses.replace(HEADER, image_format=image_format)
    with EpisodeWriter(tmp_path / "s", header) as writer:
        for seed in range(3):
            writer.append(make_episode(seed, length=200))
    decoded: list[int] = []
    codec = FRAME_CODECS[image_format]

    def decode(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
        decoded.append(len(content))
        return codec.decode(content, shape)

    counting = FrameCodec(encode=codec.encode, decode=decode)
    monkeypatch.setattr(columns, "FRAME_CODECS", {image_format: counting})
    store = EpisodeStore(tmp_path / "s")
    whole = make_episode(1, length=200).observations["image"]
    observations, actions = store.read_window(1, 50, 80)
    np.testing.assert_array_equal(observations["image"], whole[50:80])
    assert len(actions) == len(decoded) == 30
    all_frames = (tmp_path / "s" / "observations.image.frames").stat().st_size
    assert sum(decoded) < all_frames / 10
    assert_same(store.read(1, 7, 8), _stretch(make_episode(1, length=200), 7, 8))
    assert len(decoded) == 31
    store.verify()
    assert len(decoded) == 31  # checksums are over the stored bytes


def _stretch(episode: Episode, start: int, stop: int) -> Episode:
    observations = {key: v[start:stop] for key, v in episode.observations.items()}
    return dataclasses.replace(
        episode,
        observations=observations,
        actions=episode.actions[start:stop],
        rewards=episode.rewards[start:stop],
        terminated=episode.terminated and stop == len(episode),
    )


@pytest.mark.parametrize("image_format", ["raw", *FRAME_CODECS])
def test_a_window_reads_its_own_bytes_only(tmp_path: Path, image_format: str) -> None:
    """Bytes read from files, by the process's own count."""
    spec = StepSpec(
        observation={"pixels": FieldSpec(kind="image", shape=(64, 64, 3))},
        action=FieldSpec(kind="discrete", num_values=4),
    )
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (300, 64, 64, 3), dtype=np.uint8)
    episode = Episode(
        observations={"pixels": frames}, actions=np.zeros(300, int), rewards=np.zeros(300)
    )
    header = StoreHeader(task="toy/pixels", spec=spec, image_format=image_format)
    with EpisodeWriter(tmp_path / "s", header) as writer:
        writer.append(episode)
    store = EpisodeStore(tmp_path / "s")
    store.read_window(0, 0, 1)
    before = _bytes_read()
    observations, _ = store.read_window(0, 100, 110)
    np.testing.assert_array_equal(observations["pixels"], frames[100:110])
    frame_bytes = store.num_bytes / 300
    assert 9 * frame_bytes < _bytes_read() - before < 12 * frame_bytes + 4_096


def _bytes_read() -> int:
    with open("/proc/self/io", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("rchar")).split()[1])


@pytest.mark.parametrize("image_format", list(FRAME_CODECS))
def test_compressed_stores_hold_and_continue(tmp_path: Path, image_format: str) -> None:
    header = dataclasses.replace(HEADER, image_format=image_format)
    write(tmp_path / "s", range(3), header)
    write(tmp_path / "s", range(3, 9), header)
    assert_holds(tmp_path / "s", range(9))
    files = {path.name for path in (tmp_path / "s").iterdir()}
    assert {"observations.image.frames", "observations.image.ends.bin"} < files
    assert "observations.image.bin" not in files


def test_an_image_without_pixels_stays_raw(tmp_path: Path) -> None:
    spec = StepSpec(
        observation={"nothing": FieldSpec(kind="image", shape=(0, 16, 3))},
        action=FieldSpec(kind="discrete", num_values=2),
    )
    episode = Episode(
        observations={"nothing": np.zeros((5, 0, 16, 3), np.uint8)},
        actions=np.arange(5) % 2,
        rewards=np.zeros(5),
    )
    header = StoreHeader(task="toy/nothing", spec=spec, image_format="png")
    with EpisodeWriter(tmp_path / "s", header) as writer:
        writer.append(episode)
    assert EpisodeStore(tmp_path / "s").read(0).observations["nothing"].shape == (5, 0, 16, 3)
