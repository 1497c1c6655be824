"""The report and the model card: of every kind of target, whole, self-contained, and of hostile names."""

import collections
import html.parser
import json
import re

import numpy as np
import pandas as pd
import pytest

import clinic
import tfbnn
from tfbnn import calibration, decision, likelihoods, report
from tfbnn.core.wording import as_known
from tfbnn.data import Schema, Target
from tfbnn.evaluation import with_interval
from tfbnn.prediction import Prediction
from tfbnn.report.base import Picture, Table, Text
from tfbnn.report.limits import OF_METHODS, limits
from tfbnn.report.page import NO_PICTURES, sections
from tfbnn.report.quality import coverage_in_words, verdict
from tfbnn.report.referral import gained, risk_of

pytest.importorskip("matplotlib", reason="needs the extra tfbnn[plots]")

B, S = 40, 12
EVIL = '<script>alert("$x$")</script> & $y_{1$'


def parameters(kind, rows, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "numbers":
        return np.stack([rng.normal(5.0, 1.0, [S, rows]), rng.uniform(1.0, 2.0, [S, rows])], axis=-1)
    return rng.normal(0.5, 1.0, [S, rows, 3 if kind == "three" else 1])


KINDS = {
    "numbers": (lambda: likelihoods.Normal(), "Normal", []),
    "counts": (lambda: likelihoods.Poisson(), "Poisson", []),
    "two": (lambda: likelihoods.Bernoulli(), "Bernoulli", ["no", "yes"]),
    "three": (lambda: likelihoods.Categorical(3), "Categorical", ["a", "b", "c"]),
}


def evidence_of(folder, kind="numbers", rows=B, target="y", column="x", y=None, steps=None, history=None):
    """Evidence of predictions made up here, on rows with a number, a text and gaps."""
    make, name, labels = KINDS[kind]
    rng = np.random.default_rng(1)
    drawn = {"numbers": rng.normal(5.0, 2.0, rows).round(3), "counts": rng.poisson(2.0, rows)}
    drawn = drawn.get(kind, rng.choice(labels or [""], rows)) if y is None else y
    if labels and y is None:
        drawn[: min(rows, len(labels))] = labels[:rows]
    features = pd.DataFrame({column: rng.normal(size=max(rows, 2)), "ward": ["n", None] * max(1, (rows + 1) // 2)})
    schema = Schema.fit(features)
    frame = features.iloc[:rows].assign(**{target: drawn})
    recipe = {"name": "<b>made</b> up", "data": {"source": "a.csv", "target": target}, "likelihood": name}
    steps = steps or {}
    about = {
        "recipe": tfbnn.Recipe.from_dict({**recipe, "name": "made | up"}).resolved() | {"description": EVIL},
        "target": Target("classes" if labels else "real", tuple(labels)).to_dict(),
        "schema": schema.to_dict(),
        "versions": {"tfbnn": "0"},
        "inference": {"method": "VariationalInference"},
        "model": {"level": 0.9, "labels": labels or None, "num_samples": S, "seed": 0, **steps},
    }
    about = json.loads(json.dumps(about))
    (folder / "made" / "1" / "assets.extra").mkdir(parents=True)
    if history is not None:
        pd.DataFrame(history).to_csv(folder / "made" / "1" / "assets.extra" / "history.csv", index=False)
    return report.Evidence(folder / "made" / "1", about, frame, Prediction(parameters(kind, rows), make()))


class Page(html.parser.HTMLParser):
    """Tags and ids of a page, and whether each tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.open, self.links, self.words = collections.Counter(), [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("href", "src", "xlink:href") if name in found]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def text_of(evidence):
    """All words of the sections."""
    blocks = [block for section in sections(evidence) for block in section.blocks]
    lines = [row for block in blocks if isinstance(block, Table) for row in [block.headings, *block.rows]]
    return " ".join(
        [*(block.words for block in blocks if isinstance(block, Text)), *(" ".join(line) for line in lines)]
    )


def pictures_of(evidence):
    return [block for part in sections(evidence) for block in part.blocks if isinstance(block, Picture)]


@pytest.fixture
def without_pictures(monkeypatch):
    monkeypatch.setattr("tfbnn.report.page.can_draw", lambda: False)


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_whole_and_needs_nothing_beside_it(kind, tmp_path):
    evidence = evidence_of(
        tmp_path, kind, history={"log_likelihood": [-9.0, -8.0], "kl": [2.0, 1.0], "elbo": [-11, -9]}
    )
    text = report.html_report(evidence)
    page = Page(text)
    assert page.open == []
    assert page.tags["script"] == page.tags["link"] == 0
    assert page.tags["svg"] == len(pictures_of(evidence))
    assert page.tags["svg"] >= 5
    assert len(set(page.ids)) == len(page.ids)
    pointed = [link.removeprefix("#") for link in page.links] + re.findall(r"url\(#([^)]*)\)", text)
    assert set(pointed) <= set(page.ids)
    assert "currentColor" in text
    assert "#010203" not in text


def test_a_kl_that_still_falls_is_told(tmp_path):
    epochs = tfbnn.recipes.spec.TrainingSpec().epochs
    flat, falling = np.ones(epochs), np.linspace(20.0, 1.0, epochs)
    history = {"log_likelihood": flat, "elbo": flat}
    assert "still falling" in text_of(evidence_of(tmp_path / "a", history=history | {"kl": falling}))
    assert "still falling" not in text_of(evidence_of(tmp_path / "b", history=history | {"kl": flat}))


def test_a_picture_is_the_same_each_time(tmp_path):
    from tfbnn.report.pictures import svg

    picture = pictures_of(evidence_of(tmp_path))[0]
    assert svg(picture, "a") == svg(picture, "a")


def test_twin_two_pictures_of_one_name_collide(tmp_path):
    from tfbnn.report.pictures import svg

    picture = pictures_of(evidence_of(tmp_path))[0]
    twice = [Page(svg(picture, name)).ids for name in ("a", "a", "b")]
    assert set(twice[0]) == set(twice[1])
    assert not set(twice[0]) & set(twice[2])


@pytest.mark.parametrize("kind", ["numbers", "two"])
def test_names_from_a_table_are_words_and_never_markup(kind, tmp_path):
    evidence = evidence_of(tmp_path, kind, target=EVIL, column="<img src=x onerror=alert(1)>")
    page = Page(report.html_report(evidence))
    assert page.tags["script"] == page.tags["img"] == page.tags["b"] == 0
    assert any(EVIL in words for words in page.words)
    card = report.model_card(evidence)
    assert not re.search(r"(?<!\\)<", card)
    assert "made \\| up" in card


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_is_enough(kind, tmp_path):
    evidence = evidence_of(tmp_path, kind, rows=1)
    assert Page(report.html_report(evidence)).open == []
    assert "1 row held out" in report.model_card(evidence)


@pytest.mark.parametrize(
    ("kind", "y"), [("numbers", np.full(B, 3.5)), ("counts", np.zeros(B, int)), ("two", ["no"] * B)]
)
def test_a_constant_target_can_be_told(kind, y, tmp_path):
    assert Page(report.html_report(evidence_of(tmp_path, kind, y=y))).open == []


def test_without_matplotlib_there_are_words_and_tables(tmp_path, monkeypatch):
    evidence = evidence_of(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    text = report.html_report(evidence)
    page = Page(text)
    assert page.tags["svg"] == page.tags["figure"] == 0
    assert page.tags["table"] >= 5
    assert any(NO_PICTURES in words for words in page.words)


# --- what it says -----------------------------------------------------------------------------------------------------


def test_intervals_are_judged_by_what_they_hold(tmp_path):
    drawn = Prediction(parameters("numbers", B), likelihoods.Normal()).sample(1, seed=0).reshape(-1)
    good = evidence_of(tmp_path / "good", y=drawn)
    assert "what they promise" in coverage_in_words(good)
    assert "too sure" in coverage_in_words(evidence_of(tmp_path / "sure", y=np.linspace(-50.0, 50.0, B)))
    assert "too cautious" in coverage_in_words(evidence_of(tmp_path / "cautious", y=np.full(B, 5.0)))


def test_a_model_no_better_than_one_answer_is_told(tmp_path):
    assert "was not shown" in verdict(evidence_of(tmp_path, "two"))
    right = evidence_of(tmp_path / "same", "three").prediction.probabilities.argmax(axis=1)
    labels = np.array(KINDS["three"][2])
    told = verdict(evidence_of(tmp_path / "right", "three", y=labels[right]))
    assert "the right class in 100.0% (91.2% to 100.0%)" in told
    assert "was not shown" not in told
    assert "worse" not in told
    told = verdict(evidence_of(tmp_path / "wrong", "three", y=labels[np.where(right == 0, 1, 0)]))
    assert "It is worse than that." in told


def test_a_referral_is_told_with_what_it_gained(tmp_path):
    chosen = decision.refer_share(Prediction(parameters("two", B), likelihoods.Bernoulli()), 0.4)
    evidence = evidence_of(tmp_path, "two", steps={"decision": decision.serialize(chosen)})
    abstain = chosen(evidence.prediction)["abstain"]
    wrong = risk_of(evidence).loss
    assert f"{abstain.mean():.1%} of these" in gained(evidence)
    assert f"of the others is {wrong[~abstain].mean():.0%}" in gained(evidence)
    gain = with_interval(lambda loss, referred: loss.mean() - loss[~referred].mean(), wrong, abstain).lower
    assert ("That it is lower was not shown" in gained(evidence)) == (gain <= 0)
    assert gained(evidence_of(tmp_path / "none", "two")) == ""
    everything = {"decision": decision.serialize(decision.Referral("error_probability", 0.0))}
    assert "decides nothing" in gained(evidence_of(tmp_path / "all", "two", steps=everything))
    nothing = {"decision": decision.serialize(decision.Referral("error_probability", 0.499999))}
    assert "makes no difference" in gained(evidence_of(tmp_path / "nothing", "two", steps=nothing))


def test_costs_are_told_beside_those_of_acting_and_referring(tmp_path):
    costs = decision.CostMatrix({"act": [0.0, 5.0], "leave": [1.0, 0.0]}, refer=0.4)
    evidence = evidence_of(tmp_path, "two", steps={"decision": decision.serialize(costs)})
    found = {name: told.value for name, told in evidence.decided.items()}
    never = risk_of(evidence).loss
    assert never.mean() == pytest.approx(found["cost_without_referral"])
    told = gained(evidence)
    assert f"cost {found['cost']:.3g} a row" in told
    saved = [float(number) for number in re.findall(r"(-?[\d.]+) \(", told)]
    others = np.array([found["cost_without_referral"], found["cost_of_referring_all"]])
    np.testing.assert_allclose(saved, others - found["cost"], atol=0.0051)
    assert "cost a row of the rest" in text_of(evidence)


@pytest.mark.parametrize(
    ("kind", "conformal"),
    [("numbers", calibration.StandardisedResidual(0.9, 1.5)), ("three", calibration.LAC(0.9, 0.8))],
)
def test_conformal_coverage_is_told_where_there_is_one(kind, conformal, tmp_path):
    evidence = evidence_of(tmp_path, kind, steps={"conformal": calibration.serialize(conformal)})
    assert "Conformal coverage" in [part.title for part in sections(evidence)]
    coverage = evidence.decided["conformal_coverage"]
    value, lower, upper = as_known([coverage.value, coverage.lower, coverage.upper], is_share=True)
    assert f"(wanted: 90%) {value} {lower} to {upper}" in text_of(evidence)
    assert "not for each group" in report.model_card(evidence)
    assert "Conformal coverage" not in [part.title for part in sections(evidence_of(tmp_path / "none", kind))]


def test_rows_are_shown_in_the_order_of_their_certainty(tmp_path):
    evidence = evidence_of(tmp_path, "three")
    [part] = [part for part in sections(evidence) if part.title.startswith("Most and least")]
    surest, least = (block for block in part.blocks if isinstance(block, Table))
    order = np.argsort(-evidence.prediction.probabilities.max(axis=1))
    assert [int(row[0]) for row in surest.rows] == list(order[:5])
    assert [int(row[0]) for row in least.rows] == list(order[::-1][:5])
    cells = dict(zip(surest.headings, surest.rows[0], strict=True))
    assert cells["truth"] == evidence.frame["y"].iloc[order[0]]
    assert float(cells["x "]) == pytest.approx(evidence.frame["x"].iloc[order[0]], rel=1e-5)


def test_every_method_has_its_limits(tmp_path):
    assert set(OF_METHODS) == set(tfbnn.inference.__all__)
    evidence = evidence_of(tmp_path)
    assert OF_METHODS["VariationalInference"] in limits(evidence)
    evidence.about["inference"]["message"] = "Not converged: <b>"
    assert "The method says: Not converged: <b>" in limits(evidence)


@pytest.mark.usefixtures("without_pictures")
def test_a_comparison_beside_the_model_is_taken_in(tmp_path):
    evidence = evidence_of(tmp_path)
    titles = [part.title for part in sections(evidence)]
    folder = tmp_path / "made.comparison"
    folder.mkdir()
    (folder / "comparison.md").write_text(
        "| method | TV near |\n|---|---|\n| NUTS | - |\n\nlegend\n\nClosest to NUTS.\n"
    )
    (folder / "comparison.png").write_bytes(b"\x89PNG")
    told = {"recipe": {**evidence.recipe, "likelihood": "StudentT"}}
    (folder / "comparison.json").write_text(json.dumps(told))
    [added] = [part for part in sections(evidence) if part.title not in titles]
    assert [block.rows for block in added.blocks if isinstance(block, Table)] == [[["NUTS", "-"]]]
    assert Text("Closest to NUTS.") in added.blocks
    assert "recipe as it was" in added.blocks[0].words
    (folder / "comparison.json").write_text(json.dumps({"recipe": evidence.recipe}))
    assert "recipe as it was" not in text_of(evidence)
    assert 'src="data:image/png;base64,' in report.html_report(evidence)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_pictures")
def test_what_is_written_replaces_and_leaves_nothing_else(tmp_path):
    evidence = evidence_of(tmp_path)
    (evidence.path / "report.html").write_text("old")
    page, card = report.write_report(evidence)
    assert page.read_text() == report.html_report(evidence)
    assert card.read_text() == report.model_card(evidence)
    assert sorted(path.name for path in evidence.path.iterdir()) == ["assets.extra", "model_card.md", "report.html"]


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "a.html").mkdir()
    with pytest.raises(tfbnn.core.checks.InvalidInput, match=r"`--output`.*a file that can be written"):
        report.write_text(tmp_path / "a.html", "text", "--output")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_a_clinic_has_the_columns_that_a_table_may_have():
    """The twin of the made-up rows: gaps, text and truth values pass through the table of rows as they are."""
    from tfbnn.report.rows import _as_written

    rows = clinic.rows(20)
    assert _as_written(rows["ward"])[:1] == [rows["ward"].iloc[0] or ""]
    assert set(_as_written(rows["2nd visit"])) <= {"True", "False"}
    assert _as_written(pd.Series([1.0, np.nan, 1234567.0])) == ["1", "", "1.23457e+06"]
