"""Settings shared by all tests."""

import gc

import backend  # noqa: F401  (quietens TensorFlow before it is imported)
import keras
import numpy as np
import pytest


def pytest_report_header():
    return f"keras {keras.__version__} on {keras.backend.backend()}"


def pytest_collection_finish():
    spare_garbage_collection()


@pytest.fixture(autouse=True, scope="module")
def sparing():
    yield
    spare_garbage_collection()


def spare_garbage_collection():
    """Leaves what is there to no later search for garbage.

    KerasTuner searches before every trial. What modules, compiled programs
    and caches hold would cost it a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_keras():
    """Every test starts from the same seeds, names and dtype policy."""
    # Collecting garbage costs more than most tests.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
