"""A loaded model: it acts, writes, describes images and answers questions about them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from db1.checkpoint.hub import resolve_model_name
from db1.errors import CheckpointError, DataError

if TYPE_CHECKING:
    import gymnasium
    from PIL import Image

    from db1.api.acting import Agent
    from db1.inference.load import LoadedRun
    from db1.store.episodes import EpisodeStore
    from db1.tokens.spec import Episode


def load(
    place: str | Path,
    *,
    checkpoint: str | None = None,
    device: str | None = None,
    random_weights: bool = False,
    seed: int = 0,
) -> Model:
    """Loads a model.

    Args:
        place: A run folder, a safetensors folder, the published checkpoint, `hf://user/name`, or
            the name of a model that comes with db1 (`base`).
        checkpoint: Tag; None: the newest valid one.
        device: torch device; None: CUDA where there is one.
        random_weights: Fresh weights (the control experiment).
        seed: Of fresh weights.

    Raises:
        ConfigError: When there is no model.
        CheckpointError: Without a valid checkpoint.
    """
    from db1.inference.load import load_agent_parts, locate_model
    from db1.suites.plugins import load_run_plugins

    folder, tag = locate_model(resolve_model_name(place), checkpoint)
    loaded = load_agent_parts(folder, tag, random_weights=random_weights, seed=seed, device=device)
    load_run_plugins(loaded.config)
    return Model(loaded)


class Model:
    """A model that was loaded with `db1.load`.

    Args:
        loaded: Its parts.
    """

    def __init__(self, loaded: LoadedRun) -> None:
        self.parts = loaded

    def __repr__(self) -> str:
        return f"<db1.Model {self.folder} {self.checkpoint or 'random weights'}>"

    @property
    def folder(self) -> Path:
        """Folder that it was loaded from."""
        return self.parts.folder

    @property
    def checkpoint(self) -> str | None:
        """Tag of its checkpoint; None with random weights."""
        return self.parts.tag

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that it learned."""
        return tuple(self.parts.specs)

    def agent(
        self,
        env: gymnasium.Env | str,
        instruction: str | None = None,
        prompts: Sequence[Episode] | EpisodeStore | Path | str | None = None,
        *,
        batch_size: int | None = None,
        memory: int | None = None,
        greedy: bool = True,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> Agent:
        """The model as an agent of an environment.

        Args:
            env: A task id, an environment of db1, or any environment of Gymnasium, whose own
                observations and actions the agent then speaks.
            instruction: The task in words, in place of its own, for models that learned with
                instructions.
            prompts: Demonstrations that prime the memory: episodes, or a store (or its folder)
                whose best ones are taken in turn. None: none.
            batch_size: Environments at once; `act` then takes a list. None: one, without a list.
            memory: Tokens that a step can look back on; None: as the model was trained.
            greedy: Take the best action; else sample.
            temperature: Of sampling.
            seed: Of sampling.

        Raises:
            DataError: When the model's vocabulary cannot say a step of the environment.
        """
        from db1.api.acting import make_agent

        return make_agent(
            self.parts,
            env,
            instruction=instruction,
            prompts=prompts,
            batch_size=batch_size,
            memory=memory,
            greedy=greedy,
            temperature=temperature,
            seed=seed,
        )

    def generate(
        self,
        prompt: str = "",
        *,
        max_tokens: int = 128,
        temperature: float = 1.0,
        top_p: float | None = None,
        top_k: int | None = None,
        seed: int = 0,
        stops: Sequence[str] = (),
    ) -> str:
        """Writes on from a prompt.

        Args:
            prompt: Text; empty: a new document.
            max_tokens: The most tokens to write.
            temperature: Of sampling; 0: always the likeliest token.
            top_p: Nucleus sampling.
            top_k: Sample from the k likeliest tokens.
            seed: Of sampling.
            stops: Texts that end the writing.

        Raises:
            CheckpointError: When the model never learned text.
        """
        from db1.inference.decode import DecodeConfig
        from db1.inference.generate import generate

        if self.parts.tokenizer is None:
            raise CheckpointError(f"{self.folder}: no tokenizer, so the model never learned text")
        return generate(
            self.parts.model,
            self.parts.vocabulary,
            self.parts.tokenizer,
            prompt,
            memory_length=self.parts.context_length,
            max_tokens=max_tokens,
            decode=DecodeConfig.at(temperature, top_k=top_k, top_p=top_p),
            seed=seed,
            stops=stops,
        ).text

    def caption(
        self, image: str | Path | bytes | np.ndarray | Image.Image, *, beams: int = 3,
        max_tokens: int = 32,
    ) -> str:  # fmt: skip
        """Describes an image.

        Args:
            image: A file, its bytes, pixels uint8 (H, W, 3), or an image of Pillow.
            beams: Of the beam search; 1: greedy.
            max_tokens: The most tokens.

        Raises:
            CheckpointError: When the model has no tokenizer.
            DataError: For what is no image.
        """
        return self._write(image, None, beams, max_tokens)

    def answer(
        self,
        image: str | Path | bytes | np.ndarray | Image.Image,
        question: str,
        *,
        answers: Sequence[str] | None = None,
        beams: int = 1,
        max_tokens: int = 16,
    ) -> str:
        """Answers a question about an image.

        Args:
            image: As of `caption`.
            question: In words.
            answers: Choose the likeliest of these; None: write freely.
            beams: Of the beam search; 1: greedy.
            max_tokens: The most tokens.
        """
        if answers is None:
            return self._write(image, question, beams, max_tokens)
        from db1.store.pair_layout import QUESTION

        writer = self._writer(QUESTION)
        prompt = writer.prompt(writer.load_image(image_bytes(image), "the image").pixels, question)
        return writer.choose([prompt], list(answers))[0].text

    def _write(self, image: Any, question: str | None, beams: int, max_tokens: int) -> str:
        from db1.inference.image_text import WritingConfig
        from db1.store.pair_layout import CAPTION, QUESTION

        writer = self._writer(CAPTION if question is None else QUESTION)
        prompt = writer.prompt(writer.load_image(image_bytes(image), "the image").pixels, question)
        config = WritingConfig(beams=beams, max_tokens=max_tokens)
        return writer.write([prompt], config)[0].text

    def _writer(self, kind: str) -> Any:
        from db1.inference.image_text import ImageTextWriter
        from db1.inference.pair_sets import settings_of

        return ImageTextWriter(self.parts, settings_of(self.parts, kind))


def image_bytes(image: str | Path | bytes | np.ndarray | Image.Image) -> bytes:
    """The bytes of an image file: of a file, an image of Pillow, or uint8 pixels (H, W, 3).

    Raises:
        DataError: For a file that cannot be read, or an array that holds no pixels.
    """
    from PIL import Image

    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise DataError(f"{image}: cannot be read ({error.strerror})") from None
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DataError(
                f"the image: {image.dtype} of shape {image.shape}, expected uint8 (H, W, 3)"
            )
        image = Image.fromarray(np.ascontiguousarray(image))
    if not isinstance(image, Image.Image):
        raise DataError(f"the image: a {type(image).__name__}, expected a file, bytes or pixels")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
