"""A model as ONNX graphs, to act where there is no PyTorch.

    step.onnx      one token of each row behind a memory of fixed size -> scores of all ids
    numbers.onnx   number patches -> vectors that stand for them (models with number patches)
    vision.onnx    images of one size -> a vector a patch (where a size is asked for)
    start.npy      memory of a new row, where it is not empty
    onnx.json      sizes, id ranges, names and shapes of inputs and outputs, how well they agree
    tokenizer.json, specs.json, instructions.json     as in a safetensors folder

Every graph is compared with PyTorch in onnxruntime before the folder gets its name.

Shapes: B rows, L layers, H heads, M memory tokens, K head width, D width, V vocabulary, G numbers a
patch, P patches an image.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from db1 import __version__
from db1.checkpoint.bundle import Bundle, meta_model
from db1.checkpoint.convert import write_companions, write_whole
from db1.checkpoint.onnx_graphs import DecodeStep, NumberGraph
from db1.errors import ConfigError, Db1Error, MissingExtra
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.tokens.number_patch import NUM_CODES, NUM_LAYOUTS
from db1.tokens.vocabulary import Vocabulary

STEP, NUMBERS, VISION = "step.onnx", "numbers.onnx", "vision.onnx"
START_FILE, DESCRIPTION_FILE = "start.npy", "onnx.json"
TOLERANCE = 1e-3
"""Largest difference from PyTorch, relative to the largest number, with which a graph is kept."""

_CHECKED_ROWS = 3


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Outcome of an export.

    Args:
        differences: Largest difference from PyTorch by graph, relative to the largest number.
        num_bytes: Of all graphs.
    """

    differences: dict[str, float]
    num_bytes: int


def export_onnx(
    bundle: Bundle,
    destination: Path,
    *,
    memory_length: int | None = None,
    image: tuple[int, int] | None = None,
    steps: int = 32,
) -> Exported:
    """Writes the graphs of a model, each checked in onnxruntime against PyTorch.

    Args:
        bundle: The model with its weights.
        destination: Folder that does not exist yet.
        memory_length: M; None: the model's own. Words in front of a memory count.
        image: Height and width of the images that vision.onnx takes; None: none is written.
        steps: Tokens with which the step is compared; more than M, to see the memory move.

    Raises:
        ConfigError: A destination that exists, a size that cannot be, or an encoding of positions
            that a graph cannot say.
        MissingExtra: Without the packages.
        Db1Error: A graph does not compute what PyTorch does; nothing is kept.
    """
    config = bundle.model_config
    memory_length = config.memory_length if memory_length is None else memory_length
    _check(config, destination, memory_length, image)
    _check_packages()
    model = _model_of(bundle)
    differences: dict[str, float] = {}

    def write(folder: Path) -> None:
        differences.update(_write_graphs(model, folder, memory_length, image, steps))
        if config.memory_start == "zeros":
            np.save(folder / START_FILE, model.zero_memory().numpy())
        write_companions(bundle, folder)
        description = _description(model, bundle.vocabulary, memory_length, image)
        description["largest_difference"] = differences
        text = json.dumps(description, indent=2) + "\n"
        (folder / DESCRIPTION_FILE).write_text(text, encoding="utf-8")

    write_whole(destination, write)
    num_bytes = sum(file.stat().st_size for file in destination.glob("*.onnx"))
    return Exported(differences=differences, num_bytes=num_bytes)


def _check(
    config: ModelConfig, destination: Path, memory_length: int, image: tuple[int, int] | None
) -> None:
    if destination.exists():
        raise ConfigError(f"{destination}: is there already; name a new folder")
    if memory_length < 1:
        raise ConfigError(f"memory: got {memory_length}, expected at least 1 token")
    if config.position_encoding == "rotary":
        raise ConfigError(
            "position_encoding rotary: its turns are complex numbers, which ONNX does not have; "
            "transformer_xl, alibi and none can be exported"
        )
    side = config.patch_size
    if image is not None and (min(image) < side or image[0] % side or image[1] % side):
        raise ConfigError(
            f"image: got {image[0]}x{image[1]}, expected multiples of the patch size {side}"
        )


def _model_of(bundle: Bundle) -> TransformerXL:
    """The decoder with its weights, float32, in evaluation mode."""
    assert bundle.weights is not None
    model = meta_model(bundle.model_config, bundle.vocabulary)
    weights = {name: tensor.to(torch.float32) for name, tensor in bundle.weights.items()}
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _check_packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtra(package, "onnx", "`db1 export onnx`") from error


def _write_graphs(
    model: TransformerXL,
    folder: Path,
    memory_length: int,
    image: tuple[int, int] | None,
    steps: int,
) -> dict[str, float]:
    """Writes and checks every graph; returns their differences from PyTorch."""
    step = DecodeStep(model, memory_length).eval()
    inputs = _random_inputs(model, memory_length)
    _export(
        step,
        tuple(inputs.values()),
        folder / STEP,
        inputs={name: {2 if name == "memory" else 0: "batch"} for name in inputs},
        outputs=("logits", "new_memory", "new_counts"),
    )
    found = {STEP: _step_difference(model, folder / STEP, memory_length, steps)}
    generator = torch.Generator().manual_seed(0)
    if (encoder := model.embedding.numbers) is not None:
        shape = (_CHECKED_ROWS, encoder.patch_size)
        parts = {
            "values": torch.randn(shape, generator=generator),
            "codes": torch.randint(NUM_CODES, shape, generator=generator, dtype=torch.int32),
            "layouts": torch.randint(
                NUM_LAYOUTS, shape[:1], generator=generator, dtype=torch.int32
            ),
        }
        found[NUMBERS] = _export_and_compare(
            NumberGraph(encoder), parts, folder / NUMBERS, "patches"
        )
    if image is not None:
        size = (_CHECKED_ROWS, *image, model.config.image_channels)
        pixels = torch.randint(256, size, generator=generator, dtype=torch.uint8)
        vision = model.embedding.vision
        found[VISION] = _export_and_compare(vision, {"pixels": pixels}, folder / VISION, "patches")
    for name, difference in found.items():
        if not difference <= TOLERANCE:
            raise Db1Error(
                f"{name}: onnxruntime's numbers differ from PyTorch's by {difference:.2g} of the "
                f"largest, expected at most {TOLERANCE}; nothing was written"
            )
    return found


