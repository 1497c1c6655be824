"""Every target of the project's speed beside what is measured: works, peers, latency, memory, imports, in one command.

Ratios are medians over rounds in turn of one run. What the peers' machinery can do is done by it (`benchmarks.peers`:
equal work, agreement before anything is timed, a process for each package); latency, memory and imports are measured
in processes of their own.
"""


def main(arguments: list[str]) -> None:
    """Runs the command, which is imported here because the processes of their own import this package too."""
    from benchmarks.targets import command

    command.main(arguments)
