"""Fixtures that tests share."""

import gc
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


def pytest_collection_finish():
    """What was imported is not searched for garbage again: with TensorFlow that costs a tenth of the suite's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
