"""python -m benchmarks peers: starts the workers, checks that they agree, times them in turn, reports."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import peers, timing
from benchmarks.peers import agreement, report
from benchmarks.peers.environments import NotInstalled, python_of
from benchmarks.peers.process import Worker, WorkerFailed, command
from benchmarks.peers.tasks import CONTESTANTS, LIMIT, ON_GPU, REFERENCE, WORKERS, WORKS, Contestant, Work

OUT = Path(__file__).resolve().parents[1] / "results"
ABSENT = "NotImplementedError"  # raised by a worker whose package does not have the contestant: no row
PAUSE = 0.05  # seconds between turns, in which the thread pools of the last one stop spinning


def main(arguments: list[str]) -> None:
    """Prints the tables, writes peers.json and peers.png."""
    given = _parser().parse_args(arguments)
    timing.device(given.device)
    tables, about = run(given.works, given.only or WORKERS, given.rounds, given.threads, given.device)
    tell(tables, about, given.out)


def run(
    works: Sequence[str], names: Sequence[str], rounds: int, threads: int, device: str
) -> tuple[list[report.Table], dict]:
    """The tables of these works, and what was measured on which machine."""
    workers, reasons, versions = start(names, threads, device)
    try:
        tables = [measure(work, workers, reasons, rounds) for work in WORKS if work.name in works]
    finally:
        for worker in workers.values():
            worker.close()
    return tables, {**describe(device), "threads": threads, "rounds": rounds, "versions": versions}


def tell(tables: list[report.Table], about: dict, folder: Path) -> None:
    """Prints the tables, writes them and the plot into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    print(_caption(about))
    for table in tables:
        print(f"\n{report.markdown(table, REFERENCE)}")
    print(f"\n{KL_NOTE}")
    _write(folder, tables, about)


KL_NOTE = (
    "Its KL / KL: what the package calls the KL, over the sum over all weights in nats; a small factor is a mean "
    "over each tensor, so that a loss of its KL / N forgets the prior."
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks peers", description=peers.__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of peers.json and peers.png")
    parser.add_argument("--only", nargs="+", choices=WORKERS, metavar="PACKAGE", help=f"of {', '.join(WORKERS)}")
    names = [work.name for work in WORKS]
    parser.add_argument("--works", nargs="+", choices=names, default=names, metavar="WORK", help=", ".join(names))
    parser.add_argument("--threads", type=int, default=2, help="of every process")
    timing.add_device(parser)
    return parser


def start(
    names: Sequence[str], threads: int, device: str = "cpu"
) -> tuple[dict[str, Worker], dict[str, str], dict[str, dict[str, str]]]:
    """The workers that run, why the others do not, and the versions of their packages."""
    workers: dict[str, Worker] = {}
    reasons: dict[str, str] = dict.fromkeys(names, "")
    versions: dict[str, dict[str, str]] = {}
    for name in names:
        if device == "gpu" and name not in ON_GPU:
            reasons[name] = "not on the GPU: its environment has the CPU build alone"
            continue
        try:
            worker = Worker(command(python_of(name), name), threads, device)
            workers[name] = worker
            versions[name] = worker.ask("hello")["versions"]
        except NotInstalled as error:
            reasons[name] = str(error)
        except WorkerFailed as error:
            reasons[name] = f"could not be started: {error}"
            workers.pop(name).close()
    return workers, reasons, versions


def measure(work: Work, workers: dict[str, Worker], reasons: dict[str, str], rounds: int) -> report.Table:
    """One table. `reasons` names the workers that were asked for, and why some are not among `workers`."""
    arrays = work.arrays()
    table = report.Table(work.name, work.title, work.unit, agreement.closed_form_kl(arrays), [])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.npz"
        np.savez(path, **arrays)
        contestants = [one for one in CONTESTANTS if work.name in one.works and one.worker in reasons]
        truth = agreement.explicit_draws(arrays, work.draws) if contestants else None
        _say(f"{work.title}: do the outputs agree?")
        for one in contestants:
            row = report.Row(one.name, one.worker, reason=reasons[one.worker])
            table.rows.append(row)
            if one.worker in workers:
                _prepare(row, one, work, workers[one.worker], path, arrays, truth)
        table.rows = [row for row in table.rows if ABSENT not in row.reason]
        _say(f"{work.title}: {rounds} rounds in turn")
        _time_in_turn([row for row in table.rows if not row.reason], workers, work.units, rounds)
        for worker in workers.values():
            with contextlib.suppress(WorkerFailed):
                worker.ask("forget")
    return table


def _prepare(
    row: report.Row, one: Contestant, work: Work, worker: Worker, path: Path, arrays: dict, truth: np.ndarray
) -> None:
    """Fills in the row's KL and agreement, or the reason why it is not timed."""
    outputs = path.with_suffix(".npy")
    try:
        row.kl = worker.ask("prepare", name=one.name, task=work.task(one.variant, path))["kl"]
        if one.name == LIMIT:
            return
        worker.ask("outputs", name=one.name, draws=len(truth), to=str(outputs))
        got = np.load(outputs)
        if one.is_point:
            agrees = agreement.compare_points(got, agreement.pass_at_the_means(arrays))
        else:
            agrees = agreement.compare(got, truth)
        row.agreement = str(agrees)
        row.reason = "" if agrees.reached else f"disagrees: {agrees}"
    except (WorkerFailed, ValueError) as error:
        row.reason = f"fails: {error}"


def _time_in_turn(rows: list[report.Row], workers: dict[str, Worker], units: int, rounds: int) -> None:
    """Adds the seconds of each round to the rows, after one round that is not counted."""
    for number in range(rounds + 1):
        for row in rows:
            if row.reason:
                continue
            time.sleep(PAUSE)
            try:
                seconds = workers[row.worker].ask("run", name=row.name)["seconds"] / units
            except WorkerFailed as error:
                row.reason, row.seconds = f"fails: {error}", []
                continue
            if number:
                row.seconds.append(seconds)


def _write(folder: Path, tables: list[report.Table], about: dict) -> None:
    made = [folder / "peers.json", folder / "peers.png"]
    report.write_json(made[0], tables, about)
    try:
        report.plot(made[1], tables, _caption(about))
    except ImportError:
        print("No plot: matplotlib is missing (pip install 'tfbnn[plots]').")
        made.pop()
    print("\nMade: " + ", ".join(str(path) for path in made))


def _caption(about: dict) -> str:
    versions = {package: version for found in about["versions"].values() for package, version in found.items()}
    listed = ", ".join(f"{package} {version}" for package, version in versions.items())
    return (
        f"{about['machine']}, {about['cores']} cores, {about['threads']} threads a process, float32, "
        f"on {about['device']}; {about['rounds']} rounds in turn; {about['date']}, tfbnn {about['commit']}\n{listed}"
    )


def describe(device: str) -> dict[str, str | int]:
    """The machine and the code."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": timing.commit(),
        "machine": f"{platform.system()} {platform.machine()}, {timing.processor()}",
        "device": "the CPU" if device == "cpu" else timing.device_name(device),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
