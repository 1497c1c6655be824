"""ElboTerms: the one place of 1/N and beta."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnn.objectives import ElboTerms, mean_log_likelihood


def terms(**changes):
    default = {"log_likelihood": -200.0, "kl": 30.0, "penalty": 5.0, "beta": 0.5, "num_data": 100.0}
    return ElboTerms(**{**default, **changes})


def test_elbo_has_no_beta_and_loss_has_it_once():
    assert terms().elbo == -230.0
    assert terms(beta=0.0).elbo == -230.0
    assert terms().loss == pytest.approx((0.5 * 30 + 5 + 200) / 100)


def test_loss_is_the_negative_elbo_a_row_where_beta_is_one():
    assert terms(beta=1.0, penalty=0.0).loss == pytest.approx(-terms(beta=1.0).elbo / 100)


def test_mean_log_likelihood_averages_rows_and_draws():
    log_likelihood = tf.constant([[-1.0, -2.0, -3.0], [-3.0, -4.0, -5.0]])
    assert float(mean_log_likelihood(log_likelihood, None)) == -3.0
    assert float(mean_log_likelihood(log_likelihood[0], None)) == -2.0


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_weights_are_shares_of_their_sum(shape):
    log_likelihood = tf.constant([[-1.0, -2.0, -3.0], [-3.0, -4.0, -5.0]])
    weight = np.array([1.0, 0.0, 3.0]).reshape(shape)
    assert float(mean_log_likelihood(log_likelihood, weight)) == -3.5
    assert float(mean_log_likelihood(log_likelihood, 10 * weight)) == -3.5
    assert float(mean_log_likelihood(log_likelihood, np.ones(shape))) == -3.0


def test_a_batch_without_weight_says_nothing():
    assert float(mean_log_likelihood(tf.constant([-1.0, -2.0]), np.zeros(2))) == 0.0
