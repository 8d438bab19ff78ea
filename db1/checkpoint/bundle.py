"""A model with what is needed to use it, read from any of the layouts that db1 knows.

    run folder          config.yaml, checkpoints/; what `db1 train` writes
    safetensors folder  model.safetensors, config.json; what one hands on
    released folder     <tag>/mp_rank_00_model_states.pt; what the DB1 authors published

The first two may also hold tokenizer.json, specs.json (the step spec of each learned task) and
instructions.json (what each of them is to do, in words).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from db1.checkpoint.released import StateDict, released_from_state_dict, state_dict_from_released
from db1.checkpoint.released_folder import (
    check_entries,
    check_repetitions,
    config_of_weights,
    find_states,
    read_released,
)
from db1.checkpoint.run import FOLDER, WEIGHTS_FILE, file_sha256, resolve_checkpoint
from db1.checkpoint.weights import read_weights
from db1.config import build, load_yaml, to_dict
from db1.errors import CheckpointError, ConfigError, DataError
from db1.files import resolved
from db1.json_shape import parse_json_file
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig
from db1.untrusted import check_name, check_relative

CONFIG_FILE = "config.yaml"
JSON_CONFIG_FILE = "config.json"
SPECS_FILE = "specs.json"
INSTRUCTIONS_FILE = "instructions.json"
"""Instruction of each learned task, of models that learned with instructions."""
TOKENIZER_FILE = "tokenizer.json"
CHOSEN_FILE = "few_shot.json"
"""Numbers of the stored episodes that a run learned from, by task (few-shot tasks only)."""
TOKENIZER_FOLDERS = ("tokenizer", "my_tokenizer")
"""Folders in or beside a released checkpoint where its tokenizer is looked for."""
FORMAT, VERSION = "db1-model", 1


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model's configuration, tokenizer, specs and, on demand, weights.

    Args:
        folder: Where it was read from.
        kind: `run`, `safetensors` or `released`.
        config: Sections `vocabulary`, `sequence`, `model` and whatever else the run had.
        tokenizer: Text <-> ids; None where there is none.
        specs: Step spec of each learned task, as dictionaries.
        tag: Name of the checkpoint.
        step: Optimizer steps done; 0 where unknown.
        weights: db1's state dict; None where it was not asked for.
        sha256: Of the file of weights; None without weights.
        chosen: Stored episodes that each few-shot task was learned from.
        instructions: What each learned task is to do, in words, as dictionaries.
    """

    folder: Path
    kind: str
    config: Mapping[str, Any]
    tokenizer: TextTokenizer | None
    specs: Mapping[str, Any]
    tag: str | None = None
    step: int = 0
    weights: StateDict | None = None
    sha256: str | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    instructions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_config(self) -> ModelConfig:
        """Architecture of the model."""
        return build(ModelConfig, self.config.get("model"), "model")

    @property
    def vocabulary(self) -> Vocabulary:
        """Id ranges."""
        return Vocabulary(build(VocabularyConfig, self.config.get("vocabulary"), "vocabulary"))


def kind_of(folder: Path) -> str:
    """Returns `run`, `safetensors` or `released`.

    Raises:
        ConfigError: When `folder` is none of them.
    """
    if (folder / CONFIG_FILE).is_file():
        return "run"
    if (folder / WEIGHTS_FILE).is_file() and (folder / JSON_CONFIG_FILE).is_file():
        return "safetensors"
    if find_states(folder) is not None:
        return "released"
    raise ConfigError(
        f"{folder}: no model here, expected {CONFIG_FILE} (a run folder, `db1 train` makes one), "
        f"{WEIGHTS_FILE} with {JSON_CONFIG_FILE} (a safetensors folder), or "
        "<tag>/mp_rank_00_model_states.pt (the published checkpoint)"
    )


