"""The command `tfbnn`: parses arguments, prints results."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rich.box
import rich.console
import rich.markup
import rich.progress
import rich.table
import typer

from tfbnn._version import __version__
from tfbnn.core.checks import InvalidInput, invalid

USER_ERROR, FAILURE, INTERRUPTED = 2, 1, 130
ROWS_SHOWN = 10
MAX_PROBABILITIES_SHOWN = 4

out = rich.console.Console(highlight=False)
err = rich.console.Console(stderr=True, highlight=False)
app = typer.Typer(
    help="Bayesian neural networks from recipes: train, export, predict with the uncertainty split.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file, for example recipes/diabetes.yaml.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="SavedModel: NAME/VERSION, or NAME for its newest.")]
Rows = Annotated[Path, typer.Argument(metavar="ROWS.csv", help="CSV file with a header.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a setting of the recipe; repeatable.")
]
AllowImports = Annotated[
    bool, typer.Option("--allow-imports", help="Let model.builder name Python code, which then is run.")
]


def main() -> None:
    """Runs the command; a user's mistake is one message and exit code 2, with a traceback only under --debug."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app()
    except KeyboardInterrupt:
        err.print("Interrupted. Nothing was exported.")
        sys.exit(INTERRUPTED)
    except InvalidInput as error:
        _fail(str(error), USER_ERROR, debug)
    except FloatingPointError as error:
        _fail(str(error), USER_ERROR, debug)
    except Exception as error:
        _fail(
            f"{type(error).__name__}: {error}\nThis looks like a fault of tfbnn; --debug shows where.", FAILURE, debug
        )


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        raise
    err.print(f"[bold red]Error:[/] {rich.markup.escape(message)}", soft_wrap=True)
    sys.exit(code)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


# --- commands ---------------------------------------------------------------------------------------------------------


@app.command()
def train(recipe: RecipeFile, settings: Settings = None, allow_imports: AllowImports = False) -> None:
    """Train a recipe, score its held-out rows, export a SavedModel."""
    with _quiet_start():
        from tfbnn.recipes import Recipe, run_recipe
    loaded = Recipe.from_yaml(recipe, settings or (), allow_imports)
    out.print(f"[bold]{rich.markup.escape(loaded.name)}[/]  {rich.markup.escape(loaded.description)}")
    with _progress_bar() as bar:
        result = run_recipe(loaded, callbacks=[_epoch_callback(bar, loaded.training.epochs)])
    _print_data(result)
    _print_elbo(result.elbo)
    _print_scores(result.scores, f"Scores of the {result.scores['rows']:.0f} held-out rows", loaded.prediction.level)
    out.print(rich.markup.escape(f"\nSavedModel      {result.path}/"), soft_wrap=True)
    out.print(rich.markup.escape(f"Held-out rows   {result.held_out_csv}"), soft_wrap=True)


@app.command()
def evaluate(model: Model, rows: Rows) -> None:
    """Score a SavedModel on the rows of a CSV file that holds the target too."""
    with _quiet_start():
        from tfbnn.data import Target
        from tfbnn.evaluation import score
        from tfbnn.export import load_saved_model
    served = load_saved_model(model)
    spec = _from_recipe(served)["data"]
    frame = _read_rows(rows)
    if spec["target"] not in frame.columns:
        raise invalid(str(rows), f"a column '{spec['target']}', the target", list(frame.columns))
    with _told_of(rows, "data.target"):
        y = Target.from_dict(served.about["target"]).encode(frame[spec["target"]])
    level = served.about["model"]["level"]
    scores = score(served.predict_distribution(frame), y, level)
    _print_scores(scores, f"Scores of {scores['rows']:.0f} rows", level)


@app.command()
def predict(
    model: Model,
    rows: Rows,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.csv", help="Write all rows there; else print some.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.csv where it exists.")] = False,
    num_samples: Annotated[
        int | None, typer.Option(help="S, draws of the weights; default: as fixed at export.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draws; default: as fixed at export.")] = None,
) -> None:
    """Predict the rows of a CSV file: each answer with its interval and the epistemic / aleatoric split."""
    _refuse_output(output, overwrite)
    with _quiet_start():
        from tfbnn.export import load_saved_model
        from tfbnn.prediction.prediction import columns
    served = load_saved_model(model)
    frame = _read_rows(rows)
    named = columns(served.predict(frame, num_samples, seed), served.labels)
    if output is None:
        _print_predictions(_known_target(served, frame) | named, served.about["model"]["level"])
    else:
        _write_predictions(output, frame, named)
        out.print(rich.markup.escape(f"{len(frame)} predictions written to {output}"), soft_wrap=True)


