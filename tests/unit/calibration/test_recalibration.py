"""Temperature and scale: exact maps of the parameters, and the number that is most likely."""

import numpy as np
import pytest

import tfbnn
from tfbnn.calibration import ScaleCalibration, TemperatureScaling, recalibration_for
from tfbnn.core.checks import InvalidInput

RNG = np.random.default_rng(0)


def numbers(S=5, n=40, factor=1.0):
    """S draws of loc and scale of n rows, and a y whose z-scores are `factor` times too large for one draw."""
    loc, scale = RNG.normal(size=(S, n, 1)), RNG.uniform(0.5, 2.0, (S, n, 1))
    y = loc[0] + factor * scale[0] * RNG.normal(size=(n, 1))
    return tfbnn.Prediction(np.concatenate([loc, scale], axis=-1), tfbnn.likelihoods.Normal()), y


def classes(S=1, n=4000, K=3, too_sure=2.0):
    """Logits that are `too_sure` times those that the classes were drawn from."""
    logits = RNG.normal(size=(S, n, K))
    p = np.exp(logits[0]) / np.exp(logits[0]).sum(axis=-1, keepdims=True)
    y = (p.cumsum(axis=1) < RNG.random((n, 1))).sum(axis=1)
    return tfbnn.Prediction(too_sure * logits, tfbnn.likelihoods.Categorical(num_classes=K)), y


def test_every_standard_deviation_is_stretched_and_the_mean_stays():
    prediction, _ = numbers()
    stretched = ScaleCalibration(1.7)(prediction)
    np.testing.assert_allclose(stretched.mean, prediction.mean, rtol=1e-5, atol=1e-6)
    for name in ("stddev", "aleatoric_stddev", "epistemic_stddev"):
        np.testing.assert_allclose(getattr(stretched, name), 1.7 * getattr(prediction, name), rtol=1e-5)


def test_of_one_draw_the_scale_is_the_root_mean_square_of_z():
    prediction, y = numbers(S=1, factor=3.0)
    z = (y - prediction.mean) / prediction.stddev
    found = ScaleCalibration().fit(prediction, y)
    assert found.factor == pytest.approx(np.sqrt(np.mean(z**2)), rel=1e-3)
    assert found(prediction).log_prob(y).mean() > prediction.log_prob(y).mean() + 0.5


def test_the_degrees_of_freedom_of_student_t_stay():
    parameters = RNG.uniform(3.0, 4.0, (4, 6, 3))
    found = ScaleCalibration(2.0)(tfbnn.Prediction(parameters, tfbnn.likelihoods.StudentT()))
    np.testing.assert_allclose(found.parameters[..., 1], 2.0 * parameters[..., 1], rtol=1e-6)
    np.testing.assert_array_equal(found.parameters[..., 2], parameters[..., 2].astype(np.float32))


@pytest.mark.parametrize("too_sure", [2.0, 0.5])
def test_the_temperature_undoes_logits_that_are_too_sure(too_sure):
    prediction, y = classes(too_sure=too_sure)
    found = TemperatureScaling().fit(prediction, y)
    assert found.temperature == pytest.approx(too_sure, rel=0.1)  # 4 standard errors of 4,000 rows
    np.testing.assert_allclose(found(prediction).parameters, prediction.parameters / found.temperature, rtol=1e-6)


def test_it_is_fitted_to_the_mixture_and_never_worse_than_none():
    prediction, y = classes(S=4)
    found = TemperatureScaling().fit(prediction, y)
    best = found(prediction).log_prob(y).mean()
    for other in (0.9, 1.1):
        assert TemperatureScaling(found.temperature * other)(prediction).log_prob(y).mean() < best
    assert best >= prediction.log_prob(y).mean()


def test_its_kind_follows_the_likelihood():
    assert recalibration_for(tfbnn.likelihoods.Bernoulli()) == TemperatureScaling()
    assert recalibration_for(tfbnn.likelihoods.LogNormal()) == ScaleCalibration()
    with pytest.raises(InvalidInput, match=r"location and a scale.*Poisson"):
        recalibration_for(tfbnn.likelihoods.Poisson())


def test_it_is_read_back_from_its_description():
    for found in (ScaleCalibration(1.7), TemperatureScaling(0.3)):
        assert tfbnn.calibration.deserialize(tfbnn.calibration.serialize(found)) == found
    assert tfbnn.calibration.deserialize(None) is None


def test_mistakes():
    prediction, y = numbers()
    with pytest.raises(InvalidInput, match="classes for TemperatureScaling"):
        TemperatureScaling().fit(prediction, y)
    with pytest.raises(InvalidInput, match="rows of one class"):
        TemperatureScaling().fit(classes()[0], np.zeros(4000, int))
    with pytest.raises(InvalidInput, match="location and a scale"):
        ScaleCalibration().fit(*classes())
    with pytest.raises(InvalidInput, match="factor"):
        ScaleCalibration(0.0)


def test_one_number_is_not_told_by_a_few_rows():
    prediction = tfbnn.Prediction(np.zeros([1, 9, 1]), tfbnn.likelihoods.Bernoulli())
    with pytest.raises(InvalidInput, match=r"10 rows or more to recalibrate on.*9 rows"):
        TemperatureScaling().fit(prediction, np.arange(9) % 2)
