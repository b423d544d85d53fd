"""Plays seeds again: `python -m tests.simulation.replay 123`."""

import sys

from tests.simulation.test_simulation import simulate
from tests.tasks.labelled import added

if __name__ == "__main__":
    with added():
        for seed in map(int, sys.argv[1:]):
            print(f"seed {seed}", *simulate(seed).log.text, sep="\n")
