"""What the loop over draws would leave on the CPU, or copy to it, where there is a GPU: by TensorFlow's GPU kernels.

No GPU is needed: the kernels are registered wherever TensorFlow was built with CUDA.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import placement
import tfbnn
from tfbnn.core import sequences

pytestmark = pytest.mark.skipif(not tf.test.is_built_with_cuda(), reason="this TensorFlow registers no GPU kernels")
WIDE = {"kernel_posterior_fn": tfbnn.posteriors.MeanField(initial_rho=-1.0)}
ROWS, UNITS = 500, 40
MOST_BYTES = 200  # of a copy; ten draws of the noise of the hidden units have 1,600, of the outputs 60,000
ON_THE_HOST_ANYWAY = {"(Split)"}  # of the sizes of a tensor


def dense(outputs=3):
    hidden = tfbnn.layers.DenseFlipout(UNITS, "tanh", seed=1, **WIDE)
    return keras.Sequential([keras.Input((6,)), hidden, tfbnn.layers.DenseFlipout(outputs, seed=2)])


def of_counts():
    """Whose quantiles have a loop of their own."""
    return dense(1)


def convolutional():
    first = tfbnn.layers.Conv2DFlipout(8, 3, seed=1, **WIDE)
    rest = [keras.layers.MaxPooling2D(2), keras.layers.Flatten(), tfbnn.layers.MCDropout(0.2, seed=3)]
    return keras.Sequential([keras.Input((8, 8, 2)), first, *rest, tfbnn.layers.DenseFlipout(3, seed=2)])


def exported(network, sequence, coupling, folder):
    likelihood = tfbnn.likelihoods.Poisson() if network.output_shape[1] == 1 else tfbnn.likelihoods.Categorical(3)
    model = tfbnn.BayesianModel(network, likelihood, num_data=1, seed=3)
    draws = model.posterior_draws(sequence)
    return tfbnn.export_saved_model(draws, folder / "demo", num_samples=30, coupling=coupling)


def trace_of(path, network, signature="serving_default", **scalars):
    inputs = {"inputs": np.ones((ROWS, *network.input_shape[1:]), np.float32), **scalars}
    return placement.traced_signature(path, inputs, signature, num_gpus=0)[1]


CASES = [(of_counts, "independent", "marginal"), (dense, "sobol", "coherent"),
         pytest.param(dense, "antithetic", "coherent", marks=pytest.mark.slow),
         pytest.param(convolutional, "independent", "coherent", marks=pytest.mark.slow)]  # fmt: skip


@pytest.mark.parametrize(("make", "sequence", "coupling"), CASES)
def test_the_loop_needs_nothing_but_sizes_and_seeds_of_the_host(make, sequence, coupling, tmp_path):
    network = make()
    path = exported(network, sequence, coupling, tmp_path)
    until = {"seed": np.int32(5), "max_error": np.float32(1e-3)}
    traces = [trace_of(path, network)]
    if sequence == "antithetic":
        traces.append(trace_of(path, network, "until", **until))
    for trace in traces:
        assert len(placement.elsewhere(trace, "GPU:0")) > 4  # all of them: on the CPU
        assert [copy for copy in placement.host_copies(trace) if copy.num_bytes > MOST_BYTES] == []
        assert {told.rpartition(" ")[2] for told in placement.without_gpu_kernel(trace)} <= ON_THE_HOST_ANYWAY


def test_twin_bits_that_are_stacked_as_int32_would_be_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(sequences, "_on_device", tf.identity)
    network = dense()
    trace = trace_of(exported(network, "antithetic", "coherent", tmp_path), network)
    assert max(copy.num_bytes for copy in placement.host_copies(trace)) >= 10 * 6 * UNITS * 4 / 2
