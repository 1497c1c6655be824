"""Names <-> objects: `get`, `serialize` and `deserialize` of every family."""

import keras
import pytest

from tfbnn import posteriors, priors
from tfbnn.core.checks import InvalidInput
from tfbnn.core.serialization import Configurable, serialize_function
from tfbnn.posteriors import MeanField
from tfbnn.priors import Normal


@keras.saving.register_keras_serializable("test_serialization")
class Own(priors.Prior):
    def build(self, layer, name, shape):
        raise NotImplementedError


@keras.saving.register_keras_serializable("test_serialization")
def registered(q, p):
    return q - p


def unregistered(q, p):
    return q - p


@pytest.mark.parametrize(
    "identifier",
    ["Normal", Normal, Normal(), {"class": "Normal"}, {"class": "Normal", "scale": 1.0}, priors.serialize(Normal())],
)
def test_every_way_to_say_it(identifier):
    assert priors.get(identifier) == Normal(0.0, 1.0)


def test_none_and_a_users_own_class_pass():
    own = Own()
    assert priors.get(None) is None
    assert priors.get(own) is own
    assert priors.deserialize(priors.serialize(own)) == own


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        ("Norml", "Did you mean 'Normal'"),
        ({"class": "Normal", "scal": 1.0}, r"`prior\.scal`.*Did you mean 'scale'"),
        (3, "`prior`"),
        ({"name": "Normal"}, "`prior`"),
        (MeanField(), "`prior`"),
        (lambda x: x, "dtype, shape, name"),
    ],
)
def test_what_means_nothing_is_refused(identifier, message):
    with pytest.raises(InvalidInput, match=message):
        priors.get(identifier)


def test_a_family_does_not_take_a_member_of_another():
    with pytest.raises(InvalidInput, match="`posterior`"):
        posteriors.get(Normal())


def test_equality_is_that_of_arguments():
    assert Normal(0, 2) == Normal(0.0, 2.0)
    assert Normal(0, 2) != Normal(0, 1)
    assert len({Normal(0, 2), Normal(0.0, 2.0), Normal()}) == 2
    assert MeanField(keras.initializers.Constant(2.0)) == MeanField(keras.initializers.Constant(2.0))
    assert MeanField(keras.initializers.Constant(2.0)) != MeanField(keras.initializers.Constant(1.0))
    assert len({MeanField(keras.initializers.Constant(2.0)), MeanField(keras.initializers.Constant(2.0))}) == 1


def test_repr_is_the_call_that_made_it():
    assert repr(Normal(scale=2)) == "Normal(loc=0.0, scale=2.0)"


class WithFunction(Configurable):
    def __init__(self, fn):
        self.fn = fn


def test_objects_with_unregistered_functions_can_be_compared_and_printed_but_not_saved():
    one, same, other = WithFunction(unregistered), WithFunction(unregistered), WithFunction(registered)
    assert one == same
    assert one != other
    assert hash(one) == hash(same)
    assert "unregistered" in repr(one)
    with pytest.raises(InvalidInput, match=r"`WithFunction\.fn`.*register_keras_serializable"):
        one.get_config()


def test_a_registered_function_is_found_again():
    config = serialize_function("fn", registered)
    assert keras.saving.deserialize_keras_object(config) is registered


@pytest.mark.parametrize("fn", [unregistered, lambda q, p: q - p], ids=["unregistered", "lambda"])
def test_a_function_that_could_not_be_found_again_is_refused(fn):
    with pytest.raises(InvalidInput, match="register_keras_serializable"):
        serialize_function("fn", fn)
