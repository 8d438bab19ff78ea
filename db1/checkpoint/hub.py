"""Models on the Hugging Face hub, as safetensors folders: `hf://user/name[@revision]`.

`resolve_model_name` is how every verb and `db1.load` find the model that somebody names.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db1.checkpoint.shipped import SHIPPED, is_read_only_place, shipped_model
from db1.errors import CheckpointError, ConfigError, MissingExtra
from db1.files import resolved

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_PATTERNS = [
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "specs.json",
    "instructions.json",
]


@dataclass(frozen=True, kw_only=True)
class CardScores:
    """Scores of a model, for its page.

    Args:
        groups: `num_tasks`, `share_at_least_50`, `mean_normalised` and `interquartile_mean` by name
            of a group of tasks.
        command: Of the evaluation, the program first.
        tag: Checkpoint that was evaluated.
    """

    groups: Mapping[str, Mapping[str, Any]]
    command: Sequence[str]
    tag: str | None


def is_address(place: str) -> bool:
    """Tells whether `place` names the hub rather than a folder."""
    return place.startswith(SCHEME)


def resolve_model_name(place: str | Path) -> Path:
    """Returns the folder of a model.

    Args:
        place: A folder (a run, a checkpoint, safetensors, the published checkpoint),
            `hf://user/name[@revision]`, or the name of a model that comes with db1, such as
            `base`; a folder of this name goes first.

    Raises:
        ConfigError: For an address that is none, or a shipped model that is not here.
        CheckpointError: When the hub cannot be reached, or lacks the model.
        MissingExtra: Without huggingface_hub.
    """
    text = str(place)
    if is_address(text):
        return _pull(text)
    if text in SHIPPED and not Path(text).exists():
        return shipped_model(text)
    return Path(place)


def results_folder(run: Path) -> Path:
    """Default folder for results about a model: the model's own, or `runs/<name>`.

    Args:
        run: As `resolve_model_name` returns it.
    """
    if not is_read_only_place(run):
        return run
    repository = next((p for p in resolved(run).parts if p.startswith("models--")), run.name)
    return Path("runs") / repository.rpartition("--")[2]


@contextmanager
def pulled(place: str) -> Iterator[Path]:
    """Gives the folder of a model, see `resolve_model_name`."""
    yield resolve_model_name(place)


def _pull(place: str) -> Path:
    """A local copy of what lies at an address."""
    name, revision = _parse(place)
    hub = _library(place)
    try:
        folder = hub.snapshot_download(name, revision=revision, allow_patterns=_PATTERNS)
    except Exception as error:  # the library raises those of several HTTP clients
        raise CheckpointError(_message(place, "pulled", error)) from error
    return Path(folder)


@contextmanager
def pushing(place: str) -> Iterator[Path]:
    """Gives an empty folder; what was written into it goes to the hub in one commit.

    Raises:
        ConfigError: For an address that is none, or one with a revision.
        CheckpointError: When the hub cannot be reached or refuses.
        MissingExtra: Without huggingface_hub.
    """
    name, revision = _parse(place)
    if revision is not None:
        raise ConfigError(f"{place}: push goes to the main branch; drop @{revision}")
    hub = _library(place)
    with tempfile.TemporaryDirectory(prefix="db1-push-") as staging:
        yield Path(staging)
        try:
            api = hub.HfApi()
            api.create_repo(name, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=staging, commit_message="Add the model")
        except Exception as error:
            raise CheckpointError(_message(place, "pushed", error)) from error


def write_card(
    folder: Path,
    config: Mapping[str, Any],
    place: str,
    scores: CardScores | None = None,
) -> None:
    """Writes README.md, the model's page on the hub.

    Args:
        folder: Where it is written.
        config: Of the run.
        place: Address on the hub.
        scores: What the model reached; None: nobody says.
    """
    model = config.get("model", {})
    sizes = "\n".join(f"- {key}: {model[key]}" for key in sorted(model))
    text = (
        "---\nlibrary_name: db1\ntags: [gato, transformer-xl, reinforcement-learning]\n---\n\n"
        f"# {place.removeprefix(SCHEME)}\n\n"
        "A generalist agent of [db1](https://pypi.org/project/db1): one TransformerXL decoder for "
        "text, images and control.\n\n"
        f"    db1 convert {place} runs/{place.split('/')[-1]}\n\n## Model\n\n{sizes}\n"
        f"{'' if scores is None else _scores(scores)}"
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _scores(scores: CardScores) -> str:
    """The card's section of scores: a row a group of tasks, and the command."""
    rows = [
        f"| {name} | {group['num_tasks']} | {_percent(group['share_at_least_50'])} | "
        f"{_percent(group['mean_normalised'])} | {_percent(group['interquartile_mean'])} |"
        for name, group in scores.groups.items()
    ]
    command = shlex.join(["db1", *scores.command[1:]])
    return (
        "\n## Scores\n\n(mean return - random) / (expert - random): 0 % is uniform random, 100 % "
        "the expert.\n\n| tasks of | tasks | at least 50 % | mean | interquartile mean |\n"
        "| --- | --- | --- | --- | --- |\n" + "\n".join(rows) + f"\n\nBy\n\n    {command}\n"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _parse(place: str) -> tuple[str, str | None]:
    match = _ADDRESS.fullmatch(place)
    if match is None:
        raise ConfigError(f"{place}: expected hf://user/name or hf://user/name@revision")
    return match[1], match[2]


def _library(place: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "hub", place) from error
    return huggingface_hub


def _message(place: str, done: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return (
        f"{place}: cannot be {done} ({reason}); check the name and the network, and log in with "
        "`hf auth login` where the model is private or yours to write"
    )
