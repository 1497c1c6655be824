"""A session with a person: what its folder holds, what is refused, and that the originals stay as they are."""

import json

import numpy as np
import pandas as pd
import pytest

from tfbnn.active import Session
from tfbnn.core.checks import InvalidInput
from tfbnn.data import Target

POOL = pd.DataFrame({"age": [31, 42, 53, 64, 75], "ward": ["north", None, "south", "south", "east"]})
CLASSES = Target("classes", ("ill", "well"))


def new(folder, pool=POOL):
    return Session(folder / "session", pool, "outcome")


def answers(rows, told):
    return pd.DataFrame({"pool_row": rows, "outcome": told})


@pytest.fixture
def session(tmp_path):
    """One that asked for rows 3 and 1."""
    made = new(tmp_path)
    made.ask([3, 1], "bald", 20, {"accuracy": 0.75})
    return made


def test_nothing_is_written_before_something_is_asked(tmp_path):
    assert len(new(tmp_path).waiting) == 0
    assert not list(tmp_path.iterdir())


def test_rows_are_given_with_their_number_and_an_empty_target(session):
    rows = session.rows(session.waiting)
    assert rows.columns.tolist() == ["pool_row", "outcome", "age", "ward"]
    assert rows["pool_row"].tolist() == [3, 1]
    assert rows["outcome"].tolist() == ["", ""]
    assert rows["age"].tolist() == [64, 42]


def test_another_process_goes_on(session, tmp_path):
    again = new(tmp_path)
    assert again.waiting.tolist() == [3, 1]
    assert again.answer(answers([1], ["ill"]), CLASSES) == 1
    again = new(tmp_path)
    assert again.waiting.tolist() == [3]
    assert again.unlabelled.tolist() == [0, 2, 3, 4]
    assert again.answer(answers([3], ["well"]), CLASSES) == 1
    features, told = new(tmp_path).labelled_rows()
    assert features["age"].tolist() == [42, 64]
    assert told.tolist() == ["ill", "well"]
    assert features.index.equals(told.index)


def test_the_folder_tells_what_was_asked_and_learned(session):
    session.answer(answers([1, 3], ["ill", "well"]), CLASSES)
    session.ask([0], "random", 22, {"accuracy": 0.8})
    labelled = pd.read_csv(session.folder / "labelled.csv")
    assert labelled.columns.tolist() == ["pool_row", "outcome", "age", "ward"]
    assert labelled["age"].tolist() == [42, 64]
    history = pd.read_csv(session.folder / "history.csv")
    assert history.to_dict("list") == {"round": [1, 2], "labels": [20, 22], "accuracy": [0.75, 0.8]}
    assert json.loads((session.folder / "session.json").read_text())["rounds"][1]["asked"] == [0]
    assert not list(session.folder.glob(".*"))


def test_the_pool_and_the_answers_are_left_as_they_are(tmp_path):
    pool, told = POOL.copy(), answers([3, 1], ["ill", "well"])
    kept = told.copy()
    session = new(tmp_path, pool)
    session.ask([3, 1], "bald", 20)
    session.answer(told, CLASSES)
    pd.testing.assert_frame_equal(pool, POOL)
    pd.testing.assert_frame_equal(told, kept)


def test_answers_given_twice_count_once(session):
    both = answers([3, 1], ["ill", "well"])
    assert [session.answer(both, CLASSES), session.answer(both, CLASSES)] == [2, 0]
    assert len(session.labelled) == 2


def test_rows_of_an_earlier_question_may_be_answered_later(session):
    session.answer(answers([3], ["ill"]), CLASSES)
    session.ask([0], "bald", 21)
    assert session.answer(answers([1, 0], ["ill", "well"]), CLASSES) == 2


def test_numbers_and_class_names_that_are_numbers_come_back_alike(tmp_path):
    session = new(tmp_path)
    session.ask([0, 1], "variance", 20)
    session.answer(answers([0, 1], [1.5, 2.25]), Target("real"))
    assert new(tmp_path).labelled_rows()[1].tolist() == [1.5, 2.25]
    other = Session(tmp_path / "other", POOL, "outcome")
    other.ask([0, 1], "bald", 20)
    other.answer(answers([0], [1]), Target("classes", ("1", "2")))
    assert other.answer(answers([0, 1], [1.0, 2.0]), Target("classes", ("1", "2"))) == 1


