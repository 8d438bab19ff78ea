"""Samples with images, in a module that spawned reader processes can import, for test_loader."""

from __future__ import annotations

import numpy as np

from db1.sequence.segment import TokenSegment
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER

LENGTH = 9


class Pictures:
    """Sample n has n % 4 images of two sizes, and weights and labels of its own."""

    def __len__(self) -> int:
        return 1_000

    def __getitem__(self, n: int) -> TokenSegment:
        generator = np.random.default_rng(n)
        shapes = [(16, 32, 3) if (n + i) % 2 else (16, 16, 3) for i in range(n % 4)]
        ids = np.full(LENGTH, n, dtype=np.int32)
        ids[: sum(shape[1] // 16 for shape in shapes)] = IMAGE_PLACEHOLDER
        return TokenSegment(
            ids=ids,
            labels=None if n % 3 else ids + 1,
            target_mask=generator.random(LENGTH) < 0.5,
            local_positions=generator.integers(-1, 9, LENGTH).astype(np.int32),
            images=tuple(generator.integers(0, 256, shape, np.uint8) for shape in shapes),
            source=f"pictures/{n % 2}",
            target_weight=1.0 / (n + 1),
        )
