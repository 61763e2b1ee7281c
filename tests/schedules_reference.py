"""Float64 references of schedules, one step at a time, from the papers."""

import itertools
import math


def decayed(share, decay):
    """Hägele et al., 2024: the height left after a share of the decay."""
    return {
        "linear": 1 - share,
        "cosine": (1 + math.cos(math.pi * share)) / 2,
        "1-sqrt": 1 - math.sqrt(share),
    }[decay]


def warmup_stable_decay(
    step,
    peak,
    total_steps,
    decay_steps,
    warmup_steps=0,
    decay="1-sqrt",
    floor=0.0,
    start=0.0,
):
    """Hu et al., 2024, section 4: three phases, each with its own formula."""
    if step < warmup_steps:
        return start + (peak - start) * step / warmup_steps
    if step < total_steps - decay_steps:
        return peak
    if step >= total_steps:
        return floor
    share = (step - (total_steps - decay_steps)) / decay_steps
    return floor + (peak - floor) * decayed(share, decay)


def one_cycle(
    step,
    peak,
    total_steps,
    warmup_steps,
    start=None,
    floor=0.0,
    annealing="cosine",
    three_phase=False,
):
    """Smith & Topin, 2018: corners, and an annealing from each to the next."""
    start = peak / 25 if start is None else start
    corners = [(0, start), (warmup_steps, peak), (total_steps, floor)]
    if three_phase:
        corners.insert(2, (2 * warmup_steps, start))
    for (begin, first), (end, last) in itertools.pairwise(corners):
        if begin <= step < end:
            share = (step - begin) / (end - begin)
            return last + (first - last) * decayed(share, annealing)
    return floor


def cyclical(
    step, peak, half_cycle_steps, floor=0.0, mode="triangular", decay=1.0
):
    """Smith, 2015, section 3.1: the listing of the triangular policy."""
    cycle = math.floor(1 + step / (2 * half_cycle_steps))
    x = abs(step / half_cycle_steps - 2 * cycle + 1)
    height = {
        "triangular": 1.0,
        "triangular2": 1 / 2 ** (cycle - 1),
        "exp_range": decay**step,
    }[mode]
    return floor + (peak - floor) * max(0.0, 1 - x) * height


def vaswani(step, dim, warmup_steps):
    """Vaswani et al., 2017, equation 3; steps count from 1."""
    return dim**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)
