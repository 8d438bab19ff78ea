"""Every check: silent on clean data, and told by data made to trigger it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from toy_run import (
    ALL_KINDS,
    MASKED,
    all_kinds_episode,
    make_run,
    masked_episode,
    task_sample,
    write_all,
    write_references,
    write_store,
)

from db1.data.config import DataConfig, TaskData, TextData
from db1.data.schedule import MixtureSchedule
from db1.errors import DataError
from db1.inspection import lints
from db1.inspection.describe import describe
from db1.inspection.findings import Finding, has_error
from db1.inspection.runs import Overview, RunData, overview
from db1.inspection.store_lints import spec_difference, store_lints, value_lints
from db1.store.episodes import EpisodeStore
from db1.tokens.spec import FieldSpec, StepSpec
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("data"))


def _overview(run: RunData, samples: int = 12) -> Overview:
    return overview(run, samples, with_environments=False, report=lambda *_: None)


def _codes(findings: list[Finding] | tuple[Finding, ...]) -> set[str]:
    return {finding.code for finding in findings}


def test_clean_data_has_no_findings(clean: Path) -> None:
    run = make_run(clean, sequence={"history_noise": 0.0})
    found = _overview(run)
    assert found.findings == ()
    assert [row.name for row in found.rows] == ["toy/all", "toy/masked", "psalm"]
    assert sum(row.expected for row in found.rows) == run.num_samples == 40
    counts = run.mixture.order.counts(40)
    assert [row.expected for row in found.rows] == counts.tolist()
    assert [row.size for row in found.rows] == [6, 6, 50]
    assert found.rows[0].steps == 54
    text = run.mixture.sources[2]
    assert found.rows[2].epochs == pytest.approx(counts[2] / len(text))
    assert found.rows[2].statistics.target_share == pytest.approx(80 / 81)


def test_shared_ids_and_a_tokenizer_too_large(clean: Path) -> None:
    shared = _overview(make_run(clean, vocabulary={"discrete_ids": "shared_with_text"}))
    (finding,) = shared.findings
    assert (finding.code, finding.severity) == ("id-collision", "info")
    small = _overview(make_run(clean, vocabulary={"text_size": 280}))
    assert _codes(small.findings) == {"tokenizer-size"} and has_error(small.findings)


def test_discrete_values_that_the_vocabulary_lacks(clean: Path) -> None:
    found = _overview(make_run(clean, vocabulary={"num_discrete": 5}))
    (finding,) = found.findings
    assert (finding.code, finding.where, finding.severity) == ("unusable", "toy/all", "error")
    assert "num_discrete" in finding.what


def test_forbidden_actions_of_the_expert(clean: Path, tmp_path: Path) -> None:
    write_store(tmp_path, "toy/bad", MASKED, [masked_episode(i, is_legal=False) for i in range(3)])
    tasks = {"toy/bad": TaskData()}
    run = make_run(tmp_path, data=_config(clean, tmp_path, tasks))
    findings = _overview(run).findings
    assert _codes(findings) == {"impossible-action"} and has_error(findings)
    _, more = run.describe(0, 0)
    assert _codes(more) == {"impossible-action"}


def _config(clean: Path, root: Path, tasks: dict[str, TaskData]) -> DataConfig:
    tokenizer = clean / "text/psalm/tokenizer.json"
    return DataConfig(root=root, tasks=tasks, tokenizer=tokenizer)


def test_structure_is_an_error_of_the_sample(clean: Path) -> None:
    run = make_run(clean)
    source, sample = task_sample(run, "toy/all")
    ids = sample.ids.copy()
    ids[np.flatnonzero(ids == run.vocabulary.separator)[0]] = 5
    spoiled = describe(replace(sample, ids=ids), run.vocabulary, None, source.codec.spec)
    assert "structure" in _codes(lints.sample_lints(spoiled, source.codec.spec, 513))


def test_local_positions_beyond_the_table(clean: Path) -> None:
    run = make_run(clean)
    source, sample = task_sample(run, "toy/all")
    description = describe(sample, run.vocabulary, None, source.codec.spec)
    longest = int(sample.local_positions.max())
    assert not lints.local_positions(description, longest + 1)
    (finding,) = lints.local_positions(description, longest)
    assert finding.severity == "error" and str(longest) in finding.what
    big = StepSpec(
        observation={"x": FieldSpec(kind="continuous", shape=(512,))}, action=MASKED.action
    )
    assert _codes(lints.window_fit("t", big, run.vocabulary, 1024, 513)) == {"local-positions"}


def test_a_step_that_does_not_fit(clean: Path) -> None:
    found = _overview(make_run(clean, sequence={"length": 8}), 0)
    assert {(f.code, f.where) for f in found.findings} == {("window", "toy/all")}
    vocabulary = Vocabulary(VocabularyConfig(text_size=300))
    assert not lints.window_fit("t", ALL_KINDS, vocabulary, 10, 513)
    assert lints.window_fit("t", ALL_KINDS, vocabulary, 9, 513)


def test_sequences_without_targets_and_images(clean: Path) -> None:
    run = make_run(clean)
    source, sample = task_sample(run, "toy/all")
    blind = replace(sample, images=sample.images[:1], target_mask=np.zeros(81, dtype=bool))
    found = lints.sample_lints(
        describe(blind, run.vocabulary, None, source.codec.spec), source.codec.spec, 513
    )
    assert {"no-targets", "images"} <= _codes(found)


def test_rare_datasets(clean: Path) -> None:
    assert not lints.rare_source("a", Fraction(1, 10), 10, 1)
    assert not lints.rare_source("a", Fraction(0), 10, 0)
    (finding,) = lints.rare_source("a", Fraction(1, 1000), 10, 1)
    assert finding.code == "no-samples"
    data = DataConfig(
        root=clean,
        tasks={"toy/all": TaskData(weight=0.001), "toy/masked": TaskData()},
        text={"psalm": TextData()},
    )
    found = _overview(make_run(clean, data=data), 0)
    assert {(f.code, f.where) for f in found.findings} == {("no-samples", "toy/all")}


def test_padding_bins_and_clipped_numbers(clean: Path, tmp_path: Path) -> None:
    found = _overview(make_run(clean, sequence={"length": 900}), 4)
    assert ("padding", "toy/all") in {(f.code, f.where) for f in found.findings}
    far, flat = [], []
    for seed in range(4):
        episode = all_kinds_episode(seed, 60)
        state = {"state": np.full((60, 2, 2), 300.0, np.float32)}
        far.append(replace(episode, observations=episode.observations | state))
        action = np.where(episode.actions > 0, 1, -1).astype(np.float32)
        still = {"state": np.full((60, 2, 2), 0.25, np.float32)}
        flat.append(replace(episode, observations=episode.observations | still, actions=action))
    write_store(tmp_path, "toy/far", ALL_KINDS, far)
    write_store(tmp_path, "toy/flat", ALL_KINDS, flat)
    tasks = {"toy/far": TaskData(), "toy/flat": TaskData()}
    findings = _overview(make_run(tmp_path, data=_config(clean, tmp_path, tasks)), 30).findings
    told = {(f.code, f.where, f.severity) for f in findings}
    assert ("edge-bins", "toy/far, state", "warning") in told
    assert ("edge-bins", "toy/flat, action", "info") in told
    assert ("dead-bins", "toy/flat, state", "info") in told
    assert ("edge-bins", "toy/flat, state", "warning") not in told
    assert not has_error(findings)


def test_missing_and_empty_stores(clean: Path, tmp_path: Path) -> None:
    write_store(tmp_path, "toy/empty", MASKED, [])
    tasks = {"toy/empty": TaskData(), "toy/gone": TaskData()}
    findings = _overview(make_run(tmp_path, data=_config(clean, tmp_path, tasks))).findings
    assert {(f.code, f.where) for f in findings} == {
        ("unusable", "toy/empty"),
        ("unusable", "toy/gone"),
    }
    store = EpisodeStore(tmp_path / "toy/empty")
    assert _codes(store_lints(store, with_environments=False)) == {"empty"}


def test_data_below_its_references(tmp_path: Path) -> None:
    path = write_store(tmp_path, "toy/all", ALL_KINDS, [all_kinds_episode(i) for i in range(4)])
    store = EpisodeStore(path)
    assert not store_lints(store, with_environments=False)
    mean = float(store.returns.mean())
    write_references(path, mean - 6.0, mean + 4.0)
    assert not store_lints(store, with_environments=False)
    write_references(path, mean - 4.0, mean + 6.0)
    (finding,) = store_lints(store, with_environments=False)
    assert finding.code == "weak-expert" and "40 %" in finding.what
    (path / "references.json").write_text("{}")
    with pytest.raises(DataError, match="broken references"):
        store_lints(store, with_environments=False)


def test_repeated_episodes(tmp_path: Path) -> None:
    episodes = [all_kinds_episode(i) for i in (0, 1, 0, 2)]
    other_actions = replace(episodes[1], actions=episodes[1].actions * 0.5)
    path = write_store(tmp_path, "toy/all", ALL_KINDS, [*episodes, other_actions])
    (finding,) = store_lints(EpisodeStore(path), with_environments=False)
    assert finding.code == "duplicates"
    assert "1 of 5" in finding.what and "episode 2 is episode 0 again" in finding.what


def test_values_that_are_no_number_or_clipped(tmp_path: Path) -> None:
    episodes = [replace(e, actions=e.actions * 3) for e in map(all_kinds_episode, range(3))]
    path = write_store(tmp_path, "toy/all", ALL_KINDS, episodes)
    file = path / "observations.state.bin"
    values = np.frombuffer(file.read_bytes(), dtype="<f4").copy()
    values[50] = np.nan
    file.write_bytes(values.tobytes())
    store = EpisodeStore(path)
    findings = {f.code: f for f in value_lints(store, store.statistics())}
    assert set(findings) == {"not-finite", "clipped"}
    assert findings["not-finite"].severity == "error"
    assert "episode 1" in findings["not-finite"].what
    assert findings["clipped"].where.endswith("actions")


def test_another_spec_and_another_environment(tmp_path: Path) -> None:
    from db1.suites import parse_task_id

    suite, task = parse_task_id("tsp/uniform20")
    spec, version = suite.step_spec(task), suite.environment_version(task)
    same = write_store(tmp_path / "a", "tsp/uniform20", spec, [], environment=version)
    codes = _codes(store_lints(EpisodeStore(same), with_environments=True))
    assert codes == {"empty"}
    odd = StepSpec(observation={"x": FieldSpec(kind="continuous")}, action=spec.action)
    version = dict(version) | {"rules": "0"}
    other = write_store(tmp_path / "b", "tsp/uniform20", odd, [], environment=version)
    codes = _codes(store_lints(EpisodeStore(other), with_environments=True))
    assert codes == {"empty", "other-spec", "other-version"}
    unknown = write_store(tmp_path / "c", "nowhere/x", odd, [])
    found = store_lints(EpisodeStore(unknown), with_environments=True)
    assert {(f.code, f.severity) for f in found} == {("empty", "error"), ("environment", "info")}
    assert spec_difference(spec, spec) is None
    free = replace(spec, action_mask=None)
    assert spec_difference(spec, free).startswith("action_mask: ")
    other_action = replace(free, action=FieldSpec(kind="continuous"))
    assert spec_difference(free, other_action).startswith("action: ")


def test_the_schedule_of_a_run_decides(clean: Path) -> None:
    """Samples of a run whose weights changed are those of its own schedule."""
    plain = make_run(clean)
    plan = MixtureSchedule.plan(plain.factory.shares(), plain.num_samples)
    only_text = [(name, Fraction(int(name == "psalm"))) for name in plan.names]
    changed = make_run(clean, schedule=plan.resumed(5, only_text, 20))
    early = [(changed.describe(s, 1)[0], plain.describe(s, 1)[0]) for s in range(5)]
    assert all(a.to_dict() == b.to_dict() for a, b in early)
    late = {changed.describe(s, slot)[0].sample.source for s in range(5, 10) for slot in range(4)}
    assert late == {"psalm"}
    found = _overview(changed, 0)
    assert "schedule" in _codes(found.findings) and found.rows[2].share == 1.0
    before = [plain.mixture.order[n][0] for n in range(20)]
    assert [row.expected for row in found.rows] == [
        before.count(0), before.count(1), before.count(2) + 20,
    ]  # fmt: skip
