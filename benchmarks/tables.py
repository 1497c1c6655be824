"""The tables of docs/layers.md: what each layer, posterior and prior is, from their docstrings."""

from __future__ import annotations

import argparse
import inspect
import re
from pathlib import Path
from typing import Any

from tfbnn import layers, posteriors, priors

PAGE = Path(__file__).parent.parent / "docs" / "layers.md"
FAMILIES = {"layers": layers, "posteriors": posteriors, "priors": priors}
ABSTRACT = {"VariationalLayer", "Posterior", "WeightPosterior", "GaussianWeightPosterior", "Prior", "WeightPrior"}


def main(arguments: list[str]) -> None:
    """Writes the tables into the page, between their marks."""
    argparse.ArgumentParser(prog="python -m benchmarks tables", description=__doc__).parse_args(arguments)
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"Written: {PAGE}")


def with_tables(page: str) -> str:
    """The page with the tables as the docstrings have them now."""
    for name, family in FAMILIES.items():
        marks = rf"(<!-- table of {name} -->\n).*?(<!-- end -->)"
        page = re.sub(marks, lambda found, family=family: f"{found[1]}{table(family)}\n{found[2]}", page, flags=re.S)
    return page


def table(family: Any) -> str:
    """Markdown: a row a public class."""
    found = [getattr(family, name) for name in family.__all__ if name not in ABSTRACT]
    lines = ["| name | what | when | cost | reference |", "|---|---|---|---|---|"]
    for cls in filter(inspect.isclass, found):
        told = " | ".join([what(cls), *(part(cls, name) for name in ("When", "Cost", "Reference"))])
        lines.append(f"| `{cls.__name__}` | {told} |")
    return "\n".join(lines)


def what(cls: type) -> str:
    """The first sentence of the docstring."""
    return _cell(inspect.getdoc(cls).split("\n\n")[0]).removesuffix(".")  # type: ignore[union-attr]


def part(cls: type, name: str) -> str:
    """What follows `name:`, of the class or of the one that it is made of; "" where none tells it."""
    for own in cls.__mro__:
        if found := re.search(rf"^ *{name}: (.*?)(\n\n|\n *[A-Z][a-z]+:|\Z)", own.__doc__ or "", re.S | re.M):
            return _cell(found[1])
    return ""


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", r"\|").strip().removesuffix(".")
