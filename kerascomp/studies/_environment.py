"""Where and with what a study runs, for the record."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import keras

from kerascomp import _version

_PACKAGES = {
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "jax": ("jax", "jaxlib"),
    "torch": ("torch",),
}


def now() -> str:
    """Returns the time in ISO 8601, with the time zone, to the second."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Returns the versions of everything that shapes the numbers."""
    names = ("keras", "keras-tuner", "numpy", "scikit-learn")
    found = {
        "kerascomp": _version.__version__,
        "python": platform.python_version(),
    }
    for name in (*names, *_PACKAGES[keras.backend.backend()]):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # TensorFlow has several package names.
    return found


def machine() -> dict[str, Any]:
    """Returns processor, cores and operating system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
