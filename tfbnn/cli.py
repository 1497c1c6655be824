"""The command `tfbnn`: its arguments, and what each of its words does."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from rich.markup import escape

from tfbnn._version import __version__
from tfbnn.core.checks import InvalidInput, finite_number, invalid, positive_integer
from tfbnn.core.wording import unsettled
from tfbnn.terminal import (
    chance_log_likelihood,
    empty_table,
    epoch_callback,
    err,
    known_target,
    out,
    print_calibrated,
    print_comparison,
    print_data,
    print_detection,
    print_elbo,
    print_history,
    print_inputs,
    print_model,
    print_outputs,
    print_posterior,
    print_predictions,
    print_recipe,
    print_scores,
    progress_bar,
    steps_of_chains,
)

USER_ERROR, FAILURE, INTERRUPTED = 2, 1, 130
MANY_ROWS = 5000  # of which intervals are from fewer sets of rows, to save time
OUTSIDE_BRACKETS = r",(?![^\[\]{}]*[\]}])"  # a comma between methods, not one inside a list or mapping


class _Interrupted(Exception):
    """Ctrl-C, under a name that typer does not turn into an "Aborted" of exit code 1; its text tells what is left."""


class _Commands(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _Interrupted from None


app = typer.Typer(
    cls=_Commands,
    help="Bayesian neural networks from recipes: train, export, predict with the uncertainty split.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file, for example recipes/diabetes.yaml.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="SavedModel: NAME/VERSION, or NAME for its newest.")]
Rows = Annotated[Path, typer.Argument(metavar="ROWS", help="ROWS.csv with a header, or ROWS.parquet.")]
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
        app(prog_name="tfbnn")
    except (KeyboardInterrupt, _Interrupted) as interrupt:
        err.print(f"Interrupted. {interrupt}".rstrip())
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
    err.print(f"[bold red]Error:[/] {escape(message)}", soft_wrap=True)
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


# --- commands ---------------------------------------------------------------------------------------------------------


@app.command()
def train(
    recipe: RecipeFile,
    settings: Settings = None,
    allow_imports: AllowImports = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training that was interrupted.")] = False,
    prior_from: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="SavedModel whose posterior becomes the prior; give new rows alone."),
    ] = None,
) -> None:
    """Train a recipe, score it, export a SavedModel.

    Ctrl-C finishes the epoch and keeps the state; --resume goes on from there, as if nothing had happened.
    """
    with _quiet_start():
        from tfbnn.recipes import Recipe, prepare_data, run_recipe, was_interrupted
    loaded = Recipe.from_yaml(recipe, settings or (), allow_imports)
    out.print(f"[bold]{escape(loaded.name)}[/]  {escape(loaded.description)}")
    with _before_export():
        data = prepare_data(loaded, prior_from)
        print_data(data, loaded.data.columns)
        if data.before is not None:
            out.print(escape(f"Prior           the posterior of {data.before.path}, in its units"), soft_wrap=True)
            if data.num_known:
                told = f"{_many(data.num_known, 'row')} equal to some that it was trained on: if they are the same, "
                out.print(f"{told}they count twice.", soft_wrap=True)
        if not resume and was_interrupted(loaded):
            out.print("The training that was interrupted before is replaced; --resume would go on with it.")
        with progress_bar() as bar:
            shown = epoch_callback(bar, loaded.training), steps_of_chains(bar)
            result = run_recipe(loaded, [shown[0]], data=data, resume=resume, progress=shown[1])
    if result.elbo is not None:
        share = result.elbo.num_data / len(data.train.target)  # of the training rows; the others chose the epoch
        print_elbo(result.elbo, share * chance_log_likelihood(data))
        if told := unsettled(result.history["kl"], loaded.training.epochs):
            out.print(told, soft_wrap=True)
    else:
        print_posterior(loaded.inference, result.draws)
    print_calibrated(result.calibrated, 0 if data.calibration is None else len(data.calibration.target))
    print_scores(result.scores, f"Scores of the {result.scores['rows']:.0f} held-out rows", loaded.prediction.level)
    _tell_if_all_are_referred(result.scores.get("referred"))
    out.print(escape(f"\nSavedModel      {result.path}/"), soft_wrap=True)
    out.print(escape(f"Held-out rows   {result.held_out_csv}"), soft_wrap=True)
    if loaded.export.report:
        from tfbnn.report import of_trained, write_report

        page, card = write_report(of_trained(result.path, result.prediction))
        out.print(escape(f"Report          {page}, {card.name}"), soft_wrap=True)


@app.command()
def compare(
    recipe: RecipeFile,
    methods: Annotated[
        str | None,
        typer.Option(metavar="M1,M2,...", help="Methods, each with its options: 'SWAG,DeepEnsemble members=10'."),
    ] = None,
    settings: Settings = None,
    allow_imports: AllowImports = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Of the table and the pictures.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Take NUTS from where it was interrupted.")] = False,
) -> None:
    """Train a recipe by several methods, beside the true posterior.

    Which should I use for my data? NUTS, exact but slow, is the gold; all others unless --methods names some. After
    Ctrl-C, --resume goes on with NUTS, or takes it as it was where it had ended; the others are trained anew.
    """
    with _quiet_start():
        from tfbnn.recipes import Recipe
        from tfbnn.recipes.compare import QUICK_METHODS, check_options, compare, contestants
        from tfbnn.recipes.comparison_table import check_folder, report, verdict, write_report
        from tfbnn.recipes.pictures import draw_comparison
        from tfbnn.recipes.run import prepare_data
    chosen = QUICK_METHODS if methods is None else [spec.strip() for spec in re.split(OUTSIDE_BRACKETS, methods)]
    entries = contestants(recipe, chosen, settings or (), allow_imports)
    loaded = Recipe.from_yaml(recipe, settings or (), allow_imports)
    folder = output or Path("saved_models") / f"{loaded.name}.comparison"
    out.print(f"[bold]{escape(loaded.name)}[/]  {escape(loaded.description)}")
    data = prepare_data(loaded)
    print_data(data, loaded.data.columns)
    results: list[Any] = []
    check_options(entries, data)
    state = check_folder(folder) / ".NUTS"  # told before hours of work where nothing can be written there
    if state.exists() and not resume:
        out.print(f"The {entries[0].label} that was interrupted before is replaced; --resume would go on with it.")
    made = []
    try:
        with out.status("") as status:

            def show(label: str, steps: int = 0, total: int = 0) -> None:
                status.update(escape(label) + (f": step {steps:,} of {total:,}" if total else " ..."))

            for result in compare(entries, show, state, resume, show):
                results.append(result)
                out.print(f"{escape(result.label)}: " + ("failed" if result.failed else f"{result.seconds:.1f} s"))
                made = write_report(folder, results, report(results), loaded)
    except KeyboardInterrupt:
        told = [f"What was compared before is in {folder}."] if results else []
        told += [f"{entries[0].label} is kept: --resume takes it from there."] if state.exists() else []
        raise _Interrupted(" ".join(told)) from None
    shutil.rmtree(state, ignore_errors=True)
    print_comparison(results)
    out.print("\n" + escape(verdict(results)), soft_wrap=True)
    with contextlib.suppress(InvalidInput):  # without matplotlib
        made += draw_comparison(folder, results, data)
    out.print(escape("Written: " + ", ".join(str(path) for path in made)), soft_wrap=True)


@app.command()
def active(
    recipe: RecipeFile,
    pool: Annotated[Path, typer.Option(metavar="POOL", help="Rows without labels: POOL.csv or POOL.parquet.")],
    count: Annotated[int | None, typer.Option(help="Rows to ask for; default: as before, 10 at first.")] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="random, entropy, bald, batchbald or variance; default: as before, at first bald, of numbers variance."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="ANSWERED", help="The rows that were asked for, with their labels.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT", help="Of the rows to label; OUT.csv or OUT.parquet.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")] = False,
    session: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="What is kept; default: NAME.active beside the model.")
    ] = None,
    settings: Settings = None,
    allow_imports: AllowImports = False,
) -> None:
    """Ask which rows of a pool to label next.

    Trains the recipe, exports it, and writes the rows whose labels would teach it most. Fill in the target and give
    the file back by --labels: the recipe is trained with them, and asks again.
    """
    _refuse_output(output, overwrite)
    with _quiet_start():
        from tfbnn.data import check_format
        from tfbnn.recipes import Recipe
        from tfbnn.recipes import active as rounds
    if output is not None:
        check_format(output, "--output")
    loaded = Recipe.from_yaml(recipe, settings or (), allow_imports)
    options = {"count": "--count", "by": "--by", "session": "--session", "pool": str(pool), "labels": str(labels)}
    with _told_by(options):
        kept = rounds.open_session(loaded, _read_rows(pool), session)
        written = output or kept.folder / "to_label.csv"
        again = ["tfbnn active", recipe, "--pool", pool, *(["--session", session] if session else [])]
        again += [word for setting in settings or () for word in ("--set", setting)]
        again += ["--allow-imports"] if allow_imports else []
        waits = labels is None and len(kept.waiting)
        if waits and (count is not None or by is not None):
            rounds.check_question(loaded, kept, *rounds.as_before(loaded, kept, count, by), None)
            out.print("--count and --by are for the next question; this one is not answered yet.")
        if waits:
            out.print(f"Round {len(kept.rounds)} waits for the labels of {_many(len(kept.waiting), 'row')}.")
            if given := kept.not_given(written):
                told = f"{written} holds {_many(len(given), 'label')} and is left as it is. Give them:"
                out.print(escape(told), soft_wrap=True)
                out.print(escape(" ".join(map(str, [*again, "--labels", written]))), soft_wrap=True)
                return
            _write_question(kept.rows(kept.waiting), written, again)
            return
        count, by = rounds.as_before(loaded, kept, count, by)
        answers = None if labels is None else _read_rows(labels)
        rounds.check_question(loaded, kept, count, by, answers)
        if labels is None or labels.resolve() != written.resolve():
            _refuse_labels_not_given(kept, written)
        if answers is not None:
            new = kept.answer(answers, rounds.known_target(loaded))
            told = f"{_many(new, 'new label')} kept in {kept.folder}, {len(kept.labelled)} in all."
            out.print(escape(told), soft_wrap=True)
        with _before_export():
            data = rounds.labelled_data(loaded, kept)
            print_data(data, loaded.data.columns)
            with progress_bar() as bar:
                shown = epoch_callback(bar, loaded.training), steps_of_chains(bar)
                question = rounds.ask(loaded, kept, count, by, data, [shown[0]], shown[1])
    out.print(escape(f"SavedModel      {question.result.path}/"), soft_wrap=True)
    if not len(question.rows):
        print_scores(question.result.scores, "The whole pool is labelled. Held-out rows", loaded.prediction.level)
        return
    print_history(kept.history)
    _write_question(question.rows, written, again)


@app.command()
def evaluate(
    model: Model,
    rows: Rows,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="Write the scores too: OUT.json or OUT.csv."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")] = False,
    detail: Annotated[
        bool, typer.Option("--detail", help="More scores: parts of the Brier score, other calibration errors, PIT.")
    ] = False,
    out_rows: Annotated[
        Path | None,
        typer.Option(metavar="OTHER", help="CSV or Parquet of rows of another kind: how well uncertainty tells them."),
    ] = None,
) -> None:
    """Score a SavedModel on the rows of a CSV or Parquet file.

    Each score comes with the interval in which it would lie on other rows of the same kind (bootstrap, 95 %).
    """
    _refuse_output(output, overwrite)
    if output is not None and output.suffix not in (".json", ".csv"):
        raise invalid("--output", "a name that ends in .json or .csv", str(output))
    with _quiet_start():
        from tfbnn.data import Target
        from tfbnn.evaluation import score_detection, score_intervals
        from tfbnn.export import load_saved_model
    served = load_saved_model(model)
    spec = _from_recipe(served)["data"]
    frame = _read_rows(rows)
    others = frame[:0] if out_rows is None else _read_rows(out_rows)
    if spec["target"] not in frame.columns:
        raise invalid(str(rows), f"a column '{spec['target']}', the target", list(frame.columns))
    with _told_of(rows, "data.target"):
        y = Target.from_dict(served.about["target"]).encode(frame[spec["target"]])
        served.likelihood.check_target("data.target", y)
    level = served.about["model"]["level"]
    told = {}
    with out.status("Predicting and scoring ..."):
        with _told_of_columns(rows, served):
            prediction = served.predict_distribution(frame)
        if out_rows is not None:
            with _told_of_columns(out_rows, served):
                told = score_detection(prediction, served.predict_distribution(others))
        replicates = 1000 if prediction.num_rows <= MANY_ROWS else 200
        found = score_intervals(prediction, y, level, served.conformal, served.decision, detail, replicates=replicates)
    values = {name: estimate.value for name, estimate in found.items()}
    print_scores(values, f"Scores of {_many(prediction.num_rows, 'row')}", level, found)
    _tell_if_all_are_referred(values.get("referred"))
    if out_rows is not None:
        print_detection(told, f"{len(frame)} rows of {rows.name} beside {len(others)} of {out_rows.name}")
    if output is not None:
        _write_scores(output, found | {f"{by}_{name}": one for by, of in told.items() for name, one in of.items()})
        out.print(escape(f"Scores written to {output}"), soft_wrap=True)


@app.command()
def report(
    model: Model,
    rows: Annotated[
        Path | None, typer.Argument(metavar="[ROWS]", help="CSV or Parquet with the target; default: held-out rows.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="FILE.html, or FILE.md for the model card alone."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE where it exists.")] = False,
) -> None:
    """Write the report of a SavedModel, and its model card.

    Without -o both go into the folder of the model, in the place of those there; of other ROWS than those held out,
    report_ROWS.html beside them.
    """
    _refuse_output(output, overwrite)
    if output is not None and output.suffix not in (".html", ".md"):
        raise invalid("--output", "a name that ends in .html or .md", str(output))
    with _quiet_start():
        from tfbnn.export import load_saved_model
        from tfbnn.report import gather, html_report, model_card, write_report, write_text
    served = load_saved_model(model)
    _from_recipe(served)
    if rows is None:
        evidence = gather(served)
    else:
        frame = _read_rows(rows)
        with _told_of(rows, "data.target"), _told_of_columns(rows, served):
            evidence = gather(served, frame, rows.name)
    if output is None and rows is None:
        made = write_report(evidence)
    else:
        make = model_card if output is not None and output.suffix == ".md" else html_report
        chosen = output or served.path / f"report_{rows.stem}.html"  # type: ignore[union-attr]  # one of both is given
        made = [write_text(chosen, make(evidence), "--output")]
    out.print(escape("Written: " + ", ".join(map(str, made))), soft_wrap=True)


@app.command()
def predict(
    model: Model,
    rows: Rows,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="Write all rows: OUT.csv or OUT.parquet; else print some."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")] = False,
    num_samples: Annotated[
        int | None, typer.Option(help="S, draws of the weights; default: as fixed at export.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draws; default: as fixed at export.")] = None,
    abstain_above: Annotated[
        float | None, typer.Option(help="Uncertainty above which a row is referred; default: as fixed at export.")
    ] = None,
) -> None:
    """Predict the rows of a CSV or Parquet file, with uncertainty.

    Each answer comes with its interval and the epistemic / aleatoric split.
    """
    _refuse_output(output, overwrite)
    if num_samples is not None:
        positive_integer("--num-samples", num_samples)
    with _quiet_start():
        from tfbnn.core.noise import check_seed
        from tfbnn.data import check_format
        from tfbnn.export import load_saved_model
        from tfbnn.prediction.prediction import columns
    if output is not None:
        check_format(output, "--output")
    if seed is not None:
        check_seed("--seed", seed)
    if abstain_above is not None:
        finite_number("--abstain-above", abstain_above)
    served = load_saved_model(model)
    frame = _read_rows(rows)
    with _told_of_columns(rows, served), _told_by({"abstain_above": "--abstain-above"}):
        named = columns(served.predict(frame, num_samples, seed, abstain_above), served.labels)
    if output is None:
        known = known_target(served, frame)
        level, counts = served.about["model"]["level"], served.likelihood.is_discrete
        print_predictions(known | named, level, next(iter(known), None), counts)
        _tell_if_all_are_referred(named["abstain"].mean() if "abstain" in named else None)
    else:
        _write_predictions(output, frame, named)
        out.print(escape(f"{len(frame)} predictions written to {output}"), soft_wrap=True)


@app.command()
def describe(model: Model) -> None:
    """Tell what a SavedModel takes in and answers."""
    with _quiet_start():
        from tfbnn.export.served_model import read_about
        from tfbnn.export.versions import newest_version
    path = newest_version(model)
    about = read_about(path)
    print_model(path, about["model"])
    print_inputs(about.get("schema"))
    print_outputs(about["model"])
    if "recipe" in about:
        print_recipe(about["recipe"])
    if "scores" in about:
        print_scores(about["scores"], "Scores of its held-out rows", about["model"]["level"])
    out.print("\n[bold]Made with[/]  " + ", ".join(f"{name} {number}" for name, number in about["versions"].items()))


@app.command()
def recipes(folder: Annotated[Path, typer.Argument(help="Where to look.")] = Path("recipes")) -> None:
    """List the recipes in a folder."""
    import yaml

    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise invalid("folder", "a folder that holds recipes (*.yaml)", str(folder))
    table = empty_table("recipe", "what")
    for file in files:
        with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError, OSError):
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            if isinstance(content, dict) and "data" in content:
                table.add_row(escape(str(file)), escape(str(content.get("description", ""))))
    out.print(table)
    out.print("\ntfbnn train RECIPE runs one; --set training.epochs=50 changes a setting.")


@app.command()
def doctor() -> None:
    """Print versions, and try each device."""
    with _quiet_start():
        import tensorflow as tf

        from tfbnn.export.saved_model import versions
    table = empty_table("package", "version")
    for name, number in versions().items():
        table.add_row(name, number)
    out.print(table)
    for device in tf.config.list_logical_devices():
        out.print(f"{device.name}  [green]works[/]" if _works(device.name) else f"{device.name}  [red]fails[/]")
    if not tf.config.list_physical_devices("GPU"):
        out.print("No GPU is seen by TensorFlow: all runs on the CPU.")
        out.print(escape("Where there is an NVIDIA GPU: pip install 'tfbnn[gpu]'"))


# --- around the commands ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _before_export() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise _Interrupted(f"Nothing was exported. {interrupt}".rstrip()) from None


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
        warnings.filterwarnings("ignore", "(Not converged|Not checked|Converged)")  # of chains: their table tells it
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


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


@contextlib.contextmanager
def _told_of_columns(path: Path, served: Any) -> Iterator[None]:
    """An error about a column, or about which columns there are, names the file too."""
    known = [column.name for column in served.schema.columns] if served.schema else []
    try:
        yield
    except InvalidInput as error:
        if error.where in known:
            raise error.at(f"column '{error.where}' of {path}") from None
        raise error.at(str(path)) if error.where in ("columns", "rows", "x") else error from None


@contextlib.contextmanager
def _told_by(options: dict[str, str]) -> Iterator[None]:
    """An error about an argument is told of the option or file that gave it."""
    try:
        yield
    except InvalidInput as error:
        raise error.at(options[error.where]) if error.where in options else error from None


def _tell_if_all_are_referred(share: float | None) -> None:
    if share == 1.0:
        out.print("Every row is referred: the model decides nothing.")


def _many(count: int, thing: str) -> str:
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def _refuse_labels_not_given(kept: Any, written: Path) -> None:
    """The next question is not written over labels that were not given back."""
    if given := kept.not_given(written):
        mend = f"Give them by --labels {written}, or the next question another name by -o."
        raise invalid("--labels", f"the {_many(len(given), 'label')} that {written} holds", "other labels", mend)


def _write_question(rows: Any, written: Path, again: list[Any]) -> None:
    """The rows to label as a file, and what to do with it."""
    from tfbnn.data import write_frame

    write_frame(rows, written, "--output")
    told = f"{written} has {_many(len(rows), 'row')} to label. Fill in the column '{rows.columns[1]}', then:"
    out.print(escape(told), soft_wrap=True)
    out.print(escape(" ".join(map(str, [*again, "--labels", written]))), soft_wrap=True)


def _from_recipe(served: Any) -> dict[str, Any]:
    if "recipe" not in served.about:
        raise invalid("MODEL", "a model exported by `tfbnn train`, which tells its target", str(served.path))
    return served.about["recipe"]


def _refuse_output(output: Path | None, overwrite: bool) -> None:
    if output is not None and output.is_dir():
        raise invalid("--output", "the name of a file", str(output), "It is a folder.")
    if output is not None and not output.parent.is_dir():
        mend = f"There is no folder {output.parent}."
        raise invalid("--output", "a file that can be written, in a folder that exists", str(output), mend)
    if output is not None and output.exists() and not overwrite:
        raise invalid("--output", "a file that does not exist yet", str(output), "Add --overwrite to replace it.")


def _write_predictions(output: Path, frame: Any, named: dict[str, Any]) -> None:
    import pandas as pd

    from tfbnn.data import write_frame

    prefix = "prediction_" if set(named) & set(frame.columns) else ""
    predictions = pd.DataFrame(named).add_prefix(prefix)
    write_frame(pd.concat([frame, predictions], axis=1), output, "--output")


def _write_scores(output: Path, found: dict[str, Any]) -> None:
    """A score a row, or a key of JSON: value, lower, upper; whole or not at all."""
    import pandas as pd

    from tfbnn.report import write_text

    numbers = {name: {key: None if value != value else value for key, value in dataclasses.asdict(estimate).items()}
               for name, estimate in found.items()}  # fmt: skip
    table = pd.DataFrame.from_dict(numbers, orient="index").rename_axis("score")
    text = table.to_csv() if output.suffix == ".csv" else json.dumps(numbers, indent=1) + "\n"
    write_text(output, text, "--output")


def _works(device: str) -> bool:
    import tensorflow as tf

    from tfbnn.layers import DenseFlipout

    try:
        with tf.device(device):
            return bool(tf.reduce_all(tf.math.is_finite(DenseFlipout(4)(tf.ones([2, 3])))))
    except tf.errors.OpError:
        return False


if __name__ == "__main__":
    main()