@app.command()
def describe(model: Model) -> None:
    """Tell what a SavedModel takes in, how it answers, and how it came to be."""
    with _quiet_start():
        from tfbnn.export.served_model import read_about
        from tfbnn.export.versions import newest_version
    path = newest_version(model)
    about = read_about(path)
    _print_model(path, about["model"])
    _print_inputs(about.get("schema"))
    if "recipe" in about:
        _print_recipe(about["recipe"])
    if "scores" in about:
        _print_scores(about["scores"], "Scores of its held-out rows", about["model"]["level"])
    out.print("\n[bold]Made with[/]  " + ", ".join(f"{name} {number}" for name, number in about["versions"].items()))


@app.command()
def recipes(folder: Annotated[Path, typer.Argument(help="Where to look.")] = Path("recipes")) -> None:
    """List the recipes in a folder."""
    import yaml

    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise invalid("folder", "a folder that holds recipes (*.yaml)", str(folder))
    table = _table("recipe", "what")
    for file in files:
        with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError, OSError):
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            if isinstance(content, dict) and "data" in content:
                table.add_row(rich.markup.escape(str(file)), rich.markup.escape(str(content.get("description", ""))))
    out.print(table)
    out.print("\ntfbnn train RECIPE runs one; --set training.epochs=50 changes a setting.")


@app.command()
def doctor() -> None:
    """Print versions and devices, and try one small prediction on each device."""
    with _quiet_start():
        import tensorflow as tf

        from tfbnn.export.saved_model import versions
    table = _table("package", "version")
    for name, number in versions().items():
        table.add_row(name, number)
    out.print(table)
    for device in tf.config.list_logical_devices():
        out.print(f"{device.name}  [green]works[/]" if _works(device.name) else f"{device.name}  [red]fails[/]")
    if not tf.config.list_physical_devices("GPU"):
        out.print("No GPU is seen by TensorFlow: all runs on the CPU.")
        out.print(rich.markup.escape("Where there is an NVIDIA GPU: pip install 'tfbnn[gpu]'"))


# --- around the commands ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """TensorFlow's C++ code writes to file descriptor 2 while it starts, past every setting; not under --debug."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "--debug" in sys.orig_argv:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow as tf

        tf.config.list_logical_devices()  # where it looks for GPUs, and says so
        import keras

        keras.config.disable_traceback_filtering()  # which wraps our errors in a report of Keras' calls
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _progress_bar() -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.TextColumn("epoch"),
        rich.progress.MofNCompleteColumn(),
        rich.progress.BarColumn(bar_width=10),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("{task.description}"),
        console=out,
    )


def _epoch_callback(bar: rich.progress.Progress, epochs: int) -> Any:
    import keras

    task = bar.add_task("", total=epochs)

    def show(epoch: int, logs: dict[str, float]) -> None:
        names = [name for name in ("elbo", "log_likelihood", "kl", "beta", "val_log_likelihood") if name in logs]
        bar.update(task, completed=epoch + 1, description=" ".join(f"{name} {logs[name]:.4g}" for name in names))

    return keras.callbacks.LambdaCallback(on_epoch_end=show)


def _read_rows(path: Path) -> Any:
    from tfbnn.data import read_frame

    with _told_of(path, "data.source"):
        return read_frame(path)


@contextlib.contextmanager
def _told_of(path: Path, where: str) -> Iterator[None]:
    """An error about the recipe's `where` is told of the file that the user named instead."""
    try:
        yield
    except InvalidInput as error:
        raise error.at(str(path)) if error.where == where else error from None


def _from_recipe(served: Any) -> dict[str, Any]:
    if "recipe" not in served.about:
        raise invalid("MODEL", "a model exported by `tfbnn train`, which tells its target", str(served.path))
    return served.about["recipe"]


def _refuse_output(output: Path | None, overwrite: bool) -> None:
    if output is not None and output.is_dir():
        raise invalid("--output", "the name of a file", str(output), "It is a folder.")
    if output is not None and output.exists() and not overwrite:
        raise invalid("--output", "a file that does not exist yet", str(output), "Add --overwrite to replace it.")


