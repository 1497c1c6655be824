"""python -m benchmarks targets: measures, prints one table, then what its figures come from, then the peers' tables."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import targets, timing
from benchmarks.peers import command as peers
from benchmarks.peers.tasks import WORKERS
from benchmarks.targets import apart, errors, imports, latency, memory, ratios
from benchmarks.targets.outcome import Outcome, Target, as_json, details, markdown

NUMBERS = range(1, 10)
FULL = {"rounds": 15, "requests": 2000, "reference": 100_000, "seeds": 20, "imports": 5}
QUICK = {"rounds": 3, "requests": 300, "reference": 20_000, "seeds": 5, "imports": 2}
# number -> (its targets, how they are measured)
OTHERS: dict[int, tuple[list[Target], Callable[[argparse.Namespace], list[Outcome]]]] = {
    4: (list(latency.TARGETS.values()), latency.measure),
    7: ([errors.TARGET], errors.measure),
    8: ([memory.TARGET], memory.measure),
    9: ([imports.TARGET], imports.measure),
}


def main(arguments: list[str]) -> None:
    """Prints the tables, writes targets.json, and peers.json and peers.png where the peers ran."""
    given = settings(arguments)
    timing.device(given.device)
    works = [ratios.WORKS[number] for number in given.only if number in ratios.WORKS]
    tables, about = peers.run(works, given.peers if works else [], given.rounds, given.threads, given.device)
    found = [*ratios.outcomes(tables, given.only), *others(given)]
    found.sort(key=lambda outcome: outcome.target.number)
    print(f"{timing.machine(given.device)}; tfbnn {about['commit']}; {about['date']}; {given.rounds} rounds in turn\n")
    print(f"{markdown(found)}\n\n{details(found)}\n", flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    content = {**about, "targets": as_json(found)}
    (given.out / "targets.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if tables:
        peers.tell(tables, about, given.out)
    print(f"\nMade: {given.out / 'targets.json'}")


def settings(arguments: list[str]) -> argparse.Namespace:
    """The command line, with the sizes of a full or a quick run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks targets", description=targets.__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds and requests: to see that it runs")
    parser.add_argument(
        "--only", nargs="+", type=int, choices=NUMBERS, default=list(NUMBERS), metavar="NUMBER", help="of targets"
    )
    parser.add_argument(
        "--peers", nargs="+", choices=WORKERS, default=WORKERS, metavar="PACKAGE", help=f"of {', '.join(WORKERS)}"
    )
    parser.add_argument("--out", type=Path, default=peers.OUT, help="folder of targets.json, peers.json, peers.png")
    parser.add_argument("--threads", type=timing.positive, default=2, help="of every process")
    parser.add_argument("--rounds", type=timing.positive, help=f"{FULL['rounds']} unless told, {QUICK['rounds']} quick")
    timing.add_device(parser)
    given = parser.parse_args(arguments)
    sizes = QUICK if given.quick else FULL
    told = {name: value for name, value in vars(given).items() if value is not None}
    return argparse.Namespace(**{**sizes, **told})


def others(given: argparse.Namespace) -> list[Outcome]:
    """What the peers have no part in; what cannot be measured here says so, and the rest goes on."""
    found = []
    for number, (aims, measure) in OTHERS.items():
        if number in given.only:
            print(f"Target {number}: {aims[0].work}", file=sys.stderr, flush=True)
            try:
                measured = measure(given)
            except (apart.Failed, OSError) as error:
                measured = [Outcome(target, reason=str(error)) for target in aims]
            print(details(measured), file=sys.stderr, flush=True)  # a run that is stopped has told what it had
            found += measured
    return found
