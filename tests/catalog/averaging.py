"""Cases of callbacks that average, unfreeze, stop and show."""

CASES = []