def _write_predictions(output: Path, frame: Any, named: dict[str, Any]) -> None:
    import pandas as pd

    prefix = "prediction_" if set(named) & set(frame.columns) else ""
    predictions = pd.DataFrame(named).add_prefix(prefix)
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        pd.concat([frame, predictions], axis=1).to_csv(temporary, index=False)
        os.replace(temporary, output)
    except OSError as error:
        raise invalid("--output", "a file that can be written", str(output), f"{error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _works(device: str) -> bool:
    import tensorflow as tf

    from tfbnn.layers import DenseFlipout

    try:
        with tf.device(device):
            return bool(tf.reduce_all(tf.math.is_finite(DenseFlipout(4)(tf.ones([2, 3])))))
    except tf.errors.OpError:
        return False


# --- printing ---------------------------------------------------------------------------------------------------------


def _table(*headings: str, title: str | None = None) -> rich.table.Table:
    table = rich.table.Table(title=title, title_justify="left", box=rich.box.SIMPLE, title_style="bold", pad_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 or headings[0] in ("package", "recipe") else "right")
    return table


def _print_data(result: Any) -> None:
    data = result.data
    out.print(
        f"{len(data.train.target)} training rows, {len(data.held_out.target)} held out; "
        f"{len(data.schema.columns)} columns become {data.schema.num_features} features"
    )
    for column, reason in data.schema.left_out.items():
        out.print(rich.markup.escape(f"Column '{column}' was kept out: {reason}"), soft_wrap=True)


def _print_elbo(elbo: Any) -> None:
    table = _table("ELBO of the training rows", "nats")
    table.add_row(rich.markup.escape("log likelihood  E_q[log p(y|X, w)]"), f"{elbo.log_likelihood:,.1f}")
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


def _print_scores(scores: dict[str, float], title: str, level: float) -> None:
    table = _table(title, "")
    for name, text in _SCORES.items():
        if name in scores:
            value = f"{scores[name]:.1%}" if name in ("coverage", "accuracy") else f"{scores[name]:.4g}"
            table.add_row(text.format(level=level), value)
    out.print(table)


def _known_target(served: Any, frame: Any) -> dict[str, Any]:
    name = served.about.get("recipe", {}).get("data", {}).get("target")
    return {name: frame[name].to_numpy()} if name in frame.columns else {}


def _print_predictions(named: dict[str, Any], level: float) -> None:
    shown = _for_terminal(named)
    table = _table("row", *shown)
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
        return "P of\n" + rich.markup.escape(name.removeprefix("probability_"))
    return rich.markup.escape(name.replace("_", "\n", 1))


def _cells(values: Any) -> list[str]:
    """Text as it is; numbers of one column with the same decimals, four digits for the largest."""
    if values.dtype.kind not in "fiu":
        return [rich.markup.escape(str(value)) for value in values]
    largest = max((abs(float(value)) for value in values), default=0.0)
    decimals = 3 if largest < 1 else max(0, 3 - int(math.log10(largest)))
    return [f"{value:.{decimals}f}" for value in values]


def _print_model(path: Path, settings: dict[str, Any]) -> None:
    out.print(f"[bold]SavedModel[/]  {rich.markup.escape(str(path))}", soft_wrap=True)
    out.print(
        f"answers with the average over S = {settings['num_samples']} draws of the weights "
        f"(seed {settings['seed']}, {settings['coupling']} coupling)"
    )
    kind = settings["likelihood"]["class_name"]
    told = f"classes {', '.join(settings['labels'])}" if settings["labels"] else f"{settings['level']:.0%} intervals"
    out.print(f"likelihood  {kind}; {rich.markup.escape(told)}")
    out.print("signatures  serving_default (rows); sample and draws (rows, num_samples, seed)")


def _print_inputs(schema: dict[str, Any] | None) -> None:
    if schema is None:
        out.print("input       one array, `inputs`")
        return
    from tfbnn.data import Schema

    fitted = Schema.from_dict(schema)
    table = _table("column", "input", "kind", "missing in training", "values")
    for column in fitted.columns:
        values, missing = _values_seen(column)
        served = fitted.served_names[column.name]
        table.add_row(rich.markup.escape(column.name), served, column.kind, "yes" if missing else "no", rich.markup.escape(values))
    out.print(table)


def _values_seen(column: Any) -> tuple[str, bool]:
    """What a column held in training, in words, and whether values were missing."""
    if column.kind == "categorical":
        return ", ".join(map(repr, column.vocabulary[:6])), "" in column.vocabulary
    return f"mean {column.mean:.4g}, stddev {column.stddev:.4g}", column.has_missing


def _print_recipe(recipe: dict[str, Any]) -> None:
    import yaml

    out.print("[bold]Recipe[/], resolved")
    text = yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None, allow_unicode=True)
    out.print(rich.markup.escape(text.rstrip()), soft_wrap=True)
