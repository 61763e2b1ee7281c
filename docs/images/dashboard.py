"""Takes the picture of docs/guides/not-training.md, beside this file.

It trains the sick network of examples/10_dashboard.py and needs Chromium.

    python docs/images/dashboard.py
"""

import importlib.util
import pathlib
import subprocess
import tempfile

import keras

import kerascomp as kc

HERE = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 1000, 1160


def example():
    """Returns the example as a module."""
    path = HERE.parents[1] / "examples" / "10_dashboard.py"
    spec = importlib.util.spec_from_file_location("dashboard_example", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    """Writes dashboard.png."""
    dashboard, data = example(), kc.datasets.load("digits")
    page = pathlib.Path(tempfile.mkdtemp(), "page.html")
    flow, callbacks = dashboard.observed(
        data, page, "Digits, eight layers of sigmoids"
    )
    sgd = keras.optimizers.SGD(0.02, momentum=0.9)
    model = dashboard.build(data, "sigmoid", sgd)
    dashboard.train(model, data, 15, flow, callbacks)
    photograph(page, HERE / "dashboard.png")


def photograph(page, path):
    """Saves the top of a page, in few colors."""
    subprocess.run(
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--screenshot={path}",
            page.as_uri(),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    from PIL import Image

    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    main()
