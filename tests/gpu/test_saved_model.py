"""On a GPU: the draws of a SavedModel stay on it and are those of the CPU; so is a step of training.

TensorFloat-32 is off, which would round the factors of each product to 10 bits; what is left is the order of sums.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import placement
import tfbnn

pytestmark = pytest.mark.gpu
DEVICE = "GPU:0"
X = np.random.default_rng(0).normal(size=(500, 6)).astype("float32")
ANSWERS = {"rtol": 1e-3, "atol": 1e-4}  # normals of equal bits agree to 2e-5
MOST_BYTES = 200  # of a copy between draws; ten draws of the noise of the hidden units have 1,600
LOSSES = {"rtol": 1e-3}


@pytest.fixture(autouse=True)
def single_precision():
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(before)


@pytest.fixture(scope="module", params=["independent", "antithetic", "sobol"])
def of_sequence(request):
    wide = {"kernel_posterior_fn": tfbnn.posteriors.MeanField(initial_rho=-1.0)}
    hidden = tfbnn.layers.DenseFlipout(40, "tanh", seed=1, **wide)
    network = keras.Sequential([keras.Input((6,)), hidden, tfbnn.layers.DenseFlipout(3, seed=2)])
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Categorical(3), num_data=1, seed=3)
    return model.posterior_draws(request.param)


@pytest.fixture(scope="module", params=["marginal", "coherent"])
def path(request, of_sequence, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu") / "demo"
    return tfbnn.export_saved_model(of_sequence, folder, num_samples=30, coupling=request.param)


QUESTIONS = {
    "serving_default": {},
    "sample": {"num_samples": np.int32(25), "seed": np.int32(5)},
    "until": {"max_error": np.float32(0.02), "seed": np.int32(5)},
}


@pytest.mark.parametrize("signature", QUESTIONS)
def test_draws_stay_on_the_gpu_and_are_those_of_the_cpu(path, signature):
    question = {"inputs": X, **QUESTIONS[signature]}
    there, trace = placement.traced_signature(path, question, signature)
    assert placement.elsewhere(trace, DEVICE) == []
    assert [copy for copy in placement.copies(trace) if copy.num_bytes > MOST_BYTES] == []
    here, _ = placement.traced_signature(path, question, signature, num_gpus=0)
    assert set(there) == set(here)
    for name, values in here.items():
        if name == "predicted_class":
            assert np.mean(there[name] != values) < 0.01  # where two are as probable
        else:
            np.testing.assert_allclose(there[name], values, **ANSWERS, err_msg=name)


def test_twin_another_seed_is_seen(path):
    answers = [
        placement.traced_signature(path, {"inputs": X, "num_samples": np.int32(25), "seed": np.int32(seed)}, "sample")
        for seed in (5, 6)
    ]
    first, second = (answer["probabilities"] for answer, _ in answers)
    assert not np.allclose(first, second, **ANSWERS)


TRAINING = """
import sys
import keras
import numpy as np
import tensorflow as tf
import tfbnn

tf.config.experimental.enable_tensor_float_32_execution(False)
random = np.random.default_rng(0)
x = random.normal(size=(64, 6)).astype("float32")
y = np.sin(x[:, :1]) + 0.1 * random.normal(size=(64, 1)).astype("float32")
losses = []
for layer in ("DenseFlipout", "DenseLocalReparameterization", "DenseReparameterization"):
    make = getattr(tfbnn.layers, layer)
    network = keras.Sequential([keras.Input((6,)), make(20, "tanh", seed=1), make(1, seed=2)])
    for variable in network.trainable_variables:
        variable.assign(0.3 * random.normal(size=variable.shape) - (4.0 if variable.path.endswith("rho") else 0.0))
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(), seed=3)
    model.compile(keras.optimizers.SGD(0.01))
    losses.append(model.fit(x, y, batch_size=32, epochs=5, shuffle=False, verbose=0).history["loss"])
    assert ("GPU" in network.trainable_variables[0].value.device) == bool(tf.config.list_physical_devices("GPU"))
np.save(sys.argv[1], losses)
"""


def losses(folder, name, **environment):
    """Of ten steps, five epochs, for each estimator; in a process of its own, whose devices are of its own."""
    file = folder / f"{name}.npy"
    subprocess.run([sys.executable, "-c", TRAINING, str(file)], check=True, timeout=600, env=os.environ | environment)
    return np.load(file)


def test_steps_of_training_have_the_loss_of_the_cpu(tmp_path):
    there, here = losses(tmp_path, "there"), losses(tmp_path, "here", CUDA_VISIBLE_DEVICES="-1")
    np.testing.assert_allclose(there, here, **LOSSES)
    assert (np.abs(here[:, 1:] / here[:, :-1] - 1) > 2 * LOSSES["rtol"]).any()  # they move by more than that
