"""tfbnn, a plain Keras net and the other packages of Bayesian layers side by side: equal work, in turn, in one run.

Each package runs in a process of its own (`serve.py`), the peers in virtual environments of their own
(`environments.py`), all with the same weights, rows and threads. Before anything is timed, each must draw logits of
the same distribution as explicit draws of all weights in NumPy (`agreement.py`); one that does not is a row of the
table that says so, and is not timed.
"""


def main(arguments: list[str]) -> None:
    """Runs the command, which is imported here because the workers import this package too."""
    from benchmarks.peers import command

    command.main(arguments)
