"""Readers of foreign data, one kind a file. Importing this package registers all kinds."""

from __future__ import annotations

import importlib
import pkgutil

from db1.importers.registry import IMPORTERS, ImportContext, ImportKind, ImportSummary

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["IMPORTERS", "ImportContext", "ImportKind", "ImportSummary"]
