"""The metric of `fit` is the error of all rows together, however they came."""

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.core.checks import InvalidInput
from tfbnn.evaluation import CalibrationError, expected_calibration_error

RNG = np.random.default_rng(3)
P = RNG.dirichlet([1.0, 1.0, 1.0], 200).astype("float32")
Y = np.where(RNG.uniform(size=200) < 0.7, P.argmax(axis=1), RNG.integers(0, 3, 200))


def of_batches(metric, y, p, cuts, weights=None):
    for rows in np.split(np.arange(len(y)), cuts):
        metric.update_state(y[rows], p[rows], None if weights is None else weights[rows])
    return float(metric.result())


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("bins", [1, 5, 15])
def test_batches_give_the_error_of_all_rows(bins, debiased):
    expected = expected_calibration_error(P, Y, bins, debiased=debiased)
    assert of_batches(CalibrationError(bins, debiased), Y[:, None], P, [30, 31, 150]) == pytest.approx(
        expected, abs=1e-6
    )
    mean_of_batches = np.mean([expected_calibration_error(P[a], Y[a], bins) for a in (slice(30), slice(30, None))])
    assert bins == 1 or abs(mean_of_batches - expected) > 1e-3  # twin: the mean over batches is something else


def test_one_probability_is_that_of_class_1():
    p, y = P[:, :1], (Y == 0).astype(int)
    expected = expected_calibration_error(np.concatenate([1 - p, p], axis=1), y)
    assert of_batches(CalibrationError(debiased=False), y, p, [50]) == pytest.approx(expected, abs=1e-6)


def test_a_weight_of_two_is_a_row_twice():
    weights = RNG.integers(0, 3, 200)
    again = np.repeat(np.arange(200), weights)
    expected = expected_calibration_error(P[again], Y[again])
    assert of_batches(CalibrationError(debiased=False), Y, P, [99], weights) == pytest.approx(expected, abs=1e-6)


def test_it_is_reset_saved_and_0_of_nothing():
    metric = CalibrationError(bins=7)
    assert float(metric.result()) == 0.0
    of_batches(metric, Y, P, [])
    metric.reset_state()
    assert float(metric.result()) == 0.0
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert (again.bins, again.debiased, again.name) == (7, True, "calibration_error")
    with pytest.raises(InvalidInput, match="`bins`"):
        CalibrationError(0)


def test_in_evaluate_it_is_that_of_the_prediction():
    x = RNG.normal(size=[90, 2]).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    network = keras.Sequential([keras.Input((2,)), tfbnn.layers.DenseReparameterization(1, seed=1)])
    model = tfbnn.BayesianModel(network, "Bernoulli", num_samples=10, seed=2)
    model.compile(keras.optimizers.Adam(0.1), metrics=[CalibrationError(debiased=False)])
    model.fit(x, y, epochs=1, verbose=0)
    found = model.evaluate(x, y, verbose=0, return_dict=True)["calibration_error"]
    prediction = model.predict_distribution(x, num_samples=10)
    assert found == pytest.approx(expected_calibration_error(prediction.probabilities, y), abs=1e-5)
