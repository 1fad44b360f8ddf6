"""How long a subject with a glioma lives: a stated hazard, and censoring."""

from typing import NamedTuple

import numpy as np

from brainjax.phantom.glioma import draw_glioma
from brainjax.phantom.latents import Subject

AGE_SLOPE = 0.5
VOLUME_SLOPE = 0.9
MUTANT = -1.8
SHAPE = 1.3
SCALE_DAYS = 450.0
MIDDLE_AGE, MIDDLE_ML = 55.0, 12.0
FOLLOW_UP = (300.0, 2400.0)
HORIZON = 365
"""Days of the binary task "alive after one year"."""


class Survival(NamedTuple):
    """What is known (survival_days, event) and what is behind it; days."""

    survival_days: int
    event: int
    log_hazard: float
    death_days: float
    follow_up_days: float


def draw_survival(subject: Subject) -> Survival:
    """Gives time and event of a proportional hazards model with Weibull times.

    eta = 0.5 (age - 55) / 10 + 0.9 ln(V / 12 ml) - 1.8 [IDH mutant]
    S(t) = exp(-(t / 450 days)^1.3 exp(eta)), so hazards are in proportion exp(eta).

    V is the tumour's nominal volume. Follow-up is U(300, 2400) days, independent of
    all else; whoever lives longer is censored there. Times are whole days, at least 1.
    """
    glioma = draw_glioma(subject)
    eta = AGE_SLOPE * (subject.latents.age - MIDDLE_AGE) / 10
    eta += VOLUME_SLOPE * float(np.log(glioma.nominal_ml / MIDDLE_ML))
    eta += MUTANT if glioma.idh == "mutant" else 0.0
    rng = subject.stream("survival")
    unit = float(rng.exponential())
    death = SCALE_DAYS * (unit * np.exp(-eta)) ** (1 / SHAPE)
    follow_up = float(rng.uniform(*FOLLOW_UP))
    days = max(round(min(death, follow_up)), 1)
    return Survival(days, int(death <= follow_up), eta, float(death), follow_up)


def one_year(survival: Survival) -> bool | None:
    """Gives whether the subject died within 365 days; None if not known."""
    if survival.event and survival.survival_days <= HORIZON:
        return True
    return False if survival.survival_days > HORIZON else None


def c_index(times: np.ndarray, events: np.ndarray, risks: np.ndarray) -> float | None:
    """Gives Harrell's C: of the pairs whose order is known, the share ranked so.

    A pair counts where the shorter time ends in an event; equal risks count half.
    None without such a pair. Arrays are [n].
    """
    known = (times[:, None] < times) | (
        (times[:, None] == times) & ~events.astype(bool)[None]
    )
    known &= events.astype(bool)[:, None]
    if not known.any():
        return None
    right = (risks[:, None] > risks) + 0.5 * (risks[:, None] == risks)
    return float(right[known].mean())
