"""The colors of pages and plots, told apart by color-blind readers, too."""

# Name: on light pages, on dark pages. From Okabe and Ito.
PAGE = {
    "ink": ("#1c2024", "#e8e6e1"),
    "muted": ("#5b636b", "#a3a9b0"),
    "rule": ("#dfe2e5", "#33383e"),
    "trial": ("#0072b2", "#56b4e9"),
    "best": ("#c44e00", "#ff9d4d"),
    "faint": ("#a9b2ba", "#59626b"),
    "page": ("#ffffff", "#15181b"),
}
# Of lines, in order. Okabe and Ito's, those too pale for a page darkened.
LINES = {
    "light": ("#0072b2", "#d55e00", "#00785a", "#b0568f", "#a86f00", "#3a7fb0"),
    "dark": ("#56b4e9", "#ff9d4d", "#2cc295", "#e39ac6", "#f0c050", "#9ad0f5"),
}
# Anchors of viridis, from its dark end to its light one.
VIRIDIS = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725")


def ramp(levels: int, low: float, high: float) -> list[str]:
    """Returns colors of viridis, evenly from one place on it to another.

    Args:
        levels: How many, at least 2.
        low: Place of the first, in [0, 1], where 0 is the dark end.
        high: Place of the last.
    """
    colors = []
    for level in range(levels):
        place = (low + (high - low) * level / (levels - 1)) * (len(VIRIDIS) - 1)
        left = min(int(place), len(VIRIDIS) - 2)
        pairs = zip(*map(_channels, VIRIDIS[left : left + 2]), strict=True)
        mixed = [round(a + (b - a) * (place - left)) for a, b in pairs]
        colors.append("#{:02x}{:02x}{:02x}".format(*mixed))
    return colors


def _channels(color: str) -> list[int]:
    return [int(color[start : start + 2], 16) for start in (1, 3, 5)]
