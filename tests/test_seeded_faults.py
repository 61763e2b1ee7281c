"""The tests notice faults: see seeded_faults.py."""

import pathlib
import subprocess
import sys

import pytest
import seeded_faults


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "fault", seeded_faults.FAULTS, ids=lambda fault: fault.name
)
def test_a_fault_can_be_planted(fault):
    source = seeded_faults.source_of(fault)
    assert seeded_faults.with_edits(source, fault) != source


@pytest.mark.slow
def test_a_sample_of_seeded_faults_is_noticed():
    script = pathlib.Path(__file__).with_name("seeded_faults.py")
    process = subprocess.run(
        [sys.executable, script, "--sample"], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout + process.stderr
