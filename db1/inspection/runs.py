"""The sequences of a run, and an overview of what its mixture draws from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from db1.data.build import SourceFactory
from db1.data.config import DataConfig
from db1.data.mixture import MixtureDataset, generator_of
from db1.data.pairs import PairSource
from db1.data.schedule import MixtureSchedule
from db1.data.sources import EpisodeSource, Source, TextSource
from db1.errors import ConfigError, Db1Error
from db1.inspection.describe import Description, describe_from
from db1.inspection.findings import ERROR, INFO, Finding, by_severity
from db1.inspection.lints import (
    SOURCE_LINTS,
    id_collisions,
    rare_source,
    sample_lints,
    window_fit,
)
from db1.inspection.source_statistics import SourceStatistics, summarise
from db1.inspection.store_lints import store_lints
from db1.inspection.store_report import Report
from db1.sequence.episode import SequenceConfig
from db1.tokens.number_patch import PatchSizes
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class RunData:
    """The data side of a run: enough to make any of its sequences again.

    Args:
        name: Of the run.
        data: Stores and mixture.
        sequence: Shape of the sequences.
        vocabulary: Id ranges.
        seed: Of the run.
        num_steps: Optimizer steps.
        batch_size: Sequences of a step.
        schedule: Weights by step of a run that was started; None: those of `data` all the way.
        num_positions: Rows of the model's table of local positions.
        patches: Sizes of image and number patches.
    """

    name: str
    data: DataConfig
    sequence: SequenceConfig
    vocabulary: Vocabulary
    seed: int
    num_steps: int
    batch_size: int
    schedule: MixtureSchedule | None = None
    num_positions: int = 513
    patches: PatchSizes = field(default_factory=PatchSizes)

    @property
    def num_samples(self) -> int:
        """Sequences of the run."""
        return self.num_steps * self.batch_size

    @cached_property
    def factory(self) -> SourceFactory:
        """Makes the sources."""
        return SourceFactory(self.data, self.sequence, self.vocabulary, self.seed, self.patches)

    @cached_property
    def mixture(self) -> MixtureDataset:
        """The training stream, as `db1 train` builds it."""
        return self.factory.mixture(self.num_samples, self.schedule, self.batch_size)

    def describe(self, step: int, slot: int) -> tuple[Description, list[Finding]]:
        """Makes the sequence (step, slot) again and reads it back.

        Raises:
            ConfigError: No such step or slot.
            DataError: A store is missing or broken.
        """
        if not (0 <= step < self.num_steps and 0 <= slot < self.batch_size):
            raise ConfigError(
                f"step {step}, slot {slot}: run {self.name} has the steps 0..{self.num_steps - 1} "
                f"of {self.batch_size} sequences each (slots 0..{self.batch_size - 1})"
            )
        number = step * self.batch_size + slot
        source = self.mixture.sources[self.mixture.order[number][0]]
        description = self._read_back(source, self.mixture[number])
        return description, by_severity(self._lint(source, description))

    def draw(self, source: Source, count: int, report: Report) -> list[Description]:
        """The first sequences of one source, with random draws of their own."""
        found = []
        for n in range(count):
            found.append(self._read_back(source, source.sample(n, generator_of(self.seed, n))))
            report(source.name, n + 1, count)
        return found

    def lint(
        self, source: Source, descriptions: list[Description]
    ) -> tuple[list[Finding], SourceStatistics]:
        """Checks of drawn sequences, each kind of finding once; of all of them together too."""
        found: dict[str, Finding] = {}
        num_bins = self.vocabulary.config.num_continuous_bins
        statistics = summarise(source.name, descriptions, num_bins)
        together = [finding for lint in SOURCE_LINTS for finding in lint(statistics)]
        for description in descriptions:
            for finding in self._lint(source, description):
                found.setdefault(finding.code, finding)
        for finding in together:
            found.pop(finding.code, None)
        return [*found.values(), *together], statistics

    def _lint(self, source: Source, description: Description) -> list[Finding]:
        spec = source.codec.spec if isinstance(source, EpisodeSource) else None
        return sample_lints(description, spec, self.num_positions)

    def _read_back(self, source: Source, sample: Any) -> Description:
        return describe_from(source, sample, self.vocabulary, self.factory.tokenizer)


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """One dataset of a mixture.

    Args:
        name: Task id, corpus, or set of images with texts.
        share: Of all sequences, at the end of the run.
        expected: Sequences that the run takes from it.
        size: Episodes, documents or pairs; None where it cannot be read.
        steps: Steps, or tokens of text.
        epochs: How often the run goes through the data.
        statistics: Of the drawn sequences.
    """

    name: str
    share: float
    expected: int
    size: int | None = None
    steps: int | None = None
    epochs: float | None = None
    statistics: SourceStatistics | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form."""
        statistics = None if self.statistics is None else self.statistics.to_dict()
        return {**self.__dict__, "statistics": statistics}


