"""What was trained, how training went, and what became of the weights."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from tfbnn.core.wording import as_known, unsettled
from tfbnn.plots import parts_of_elbo, plot_elbo
from tfbnn.report.base import Picture, Section, Table, Text
from tfbnn.report.evidence import Evidence

_PARTS = {
    "terms": "The ELBO and its log likelihood, nats of the training rows; the first tenth of the epochs may lie below "
    "the picture. Flat at the right end: training had settled.",
    "kl": "How far the posterior of the weights is from their prior, nats. Still rising or falling at the right end: "
    "more epochs would change the model.",
    "validation": "Log likelihood of training rows that were watched, not trained on. Falling at the right end: the "
    "model learned them by heart.",
}


def what_was_trained(evidence: Evidence) -> Section:
    """The recipe in a table."""
    return Section("What was trained", [Table(("", ""), facts(evidence), is_text=True)])


def facts(evidence: Evidence) -> list[tuple[str, str]]:
    """What, of what, when, by which versions."""
    recipe, trained = evidence.recipe, evidence.about.get("trained", {})
    data, schema, settings = recipe["data"], evidence.about["schema"], evidence.about["model"]
    before = evidence.about.get("prior_from")
    versions = ", ".join(f"{name} {number}" for name, number in evidence.about["versions"].items())
    told = {
        "Target": f"{evidence.target}, " + (f"one of {', '.join(evidence.labels)}" if evidence.labels else "a number"),
        "Data": data["source"],
        "Rows": _rows(trained.get("rows", {})),
        "Columns": f"{len(schema['columns'])}, which become {trained['features']} features" if trained else "",
        "Left out": "; ".join(f"{name}: {reason}" for name, reason in schema.get("left_out", {}).items()),
        "Network": _options({**recipe["model"], **({"prior": f"the posterior of {before}"} if before else {})}),
        "Likelihood": in_words(recipe["likelihood"]),
        "Method": in_words({**recipe["inference"], "class": evidence.method, "method": None}),
        "Training": f"{recipe['training']['epochs']} epochs, batches of {recipe['training']['batch_size']}, learning "
        f"rate {in_words(recipe['training']['learning_rate'])}, beta {in_words(recipe['training']['beta'])}",
        "After training": _steps(settings),
        "Answers": f"the average over S = {settings['num_samples']} draws of the weights, seed {settings['seed']}",
        "Trained on": trained.get("date", ""),
        "Made with": versions,
        "Model": str(evidence.path),
    }
    return [(name, text) for name, text in told.items() if text]


def _rows(rows: Mapping[str, int]) -> str:
    if not rows:
        return ""
    kept = f"{rows['calibration']:,} to calibrate on, " if rows["calibration"] else ""
    return f"{rows['training']:,} to train on, {kept}{rows['held_out']:,} held out"


def _steps(settings: Mapping[str, Any]) -> str:
    """What was fitted on calibration rows."""
    steps = (settings.get("recalibration"), settings.get("conformal"), settings.get("decision"))
    return "; ".join(in_words({**step["config"], "class": step["class_name"]}) for step in steps if step)


def in_words(value: Any) -> str:
    """A setting of a recipe: `Normal (scale 0.3)`."""
    if isinstance(value, Mapping):
        options = _options({name: part for name, part in value.items() if name != "class"})
        named = str(value.get("class", ""))
        return f"{named} ({options})" if named and options else named or options
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _options(settings: Mapping[str, Any]) -> str:
    given = {name: value for name, value in settings.items() if value is not None and value != {} and value != []}
    return "; ".join(f"{name.replace('_', ' ')} {in_words(value)}" for name, value in given.items())


def how_training_went(evidence: Evidence) -> Section | None:
    """The terms of the ELBO over the epochs."""
    found = evidence.extra("history")
    history = {} if found is None else {str(name): found[name].to_numpy() for name in found}
    pictures = [Picture(functools.partial(plot_elbo, history, part), _PARTS[part]) for part in parts_of_elbo(history)]
    if not pictures:
        return None
    doubt = unsettled(list(history.get("kl", ())), evidence.recipe["training"]["epochs"])
    told = [Text(doubt)] if doubt else []
    return Section("How training went", [Table(("last epoch", "nats"), _last(history)), *told, *pictures])


def _last(history: Mapping[str, Any]) -> list[tuple[str, str]]:
    has_kl = "kl" in parts_of_elbo(history)  # points and chains have none
    words = {
        "log_likelihood": "log likelihood of the training rows",
        **({"kl": "KL(q || p)", "elbo": "ELBO = log likelihood - KL"} if has_kl else {}),
        "val_log_likelihood": "log likelihood of a watched row",
    }
    return [
        (text, f"{history[name][-1]:,.3f}" if name.startswith("val") else f"{history[name][-1]:,.0f}")
        for name, text in words.items()
        if name in history
    ]


def posterior(evidence: Evidence) -> Section | None:
    """A row a layer: `posterior_summary`, as it was written at the export."""
    found = evidence.extra("posterior")
    if found is None:
        return None
    headings = ("layer", "weights", "mean scale", "signal / noise 25%", "50%", "75%", "KL, nats")
    has_kl = found["kl"].notna().any()
    rows = [_of_layer(*values) for values in found.itertuples(index=False)]
    told = (
        "Signal / noise is |mean| / standard deviation of a weight, here its quartiles. Below 1 the sign of a weight "
        "is open: the data did not need it."
    )
    told += " A large KL says that the data moved the layer far from its prior." if has_kl else ""
    cut = None if has_kl else -1
    return Section("Posterior of the weights", [Text(told), Table(headings[:cut], [row[:cut] for row in rows])])


def _of_layer(layer: str, weights: int, scale: float, *numbers: float) -> tuple[str, ...]:
    *quartiles, kl = numbers
    digits = (as_known([value], is_share=False)[0] if pd.notna(value) else "-" for value in (scale, *quartiles))
    return (str(layer), f"{weights:,}", *digits, f"{kl:,.1f}" if pd.notna(kl) else "-")
