"""Published figures of other agents: `agents.json`.

A figure is over all tasks (`share_at_least_50`) or of a suite (`interquartile_mean`, `interval`);
`references` names the published returns (`published.py`) that it was normalised by, and whose tasks
are the agent's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("agents.json")


@cache
def published_agents() -> Mapping[str, Mapping[str, Any]]:
    """Figures of published agents by name, each with its `source`."""
    return json.loads(_FILE.read_text(encoding="utf-8"))
