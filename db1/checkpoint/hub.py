"""Models on the Hugging Face hub, as safetensors folders: `hf://user/name[@revision]`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from db1.errors import CheckpointError, ConfigError, MissingExtra

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_PATTERNS = [
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "specs.json",
    "instructions.json",
]


def is_address(place: str) -> bool:
    """Whether `place` names the hub and no folder."""
    return place.startswith(SCHEME)


@contextmanager
def pulled(place: str) -> Iterator[Path]:
    """Gives the folder `place`, or a local copy of what lies there on the hub.

    Raises:
        ConfigError: For an address that is none.
        CheckpointError: When the hub cannot be reached, or lacks the model.
        MissingExtra: Without huggingface_hub.
    """
    if not is_address(place):
        yield Path(place)
        return
    name, revision = _parse(place)
    hub = _library(place)
    try:
        folder = hub.snapshot_download(name, revision=revision, allow_patterns=_PATTERNS)
    except Exception as error:  # the library raises those of several HTTP clients
        raise CheckpointError(_message(place, "pulled", error)) from error
    yield Path(folder)


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


def write_card(folder: Path, config: Mapping[str, Any], place: str) -> None:
    """Writes README.md, the model's page on the hub."""
    model = config.get("model", {})
    sizes = "\n".join(f"- {key}: {model[key]}" for key in sorted(model))
    text = (
        "---\nlibrary_name: db1\ntags: [gato, transformer-xl, reinforcement-learning]\n---\n\n"
        f"# {place.removeprefix(SCHEME)}\n\n"
        "A generalist agent of [db1](https://pypi.org/project/db1): one TransformerXL decoder for "
        "text, images and control.\n\n"
        f"    db1 convert {place} runs/{place.split('/')[-1]}\n\n## Model\n\n{sizes}\n"
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


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