def _export_and_compare(
    module: nn.Module, inputs: Mapping[str, Tensor], file: Path, output: str
) -> float:
    """Writes a graph of one output; returns its difference from PyTorch."""
    module = module.eval()
    _export(
        module,
        tuple(inputs.values()),
        file,
        inputs={name: {0: "batch"} for name in inputs},
        outputs=(output,),
    )
    with torch.no_grad():
        expected = module(*inputs.values()).numpy()
    given = {name: tensor.numpy() for name, tensor in inputs.items()}
    return _relative(_session(file).run(None, given)[0], expected)


def _export(
    module: nn.Module,
    arguments: Sequence[Tensor],
    file: Path,
    *,
    inputs: Mapping[str, Mapping[int, str]],
    outputs: Sequence[str],
) -> None:
    """Writes one graph whose axes named in `inputs` may have any size."""
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple(dict.fromkeys(axes, batch) for axes in inputs.values())
    with torch.no_grad(), _quiet():
        torch.onnx.export(
            module,
            tuple(arguments),
            str(file),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            dynamo=True,
            external_data=False,
            optimize=True,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what the exporter prints on its way."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(file), sess_options=options, providers=["CPUExecutionProvider"]
    )


def _random_inputs(model: TransformerXL, memory_length: int) -> dict[str, Tensor]:
    """Inputs of the step by name, of the right shapes."""
    config, rows = model.config, _CHECKED_ROWS
    shape = (config.num_layers, 2, rows, config.num_heads, memory_length, config.head_dim)
    return {
        "ids": torch.zeros(rows, dtype=torch.int64),
        "local_positions": torch.zeros(rows, dtype=torch.int64),
        "embeddings": torch.zeros(rows, config.width),
        "memory": torch.zeros(shape),
        "counts": torch.full((rows,), memory_length // 2),
        "front": torch.zeros(rows, dtype=torch.int64),
    }


@torch.no_grad()
def _step_difference(model: TransformerXL, file: Path, memory_length: int, steps: int) -> float:
    """Plays random tokens through the graph and through `TransformerXL.decode`.

    Row r keeps its first r tokens. Both have M tokens of memory.
    """
    session = _session(file)
    generator = np.random.default_rng(0)
    state = {name: tensor.numpy() for name, tensor in _random_inputs(model, memory_length).items()}
    memory = model.new_memory(_CHECKED_ROWS, memory_length + 1)
    front = torch.arange(_CHECKED_ROWS).clamp(max=memory_length - 1)
    state["counts"] = np.zeros(_CHECKED_ROWS, dtype=np.int64)
    if memory.start is not None:
        memory = memory.truncated(memory_length)
        state["counts"][:] = memory_length
        start = memory.start[:, :, None, :, None].expand(state["memory"].shape)
        state["memory"] = start.numpy()
    state["front"] = front.numpy()
    largest = 0.0
    for _ in range(max(steps, memory_length + 4)):
        ids = generator.integers(model.vocabulary_size, size=_CHECKED_ROWS)
        places = generator.integers(-1, model.config.num_local_positions, size=_CHECKED_ROWS)
        hidden, memory = model.decode(
            torch.as_tensor(ids)[:, None], torch.as_tensor(places)[:, None], memory=memory
        )
        memory = memory.without_middle(memory_length, front)
        expected = model.logits(hidden[:, 0]).numpy()
        state |= {"ids": ids, "local_positions": places}
        logits, state["memory"], state["counts"] = session.run(None, state)
        largest = max(largest, _relative(logits, expected))
    return largest


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest number."""
    if found.shape != expected.shape:
        return float("inf")
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-6)
    return float(np.abs(found - expected).max(initial=0.0)) / scale


def _description(
    model: TransformerXL,
    vocabulary: Vocabulary,
    memory_length: int,
    image: tuple[int, int] | None,
) -> dict[str, Any]:
    """Facts that a program needs to act with the graphs."""
    config = model.config
    ids = {
        "text": vocabulary.text_range(),
        "continuous": vocabulary.bin_range(),
        "discrete": vocabulary.discrete_range(),
    }
    return {
        "format": "db1-onnx",
        "version": 1,
        "db1": __version__,
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "head_dim": config.head_dim,
        "width": config.width,
        "vocabulary_size": model.vocabulary_size,
        "memory_length": memory_length,
        "memory_shape": "num_layers, 2, batch, num_heads, memory_length, head_dim",
        "start": START_FILE if config.memory_start == "zeros" else None,
        "num_local_positions": config.num_local_positions,
        "number_patch": config.number_patch,
        "image": None if image is None else list(image),
        "id_ranges": {name: [part.start, part.stop] for name, part in ids.items()},
    }
