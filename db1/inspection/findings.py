"""Findings of checks: how bad each is, what, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

ERROR, WARNING, INFO = "error", "warning", "info"
SEVERITIES = (ERROR, WARNING, INFO)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a check found.

    Args:
        severity: `error` (training or acting on it is wrong), `warning` (look at it), `info`.
        code: Short name of the check.
        what: What was found, with figures.
        where: Dataset, field or token.
        fix: What to do about it.
    """

    severity: str
    code: str
    what: str
    where: str
    fix: str

    def to_dict(self) -> dict[str, str]:
        """Plain JSON-able form."""
        return asdict(self)


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings, then the rest; otherwise in their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def has_error(findings: Iterable[Finding]) -> bool:
    """Tells whether one of them is an error."""
    return any(finding.severity == ERROR for finding in findings)