BAD_ANSWERS = {
    "rows never asked": (answers([3, 4], ["ill", "well"]), "rows that were asked for. Received: [4]. 1 of 2"),
    "no row at all": (answers([99], ["ill"]), "rows that were asked for"),
    "half a row": (answers([3.5], ["ill"]), "a whole number as pool_row in each row"),
    "text for a row": (answers(["third"], ["ill"]), "Received: ['third']"),
    "no number for a row": (answers([3, np.nan], ["ill", "ill"]), "a whole number as pool_row"),
    "no rows": (answers([], []), "a row or more"),
    "a row twice": (answers([3, 3], ["ill", "ill"]), "each row once"),
    "no label at all": (answers([3, 1], [np.nan, np.nan]), "filled in"),
    "an unknown class": (answers([3, 1], ["ill", "sick"]), "one of the 2 classes"),
    "no column of rows": (pd.DataFrame({"outcome": ["ill"]}), "columns pool_row and outcome"),
    "no column of labels": (pd.DataFrame({"pool_row": [3]}), "columns pool_row and outcome"),
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_bad_answers_are_refused_and_nothing_is_kept(session, tmp_path, case):
    told, message = BAD_ANSWERS[case]
    with pytest.raises(InvalidInput) as refused:
        session.answer(told, CLASSES)
    assert message in str(refused.value)
    assert refused.value.where == "labels"
    assert len(new(tmp_path).labelled) == 0


def test_a_label_that_differs_from_the_one_before_is_refused(session):
    session.answer(answers([3], ["ill"]), CLASSES)
    with pytest.raises(InvalidInput, match=r"given before.*Received: \[3\].*labelled\.csv"):
        session.answer(answers([3, 1], ["well", "ill"]), CLASSES)
    assert len(session.labelled) == 1


def test_labels_before_any_question_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="Nothing was asked for yet"):
        new(tmp_path).answer(answers([3], ["ill"]), CLASSES)


def test_questions_that_cannot_be_are_refused(session):
    session.answer(answers([3], ["ill"]), CLASSES)
    for numbers, told in (([3], "without a label"), ([7], "without a label"), (range(5), "at most 4"), ([], "`count`")):
        with pytest.raises(InvalidInput, match=told):
            session.ask(numbers, "bald", 21)
    assert len(session.rounds) == 1


@pytest.mark.parametrize(
    ("pool", "told"),
    [
        (POOL.head(0), "one row or more"),
        (POOL.assign(pool_row=1), "no column of the name pool_row"),
        (POOL.head(4), "began with"),
        (POOL.assign(age=1), "began with"),
    ],
)
def test_pools_that_are_empty_or_others_are_refused(session, tmp_path, pool, told):
    with pytest.raises(InvalidInput, match=told):
        new(tmp_path, pool)


def test_another_target_is_refused(session, tmp_path):
    with pytest.raises(InvalidInput, match="'outcome', as the session began with"):
        Session(tmp_path / "session", POOL, "age")


def test_a_folder_that_is_no_session_is_refused(tmp_path):
    (tmp_path / "session").mkdir()
    new(tmp_path)
    (tmp_path / "session" / "letter.txt").write_text("x")
    with pytest.raises(InvalidInput, match="a new folder"):
        new(tmp_path)
    (tmp_path / "session" / "session.json").write_text('{"rounds": [')
    with pytest.raises(InvalidInput, match="can be read"):
        new(tmp_path)


def test_a_state_that_cannot_be_written_leaves_the_one_before(session, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tfbnn.active.session.os.replace", full)
    with pytest.raises(InvalidInput, match="No space left"):
        session.ask([0], "bald", 20)
    assert len(session.rounds) == 1
    assert new(tmp_path).waiting.tolist() == [3, 1]
    assert not list(session.folder.glob(".*"))
