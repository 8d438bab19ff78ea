"""Session behind the page: write, describe, answer, act. One request of a kind at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image

from db1.errors import CheckpointError, DataError, Db1Error
from db1.evaluation.results import RESULTS_FILE, read_results
from db1.evaluation.settings import EvaluationConfig, as_trained
from db1.evaluation.task import instruction_of, make_agent
from db1.inference.agent import Agent
from db1.inference.decode import DecodeConfig
from db1.inference.generate import Writer
from db1.inference.image_text import ImageTextWriter, WritingConfig
from db1.inference.load import LoadedRun
from db1.inference.pair_sets import learned_sets, settings_of
from db1.options import option
from db1.pages import image_uri
from db1.ranges import Checked, Range
from db1.rollout.loop import watch
from db1.rollout.policies import ModelPolicy
from db1.store.pair_layout import CAPTION, QUESTION
from db1.suites import parse_task_id
from db1.suites.seeds import EVALUATION, seed_for
from db1.viewer.scene import Scene, Spectator

MAX_CHARACTERS = 20_000
"""Of a conversation that is sent."""

_FEW_STEPS = 12
"""An episode of fewer steps is over before one sees it."""
_FRAME_SIDE = 320
_JPEG_QUALITY = 85

Emit = Callable[[dict[str, Any]], None]
"""Takes one piece of a stream; raises when nobody listens any more."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig(Checked):
    """Settings of the page's model: how it writes and acts.

    Args:
        data: Folder of demonstrations that prime acting; None: the run's.
        beams: Of captions.
        frames_per_second: The most pictures of an episode a second.
    """

    data: Path | None = option(None, "Folder of demonstrations for prompts; default: the run's.")
    beams: Annotated[int, Range(least=1, most=4_096)] = option(
        3, "Beams of the search for captions."
    )
    frames_per_second: Annotated[float, Range(least=0.1)] = option(
        20.0, "Most frames per second of an episode.", name="fps"
    )


