"""Where tokens, patches and local positions go; how bins start."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from db1.errors import ConfigError, DataError
from db1.model import embedding as embedding_module
from db1.model.batch import ImageGroup
from db1.model.config import ModelConfig
from db1.model.embedding import Embedding, smooth_rows
from db1.model.transformer_xl import TransformerXL

CONFIG = ModelConfig(
    num_layers=1, num_heads=1, width=6, vision_channels=4, vision_groups=2, patch_size=4
)


@pytest.fixture
def embedding() -> Embedding:
    torch.manual_seed(0)
    return Embedding(CONFIG, 20, None).eval()


def test_each_token_is_the_sum_of_its_parts(embedding: Embedding) -> None:
    ids = torch.tensor([[3, -1, -1, 5], [-1, 7, 8, -1]])
    places = torch.tensor([[1, 2, 3, 0], [-1, -1, 512, 1]])
    wide = torch.randint(0, 256, (1, 4, 8, 3), dtype=torch.uint8)
    small = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    images = (
        ImageGroup(pixels=wide, positions=torch.tensor([[1, 2]])),
        ImageGroup(pixels=small, positions=torch.tensor([[7], [4]])),
    )
    x = embedding(ids, places, images)
    token, local = embedding.token.weight, embedding.local_position.weight
    first, second = embedding.vision(wide)[0], embedding.vision(small)[:, 0]
    expected = [
        [token[3] + local[1], first[0] + local[2], first[1] + local[3], token[5] + local[0]],
        [second[1], token[7], token[8] + local[512], second[0] + local[1]],
    ]
    torch.testing.assert_close(x, torch.stack([torch.stack(row) for row in expected]))


def test_cut_off_patches_are_dropped(embedding: Embedding) -> None:
    ids = torch.tensor([[3, 4, -1]])
    pixels = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8)
    images = (ImageGroup(pixels=pixels, positions=torch.tensor([[2, 3, 3, 3]])),)
    x = embedding(ids, torch.full_like(ids, -1), images)
    assert x.shape == (1, 3, 6)
    torch.testing.assert_close(x[0, 2], embedding.vision(pixels)[0, 0])


def test_placeholder_gives_no_gradient_to_a_token(embedding: Embedding) -> None:
    ids = torch.tensor([[-1, 4]])
    pixels = torch.randint(0, 256, (1, 4, 4, 3), dtype=torch.uint8)
    images = (ImageGroup(pixels=pixels, positions=torch.tensor([[0]])),)
    embedding(ids, torch.full_like(ids, -1), images).sum().backward()
    assert embedding.token.weight.grad.abs().sum(1).nonzero().flatten().tolist() == [4]
    assert embedding.local_position.weight.grad.abs().sum() == 0
    assert embedding.vision.patches.stem.weight.grad.abs().sum() > 0


def test_placeholder_without_image_raises(embedding: Embedding) -> None:
    ids = torch.tensor([[-1, 4]])
    with pytest.raises(DataError, match="1 image placeholders in the ids, but 0 patches"):
        embedding(ids, torch.full_like(ids, -1), ())


def test_smooth_bins_start_near_their_neighbours() -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, width=64, bin_init="smooth", init_std=0.02)
    model = TransformerXL(config, 1_300, range(200, 1_224))
    weight = model.embedding.token.weight.detach()
    bins, others = weight[200:1_224], weight[:200]
    near = F.cosine_similarity(bins[1:], bins[:-1], dim=1)
    far = F.cosine_similarity(bins[600:], bins[:-600], dim=1)
    assert near.min() > 0.95
    assert far.mean() < 0.5
    norm = float(others.norm(dim=1).mean())
    assert float(bins.norm(dim=1).mean()) == pytest.approx(norm, rel=0.05)
    assert F.cosine_similarity(others[1:], others[:-1], dim=1).abs().mean() < 0.3


def test_smooth_rows_tell_distances_apart() -> None:
    torch.manual_seed(1)
    rows = smooth_rows(256, 64, 1.0)
    similarity = [float((rows[step:] * rows[:-step]).sum(1).mean()) for step in (1, 4, 16, 64)]
    assert similarity == sorted(similarity, reverse=True)
    assert similarity[0] - similarity[-1] > 0.3
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(256))


def test_smooth_without_bins_raises() -> None:
    with pytest.raises(ConfigError, match="bin_init"):
        TransformerXL(replace(CONFIG, bin_init="smooth"), 20)


def test_many_processes_get_gradients_for_all_weights(
    embedding: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose batch has no image must not leave the vision weights out."""
    monkeypatch.setattr(embedding_module, "num_processes", lambda: 2)
    ids = torch.tensor([[3, 4]])
    alone = embedding(ids, torch.full_like(ids, -1), ())
    out = embedding.train()(ids, torch.full_like(ids, -1), ())
    assert torch.equal(out, alone)
    out.sum().backward()
    assert all(p.grad is not None for p in embedding.parameters())
    assert embedding.vision.patches.stem.weight.grad.abs().max() == 0
