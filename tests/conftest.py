"""Fixtures that tests share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow starts, as the command does it


@pytest.fixture(scope="session")
def data_path() -> Path:
    """The folder of benchmark data: $TFBNN_DATA, or ../shared/data beside the repository; else the test is skipped."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("TFBNN_DATA", beside))
    if not path.is_dir():
        pytest.skip(f"no benchmark data at {path}; set TFBNN_DATA to its folder")
    return path


def pytest_runtest_setup(item):
    """A test marked `gpu` runs where there is a GPU, and says so where there is none."""
    if item.get_closest_marker("gpu"):
        import tensorflow as tf  # here: the variable above must be set before

        if not tf.config.list_physical_devices("GPU"):
            pytest.skip("no GPU is visible to TensorFlow")


@pytest.fixture(autouse=True)
def same_in_every_run():
    """Initial weights and noise without a seed of their own are the same in every run: a failure can be seen again."""
    import keras  # here: the variable above must be set before

    keras.utils.set_random_seed(1)
