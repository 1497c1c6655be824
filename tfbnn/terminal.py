"""What the command prints: tables for a terminal of 80 characters, and the progress of training."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import rich.box
import rich.console
import rich.progress
import rich.table
from rich.markup import escape

ROWS_SHOWN = 10
MAX_PROBABILITIES_SHOWN = 4

out = rich.console.Console(highlight=False)
err = rich.console.Console(stderr=True, highlight=False)


def progress_bar() -> rich.progress.Progress:
    """The bar of training: epochs done, time, and the ELBO terms."""
    return rich.progress.Progress(
        rich.progress.TextColumn("epoch"),
        rich.progress.MofNCompleteColumn(),
        rich.progress.BarColumn(bar_width=10),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("{task.description}"),
        console=out,
    )


def epoch_callback(bar: rich.progress.Progress, epochs: int) -> Any:
    """A Keras callback that moves `bar` on at the end of each epoch."""
    import keras

    task = bar.add_task("", total=epochs)

    def show(epoch: int, logs: dict[str, float]) -> None:
        names = [name for name in ("elbo", "log_likelihood", "kl", "beta", "val_log_likelihood") if name in logs]
        bar.update(task, completed=epoch + 1, description=" ".join(f"{name} {logs[name]:.4g}" for name in names))

    return keras.callbacks.LambdaCallback(on_epoch_end=show)


def empty_table(*headings: str, title: str | None = None) -> rich.table.Table:
    """An empty table; its first column is text, the others numbers."""
    table = rich.table.Table(title=title, title_justify="left", box=rich.box.SIMPLE, title_style="bold", pad_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 or headings[0] in ("package", "recipe") else "right")
    return table


def print_data(data: Any) -> None:
    """Tells how many rows and columns a recipe trains on, and what was kept out."""
    out.print(
        f"{len(data.train.target)} training rows, {len(data.held_out.target)} held out; "
        f"{len(data.schema.columns)} columns become {data.schema.num_features} features"
    )
    for column, reason in data.schema.left_out.items():
        out.print(escape(f"Column '{column}' was kept out: {reason}"), soft_wrap=True)


def print_elbo(elbo: Any) -> None:
    """Prints the terms of the ELBO, nats."""
    table = empty_table("ELBO of the training rows", "nats")
    table.add_row(escape("log likelihood  E_q[log p(y|X, w)]"), f"{elbo.log_likelihood:,.1f}")
    table.add_row("KL(q || p)", f"{elbo.kl:,.1f}")
    for layer, kl in elbo.kl_per_layer.items():
        table.add_row(f"    of layer {layer}", f"{kl:,.1f}")
    if elbo.penalty:
        table.add_row("penalty  -log p(w) of point weights", f"{elbo.penalty:,.1f}")
    table.add_row("ELBO = log likelihood - KL", f"{elbo.elbo:,.1f}")
    table.add_row("beta, weight of the KL in the loss", f"{elbo.beta:g}")
    out.print(table)


_SCORES = {
    "log_likelihood": "log likelihood of the predictive, nats a row (higher is better)",
    "rmse": "root mean squared error, units of the target",
    "mae": "mean absolute error, units of the target",
    "coverage": "{level:.0%} intervals that hold the target",
    "interval_width": "mean width of the {level:.0%} interval, units of the target",
    "accuracy": "accuracy",
    "brier": "Brier score (lower is better)",
}


def print_scores(scores: dict[str, float], title: str, level: float) -> None:
    """Prints scores by name, each with its unit."""
    table = empty_table(title, "")
    for name, text in _SCORES.items():
        if name in scores:
            value = f"{scores[name]:.1%}" if name in ("coverage", "accuracy") else f"{scores[name]:.4g}"
            table.add_row(text.format(level=level), value)
    out.print(table)


def known_target(served: Any, frame: Any) -> dict[str, Any]:
    """The target's own column, where the rows hold it: name -> values."""
    name = served.about.get("recipe", {}).get("data", {}).get("target")
    return {name: frame[name].to_numpy()} if name in frame.columns else {}


