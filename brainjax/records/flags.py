"""Which scans of a collection stand out by their quality measures, and why.

Two rules: hard limits that a brain of any collection keeps, and robust z-scores
against the other scans of the same sequence. A flag is a reason to look, not a verdict.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

Z_LIMIT = 3.5
"""|z| above which a scan stands out (Iglewicz and Hoaglin 1993)."""

MIN_SCANS = 10
"""Scans with a measure that a z-score wants at least."""

SD_OF_MAD = 1.4826
SD_OF_MEAN = 1.2533
"""Deviation of a normal distribution over its median, and mean, absolute deviation."""


class Measure(NamedTuple):
    """What is known of a quality measure.

    words, unit: for people. bad: the side that is worse, "low", "high" or "both".
    least: distance from the median below which nothing is worth a look, however alike
    the others are. limits: what a scan must lie between, whatever the others are.
    """

    words: str
    unit: str
    bad: str
    least: float = 0.0
    limits: tuple[float, float] = (-np.inf, np.inf)


MEASURES = {
    "brain_ml": Measure("brain volume", "ml", "both", 50, (600, 2200)),
    "head_ml": Measure("head volume", "ml", "both", 200),
    "overlap": Measure("overlap with the template", "Dice", "low", 0.05, (0.7, 1)),
    "metric": Measure("registration metric", "nats", "low", 0.03, (0.2, np.inf)),
    "snr": Measure("signal to noise", "", "low"),
    "cnr": Measure("contrast to noise", "", "low", 0.5),
    "clipped": Measure("saturated in the head", "share", "high", 0.005),
    "codes_clipped": Measure("clipped when stored", "share", "high", 0.005),
    "ghosting": Measure("ghosting", "share of signal", "high", 0.01),
    "air_outliers": Measure("artefacts in the air", "share", "high", 0.01),
    "cut_off_mm": Measure("brain cut off", "mm", "high", 20, (0, 30)),
    "cut_faces": Measure("faces touched", "", "high", 1),
    "blur": Measure("smoothness", "mm FWHM", "high", 0.2),
    "efc": Measure("entropy focus criterion", "", "high", 0.02),
}
"""Measures in the order that tables and pages have them."""


def flag(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Gives why each scan stands out, one reason a measure; () for one that does not.

    Z-scores are taken within a sequence that has ten scans, and among the scans of all
    other sequences together; of fewer than ten there are none. A flag reads like
    "snr 4.1 (z -5.2)" or "overlap 0.52 (limit 0.7, z -8.1)".

    Args:
      rows: a dict a scan, with "sequence" and measures by name; a measure may be
        missing or None, and other entries do not matter.
    """
    flags: list[list[str]] = [[] for _ in rows]
    groups = group_rows([row.get("sequence") for row in rows])
    for name, known in MEASURES.items():
        values = np.array([_number(row.get(name)) for row in rows])
        z = np.full(len(rows), np.nan)
        for group in groups:
            z[group] = robust_z(values[group], known)
        for position, (value, score) in enumerate(zip(values, z, strict=True)):
            reason = _reason(known, float(value), float(score))
            if reason:
                flags[position].append(f"{name} {show_short(value)} ({reason})")
    return [tuple(reasons) for reasons in flags]


def group_rows(sequences: Sequence[str | None]) -> list[list[int]]:
    """Gives the positions of the scans that are held against each other."""
    by_name: dict[str, list[int]] = {}
    for position, sequence in enumerate(sequences):
        by_name.setdefault(sequence or "", []).append(position)
    large = [group for group in by_name.values() if len(group) >= MIN_SCANS]
    rest = [group for group in by_name.values() if len(group) < MIN_SCANS]
    return [*large, sorted(at for group in rest for at in group)] if rest else large


def robust_z(values: Float[np.ndarray, "n"], known: Measure) -> Float[np.ndarray, "n"]:
    """Gives (value - median) / deviation; NaN where there is nothing to say.

    The deviation is the median absolute one, or the mean where more than half of the
    values are the same. What is nearer to the median than `known.least` has z 0.
    """
    here = values[np.isfinite(values)]
    if here.size < MIN_SCANS:
        return np.full(values.shape, np.nan)
    middle = np.median(here)
    distances = np.abs(here - middle)
    deviation = SD_OF_MAD * float(np.median(distances))
    deviation = deviation or SD_OF_MEAN * float(distances.mean())
    if deviation == 0:
        return np.where(np.isfinite(values), 0.0, np.nan)
    far = np.abs(values - middle) >= known.least
    return np.where(np.isfinite(values) & ~far, 0.0, (values - middle) / deviation)


def show_short(value: float) -> str:
    """Gives a measure for people: three digits, and large ones whole."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _reason(known: Measure, value: float, z: float) -> str:
    low, high = known.limits
    reasons = []
    if value < low or value > high:
        reasons.append(f"limit {low if value < low else high:g}")
    worse = {"low": -z, "high": z, "both": abs(z)}[known.bad]
    if worse > Z_LIMIT:
        reasons.append(f"z {z:.1f}" if abs(z) < 100 else "z beyond 99")
    return ", ".join(reasons)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
