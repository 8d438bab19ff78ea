"""A task in words: what stands in front of a sequence that is learned with instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from db1.errors import DataError

EPISODE_KEY = "instruction"
"""Key of an episode's own instruction in its metadata."""


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """A task in words.

    Args:
        text: What is to be done, where an episode does not say it itself.
        field: Text field of the observation that says it, the same in all steps of an episode;
            None: there is none.
    """

    text: str
    field: str | None = None


def name_in_words(task_id: str) -> str:
    """Words of a task's name: `metaworld/door-open-v3` -> "metaworld door open v3"."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", task_id)
    return " ".join(re.split(r"[\s/_-]+", spaced)).lower()


def parse_instruction(content: Any, where: str) -> Instruction:
    """Builds an instruction from JSON.

    Raises:
        DataError: When it has another shape; `where` names its place.
    """
    fields = content if isinstance(content, dict) else {}
    text, field = fields.get("text"), fields.get("field")
    if not isinstance(text, str) or not isinstance(field, str | None):
        raise DataError(f'{where}: expected {{"text": "...", "field": null or a name}}')
    return Instruction(text=text, field=field)
