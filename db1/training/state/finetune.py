"""Training that starts from another model's weights: `init_from`, new tasks, few episodes, LoRA.

An experiment whose YAML has the key `init_from` takes vocabulary, architecture, shape of the
sequences and tokenizer over from there. The short keys

    init_from: runs/db1_tiny     task: metaworld/reach-v3     episodes: 5     lora: {rank: 8}

become a full experiment before anything else sees it:

    finetune: {init_from: runs/db1_tiny, tag: step-00001300, task: ..., episodes: 5, lora: ...}
    vocabulary, sequence, model: those of init_from, with what may differ set by the YAML
    data.tokenizer: that of init_from
    data.tasks.metaworld/reach-v3.learn_from: 5

A run that exists goes on with what its own folder says, so that `init_from` may learn on, move or
vanish meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from db1.checkpoint import hub
from db1.checkpoint.adapter import BASE_FILE, LoraConfig, LoraFiles, ModelFiles, add_lora
from db1.checkpoint.bundle import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    Bundle,
    kind_of,
    meta_model,
    read_bundle,
    tokenizer_place,
)
from db1.checkpoint.run import FOLDER, MANIFEST_FILE, WEIGHTS_FILE, resolve_checkpoint
from db1.checkpoint.weights import read_weights
from db1.config import build, to_dict
from db1.errors import ConfigError
from db1.model.config import ModelConfig
from db1.ranges import Checked, Count
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import VocabularyConfig

KEYS = ("init_from", "task", "episodes", "from_scratch", "lora")
"""Short keys of an experiment's YAML that make up its section `finetune`."""
FREE_MODEL_KEYS = frozenset(
    {
        "embedding_dropout",
        "residual_dropout",
        "attention_dropout",
        "stochastic_depth",
        "stochastic_depth_rule",
        "activation_checkpointing",
        "attention",
        "continuous_choice",
        "discrete_choice",
        "discrete_temperature",
    }
)
"""Options of a model that may differ from those of `init_from`: no weight hangs on them."""


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(Checked):
    """Origin of a run's weights, and the little that it learns.

    Args:
        init_from: A run folder, a checkpoint folder, a safetensors folder, the published
            checkpoint, or `hf://user/name`.
        tag: Checkpoint of a run folder; filled in with the newest one when the run is started.
        task: The task to learn; None: what `data` says.
        episodes: Demonstrations of it that are learned from, chosen by the run's seed; None: all
            that are not held out.
        from_scratch: Take everything over but the weights (the control experiment).
        lora: Train low-rank updates of the frozen weights; None: all weights.
    """

    init_from: str
    tag: str | None = None
    task: str | None = None
    episodes: Count | None = None
    from_scratch: bool = False
    lora: LoraConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.episodes is not None and self.task is None:
            raise ConfigError(f"episodes: got {self.episodes} without a task; give task=SUITE/TASK")
        if self.from_scratch and self.lora is not None:
            raise ConfigError(
                "from_scratch and lora exclude each other: random weights stay random"
            )


