"""Closing an environment gives back its memory, processes and files; a suite in its own process."""

import json
import subprocess
import sys

import pytest

from db1.suites import SUITES

pytestmark = pytest.mark.slow
ROUNDS = 12
MEGABYTES = 40
"""What may stay: caches of libraries, such as compiled models and textures."""

PROGRAM = """
import ctypes, gc, json, sys
import numpy as np, psutil
from db1.suites import make_env

def use(task_id, seed):
    env = make_env(task_id)
    observation, _ = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(3):
        observation, *ends, _ = env.step(env.sample_action(rng, observation))
        if ends[1] or ends[2]:
            break
    env.close()

me, task_id = psutil.Process(), sys.argv[1]
def state():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that the C library keeps is no leak
    return me.memory_info().rss / 2**20, len(me.children(recursive=True)), me.num_fds()

for seed in range(3):
    use(task_id, seed)
before = state()
for seed in range(3, 3 + int(sys.argv[2])):
    use(task_id, seed)
print(json.dumps([before, state()]))
"""


@pytest.mark.parametrize("suite_name", [name for name in SUITES if not SUITES[name].is_open])
def test_closing_gives_everything_back(suite_name):
    name = SUITES[suite_name].task_names()[0]
    if (reason := SUITES[suite_name].task_missing(name)) is not None:
        pytest.skip(reason)
    program = [sys.executable, "-c", PROGRAM, f"{suite_name}/{name}", str(ROUNDS)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout.splitlines()[-1])
    grown, processes, files = (b - a for a, b in zip(before, after, strict=True))
    assert grown < MEGABYTES, f"{grown:.0f} MB more after {ROUNDS} environments"
    assert processes == 0 and files <= 2
