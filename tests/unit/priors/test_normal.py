"""Normal prior."""

import json
import warnings

import keras
import numpy as np
import pytest

from tfbnn.core.checks import InvalidInput
from tfbnn.layers import DenseReparameterization
from tfbnn.layers.convert import anchored_points, copied
from tfbnn.priors import Normal


def test_density_of_independent_weights():
    layer = keras.layers.Layer()
    p = Normal(loc=0.5, scale=2.0).build(layer, "kernel", (2, 3)).distribution()
    w = np.arange(6, dtype="f").reshape(2, 3)
    expected = (-0.5 * ((w - 0.5) / 2) ** 2 - np.log(2 * np.sqrt(2 * np.pi))).sum()
    np.testing.assert_allclose(p.log_prob(w), expected, rtol=1e-6)
    assert layer.weights == []


@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), float("nan"), "wide", None, True])
def test_scales_that_are_none_are_refused(scale):
    with pytest.raises(InvalidInput, match="`scale`"):
        Normal(scale=scale)


@pytest.mark.parametrize("loc", [float("inf"), float("nan"), "left", None, True])
def test_means_that_are_none_are_refused(loc):
    with pytest.raises(InvalidInput, match="`loc`"):
        Normal(loc=loc)


def test_numpy_numbers_are_numbers():
    assert Normal(np.float32(1), np.float32(2)) == Normal(1.0, 2.0)


# --- by position ------------------------------------------------------------------------------------------------------

LOC = np.array([[1.0], [-0.5]], "f")  # broadcasts over the units
SCALE = np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]], "f")


def kl_by_hand(loc, scale, prior_loc, prior_scale):
    """sum log(s_p / s_q) + (s_q^2 + (m_q - m_p)^2) / (2 s_p^2) - 1/2."""
    quadratic = (scale**2 + (loc - prior_loc) ** 2) / (2 * prior_scale**2)
    return float(np.sum(np.log(prior_scale / scale) + quadratic - 0.5))


def layer_with(prior, units=3):
    layer = DenseReparameterization(units, kernel_prior_fn=prior, bias_prior_fn="Normal", seed=1)
    layer.build((None, 2))
    return layer


def test_kl_with_mean_and_scale_by_position_is_exact():
    term = layer_with(Normal(LOC, SCALE)).weight_terms[0]
    loc, scale = (part.numpy().astype(float) for part in term.q.factorised_gaussian)
    np.testing.assert_allclose(term.kl(None), kl_by_hand(loc, scale, LOC, SCALE), rtol=1e-5)
    assert abs(term.kl(None) - kl_by_hand(loc, scale, LOC, SCALE[:, ::-1])) > 1  # twin: the order matters


def test_arrays_of_one_number_are_that_number():
    density = Normal(np.full((2, 3), 0.5), [[2.0]]).build(keras.layers.Layer(), "kernel", (2, 3)).distribution()
    expected = Normal(0.5, 2.0).build(keras.layers.Layer(), "kernel", (2, 3)).distribution()
    assert density.log_prob(SCALE) == expected.log_prob(SCALE)


def test_arrays_are_compared_and_described():
    prior = Normal(LOC, SCALE)
    assert Normal.from_config(json.loads(json.dumps(prior.get_config()))) == prior
    assert Normal(LOC, SCALE + 0.1) != prior != Normal(0.0, SCALE)
    assert Normal(LOC.tolist(), SCALE.tolist()) == prior


def test_a_saved_layer_keeps_its_arrays(tmp_path):
    network = keras.Sequential([keras.Input((2,)), layer_with(Normal(LOC, SCALE))])
    network.save(tmp_path / "network.keras")
    [layer] = keras.saving.load_model(tmp_path / "network.keras").layers
    assert layer.kernel_prior_fn == Normal(LOC, SCALE)
    assert float(layer.kl_divergence()) == float(network.layers[0].kl_divergence())


def test_files(tmp_path):
    np.save(tmp_path / "loc.npy", LOC)
    np.savetxt(tmp_path / "scale.csv", SCALE, delimiter=",")
    assert Normal(str(tmp_path / "loc.npy"), tmp_path / "scale.csv") == Normal(LOC, SCALE)


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "", "1,2\n3\n", "1,nan\n"])
def test_files_that_hold_no_numbers_are_refused(tmp_path, content):
    (tmp_path / "loc.csv").write_text(content)
    with pytest.raises(InvalidInput, match=r"`loc`.*loc\.csv"), warnings.catch_warnings(action="ignore"):
        Normal(loc=str(tmp_path / "loc.csv"))


@pytest.mark.parametrize("arrays", [{"loc": "absent.npy"}, {"loc": [1.0, np.inf]}, {"loc": [[1.0], [1.0, 2.0]]},
                                    {"scale": [1.0, 0.0]}, {"scale": []}])  # fmt: skip
def test_arrays_that_are_none_are_refused(arrays):
    with pytest.raises(InvalidInput, match=f"`{next(iter(arrays))}`"):
        Normal(**arrays)


@pytest.mark.parametrize("shape", [(3, 2), (2,), (1, 2, 3), (4, 3)])
def test_arrays_of_another_shape_are_refused_by_the_argument(shape):
    with pytest.raises(InvalidInput, match=r"`kernel_prior_fn`.*\[2, 3\]"):
        layer_with(Normal(scale=np.ones(shape)))


def test_ensembles_about_anchors_want_one_mean_and_scale():
    network = keras.Sequential([keras.Input((2,)), layer_with(Normal(LOC, SCALE))])
    with pytest.raises(InvalidInput, match="of one mean and scale"):
        copied(network, change=anchored_points)