def read_bundle(
    folder: Path | str,
    *,
    with_weights: bool = True,
    tag: str | None = None,
    config: Path | None = None,
    tokenizer: Path | None = None,
) -> Bundle:
    """Reads a model from any layout.

    Args:
        folder: A run folder, a safetensors folder, or the published checkpoint (its folder, a
            tag's folder, or the file).
        with_weights: Read the weights, too; without, nothing large is touched.
        tag: Checkpoint of a run folder; None: the newest valid one.
        config: YAML file whose sections `model`, `vocabulary` and `sequence` say what a released
            checkpoint's weights cannot. What it leaves out, and all without it, are the sizes of
            the weights and the options of the 1.2B model.
        tokenizer: Tokenizer file or folder, in place of one that lies with the model.

    Raises:
        ConfigError: No model, or a configuration that cannot be used.
        CheckpointError: Weights that cannot be read or do not fit the configuration.
        DataError: A broken tokenizer.
    """
    folder = Path(folder)
    kind = kind_of(folder)
    if kind == "released":
        return _read_released(folder, with_weights, config, tokenizer)
    if config is not None:
        raise ConfigError(f"{folder}: a {kind} folder has its own configuration; drop {config}")
    if kind == "safetensors":
        return _read_safetensors(folder, with_weights, tokenizer)
    return _read_run(folder, with_weights, tag, tokenizer)


def meta_model(config: ModelConfig, vocabulary: Vocabulary) -> TransformerXL:
    """The decoder without memory for its weights, to ask for names and shapes."""
    with torch.device("meta"):
        return TransformerXL(config, vocabulary.size, vocabulary.bin_range())


def run_data_root(folder: Path, config: Mapping[str, Any]) -> Path | None:
    """Folder of a run's data, seen from the working folder; None where the run names none.

    A relative `data.root` counts from the folder that the training was started in. Where it is not
    below the present one, it is looked for beside the run: `runs/NAME` was written there, too.

    Args:
        folder: The run folder.
        config: Its configuration.
    """
    section = config.get("data")
    root = section.get("root") if isinstance(section, Mapping) else None
    if not isinstance(root, str):
        return None
    below = Path(str(config.get("runs", "runs"))) / str(config.get("name", folder.name))
    place = resolved(folder)
    is_relative = not (Path(root).is_absolute() or below.is_absolute())
    if is_relative and not Path(root).exists() and place.parts[-len(below.parts) :] == below.parts:
        beside = place.parents[len(below.parts) - 1] / root
        return beside if beside.exists() else Path(root)
    return Path(root)


def _read_config(folder: Path) -> dict[str, Any]:
    config = load_yaml(folder / CONFIG_FILE, is_own=False)
    check_names(config, folder / CONFIG_FILE)
    root = run_data_root(folder, config)
    if root is None:
        return config
    return {**config, "data": {**config["data"], "root": str(root)}}


def check_names(config: Mapping[str, Any], where: Path) -> None:
    """Checks the names in a model's configuration that become files and folders.

    Args:
        config: Of a run folder or a safetensors folder.
        where: Its file.

    Raises:
        ConfigError: A task, corpus or set of pairs whose name leads out of its folder.
    """
    data = config.get("data")
    data = data if isinstance(data, Mapping) else {}
    for section in ("text", "pairs", "suites"):
        for name in data.get(section) or ():
            check_name(str(name), f"{where}: data.{section}", ConfigError)
    for name in data.get("tasks") or ():
        check_relative(str(name), f"{where}: data.tasks", ConfigError)


def _read_run(folder: Path, with_weights: bool, tag: str | None, tokenizer: Path | None) -> Bundle:
    description = {
        "folder": folder,
        "kind": "run",
        "config": _read_config(folder),
        "tokenizer": _tokenizer(tokenizer, folder / TOKENIZER_FILE),
        "specs": _read_json(folder / SPECS_FILE),
        "chosen": _read_json(folder / CHOSEN_FILE),
        "instructions": _read_json(folder / INSTRUCTIONS_FILE),
    }
    if not with_weights:
        return Bundle(**description)
    place = folder if tag is None else folder / FOLDER / tag
    found = resolve_checkpoint(place, only=(WEIGHTS_FILE,))
    return _checked(
        Bundle(
            **description,
            tag=found.folder.name,
            step=found.step,
            weights=read_weights(found.folder / WEIGHTS_FILE),
            sha256=file_sha256(found.folder, WEIGHTS_FILE),
        )
    )


