"""A small table as hospitals have them: text, gaps, a truth value, a constant, names that are no identifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TARGETS = ("score", "outcome", "grade")


def rows(count: int = 90, seed: int = 0) -> pd.DataFrame:
    """Features, and three targets: `score` (a number), `outcome` (two classes), `grade` (three)."""
    rng = np.random.default_rng(seed)
    age, radius = rng.integers(20, 80, count), rng.normal(12.0, 3.0, count)
    ward = rng.choice(["north", "south", "east"], count)
    score = 0.5 * age - 2.0 * radius + 5.0 * (ward == "east") + rng.normal(0.0, 2.0, count)
    frame = pd.DataFrame(
        {
            "age": age,
            "mean radius": np.where(rng.random(count) < 0.1, np.nan, radius.round(3)),
            "BMI": rng.normal(25.0, 3.0, count).round(2),
            "bmi": rng.normal(25.0, 3.0, count).round(2),
            "ward": np.where(rng.random(count) < 0.1, None, ward),
            "2nd visit": rng.random(count) < 0.5,
            "seed": rng.integers(0, 9, count),
            "num_samples": rng.integers(1, 5, count),
            "site": "main",
            "score": score.round(3),
            "outcome": np.where(score > np.median(score), "ill", "well"),
        }
    )
    return frame.assign(grade=pd.qcut(frame["score"], 3, labels=["a", "b", "c"]).astype(str))


def features(count: int = 90, seed: int = 0) -> pd.DataFrame:
    """The rows without their targets."""
    return rows(count, seed).drop(columns=list(TARGETS))


def recipe(csv: Path, target: str, likelihood: Any, **sections: Any) -> dict[str, Any]:
    """A recipe of 3 epochs on a CSV file of `rows`; `sections` are merged in."""
    content: dict[str, Any] = {
        "name": "clinic",
        "data": {"source": str(csv), "target": target, "exclude": [name for name in TARGETS if name != target]},
        "model": {"hidden": [6], "prior": {"class": "Normal", "scale": 0.5}, "posterior": {"class": "MeanField"}},
        "likelihood": likelihood,
        "training": {"epochs": 3, "batch_size": 16},
        "prediction": {"num_samples": 20},
        "export": {"report": False},  # a second that most tests can do without
    }
    for name, section in sections.items():
        content[name] = {**content.get(name, {}), **section} if isinstance(section, dict) else section
    return content
