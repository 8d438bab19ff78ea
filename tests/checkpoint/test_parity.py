"""db1 agrees with the recorded tensors of the released implementation, and notices a change.

The recordings in tests/golden come with the project's definition; they are never renewed from db1.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from db1.checkpoint.parity import _build, _load, compare
from db1.errors import CheckpointError, DataError
from db1.sequence.sample import Batch, ImageGroup

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ["released", "deepnorm", "no_memory", "pre_ln_untied"]
TOLERANCE = 1e-4
SEGMENTS = ["memory/segment0", "memory/segment1", "memory/segment2", "memory/final"]


def changed(tmp_path: Path, changes: dict[str, np.ndarray | None]) -> Path:
    """The `released` recording with arrays replaced, added or (None) left out."""
    arrays = {**_load(GOLDEN / "released.npz"), **changes}
    path = tmp_path / "changed.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_recordings_agree(name: str, dtype: torch.dtype) -> None:
    results = {r.name: r.max_difference for r in compare(GOLDEN / f"{name}.npz", dtype)}
    expected = ["text", "control", "pixels"] + (SEGMENTS if name != "no_memory" else [])
    assert list(results) == expected
    assert max(results.values()) < TOLERANCE
    assert max(value for key, value in results.items() if key != "pixels") < 5e-6


@pytest.mark.parametrize(
    ("weight", "sections"),
    [
        ("word_embedding.weight", {"text", "control", "pixels", *SEGMENTS}),
        ("r_r_bias", {"text", "control", "pixels", *SEGMENTS}),
        ("h.1.dec_attn.r_net.weight", {"text", "control", "pixels", *SEGMENTS[:3]}),
        ("h.0.pos_ff.CoreNet.2.bias", {"text", "control", "pixels", *SEGMENTS}),
        ("rl_local_timestep_embedding.weight", {"control", "pixels"}),
        ("vision_encoder.patch_embeddings.residual_path.5.weight", {"pixels"}),
        ("vision_encoder.row_position_embeddings.weight", {"pixels"}),
    ],
)
def test_a_changed_weight_fails(tmp_path: Path, weight: str, sections: set[str]) -> None:
    key = f"param/{weight}"
    array = _load(GOLDEN / "released.npz")[key] * np.float32(1.05)
    results = compare(changed(tmp_path, {key: array}))
    assert {result.name for result in results if result.max_difference > TOLERANCE} == sections


@pytest.mark.parametrize("option", ["pre_lnorm", "use_deepnorm", "same_length", "clamp_len"])
def test_a_changed_option_fails(tmp_path: Path, option: str) -> None:
    config = json.loads(_load(GOLDEN / "released.npz")["config"].tobytes())
    config[option] = 5 if option == "clamp_len" else not config[option]
    array = np.frombuffer(json.dumps(config).encode(), dtype=np.uint8)
    results = compare(changed(tmp_path, {"config": array}))
    assert results[0].name == "text" and results[0].max_difference > TOLERANCE


def test_weight_that_is_no_number_fails(tmp_path: Path) -> None:
    key = "param/h.0.dec_attn.o_net.weight"
    array = _load(GOLDEN / "released.npz")[key] * np.nan
    assert compare(changed(tmp_path, {key: array}))[0].max_difference == float("inf")


def caption(tmp_path: Path, whole: bool) -> Path:
    """A recording with a caption section that db1 itself made, 24 x 16 pixel images."""
    model = _build(_load(GOLDEN / "released.npz"), "released")
    rng = np.random.default_rng(0)
    prompt, text = rng.integers(0, 96, (2, 3)), rng.integers(0, 96, (2, 5))
    image = rng.uniform(0, 255, (2, 3, 24, 16)).astype(np.float32)
    ids = np.concatenate([prompt, np.full((2, 6), -1), text], axis=1)
    label = np.concatenate([ids[:, 1:], text[:, :1]], axis=1).clip(0)
    mask = np.zeros_like(label)
    mask[:, -6:-1] = 1
    positions = torch.tensor([[3, 4, 5, 6, 7, 8], [17, 18, 19, 20, 21, 22]])
    pixels = torch.from_numpy(image).permute(0, 2, 3, 1)
    batch = Batch(
        ids=torch.from_numpy(ids),
        local_positions=torch.full((2, 14), -1),
        labels=torch.from_numpy(label),
        loss_mask=torch.from_numpy(mask).bool(),
        images=(ImageGroup(pixels=pixels, positions=positions),),
    )
    with torch.no_grad():
        logits, loss = model.logits(model.hidden(batch)), model(batch).loss
    part = slice(None) if whole else slice(-8, None)
    recorded = {"prompt": prompt, "text": text, "image": image, "label": label[:, part],
                "loss_mask": mask[:, part], "logits": logits[:, part], "loss": loss}  # fmt: skip
    return changed(
        tmp_path, {f"caption/{name}": np.asarray(array) for name, array in recorded.items()}
    )


@pytest.mark.parametrize("whole", [True, False])
def test_caption_section(tmp_path: Path, whole: bool) -> None:
    results = {r.name: r.max_difference for r in compare(caption(tmp_path, whole))}
    assert results["caption"] < TOLERANCE


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"config": None}, DataError, "not a recording"),
        ({"config": np.frombuffer(b"{", dtype=np.uint8)}, DataError, "not JSON"),
        ({"text/ids": None}, DataError, "text lacks the array 'ids'"),
        ({"param/r_w_bias": np.zeros((2, 2), np.float32)}, DataError, "do not fit"),
        ({"param/h.0.extra": np.zeros(1)}, CheckpointError, "h.0.extra"),
    ],
)
def test_broken_recordings_raise(
    tmp_path: Path, changes: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compare(changed(tmp_path, changes))


def test_other_files_raise(tmp_path: Path) -> None:
    path = tmp_path / "text.npz"
    path.write_text("no archive")
    with pytest.raises(DataError, match="cannot be read"):
        compare(path)
    with pytest.raises(DataError, match="cannot be read"):
        compare(tmp_path / "missing.npz")