@dataclass(frozen=True, kw_only=True)
class Overview:
    """A run's mixture and what was found in it.

    Args:
        name: Of the run.
        num_samples: Sequences of the run.
        length: Tokens of a sequence.
        rows: One for each dataset.
        findings: Errors first.
    """

    name: str
    num_samples: int
    length: int
    rows: tuple[SourceRow, ...]
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form."""
        return {
            "name": self.name,
            "num_samples": self.num_samples,
            "length": self.length,
            "sources": [row.to_dict() for row in self.rows],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def overview(run: RunData, num_drawn: int, *, with_environments: bool, report: Report) -> Overview:
    """Opens every dataset of a run, draws some sequences of each, and checks all of it.

    Args:
        run: The run.
        num_drawn: Sequences drawn from each source; 0: none.
        with_environments: Compare stores with the suites' environments, which builds them.
        report: Told of the progress.

    Raises:
        ConfigError: Weights that cannot be used.
        DataError: No store of a suite at all, or no tokenizer.
    """
    path = run.data.tokenizer_path()
    tokenizer = TextTokenizer.load(path) if path is not None and path.exists() else None
    findings = id_collisions(run.vocabulary, tokenizer)
    if any(finding.severity == ERROR for finding in findings):
        return _made(run, [], findings)
    schedule = run.schedule or MixtureSchedule.plan(run.factory.shares(), run.num_samples)
    expected = schedule.order(run.num_samples, run.batch_size).counts(run.num_samples)
    last, rows = schedule.phases[-1], []
    if len(schedule.phases) > 1:
        findings.append(_changed(schedule))
    for number, (name, share) in enumerate(last.shares.items()):
        report("datasets", number, len(last.shares))
        count = int(expected[number])
        findings += rare_source(name, share, run.num_samples, count)
        row, found = _examine(run, name, num_drawn, with_environments, report)
        findings += found
        rows.append(_row(run, name, last.used[name], count, *row))
    report("datasets", len(rows), len(rows))
    return _made(run, rows, findings)


def _made(run: RunData, rows: list[SourceRow], findings: list[Finding]) -> Overview:
    return Overview(
        name=run.name,
        num_samples=run.num_samples,
        length=run.sequence.length,
        rows=tuple(rows),
        findings=tuple(by_severity(findings)),
    )


def _examine(
    run: RunData, name: str, num_drawn: int, with_environments: bool, report: Report
) -> tuple[tuple[Source | None, SourceStatistics | None], list[Finding]]:
    """One dataset: its source, statistics of drawn sequences, findings."""
    source, statistics, found = None, None, []
    try:
        source = run.factory.source(name)
        if isinstance(source, EpisodeSource):
            spec = source.codec.spec
            found += window_fit(
                name,
                spec,
                run.vocabulary,
                run.sequence.length,
                run.num_positions,
                run.patches,
                source.codec.instruction_field,
            )
            found += store_lints(source.store, with_environments=with_environments)
        if num_drawn:
            more, statistics = run.lint(source, run.draw(source, num_drawn, report))
            found += more
    except Db1Error as error:
        found.append(
            Finding(
                severity=ERROR,
                code="unusable",
                what=str(error),
                where=name,
                fix="the message says how; or set the weight to 0",
            )
        )
    return (source, statistics), found


def _row(
    run: RunData,
    name: str,
    share: float,
    expected: int,
    source: Source | None,
    statistics: SourceStatistics | None,
) -> SourceRow:
    size = steps = epochs = None
    if isinstance(source, EpisodeSource):
        size, steps = source.store.num_episodes, source.store.num_steps
        per_sample = (run.sequence.length + 1) / source.codec.min_step_tokens
        if statistics is not None and statistics.num_steps:
            per_sample = statistics.num_steps / statistics.num_samples
        epochs = expected * per_sample / max(1, int(source.windows.lengths.sum()))
    elif isinstance(source, TextSource):
        size, steps = source.store.num_documents, source.store.num_tokens
        epochs = expected / len(source)
    elif isinstance(source, PairSource):
        size, epochs = len(source), expected * source.pairs_per_sequence / len(source)
    return SourceRow(
        name=name, share=share, expected=expected, size=size, steps=steps, epochs=epochs,
        statistics=statistics,
    )  # fmt: skip


def _changed(schedule: MixtureSchedule) -> Finding:
    steps = ", ".join(str(phase.first_step) for phase in schedule.phases)
    return Finding(
        severity=INFO,
        code="schedule",
        what=f"the weights changed while it ran: phases start at the steps {steps}; the shares "
        "shown are the last ones",
        where="mixture.json",
        fix="nothing",
    )
