"""The config of every object is JSON, and makes an equal object."""

import json

import keras
import pytest

from conformance.cases import CASES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_round_trip(case):
    original = case.make()
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(original)))
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is case.cls
    assert keras.saving.serialize_keras_object(again) == keras.saving.serialize_keras_object(original)


@pytest.mark.parametrize("case", [case for case in CASES if case.family in ("posterior", "prior", "schedule")], ids=str)
def test_equal_and_of_one_hash(case):
    original = case.make()
    again = type(original).from_config(original.get_config())
    assert again == original
    assert hash(again) == hash(original)
