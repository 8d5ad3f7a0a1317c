"""Run cases of every reader, or of some, and say what came of them.

python -m tests.fuzz CASES [--seed 0] [--target rle ...] [--first 0]
python -m tests.fuzz SECONDSs
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

# nothing is to be looked for on the hub
os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
sys.path[:0] = [str(Path(__file__).parents[1])]


def main() -> int:
    from fuzz.runner import run_apart
    from fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Damaged files for every reader."
    )
    parser.add_argument("amount", help="cases in all, or with an s behind it seconds (20000, 60s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", nargs="+", choices=[*TARGETS], default=[*TARGETS])
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to see one again")
    given = parser.parse_args()
    chosen = [TARGETS[name] for name in given.target]
    timed = given.amount.endswith("s")
    failed = False
    # the same time for each of them
    weights = {target.name: 1 / target.milliseconds for target in chosen}
    for target in chosen:
        if timed:
            until = time.monotonic() + float(given.amount[:-1]) / len(chosen)
            tally = run_apart(target, 10**9, given.seed, until, given.first)
        else:
            cases = max(1, round(int(given.amount) * weights[target.name] / sum(weights.values())))
            tally = run_apart(target, cases, given.seed, first=given.first)
        print(tally.line(), flush=True)
        for number, find in tally.finds[:20]:
            print(f"  --seed {given.seed} --target {target.name} --first {number}: {find}", flush=True)
        failed |= bool(tally.finds)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
