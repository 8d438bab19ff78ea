"""The verb `db1 convert`."""

from __future__ import annotations

VERBS = {}
