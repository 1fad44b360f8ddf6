"""The arms of a cohort: who is in which, what the tables say of each."""

from collections.abc import Callable
from typing import Any, NamedTuple

from brainjax.errors import InputRefusedError
from brainjax.phantom.glioma import draw_glioma
from brainjax.phantom.latents import Subject, draw_subject
from brainjax.phantom.mci import draw_mci
from brainjax.phantom.stroke import draw_stroke, oracle_days
from brainjax.phantom.survival import draw_survival

PLAIN = ("healthy",)
"""Arms of a cohort that has none: scans and tables as they have always been."""

COLUMNS = ("arm", "mci", "idh", "survival_days", "event", "stroke_days")
"""What participants.tsv says of an arm; n/a where it does not apply."""

Row = dict[str, Any]


class Arm(NamedTuple):
    """A row of ARMS: what may be known of its subjects, and what is hidden."""

    labels: Callable[[Subject], Row]
    latents: Callable[[Subject], Row]


def _nothing(subject: Subject) -> Row:
    return {}


def _glioma_labels(subject: Subject) -> Row:
    life = draw_survival(subject)
    known = {"survival_days": life.survival_days, "event": life.event}
    return {"idh": draw_glioma(subject).idh, **known}


def _glioma_latents(subject: Subject) -> Row:
    life = draw_survival(subject)._asdict()
    hidden = {k: life[k] for k in ("log_hazard", "death_days", "follow_up_days")}
    return {**draw_glioma(subject)._asdict(), **hidden}


def _stroke_latents(subject: Subject) -> Row:
    stroke = draw_stroke(subject)
    return {**stroke._asdict(), "oracle_days": oracle_days(stroke)}


def _stroke_labels(subject: Subject) -> Row:
    return {"stroke_days": draw_stroke(subject).stroke_days}


ARMS = {
    "healthy": Arm(lambda subject: {"mci": "healthy"}, _nothing),
    "mci": Arm(lambda subject: {"mci": "mci"}, _nothing),
    "glioma": Arm(_glioma_labels, _glioma_latents),
    "stroke": Arm(_stroke_labels, _stroke_latents),
}
"""Every arm, by the name that `--arms` takes."""


def check_arms(arms: tuple[str, ...]) -> None:
    """Raises InputRefusedError for arms that are unknown, none or named twice."""
    unknown = [name for name in arms if name not in ARMS]
    if unknown or not arms or len(set(arms)) < len(arms):
        raise InputRefusedError(
            f"arms: wanted some of {', '.join(ARMS)}, each once, "
            f"got {', '.join(arms) or 'none'}"
        )


def member(seed: int, number: int, arms: tuple[str, ...]) -> Subject:
    """Gives subject `number` (from 1): the arms take turns."""
    arm = None if arms == PLAIN else arms[(number - 1) % len(arms)]
    return draw_subject(seed, number, arm)


def labels_of(subject: Subject) -> list:
    """Gives the values of COLUMNS of one subject; n/a where they do not apply."""
    arm = subject.arm or "healthy"
    known = {"arm": arm, **ARMS[arm].labels(subject)}
    return [known.get(name, "n/a") for name in COLUMNS]


def latents_of(subject: Subject) -> Row:
    """Gives what is hidden of one subject beyond its Latents; {} without arms."""
    if subject.arm is None:
        return {}
    hidden = {"arm": subject.arm, **draw_mci(subject)._asdict()}
    return {**hidden, **ARMS[subject.arm].latents(subject)}
