"""Compares db1 with recorded tensors of the released DB1 implementation.

A recording (.npz) holds `config` (JSON bytes), `param/<released name>`, and sections:

    text/       ids -> logits, loss (labels: the ids, rolled one place to the left)
    control/    tensor_seq, position_id, label, loss_mask -> logits, loss
    pixels/     the same with vision_seq (B, images, C, H, W); images fill placeholders in order
    caption/    prompt, image, text: one sequence without local positions -> logits, loss
    memory/     segment<N>/ids -> logits, one after the other; final (layers, B, M, D)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from db1.checkpoint.released import config_from_released, state_dict_from_released
from db1.errors import DataError
from db1.model.transformer_xl import TransformerXL
from db1.sequence.sample import NO_LOCAL_POSITION, Batch, ImageGroup
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, Vocabulary

_PARAM = "param/"


@dataclass(frozen=True, kw_only=True)
class SectionResult:
    """How far one section is off.

    Args:
        name: Section, such as `text` or `memory/segment0`.
        max_difference: Largest absolute difference of its logits, loss or memory; infinite where
            one is not a number.
    """

    name: str
    max_difference: float


def compare(path: Path | str, dtype: torch.dtype = torch.float64) -> list[SectionResult]:
    """Runs every section of a recording through a model with the recorded weights.

    In float64 nearly all that is left of a difference is the recording's own float32 rounding,
    which image sections amplify to some 5e-5; in float32 db1's own comes on top.

    Args:
        path: The .npz file.
        dtype: Type that db1's model computes in.

    Raises:
        DataError: For a file that is not such a recording.
        CheckpointError: For weights that the released model does not have.
    """
    arrays = _load(Path(path))
    model = _build(arrays, path).to(dtype)
    results = []
    for section, run in _SECTIONS.items():
        inputs = {
            name.removeprefix(section + "/"): torch.from_numpy(np.asarray(array))
            for name, array in arrays.items()
            if name.startswith(section + "/")
        }
        if inputs:
            results += _run(run, model, section, inputs, path)
    if not results:
        raise DataError(f"{path}: no section of {sorted(_SECTIONS)}, got {sorted(arrays)[:10]}")
    return results


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a .npz recording: {error}") from error
    if "config" not in arrays:
        raise DataError(f"{path}: no array 'config', got {sorted(arrays)[:10]}; not a recording")
    return arrays


def _build(arrays: Mapping[str, np.ndarray], path: Path | str) -> TransformerXL:
    """The recorded model, in evaluation mode."""
    try:
        released = json.loads(arrays["config"].tobytes())
    except ValueError as error:
        raise DataError(f"{path}: array 'config' is not JSON: {error}") from error
    config, vocabulary = config_from_released(released)
    model = TransformerXL(config, Vocabulary(vocabulary).size)
    weights = {
        name.removeprefix(_PARAM): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith(_PARAM)
    }
    try:
        model.load_state_dict(state_dict_from_released(weights))
    except RuntimeError as error:
        raise DataError(
            f"{path}: weights do not fit the config: {' '.join(str(error).split())}"
        ) from error
    return model.eval()


def _run(
    run: Callable[[TransformerXL, Mapping[str, Tensor]], Iterator[tuple[str, Tensor, Tensor]]],
    model: TransformerXL,
    section: str,
    inputs: Mapping[str, Tensor],
    path: Path | str,
) -> list[SectionResult]:
    """The largest difference of each part of a section, in order."""
    largest: dict[str, float] = {}
    try:
        for part, got, expected in run(model, inputs):
            name = f"{section}/{part}" if part else section
            largest[name] = max(largest.get(name, 0.0), _difference(got, expected))
    except KeyError as error:
        raise DataError(
            f"{path}: section {section} lacks the array {error}, got {sorted(inputs)}"
        ) from error
    return [SectionResult(name=name, max_difference=value) for name, value in largest.items()]


def _difference(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape:
        raise DataError(f"recorded shape {tuple(expected.shape)}, got {tuple(got.shape)}")
    difference = float((got.detach() - expected).abs().max())
    return math.inf if math.isnan(difference) else difference


def _text(
    model: TransformerXL, inputs: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    ids = inputs["ids"]
    batch = Batch(
        ids=ids,
        local_positions=torch.full_like(ids, NO_LOCAL_POSITION),
        labels=ids.roll(-1, dims=1),
        loss_mask=torch.ones_like(ids, dtype=torch.bool),
    )
    yield from _logits_and_loss(model, batch, inputs)


def _control(
    model: TransformerXL, inputs: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    ids = inputs["tensor_seq"]
    images = _images(model, ids, inputs["vision_seq"]) if "vision_seq" in inputs else ()
    batch = Batch(
        ids=ids,
        local_positions=inputs["position_id"],
        labels=inputs["label"],
        loss_mask=inputs["loss_mask"].bool(),
        images=images,
    )
    yield from _logits_and_loss(model, batch, inputs)


def _caption(
    model: TransformerXL, inputs: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Label and mask cover the whole sequence, or its end."""
    prompt, text = inputs["prompt"], inputs["text"]
    image = inputs["image"]
    image = image[:, None] if image.dim() == 4 else image
    patch_area = model.config.patch_size**2
    num_patches = image.shape[1] * image.shape[-2] * image.shape[-1] // patch_area
    places = prompt.new_full((len(prompt), num_patches), IMAGE_PLACEHOLDER)
    ids = torch.cat([prompt, places, text], dim=1)
    missing = ids.shape[1] - inputs["label"].shape[1]
    batch = Batch(
        ids=ids,
        local_positions=torch.full_like(ids, NO_LOCAL_POSITION),
        labels=torch.nn.functional.pad(inputs["label"], (missing, 0)),
        loss_mask=torch.nn.functional.pad(inputs["loss_mask"], (missing, 0)).bool(),
        images=_images(model, ids, image),
    )
    yield from _logits_and_loss(model, batch, inputs)


