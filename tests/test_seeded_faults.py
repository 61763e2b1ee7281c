"""The tests notice faults: see seeded_faults.py."""

import pathlib
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_sample_of_seeded_faults_is_noticed():
    script = pathlib.Path(__file__).with_name("seeded_faults.py")
    process = subprocess.run(
        [sys.executable, script, "--sample"], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout + process.stderr