def expand(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Turns the short keys of a fine-tuning into a full experiment, see the module's docstring.

    Args:
        raw: An experiment's YAML with its overrides.

    Raises:
        ConfigError: No model at `init_from`, or the YAML asks for another vocabulary,
            architecture or tokenizer than the model's.
        CheckpointError: No valid checkpoint there.
    """
    short = {key: raw[key] for key in KEYS if raw.get(key) is not None}
    finetune = build(FinetuneConfig, _with_source(short))
    full = {key: value for key, value in raw.items() if key not in KEYS}
    full["name"] = raw.get("name") or _name(finetune, raw)
    run_folder = Path(raw.get("runs") or "runs") / str(full["name"])
    finetune, bundle, tokenizer = _origin(finetune, run_folder)
    full["finetune"] = to_dict(finetune)
    full["vocabulary"] = _taken_over(raw, bundle, "vocabulary", VocabularyConfig, frozenset())
    full["model"] = _taken_over(raw, bundle, "model", ModelConfig, FREE_MODEL_KEYS)
    full["sequence"] = dict(bundle.config.get("sequence") or {}) | (raw.get("sequence") or {})
    full["data"] = _data(raw.get("data") or {}, finetune, bundle, tokenizer)
    if finetune.lora is not None:  # what cannot be adapted is found before anything is written
        model = build(ModelConfig, full["model"], "model")
        add_lora(meta_model(model, bundle.vocabulary), finetune.lora)
    return full


def start_model(model: nn.Module, config: FinetuneConfig, run_folder: Path) -> nn.Module:
    """Gives a fresh model the weights that the run starts from, and its updates with LoRA.

    All weights of a run that has checkpoints come from them, so that nothing is read here then.

    Args:
        model: Of the run's architecture, on the CPU.
        config: See `FinetuneConfig`.
        run_folder: The run.
    """
    base = run_folder / BASE_FILE
    goes_on = any((run_folder / FOLDER).glob("step-*[0-9]"))
    if config.lora is not None and base.is_file():
        model.load_state_dict(read_weights(base))
    elif not config.from_scratch and (config.lora is not None or not goes_on):
        with hub.pulled(config.init_from) as place:
            bundle = read_bundle(_run_of(place)[0], tag=config.tag)
        assert bundle.weights is not None
        model.load_state_dict(bundle.weights)
    return model if config.lora is None else add_lora(model, config.lora)


def model_files(config: FinetuneConfig | None, run_folder: Path) -> ModelFiles:
    """The model's part of a run's checkpoints."""
    if config is None or config.lora is None:
        return ModelFiles()
    return LoraFiles(config.lora, run_folder)


def _with_source(short: Mapping[str, Any]) -> dict[str, Any]:
    if not short.get("init_from"):
        raise ConfigError(
            "init_from: missing; give init_from=RUN: a run folder, a checkpoint folder, a "
            "safetensors folder, the published checkpoint, or hf://user/name"
        )
    return dict(short)


def _name(finetune: FinetuneConfig, raw: Mapping[str, Any]) -> str:
    """`reach-v3-5-episodes`, and what else tells it from its neighbours."""
    task = "mixture" if finetune.task is None else finetune.task.rsplit("/", 1)[-1]
    parts = ["finetune", task]
    if finetune.episodes is not None:
        parts.append(f"{finetune.episodes}-episodes")
    if finetune.from_scratch:
        parts.append("from-scratch")
    if finetune.lora is not None:
        parts.append(f"lora-{finetune.lora.rank}")
    seed = (raw.get("training") or {}).get("seed") or 0
    return "-".join([*parts, *([f"seed-{seed}"] if seed else [])])


def _origin(
    finetune: FinetuneConfig, run_folder: Path
) -> tuple[FinetuneConfig, Bundle, Path | None]:
    """The model to start from, its checkpoint filled in, and where its tokenizer lies.

    The run's own folder stands for it where the run was started before with the same settings.
    """
    if (run_folder / CONFIG_FILE).is_file():
        bundle = read_bundle(run_folder, with_weights=False)
        earlier = bundle.config.get("finetune") or {}
        if earlier.get("init_from") == finetune.init_from:
            file = run_folder / TOKENIZER_FILE
            tag = _filled(finetune, earlier.get("tag"))
            return tag, bundle, file if file.is_file() else None
    with hub.pulled(finetune.init_from) as place:
        folder, tag = _run_of(place)
        bundle = read_bundle(folder, with_weights=False)
        if bundle.kind == "run":
            at = folder if tag is None else folder / FOLDER / tag
            tag = resolve_checkpoint(at, only=(WEIGHTS_FILE,)).folder.name
        return _filled(finetune, tag), bundle, tokenizer_place(folder)


def _filled(finetune: FinetuneConfig, tag: str | None) -> FinetuneConfig:
    return build(FinetuneConfig, to_dict(finetune) | {"tag": tag})


def _run_of(place: Path) -> tuple[Path, str | None]:
    """Splits a checkpoint folder into its run and its tag; other folders stay as they are."""
    if (place / MANIFEST_FILE).is_file() and place.parent.name == FOLDER:
        return place.parent.parent, place.name
    if not place.exists():
        raise ConfigError(f"init_from: {place}: no such folder, expected a model's")
    kind_of(place)
    return place, None


def _taken_over(
    raw: Mapping[str, Any],
    bundle: Bundle,
    section: str,
    kind: type,
    free: frozenset[str],
) -> dict[str, Any]:
    """A section of `init_from`; what the YAML says must agree, but for the keys in `free`.

    Raises:
        ConfigError: Naming the values that differ.
    """
    theirs = to_dict(build(kind, bundle.config.get(section), section))
    given = raw.get(section) or {}
    whole = to_dict(build(kind, theirs | dict(given), section))
    odd = [key for key in given if key not in free and whole[key] != theirs[key]]
    if odd:
        values = "; ".join(f"{section}.{k}: {theirs[k]!r} there, {whole[k]!r} here" for k in odd)
        what = "vocabulary" if section == "vocabulary" else "architecture"
        raise ConfigError(
            f"init_from {bundle.folder}: a model of another {what} ({values}); leave these keys "
            "out to use the model's own"
        )
    return whole


def _data(
    given: Mapping[str, Any], finetune: FinetuneConfig, bundle: Bundle, place: Path | None
) -> dict[str, Any]:
    """The `data` section with the task, its number of episodes and the tokenizer."""
    data = dict(given)
    if finetune.task is not None:
        tasks = dict(data.get("tasks") or {})
        tasks[finetune.task] = dict(tasks.get(finetune.task) or {}) | {
            "learn_from": finetune.episodes
        }
        data["tasks"] = tasks
    if data.get("tokenizer") is not None:
        other = TextTokenizer.load(Path(data["tokenizer"]))
        if bundle.tokenizer is not None and other.fingerprint != bundle.tokenizer.fingerprint:
            raise ConfigError(
                f"data.tokenizer: {data['tokenizer']} is another tokenizer than that of init_from "
                f"{bundle.folder}; leave it out to use the model's own"
            )
    elif place is not None:
        data["tokenizer"] = str(place)
    return data
