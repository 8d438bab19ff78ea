"""Seed ranges: disjoint, half-open, enforced."""

import pytest

from db1.errors import DataError
from db1.suites.seeds import COLLECTION, EVALUATION, REFERENCE, check_seed, seed_for

PURPOSES = {"collection": COLLECTION, "reference": REFERENCE, "evaluation": EVALUATION}


def test_ranges_are_disjoint_and_as_documented():
    assert (COLLECTION.start, COLLECTION.stop) == (0, 1_000_000)
    assert (REFERENCE.start, REFERENCE.stop) == (1_000_000, 2_000_000)
    assert (EVALUATION.start, EVALUATION.stop) == (2_000_000, 3_000_000)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_seed_for_stays_in_its_range(purpose):
    seeds = PURPOSES[purpose]
    assert seed_for(purpose, 0) == seeds.start
    assert seed_for(purpose, len(seeds) - 1) == seeds.stop - 1
    for index in (-1, len(seeds)):
        with pytest.raises(DataError, match=f"{purpose} episode {index}"):
            seed_for(purpose, index)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_check_seed_refuses_the_other_ranges(purpose):
    for other, seeds in PURPOSES.items():
        if other == purpose:
            check_seed(purpose, seeds.start)
            check_seed(purpose, seeds.stop - 1)
        else:
            with pytest.raises(DataError, match=f"no {purpose} seed"):
                check_seed(purpose, seeds.start)


def test_unknown_purpose_names_the_nearest():
    with pytest.raises(DataError, match="did you mean 'evaluation'"):
        seed_for("evaluate", 0)