def _memory(
    model: TransformerXL, inputs: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    memory = None
    for number in range(len(inputs)):
        if f"segment{number}/ids" not in inputs:
            break
        ids = inputs[f"segment{number}/ids"]
        places = torch.full_like(ids, NO_LOCAL_POSITION)
        with torch.no_grad():
            hidden, memory = model.recur(ids, places, memory_LBMD=memory)
            logits = model.logits(hidden)
        yield f"segment{number}", logits, inputs[f"segment{number}/logits"]
    if "final" in inputs and memory is not None:
        yield "final", memory, inputs["final"]


def _logits_and_loss(
    model: TransformerXL, batch: Batch, inputs: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    expected = inputs["logits"]
    logits = model.logits(model.hidden(batch))
    yield "", logits[:, -expected.shape[1] :], expected
    yield "", model(batch).loss, inputs["loss"]


def _images(model: TransformerXL, ids: Tensor, pixels_BNCHW: Tensor) -> tuple[ImageGroup, ...]:
    """Images of each row for its placeholders in order; patches beyond them are dropped."""
    batch, num_images, _, height, width = pixels_BNCHW.shape
    patches = num_images * height * width // model.config.patch_size**2
    positions = torch.full((batch, patches), ids.numel(), dtype=torch.int64)
    for row in range(batch):
        places = (ids[row] == IMAGE_PLACEHOLDER).nonzero().squeeze(1) + row * ids.shape[1]
        if len(places) > patches:
            raise DataError(
                f"row {row}: {len(places)} image placeholders, but {patches} patches in its images"
            )
        positions[row, : len(places)] = places
    group = ImageGroup(
        pixels=pixels_BNCHW.flatten(0, 1).permute(0, 2, 3, 1),
        positions=positions.view(batch * num_images, -1),
    )
    return (group,)


_SECTIONS = {
    "text": _text,
    "control": _control,
    "pixels": _control,
    "caption": _caption,
    "memory": _memory,
}
