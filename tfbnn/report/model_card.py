"""The model card: what a model is, what it is for, how good, and where its limits are, as Markdown."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from tfbnn.report.base import Block, Table, Text
from tfbnn.report.evidence import Evidence
from tfbnn.report.limits import limits
from tfbnn.report.quality import conformal, scores, verdict
from tfbnn.report.referral import gained
from tfbnn.report.training import facts

OWNER = "*The owner of the model must fill this in:"
HOW_TO = """```sh
tfbnn predict $path ROWS.csv -o ANSWERS.csv
tfbnn describe $path
tfbnn report $path
```

```python
import tfbnn

model = tfbnn.load_saved_model($quoted)
answers = model.predict(frame)  # a DataFrame with the columns of the training data
```

`report.html` beside this file has the pictures; TF Serving takes the folder above as it is."""
_MARKED = re.compile(r"([\\`*_{}\[\]<>#|$~])")  # what Markdown, or HTML in it, would read as more than itself
_OF_DATA = ("Target", "Data", "Rows", "Columns", "Left out")


def model_card(evidence: Evidence) -> str:
    """The card, with the headings of the paper; what no recipe knows is left to the owner, and said so.

    Args:
        evidence: of `gather` or `of_trained`.

    Example:
        >>> print(model_card(gather(tfbnn.load_saved_model("saved_models/diabetes"))))

    Reference: Mitchell et al. 2019, "Model Cards for Model Reporting".
    """
    told = facts(evidence)
    data = [line for line in told if line[0] in _OF_DATA]
    model = [line for line in told if line[0] not in _OF_DATA]
    parts: dict[str, Sequence[Block]] = {
        "Model details": [Table(("", ""), model, is_text=True)],
        "Intended use": _intended_use(evidence),
        "Data": [Table(("", ""), data, is_text=True)],
        "Metrics": [Text(_metrics(evidence))],
        "Quantitative analyses": [Text(verdict(evidence)), *scores(evidence), *_decided(evidence)],
        "Limits": [Raw("\n".join(f"- {_escaped(sentence)}" for sentence in limits(evidence)))],
    }
    lines = [f"# Model card: {_escaped(str(evidence.recipe['name']))}"]
    for title, blocks in parts.items():
        lines += ["", f"## {title}"]
        lines += [line for block in blocks for line in ("", _markdown(block))]
    lines += ["", "## Ethical considerations", "", f"{OWNER} whom do wrong answers harm, and who decides in the end?*"]
    lines += ["", "## How to use it", "", _how_to(evidence)]
    return "\n".join(lines) + "\n"


def _intended_use(evidence: Evidence) -> list[Block]:
    description = str(evidence.recipe.get("description", "")).strip()
    known: list[Block] = [Text(description)] if description else []
    return [*known, Raw(f"{OWNER} who shall use it for what, and what is it not for?*")]


class Raw(Text):
    """Markdown of our own."""


def _metrics(evidence: Evidence) -> str:
    of_kind = (
        "Brier score judge the probabilities, accuracy the named class, the calibration error whether probabilities "
        "are frequencies."
        if evidence.is_classifier
        else "CRPS judge the whole predictive distribution, the errors its mean, coverage and width the intervals."
    )
    return f"Log likelihood and {of_kind} Each is told with a bootstrap interval of 95%."


def _decided(evidence: Evidence) -> list[Block]:
    told = conformal(evidence)
    return [*(told.blocks if told else []), *([Text(gained(evidence))] if evidence.decision is not None else [])]


def _how_to(evidence: Evidence) -> str:
    return string.Template(HOW_TO).substitute(path=evidence.path, quoted=repr(str(evidence.path)))


def _markdown(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    return block.words if isinstance(block, Raw) else _escaped(block.words)


def _table(table: Table) -> str:
    kind = "---" if table.is_text else "---:"
    rule = "|".join(["---", *[kind] * (len(table.headings) - 1)])
    return "\n".join([_line(table.headings), f"|{rule}|", *map(_line, table.rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(" ".join(str(cell).split())) for cell in cells) + " |"


def _escaped(text: str) -> str:
    return _MARKED.sub(r"\\\1", text)
