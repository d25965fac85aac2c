"""Many random scenarios over all virtual devices, judged: `make campaign SCENARIOS=200 SEED=1`.

    PYTHONPATH=tests python -m campaign --seed 17 --scenarios 1

Each scenario has the seed of the one before it and one. The exit code is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import sys
import time
from collections import Counter

import yaml

from .flying import Verdict, smallest, verdict
from .plans import make_plan

MEMORY_EVERY = 10  # one in this many scenarios is flown with an eye on memory


def work(seed: int) -> Verdict:
    return verdict(make_plan(seed), memory=not seed % MEMORY_EVERY)


def main() -> int:
    parser = argparse.ArgumentParser(prog="campaign", description=__doc__.partition("\n")[0])
    parser.add_argument("--scenarios", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="of the first scenario")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    first = random.randrange(10**6) if args.seed is None else args.seed
    print(f"{args.scenarios} scenarios from seed {first}", flush=True)
    began = time.monotonic()
    logging.lastResort = None
    rules: Counter[str] = Counter()
    flown = events = failed = 0
    cpu = 0.0
    with multiprocessing.Pool(args.jobs) as pool:
        for result in pool.imap_unordered(work, range(first, first + args.scenarios)):
            flown += 1
            events += len(result.plan.events)
            cpu += result.cpu_s
            if result.findings:
                failed += 1
                rules.update(finding.rule for finding in result.findings)
                tell(result)
    print(
        f"{flown} scenarios, {events} events, {failed} with findings ({dict(rules)}); "
        f"{cpu:.0f} s of CPU, {time.monotonic() - began:.0f} s"
    )
    return 1 if failed else 0


def tell(result: Verdict) -> None:
    """Print what was found, the smallest scenario that shows it, and how to repeat it."""
    plan = result.plan
    print(f"\nseed {plan.seed}: {len(result.findings)} findings", *map(str, result.findings[:12]), sep="\n  ")
    fewer = smallest(plan, result.findings[:1])
    print(f"the first one with {len(fewer.events)} of {len(plan.events)} events:")
    print(yaml.safe_dump(fewer.contents(), sort_keys=False, default_flow_style=None, width=200))
    print(f"again: PYTHONPATH=tests python -m campaign --seed {plan.seed} --scenarios 1", flush=True)


if __name__ == "__main__":
    sys.exit(main())