def print_predictions(named: dict[str, Any], level: float) -> None:
    """Prints the first rows' answers and what the columns mean."""
    shown = _for_terminal(named)
    table = empty_table("row", *shown)
    cells = [_cells(values[:ROWS_SHOWN]) for values in shown.values()]
    for i, row in enumerate(zip(*cells, strict=True)):
        table.add_row(str(i), *row)
    out.print(table)
    num_rows = len(next(iter(named.values())))
    if num_rows > ROWS_SHOWN:
        out.print(f"... and {num_rows - ROWS_SHOWN} more rows; -o OUT.csv writes all.")
    if "lower" in named:
        out.print(f"lower, upper: hold the target with probability {level:.0%}")
        out.print("epistemic: from not knowing the weights; more data would remove it")
        out.print("aleatoric: noise of the target; more data would not")
    else:
        out.print("mutual information: epistemic, from not knowing the weights; more data would remove it")
        out.print("expected entropy: aleatoric, noise of the classes; more data would not (both in nats)")


def _for_terminal(named: dict[str, Any]) -> dict[str, Any]:
    """Headings of short lines, and no more columns than 80 characters hold; a CSV has them all."""
    probabilities = {name: values for name, values in named.items() if name.startswith("probability_")}
    others = {name: values for name, values in named.items() if name not in {*probabilities, "predictive_entropy"}}
    if len(probabilities) > MAX_PROBABILITIES_SHOWN:
        probabilities = {"probability": functools.reduce(np.maximum, probabilities.values())}
    labels = {name: others.pop(name) for name in list(others) if others[name].dtype.kind != "f"}
    return {_heading(name): values for name, values in {**labels, **probabilities, **others}.items()}


def _heading(name: str) -> str:
    if name.startswith("probability_"):
        return "P of\n" + escape(name.removeprefix("probability_"))
    return escape(name.replace("_", "\n", 1))


def _cells(values: Any) -> list[str]:
    """Text as it is; numbers of one column with the same decimals, four digits for the largest."""
    if values.dtype.kind not in "fiu":
        return [escape(str(value)) for value in values]
    largest = max((abs(float(value)) for value in values), default=0.0)
    decimals = 3 if largest < 1 else max(0, 3 - int(math.log10(largest)))
    return [f"{value:.{decimals}f}" for value in values]


def print_model(path: Path, settings: dict[str, Any]) -> None:
    """Prints how a SavedModel answers."""
    out.print(f"[bold]SavedModel[/]  {escape(str(path))}", soft_wrap=True)
    out.print(
        f"answers with the average over S = {settings['num_samples']} draws of the weights "
        f"(seed {settings['seed']}, {settings['coupling']} coupling)"
    )
    kind = settings["likelihood"]["class_name"]
    told = f"classes {', '.join(settings['labels'])}" if settings["labels"] else f"{settings['level']:.0%} intervals"
    out.print(f"likelihood  {kind}; {escape(told)}")
    out.print("signatures  serving_default (rows); sample and draws (rows, num_samples, seed)")


def print_inputs(schema: dict[str, Any] | None) -> None:
    """Prints the columns that a SavedModel takes."""
    if schema is None:
        out.print("input       one array, `inputs`")
        return
    from tfbnn.data import Schema

    fitted = Schema.from_dict(schema)
    table = empty_table("column", "input", "kind", "missing in training", "values")
    for column in fitted.columns:
        values, missing = _values_seen(column)
        served = fitted.served_names[column.name]
        table.add_row(escape(column.name), served, column.kind, "yes" if missing else "no", escape(values))
    out.print(table)


def _values_seen(column: Any) -> tuple[str, bool]:
    """What a column held in training, in words, and whether values were missing."""
    if column.kind == "categorical":
        return ", ".join(map(repr, column.vocabulary[:6])), "" in column.vocabulary
    return f"mean {column.mean:.4g}, stddev {column.stddev:.4g}", column.has_missing


def print_recipe(recipe: dict[str, Any]) -> None:
    """Prints a recipe with its defaults filled in."""
    import yaml

    out.print("[bold]Recipe[/], resolved")
    text = yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None, allow_unicode=True)
    out.print(escape(text.rstrip()), soft_wrap=True)
