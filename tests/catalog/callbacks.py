"""Cases of callbacks."""

CASES = []
