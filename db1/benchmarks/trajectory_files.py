"""The plain way to feed a sequence model: one `.npy` file a trajectory, tokenised step by step.

    folder/observations/<i>.npy     (steps, *shape)
    folder/actions/<i>.npy          (steps, *shape)
    folder/documents/<i>.npy        ids (tokens,)

What `db1 bench data` measures db1 against, written for itself: it shares the id ranges with db1 and
nothing else. Source: the released DB1 model's way of preparing samples (open the trajectory, slice
it, squash, discretise and concatenate one transition after the other; images as float patches).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, Vocabulary, nth_ids

Window = tuple[int, int, int]
"""Episode, first step, one past the last step."""

_PATCH = 16


class TrajectoryFiles(Dataset[dict[str, Tensor]]):
    """Windows of trajectories: numbers or one image a step, continuous or discrete actions.

    Args:
        folder: Of the files.
        windows: What sample i shows; drawing them costs this reference nothing.
        vocabulary: Id ranges.
        length: Tokens of a sample, T.
    """

    def __init__(
        self, folder: Path, windows: Sequence[Window], vocabulary: Vocabulary, length: int
    ) -> None:
        self._folder = folder
        self._windows = windows
        self._length = length
        self._config = vocabulary.config
        self._bins = vocabulary.bin_range()
        self._discrete = vocabulary.discrete_range()
        self._separator = vocabulary.separator

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        """Returns ids, labels, local positions and loss mask (T,), and patches (N, 3, 16, 16)."""
        episode, start, stop = self._windows[i % len(self._windows)]
        observations = np.load(self._folder / "observations" / f"{episode}.npy", mmap_mode="r")
        actions = np.load(self._folder / "actions" / f"{episode}.npy", mmap_mode="r")
        ids, positions, mask, patches = [], [], [], []
        for observation, action in zip(observations[start:stop], actions[start:stop], strict=True):
            if observation.ndim == 3:
                step_patches = self._patches(observation)
                seen = np.full(len(step_patches), IMAGE_PLACEHOLDER)
                patches.append(step_patches)
            else:
                seen = nth_ids(self._bins, self._discretise(self._squash(observation)))
            done = self._act(action)
            ids.append(np.concatenate([seen, [self._separator], done]))
            places = np.arange(1, len(seen) + 2)
            positions.append(np.concatenate([places, np.zeros(len(done), np.int64)]))
            mask.append(np.concatenate([np.zeros(len(seen) + 1, bool), np.ones(len(done), bool)]))
        tokens = np.concatenate(ids)[: self._length + 1].astype(np.int64)
        sample = {
            "ids": tokens[:-1],
            "labels": tokens[1:],
            "local_positions": np.concatenate(positions)[: self._length],
            "loss_mask": np.concatenate(mask)[1 : self._length + 1],
        }
        if patches:
            sample["patches"] = np.concatenate(patches)[: int((tokens[:-1] < 0).sum())]
        return {key: torch.from_numpy(value) for key, value in sample.items()}

    def _squash(self, x: np.ndarray) -> np.ndarray:
        mu, magnitude = self._config.mu, self._config.max_magnitude
        scale = np.float32(np.log(magnitude * mu + 1.0))
        return np.sign(x) * np.log(np.abs(x) * mu + 1.0) / scale

    def _discretise(self, y: np.ndarray) -> np.ndarray:
        num_bins = self._config.num_continuous_bins
        bins = ((np.clip(y, -1, 1) + 1) / 2 * num_bins).astype(np.int32)
        return np.clip(bins, 0, num_bins - 1)

    def _act(self, action: np.ndarray) -> np.ndarray:
        if action.dtype.kind == "f":
            return nth_ids(self._bins, self._discretise(action))
        return nth_ids(self._discrete, np.atleast_1d(action))

    def _patches(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, C) -> float32 (patches, C, 16, 16), each channel standardised."""
        height, width, channels = image.shape
        rows, columns = height // _PATCH, width // _PATCH
        cut = image.reshape(rows, _PATCH, columns, _PATCH, channels).transpose(0, 2, 4, 1, 3)
        cut = cut.reshape(rows * columns, channels, _PATCH, _PATCH).astype(np.float32)
        deviation = cut.std(axis=(2, 3), keepdims=True, ddof=1) + 1e-6
        return (cut - cut.mean(axis=(2, 3), keepdims=True)) / deviation / _PATCH**0.5


class DocumentFiles(Dataset[dict[str, Tensor]]):
    """Stretches of documents that lie end to end in thought, one file each.

    Args:
        folder: Of the files.
        starts: For each sample (document, first token), then where the last one ends.
        length: Tokens of a sample, T.
    """

    def __init__(self, folder: Path, starts: np.ndarray, length: int) -> None:
        self._folder = folder
        self._starts = starts
        self._length = length

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        """Returns ids, labels, local positions and loss mask (T,)."""
        (first, offset), (last, end) = self._starts[i], self._starts[i + 1]
        parts = []
        for document in range(first, last + 1):
            tokens = np.load(self._folder / "documents" / f"{document}.npy", mmap_mode="r")
            stop = end + 1 if document == last else len(tokens)
            parts.append(tokens[offset if document == first else 0 : stop])
        tokens = np.concatenate(parts).astype(np.int64)
        sample = {
            "ids": tokens[:-1],
            "labels": tokens[1:],
            "local_positions": np.full(self._length, -1),
            "loss_mask": np.ones(self._length, bool),
        }
        return {key: torch.from_numpy(value) for key, value in sample.items()}
