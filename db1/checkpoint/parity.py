"""Compares db1 with recorded tensors of the released DB1 implementation.

A recording (`db1.checkpoint.recording`) holds sections; their names or their arrays say the kind:

    text/       ids -> logits, loss (labels: the ids, rolled one place to the left)
    control/    tensor_seq, position_id, label, loss_mask -> logits, loss
    pixels/     the same with vision_seq (B, images, C, H, W); images fill placeholders in order
    caption/    prompt, image, text, label, loss_mask: one sequence of prompt ids, image patches and
                text ids, without local positions -> logits, loss; questions, too
    memory/     segment<N>/ids -> logits, one after the other; final (layers, B, M, D)

Shapes: B batch, C channels, H x W pixels, M memory tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from db1.checkpoint.recording import Recording, Section, read_recording
from db1.checkpoint.released import config_from_released, state_dict_from_released
from db1.errors import DataError, nearest
from db1.model.batch import Batch, ImageGroup
from db1.model.transformer_xl import TransformerXL
from db1.sequence.segment import NO_LOCAL_POSITION
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, Vocabulary

Parts = Iterator[tuple[str, Tensor, Tensor]]
"""Name of a part of the section ('' where it is one), what db1 says, what is recorded."""


@dataclass(frozen=True, kw_only=True)
class SectionResult:
    """Deviation of one section.

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
        DataError: For a file that is not such a recording, or holds what cannot be compared.
        CheckpointError: For weights that the released model does not have.
    """
    recording = read_recording(path)
    if not recording.sections:
        raise DataError(f"{path}: no section, expected some of {sorted(_KINDS)}")
    runs = {name: _kind(name, section) for name, section in recording.sections.items()}
    model = build_recorded(recording).to(dtype)
    results = []
    for name, section in recording.sections.items():
        results += _compare_section(runs[name], model, name, section)
    return results


def build_recorded(recording: Recording) -> TransformerXL:
    """The recorded model, in evaluation mode and the weights' own type.

    Raises:
        DataError: For weights that do not fit the config.
        CheckpointError: For weights that the released model does not have.
    """
    try:
        config, vocabulary = config_from_released(recording.config)
        with torch.device("meta"):
            model = TransformerXL(config, Vocabulary(vocabulary).size)
    except TypeError as error:
        raise DataError(f"{recording.path}: config: {error}") from error
    try:
        model.load_state_dict(state_dict_from_released(recording.weights), assign=True)
    except RuntimeError as error:
        raise DataError(
            f"{recording.path}: weights do not fit the config: {' '.join(str(error).split())}"
        ) from error
    return model.eval()


def _compare_section(
    run: Callable[[TransformerXL, Section], Parts],
    model: TransformerXL,
    name: str,
    section: Section,
) -> list[SectionResult]:
    """The largest difference of each part of a section, in order."""
    largest: dict[str, float] = {}
    for part, got, expected in run(model, section):
        full = f"{name}/{part}" if part else name
        if got.shape != expected.shape:
            raise DataError(
                f"{section.title}{'/' if part else ''}{part}: recorded shape "
                f"{tuple(expected.shape)}, got {tuple(got.shape)}"
            )
        largest[full] = max(largest.get(full, 0.0), _difference(got.detach(), expected))
    if section.untaken:
        raise DataError(
            f"{section.title}: nothing to compare with {section.untaken}; remove these arrays"
        )
    return [SectionResult(name=part, max_difference=value) for part, value in largest.items()]


def _difference(got: Tensor, expected: Tensor) -> float:
    if not got.numel():
        return 0.0
    difference = float((got - expected).abs().max())
    return math.inf if math.isnan(difference) else difference


def _text(model: TransformerXL, section: Section) -> Parts:
    ids = section.take_ids("ids", range(model.vocabulary_size))
    batch = Batch(
        ids=ids,
        local_positions=torch.full_like(ids, NO_LOCAL_POSITION),
        labels=ids.roll(-1, dims=1),
        loss_mask=torch.ones_like(ids, dtype=torch.bool),
    )
    yield from _logits_and_loss(model, batch, section)


def _control(model: TransformerXL, section: Section) -> Parts:
    ids = section.take_ids("tensor_seq", range(IMAGE_PLACEHOLDER, model.vocabulary_size))
    places = range(NO_LOCAL_POSITION, model.config.num_local_positions)
    images = ()
    if "vision_seq" in section:
        pixels = section.take("vision_seq", (len(ids), *[None] * 4))
        images = _images(model, section, ids, pixels)
    labels, loss_mask = _targets(model, section, ids)
    batch = Batch(
        ids=ids,
        local_positions=section.take_ids("position_id", places, ids.shape),
        labels=labels,
        loss_mask=loss_mask,
        images=images,
    )
    yield from _logits_and_loss(model, batch, section)


def _caption(model: TransformerXL, section: Section) -> Parts:
    """Label and mask cover the whole sequence, or its end; so do the logits."""
    prompt = section.take_ids("prompt", range(model.vocabulary_size))
    text = section.take_ids("text", range(model.vocabulary_size), (len(prompt), None))
    image = section.take("image")
    image = image[:, None] if image.dim() == 4 else image
    if image.dim() != 5 or len(image) != len(prompt):
        raise DataError(
            f"{section.title}/image: got shape {tuple(image.shape)}, expected "
            f"({len(prompt)}, C, H, W) or ({len(prompt)}, images, C, H, W)"
        )
    patch_area = model.config.patch_size**2
    num_patches = image.shape[1] * image.shape[-2] * image.shape[-1] // patch_area
    patches = prompt.new_full((len(prompt), num_patches), IMAGE_PLACEHOLDER)
    ids = torch.cat([prompt, patches, text], dim=1)
    labels, loss_mask = _targets(model, section, ids)
    batch = Batch(
        ids=ids,
        local_positions=torch.full_like(ids, NO_LOCAL_POSITION),
        labels=labels,
        loss_mask=loss_mask,
        images=_images(model, section, ids, image),
    )
    yield from _logits_and_loss(model, batch, section)


def _memory(model: TransformerXL, section: Section) -> Parts:
    memory, number = None, 0
    while number == 0 or f"segment{number}/ids" in section:
        ids = section.take_ids(f"segment{number}/ids", range(model.vocabulary_size))
        places = torch.full_like(ids, NO_LOCAL_POSITION)
        with torch.no_grad():
            hidden, memory = model.recur(ids, places, memory_LBMD=memory)
            logits = model.logits(hidden)
        yield f"segment{number}", logits, section.take(f"segment{number}/logits")
        number += 1
    if "final" in section:
        yield "final", memory, section.take("final")


def _targets(model: TransformerXL, section: Section, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and loss mask of the ids, (B, T); nothing is predicted before where they begin."""
    known = range(IMAGE_PLACEHOLDER, model.vocabulary_size)
    labels = section.take_ids("label", known, (len(ids), None))
    missing = ids.shape[1] - labels.shape[1]
    if missing < 0:
        raise DataError(
            f"{section.title}/label: {labels.shape[1]} labels for {ids.shape[1]} tokens"
        )
    mask = section.take("loss_mask", labels.shape).bool()
    # The released model sets a patch's label to 0.
    return F.pad(labels.clamp(min=0), (missing, 0)), F.pad(mask, (missing, 0))