class DemoSession:
    """A loaded run behind the page.

    Args:
        run: The run.
        config: How it writes and acts.
    """

    def __init__(self, run: LoadedRun, config: DemoConfig) -> None:
        self._run = run
        self._config = config
        self._writing = threading.Lock()
        self._acting = threading.Lock()
        kinds = {data.kind for data in learned_sets(run).values()}
        self._captioners = {
            kind: ImageTextWriter(run, settings_of(run, kind))
            for kind in (CAPTION, QUESTION)
            if kind in kinds
        }

    def about(self) -> dict[str, Any]:
        """Describes the run and its abilities; tasks that do not run here say why."""
        tasks = []
        for task in self._run.specs:
            suite, name = parse_task_id(task)
            tasks.append({"id": task, "missing": suite.task_missing(name)})
        return {
            "run": str(self._run.folder),
            "checkpoint": self._run.tag,
            "text": self._learned_text(),
            "caption": CAPTION in self._captioners,
            "question": QUESTION in self._captioners,
            "tasks": tasks,
            "examples": self._solved({task["id"] for task in tasks if not task["missing"]}),
        }

    def _solved(self, tasks: set[str]) -> list[dict[str, Any]]:
        """Episodes that the evaluation beside the run solved: `task` and `episode`, three at most.

        The first one of each task, suites in turn, those of several steps first.
        """
        folder = next((f for f in (self._run.folder / "evaluation", self._run.folder)
                       if (f / RESULTS_FILE).is_file()), None)  # fmt: skip
        if folder is None:
            return []
        try:
            results = read_results(folder)
        except Db1Error:
            return []
        found: dict[str, tuple[bool, str, int]] = {}
        for task, entry in results["tasks"].items():
            seeds, steps = entry["seeds"], entry["lengths"]
            solved = [i for i, did in enumerate(entry.get("successes") or ()) if did is True]
            if task in tasks and solved and seeds[solved[0]] in EVALUATION:
                rank = (steps[solved[0]] < _FEW_STEPS, task, seeds[solved[0]] - EVALUATION.start)
                suite = task.partition("/")[0]
                found[suite] = min(found.get(suite, rank), rank)
        return [{"task": task, "episode": number} for _, task, number in sorted(found.values())][:3]

    def _learned_text(self) -> bool:
        """Tells whether text was a target; a model that says nothing of its data may know it."""
        data = self._run.config.get("data")
        is_known = data is not None and ("text" in data or "pairs" in data)
        learned = not is_known or bool(data.get("text") or data.get("pairs"))
        return self._run.tokenizer is not None and learned

    def chat(self, text: str, temperature: float, max_tokens: int, emit: Emit) -> None:
        """Writes on after a conversation, piece by piece: {"text"} ... {"over", "reason"}.

        Raises:
            CheckpointError: The run never learned text.
            DataError: Too long a conversation.
            ConfigError: A temperature or number of tokens that cannot be used.
        """
        if self._run.tokenizer is None:
            raise CheckpointError("this run has no tokenizer, so it never learned text")
        if len(text) > MAX_CHARACTERS:
            raise DataError(
                f"the conversation has {len(text)} characters, expected at most {MAX_CHARACTERS}; "
                "start a new one"
            )
        decode = DecodeConfig.at(temperature)
        with self._writing:
            writer = Writer(
                self._run.model,
                self._run.vocabulary,
                self._run.tokenizer,
                memory_length=self._run.context_length,
            )
            writer.read(text)
            written = writer.write(
                max_tokens=max_tokens,
                decode=decode,
                seeds=[len(text)],
                shown=lambda sample, piece: emit({"text": piece}),
            )[0]
        emit({"over": True, "reason": written.reason})

    def caption(self, content: bytes) -> dict[str, Any]:
        """A caption of an image file, and what was done to the file.

        Raises:
            CheckpointError: The run never learned captions.
            DataError: No image, or one that cannot be used.
        """
        captioner = self._captioner(CAPTION, "captions")
        image = captioner.load_image(content, "the image")
        with self._writing:
            text = captioner.write(
                [captioner.prompt(image.pixels)], WritingConfig(beams=self._config.beams)
            )
        return {"caption": text[0].text, "notes": list(image.notes)}

    def answer(self, content: bytes, question: str) -> dict[str, Any]:
        """An answer to a question about an image file.

        Raises:
            CheckpointError: The run never learned questions.
            DataError: An image or a question that cannot be used.
        """
        captioner = self._captioner(QUESTION, "questions about images")
        image = captioner.load_image(content, "the image")
        with self._writing:
            text = captioner.write(
                [captioner.prompt(image.pixels, question)], WritingConfig(max_tokens=16)
            )
        return {"answer": text[0].text, "notes": list(image.notes)}

    def act(self, task: str, number: int, emit: Emit) -> None:
        """Plays an evaluation episode, a picture a step, then {"over", ...}.

        Args:
            task: One that the run learned.
            number: Of the evaluation seed.
            emit: Takes {"starting"}, {"started", "primed", "instruction"}, then {"frame", "step",
                "reward", "return", "mission", "likely"} for every state, and at last {"over",
                ...}. `mission` is what the task says in words, None where it says nothing;
                `likely` has [action in words, probability] pairs, likeliest first, and is empty
                where the actions are numbers.

        Raises:
            DataError: Another task or number, or an environment that fails.
        """
        if task not in self._run.specs:
            raise DataError(f"task {task!r}: the run did not learn it")
        if not 0 <= number < len(EVALUATION):
            raise DataError(f"episode {number}, expected 0..{len(EVALUATION) - 1}")
        with self._acting:
            emit({"starting": task})
            pace = _Pace(self._config.frames_per_second)
            figures: dict[str, Any] = {}

            def show(scene: Scene) -> None:
                figures.update(_figures(scene))
                emit({"frame": frame_uri(scene.frame), **figures, **_words(scene)})
                pace.wait()

            agent, primed = self._agent(task)
            words = instruction_of(task, self._run)
            told = None if words is None else words.text
            emit({"started": task, "primed": primed, "instruction": told})
            look = Spectator(task, show, agent)
            last = watch(task, ModelPolicy(agent), [seed_for("evaluation", number)], look)[0]
            emit({"over": True, "success": last.success, "note": look.reason, **figures})

    @property
    def is_acting(self) -> bool:
        """Tells whether an episode runs."""
        return self._acting.locked()

    def check_idle(self) -> None:
        """Raises DataError while an episode runs."""
        if self.is_acting:
            raise DataError("an episode is running already; stop it first")

    def _captioner(self, kind: str, what: str) -> ImageTextWriter:
        if kind not in self._captioners:
            raise CheckpointError(f"this run learned no {what}")
        return self._captioners[kind]

    def _agent(self, task: str) -> tuple[Agent, bool]:
        """The run as the task's agent, and whether a demonstration primes it."""
        config = as_trained(EvaluationConfig(), self._run)
        root = self._config.data or (self._run.config.get("data") or {}).get("root")
        if config.prompt and root is not None:
            try:
                return make_agent(task, config, Path(root) / task, self._run, 1), True
            except Db1Error:
                pass  # no demonstrations here; the page says that it acts without one
        bare = replace(config, prompt=False)
        return make_agent(task, bare, Path(task), self._run, 1), False


class _Pace:
    """Sleeps so that calls come at most so often."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1.0 / per_second
        self._next = time.monotonic()

    def wait(self) -> None:
        """Until the next call may come."""
        self._next = max(self._next + self._interval, time.monotonic())
        time.sleep(max(0.0, self._next - time.monotonic()))


def frame_uri(pixels: np.ndarray) -> str:
    """A picture as a JPEG data URI, sides of at most 320 pixels; small ones are enlarged whole.

    Args:
        pixels: uint8 (H, W, 3).
    """
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    factor = _FRAME_SIDE // max(picture.size)
    if factor > 1:
        size = (picture.width * factor, picture.height * factor)
        picture = picture.resize(size, Image.Resampling.NEAREST)
    picture.thumbnail((_FRAME_SIDE, _FRAME_SIDE))
    return image_uri(picture.convert("RGB"), "JPEG", quality=_JPEG_QUALITY)


def _figures(scene: Scene) -> dict[str, Any]:
    return {
        "step": scene.step,
        "reward": round(float(scene.reward), 6),
        "return": round(float(scene.total_reward), 6),
    }


def _words(scene: Scene) -> dict[str, Any]:
    """The task's words, and the likeliest actions where they have names or numbers of a list."""
    said = [str(field.value) for field in scene.seen if field.kind == "text"]
    single = scene.choices[0] if len(scene.choices) == 1 else None
    named = single is not None and single.columns is None
    likely = [[word, round(share, 4)] for word, share in single.likely] if named and single else []
    return {"mission": " ".join(said) or None, "likely": likely}
