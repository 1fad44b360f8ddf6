"""What is drawn per subject, and how well the answers can be read from it.

Every draw comes from a Philox stream keyed by (seed, subject) and the name of what
is drawn, so that a new effect or sequence changes no other draw.
"""

import zlib
from typing import NamedTuple

import numpy as np

AGES = (20.0, 90.0)
VENTRICLE_NOISE = 0.55
THINNING_NOISE = 0.15
SIZE_NOISE = 0.030
SIZE_STEP = 0.026


class Latents(NamedTuple):
    """The hidden truth of a subject; lengths in mm, age in years.

    `ventricles` and `thinning` follow age, `size` follows sex; the rest follows
    nothing: nuisances that move a histogram as much as age does.
    """

    age: float
    sex: str
    ventricles: float
    thinning: float
    size: float
    cisterns: float
    other_thinning: float
    rim: float


def stream(seed: int, subject: int, name: str) -> np.random.Generator:
    """Gives the generator of one named draw of one subject, counter-based."""
    counter = [0, 0, 0, zlib.crc32(name.encode())]
    return np.random.Generator(np.random.Philox(key=[seed, subject], counter=counter))


class Subject(NamedTuple):
    """One member of a cohort: where its draws come from, its latents, its arm.

    The arm is None in a cohort that has none: all are healthy, with equal hippocampi.
    """

    seed: int
    number: int
    latents: Latents
    arm: str | None = None

    def stream(self, name: str) -> np.random.Generator:
        """Gives the generator of one named draw of this subject."""
        return stream(self.seed, self.number, name)


def ventricle_mean(age):
    """Mean widening of the ventricles at an age: mm at the wall, accelerating."""
    return -0.4 + 5.0 * ((age - AGES[0]) / (AGES[1] - AGES[0])) ** 1.4


def thinning_mean(age):
    """Mean thinning of the upper and frontal cortex at an age, mm."""
    return -0.4 + 1.2 * (age - AGES[0]) / (AGES[1] - AGES[0])


def draw_subject(seed: int, number: int, arm: str | None = None) -> Subject:
    """Gives subject `number` (from 1) of the cohort `seed`; no latent asks the arm."""
    rng = stream(seed, number, "latents")
    age = round(float(rng.uniform(*AGES)), 1)
    sex = "FM"[int(rng.integers(2))]
    sign = 1.0 if sex == "M" else -1.0
    latents = Latents(
        age=age,
        sex=sex,
        ventricles=ventricle_mean(age) + VENTRICLE_NOISE * rng.standard_normal(),
        thinning=thinning_mean(age) + THINNING_NOISE * rng.standard_normal(),
        size=1 + sign * SIZE_STEP + SIZE_NOISE * rng.standard_normal(),
        cisterns=float(rng.uniform(-0.5, 2.5)),
        other_thinning=float(rng.uniform(-0.5, 1.0)),
        rim=float(rng.uniform(-0.6, 1.2)),
    )
    return Subject(seed, number, latents, arm)


def oracle_age(latents: Latents) -> float:
    """Gives E[age | ventricles, thinning]: no reader of the anatomy does better."""
    ages = np.linspace(*AGES, 1401)
    z = ((latents.ventricles - ventricle_mean(ages)) / VENTRICLE_NOISE) ** 2
    z += ((latents.thinning - thinning_mean(ages)) / THINNING_NOISE) ** 2
    weight = np.exp(-0.5 * (z - z.min()))
    return float((ages * weight).sum() / weight.sum())


def oracle_male(latents: Latents) -> float:
    """Gives P(male | size)."""
    return float(1 / (1 + np.exp(-2 * SIZE_STEP * (latents.size - 1) / SIZE_NOISE**2)))
