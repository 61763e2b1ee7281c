"""Data sets known by name: scikit-learn's and Keras' own."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from kerascomp._compat import keras
from kerascomp.datasets._build import Features, Source, checked_inputs
from kerascomp.datasets._dataset import DataError

_EMBEDDED = {
    "digits": "1,797 images of digits, 8x8 as 64 features, 10 classes",
    "breast_cancer": "569 tumors, 30 features, 2 classes",
    "wine": "178 wines, 13 features, 3 classes",
    "diabetes": "442 patients, 10 features, regression",
}
_KERAS = {
    "mnist": "70,000 images of digits, 28x28x1, 10 classes",
    "fashion_mnist": "70,000 images of clothes, 28x28x1, 10 classes",
    "cifar10": "60,000 color images, 32x32x3, 10 classes",
    "california_housing": "20,640 districts, 8 features, regression",
}
_ORIGIN = {
    **dict.fromkeys(_EMBEDDED, "works offline, from scikit-learn"),
    **dict.fromkeys(_KERAS, "downloaded by Keras once"),
}
SUMMARIES = {
    name: f"{text}; {_ORIGIN[name]}"
    for name, text in {**_EMBEDDED, **_KERAS}.items()
}

# Where Keras keeps the files, below its `datasets` folder.
_CACHED = {
    "mnist": ("mnist.npz",),
    "fashion_mnist": (
        "fashion-mnist/train-labels-idx1-ubyte.gz",
        "fashion-mnist/train-images-idx3-ubyte.gz",
        "fashion-mnist/t10k-labels-idx1-ubyte.gz",
        "fashion-mnist/t10k-images-idx3-ubyte.gz",
    ),
    "cifar10": (
        "cifar-10-batches-py-target_archive (cifar-10-python.tar.gz, renamed)",
    ),
    "california_housing": ("california_housing.npz",),
}
_CLASS_NAMES = {
    "fashion_mnist": (
        "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag "
        "Ankle_boot"
    ),
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
}
_FEATURE_NAMES = {
    # Those in Keras' documentation belong to scikit-learn's variant.
    "california_housing": (
        "longitude latitude housing_median_age total_rooms total_bedrooms "
        "population households median_income"
    ),
}


def read_known(name: str) -> Source:
    """Returns the raw values of a data set in `SUMMARIES`."""
    return _read_embedded(name) if name in _EMBEDDED else _read_keras(name)


def _read_embedded(name: str) -> Source:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            f"The data set {name!r} comes with scikit-learn, which is not "
            'installed. Install it with: pip install "kerascomp[studies]"'
        ) from error
    # In their own units: scaling belongs to the model, which learns it from
    # the training part.
    options = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(**options)
    features = Features(bunch.data, tuple(map(str, bunch.feature_names)))
    return Source(
        name,
        bunch.target,
        lambda _: features,
        class_names=tuple(map(str, getattr(bunch, "target_names", ()))),
    )


def _read_keras(name: str) -> Source:
    (x, y), (x_test, y_test) = _downloaded(name)
    features = Features(
        np.concatenate([checked_inputs(x, y), checked_inputs(x_test, y_test)]),
        tuple(_FEATURE_NAMES.get(name, "").split()),
    )
    return Source(
        name,
        np.concatenate([y, y_test]),
        lambda _: features,
        num_test=len(y_test),
        class_names=tuple(
            label.replace("_", " ")
            for label in _CLASS_NAMES.get(name, "").split()
        ),
    )


def _downloaded(name: str) -> Any:
    load: Callable[[], Any] = getattr(keras.datasets, name).load_data
    try:
        return load()
    except Exception as error:  # Keras raises bare `Exception` offline.
        home = os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras"
        files = "\n".join(
            f"    {pathlib.Path(home) / 'datasets' / file}"
            for file in _CACHED[name]
        )
        raise DataError(
            f"Keras could not get the data set {name!r}: {error}\n"
            "Without a network, put a copy where Keras looks first:\n"
            f"{files}\n"
            "or take one that works offline: " + ", ".join(_EMBEDDED) + "."
        ) from error
