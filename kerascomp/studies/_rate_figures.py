"""The section on the learning rate: words, table and pictures."""

from kerascomp.studies import _analysis, _rate_plots, _rates, _words
from kerascomp.studies._figures import Picture
from kerascomp.studies._rates import Range
from kerascomp.studies._records import DIVERGED, Record


def words(record: Record, found: list[Range]) -> str:
    """Says which learning rates count as stable, and what that can mean."""
    if not found:
        return ""
    near = "10% of it"
    if _words.is_fraction(record.objective):
        near = _words.gap(_rates.NEAR, record.objective)
    says = (
        "A learning rate is stable for a batch size if a trial with it was "
        "trained to its last epoch without diverging, and its "
        f"{_words.metric(record.objective)} is within {near} of the best at "
        "that batch size. The range goes from the lowest to the highest such "
        "rate that was tried, so it is at least that wide. It is at most as "
        "wide as from the next rate tried below to the next one above, which "
        "were worse or diverged; where there is none, it is open. That holds "
        "as far as the learning rate decides: a trial may also be worse for "
        "its other hyperparameters, and with few trials at a batch size both "
        "bounds are rough."
    )
    if _analysis.pruned(record):
        says += " Trials that were ended early are left out."
    return says


def pictures(record: Record, found: list[Range]) -> list[Picture]:
    """Returns the quality by learning rate, and the stable ranges."""
    if not found or "learning_rate" not in _analysis.varied(record):
        return []
    return [_by_rate(record), _ranges(found)]


def _by_rate(record: Record) -> Picture:
    metric = _rates.measure(record)
    svg = _rate_plots.by_rate("by-rate", record, _rates.points(record), metric)
    says = f"{_peaks(record, metric)} {_trend(record)}".strip()
    name = _words.metric(metric)
    value = "lowest " if metric != record.objective else "best "
    reading = (
        f"Each point is a trial with the {value}{name} of its epochs, each "
        "line a batch size; darker or brighter is larger."
    )
    if _analysis.count(record, DIVERGED):
        reading += " Crosses at the edge are trials that diverged."
    return Picture(
        "by-rate",
        f"{_words.sentence(name)} by learning rate",
        f"{reading} {says}",
        f"Line plot of {name} by learning rate for each batch size. {says}",
        svg,
    )


def _peaks(record: Record, metric: str) -> str:
    found = [
        f"{_words.number(point.rate, 2)} at batch size {size} "
        f"({_words.score(point.value, metric)})"
        for size, point in _rates.peaks(record).items()
    ]
    noun = "rate" if len(found) == 1 else "rates"
    return f"Best learning {noun}: {_words.listing(found)}."


def _trend(record: Record) -> str:
    power = _rates.trend(record)
    if power is None:
        return ""
    counts = [len(members) for members in _rates.points(record).values()]
    return (
        "Fitted to these, the best learning rate goes with the batch size to "
        f"the power of {_words.number(round(power, 2), 2)} (1 is the linear "
        "rule, 0.5 the square-root rule); from "
        f"{_few(counts)} a batch size this is a rough figure."
    )


def _few(counts: list[int]) -> str:
    if min(counts) == max(counts):
        return _words.count(counts[0], "trial")
    return f"{min(counts)} to {_words.count(max(counts), 'trial')}"


def _ranges(found: list[Range]) -> Picture:
    widths = [f"{_width(stable)} at {stable.batch_size:,}" for stable in found]
    says = f"Decades by batch size: {'; '.join(widths)}. {_contrast(found)}"
    inside = sum(stable.inside for stable in found)
    if inside:
        says += (
            f" {_words.count(inside, 'trial')} within the ranges did worse "
            "all the same: the learning rate is not all that matters."
        )
    return Picture(
        "ranges",
        "Stable learning rates by batch size",
        "Bars span the stable learning rates; the line beyond leads to the "
        "next rate that was worse or diverged, a dashed one to where nothing "
        f"was tried. {says}".strip(),
        f"Bars over learning rate for each batch size. {says}".strip(),
        _rate_plots.ranges("ranges", found),
    )


def _width(stable: Range) -> str:
    least = f"{stable.least:.1f}"
    if stable.most is None:
        return f"{least} or more"
    return f"{least} to {stable.most:.1f}"


def _contrast(found: list[Range]) -> str:
    """Compares the smallest batch size with the largest."""
    if len(found) < 2:
        return ""
    small, large = found[0], found[-1]
    sizes = f"batch size {large.batch_size} than at {small.batch_size}"
    if large.most is not None and large.most < small.least:
        return (
            f"The range is narrower at {sizes}, as Masters and Luschi report "
            "of larger batches."
        )
    if small.most is not None and small.most < large.least:
        return (
            f"The range is wider at {sizes}, unlike what Masters and Luschi "
            "report."
        )
    return (
        f"The bounds of {small.batch_size} and {large.batch_size} overlap: "
        "these trials do not tell whether larger batches narrow the range, as "
        "Masters and Luschi report."
    )