def _logits_and_loss(model: TransformerXL, batch: Batch, section: Section) -> Parts:
    expected = section.take("logits", (*[None] * 2, model.vocabulary_size))
    logits = model.logits(model.hidden(batch))
    yield "", logits[:, -expected.shape[1] :], expected
    yield "", model(batch).loss, section.take("loss", ())


def _images(
    model: TransformerXL, section: Section, ids: Tensor, pixels_BNCHW: Tensor
) -> tuple[ImageGroup, ...]:
    """Images of each row for its placeholders in order; patches beyond them are dropped."""
    batch, num_images, _, height, width = pixels_BNCHW.shape
    side = model.config.patch_size
    if height % side or width % side:
        raise DataError(
            f"{section.title}: images of {height} x {width} pixels, expected multiples of the "
            f"patch size {side}"
        )
    patches = num_images * height * width // side**2
    positions = torch.full((batch, patches), ids.numel(), dtype=torch.int64)
    for row in range(batch):
        places = (ids[row] == IMAGE_PLACEHOLDER).nonzero().squeeze(1) + row * ids.shape[1]
        if len(places) > patches:
            raise DataError(
                f"{section.title}: row {row}: {len(places)} image placeholders, but {patches} "
                "patches in its images"
            )
        positions[row, : len(places)] = places
    dtype = model.embedding.token.weight.dtype
    group = ImageGroup(
        pixels=pixels_BNCHW.flatten(0, 1).permute(0, 2, 3, 1).to(dtype),
        positions=positions.view(batch * num_images, -1),
    )
    return (group,)


def _kind(name: str, section: Section) -> Callable[[TransformerXL, Section], Parts]:
    """By name; a section of another name is what its inputs are."""
    first = name.split("/")[0]
    for known, (inputs, run) in _KINDS.items():
        if first == known or all(array in section for array in inputs):
            return run
    raise DataError(
        f"{section.title} is unknown, expected one of {sorted(_KINDS)}{nearest(first, _KINDS)}; "
        f"it holds {section.names}"
    )


_KINDS: dict[str, tuple[tuple[str, ...], Callable[[TransformerXL, Section], Parts]]] = {
    "text": (("ids", "logits"), _text),
    "control": (("tensor_seq", "position_id"), _control),
    "pixels": (("tensor_seq", "vision_seq"), _control),
    "caption": (("prompt", "image", "text"), _caption),
    "memory": (("segment0/ids",), _memory),
}
