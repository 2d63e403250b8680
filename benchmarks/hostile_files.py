"""Thousands of mutations of valid files, each of which must end in a clear error or a verdict.

``python benchmarks/hostile_files.py --count 2000 --seed 1`` prints the outcomes as a Markdown table, the most frequent
messages, the longest time of one case and the peak of this process's memory. It stops at the first case with another
outcome and prints its seed; ``--only SEED`` repeats that case.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.hostile import SUBJECTS, Lab, Tally, good_bundle, peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="SUBJECT:NUMBER, as a failure prints it")
    given = parser.parse_args()
    tally, faults = Tally(), 0
    with tempfile.TemporaryDirectory() as scratch:
        good = good_bundle(Path(scratch, "good"))
        begin = peak()
        lab = Lab(good, Path(scratch))
        cases = [(SUBJECTS[i % len(SUBJECTS)], i) for i in range(given.count)]
        if given.only:
            subject, _, number = given.only.rpartition(":")
            cases = [(subject, int(number))]
        for subject, number in cases:
            try:
                lab.try_one(subject, Random(given.seed * 1_000_003 + number), tally)
            except Exception as err:
                faults += 1
                print(f"--seed {given.seed} --only '{subject}:{number}': {type(err).__name__}: {str(err)[:300]}")
                if given.only:
                    raise
        lab.host.end()
        outcomes = sorted({outcome for _, outcome in tally.outcomes})
        print(f"\n| file | {' | '.join(outcomes)} | in all |\n| --- |{' ---: |' * (len(outcomes) + 1)}")
        for subject in SUBJECTS:
            row = [tally.outcomes[subject, outcome] for outcome in outcomes]
            print(f"| {subject} | {' | '.join(map(str, row))} | {sum(row)} |")
        for message, count in tally.messages.most_common(60):
            print(f"{count:5} {message}")
        print(f"\n{len(cases)} cases, {faults} faults, longest {tally.longest:.1f} s, agents started {lab.host.starts}")
        print(f"memory of this process: {begin / 2**20:.0f} MiB before, {peak() / 2**20:.0f} MiB at the peak")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