def _read_safetensors(folder: Path, with_weights: bool, tokenizer: Path | None) -> Bundle:
    content = _read_json(folder / JSON_CONFIG_FILE)
    content.pop("db1_version", None)
    if content.pop("format", None) != FORMAT or content.pop("version", None) != VERSION:
        raise CheckpointError(
            f"{folder / JSON_CONFIG_FILE}: not of format {FORMAT!r} version {VERSION}"
        )
    check_names(content, folder / JSON_CONFIG_FILE)
    bundle = Bundle(
        folder=folder,
        kind="safetensors",
        tag=folder.name,
        step=_step(content.pop("step", 0), folder / JSON_CONFIG_FILE),
        config=content,
        tokenizer=_tokenizer(tokenizer, folder / TOKENIZER_FILE),
        specs=_read_json(folder / SPECS_FILE),
        instructions=_read_json(folder / INSTRUCTIONS_FILE),
        weights=read_weights(folder / WEIGHTS_FILE) if with_weights else None,
        sha256=file_sha256(folder, WEIGHTS_FILE) if with_weights else None,
    )
    return _checked(bundle)


def _read_released(
    folder: Path, with_weights: bool, config: Path | None, tokenizer: Path | None
) -> Bundle:
    file = find_states(folder)
    assert file is not None
    released, step = read_released(file)
    given = {} if config is None else load_yaml(config, is_own=True)
    model, vocabulary = _released_options(released, given)
    expected = meta_model(model, Vocabulary(vocabulary)).state_dict()
    check_entries(released, released_from_state_dict(expected, model), str(file))
    if with_weights:
        check_repetitions(released, model, str(file))
    bundle = Bundle(
        folder=folder,
        kind="released",
        config={
            "vocabulary": to_dict(vocabulary),
            "sequence": given.get("sequence") or {"length": model.clamp_length or 1_024},
            "model": to_dict(model),
        },
        tokenizer=_tokenizer(tokenizer, *_beside(folder, file)),
        specs={},
        tag=file.parent.name,
        step=step,
        weights=state_dict_from_released(released) if with_weights else None,
        sha256=file_sha256(file.parent, file.name) if with_weights else None,
    )
    _check_tokenizer(bundle)
    return bundle


def _released_options(
    released: StateDict, given: Mapping[str, Any]
) -> tuple[ModelConfig, VocabularyConfig]:
    """Options of a released model: those given, over those that its weights tell."""
    sections = set(given)
    if {"model", "vocabulary"} <= sections:
        model = build(ModelConfig, given["model"], "model")
        return model, build(VocabularyConfig, given["vocabulary"], "vocabulary")
    told = config_of_weights(released)
    model = build(ModelConfig, to_dict(told[0]) | (given.get("model") or {}), "model")
    options = to_dict(told[1]) | (given.get("vocabulary") or {})
    return model, build(VocabularyConfig, options, "vocabulary")


def _step(value: Any, where: Path) -> int:
    if not isinstance(value, int) or value < 0:
        raise CheckpointError(f"{where}: step {value!r}, expected a number of at least 0")
    return value


def _checked(bundle: Bundle) -> Bundle:
    """The bundle, when its weights and its tokenizer fit its configuration."""
    _check_tokenizer(bundle)
    if bundle.weights is not None:
        expected = meta_model(bundle.model_config, bundle.vocabulary).state_dict()
        check_entries(bundle.weights, expected, str(bundle.folder))
    return bundle


def _check_tokenizer(bundle: Bundle) -> None:
    text_size = bundle.vocabulary.config.text_size
    if bundle.tokenizer is not None and bundle.tokenizer.size > text_size:
        raise DataError(
            f"{bundle.folder}: a tokenizer of {bundle.tokenizer.size} ids, expected at most "
            f"{text_size}, the text ids of its vocabulary; name its own with --tokenizer"
        )


def _beside(folder: Path, file: Path) -> list[Path]:
    """Places of a released checkpoint's tokenizer."""
    places = {folder, file.parent, file.parent.parent}
    return [place / name for place in places for name in TOKENIZER_FOLDERS]


def _tokenizer(given: Path | None, *places: Path) -> TextTokenizer | None:
    if given is not None:
        return TextTokenizer.load(given)
    found = next((place for place in places if place.exists()), None)
    return None if found is None else TextTokenizer.load(found)


def tokenizer_place(folder: Path) -> Path | None:
    """Folder of a model's tokenizer (see `read_bundle`); None where there is none."""
    places = [folder / TOKENIZER_FILE]
    if kind_of(folder) == "released":
        file = find_states(folder)
        assert file is not None
        places = _beside(folder, file)
    return next((place for place in places if place.exists()), None)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = parse_json_file(path)
    except ValueError as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object")
    return content
