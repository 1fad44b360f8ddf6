"""A canonical head laid over the MNI brain: its tissues, and where it is larger.

Everything is a function of one scan and of the ICBM152 template that nilearn ships:
no other scan is looked at, so that maps of a held-out subject may be made beforehand.

1. `align`: affine, template to head (`ixi_align.py`).
2. `find_tissues`: a mixture of grey, white and fluid with the template's maps as prior
   and a polynomial bias field, by expectation-maximisation (after Ashburner and
   Friston 2005).
3. `warp`: additive demons (Thirion 1998, Wang et al. 2005) at 4 mm.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ixi_align import (
    Points,
    Template,
    Volume,
    align,
    load_template,
    move,
    sample,
    slopes_of,
)
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, map_coordinates

from brainjax.records.store import RecordDataset, open_dataset

DEMONS = ((3.0, 20), (2.0, 20), (1.5, 30))
"""Of the warp: blur in voxels + 1, rounds."""

BRAIN_CODES = 180
"""Stored code of intensity 1 of a brain."""

FLOOR = 0.02
"""Least prior of a tissue anywhere in the brain."""


class Maps(NamedTuple):
    """What is known of one head, on grids of the template's space.

    Attributes:
      affine: [3, 4], template mm (from CENTRE_MM) to mm from the volume's corner.
      head: intensities 0..1 at 2 mm, aligned, skull and all.
      brain: the same, bias removed: 0.66 is grey, 1 white matter, 0 outside; 2 mm.
      tissues: [3, x, y, z] probabilities of grey, white and fluid at 2 mm.
      growth: log of the local volume beside the template's, at 4 mm.
      shift: [3, i, j, k], from the template to the aligned head, voxels of 4 mm.
      contrast: log intensities and log spreads of the three tissues, [6].
    """

    affine: Float[np.ndarray, "3 4"]
    head: Volume
    brain: Volume
    tissues: Float[np.ndarray, "3 x y z"]
    growth: Float[np.ndarray, "i j k"]
    shift: Float[np.ndarray, "3 i j k"]
    contrast: Float[np.ndarray, " 6"]


class Mapper:
    """Makes the maps of heads that were prepared at `spacing` mm, 192 mm wide."""

    def __init__(self, spacing: float = 2.0):
        self.spacing = spacing
        self.fine, self.coarse = load_template(2.0), load_template(4.0)
        grey, white, _ = self.fine.priors
        like = _as_tissue(
            self.fine.t1, self.fine.t1[grey > 0.9], self.fine.t1[white > 0.9]
        )
        self.target = shrink(np.where(self.fine.inside, like, 0).astype(np.float32))
        within = gaussian_filter(self.coarse.inside.astype(np.float32), 1)
        self.within = within

    def __call__(self, volume: Volume) -> Maps:
        """Gives the maps of a canonical volume, 0..1."""
        affine = align(volume, self.coarse, self.spacing)
        at = move(affine, self.fine.points.reshape(3, -1))
        head = sample(volume, at, self.spacing).reshape(self.fine.inside.shape)
        tissues, brain, contrast = find_tissues(head, self.fine)
        shift = warp(self.target, shrink(brain), self.within)
        return Maps(affine, head, brain, tissues, growth(shift), shift, contrast)


def map_scans(dataset: RecordDataset, folder: Path, *, workers: int = 2) -> list[Path]:
    """Writes the maps of every scan as .npz, those that are there kept; in order."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{row['codes_sha256'][:16]}.npz" for row in dataset.rows]
    missing = [i for i, name in enumerate(names) if not (folder / name).exists()]
    shares = [missing[part::workers] for part in range(workers)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        work = partial(_map_some, dataset.folder, folder, names)
        for _ in pool.map(work, [share for share in shares if share]):
            pass
    return [folder / name for name in names]


def _map_some(data: Path, folder: Path, names: list[str], indices: list[int]) -> None:
    dataset, mapper = open_dataset(data), Mapper()
    for index in indices:
        maps = mapper(dataset.read(index).astype(np.float32) / 255)
        bytes_of = {
            "head": np.round(maps.head * 255).astype(np.uint8),
            "brain": np.round(maps.brain * BRAIN_CODES).astype(np.uint8),
            "tissues": np.round(maps.tissues * 255).astype(np.uint8),
        }
        part = folder / f".{names[index]}"
        np.savez(part, **{**maps._asdict(), **bytes_of})
        part.replace(folder / names[index])


def load_maps(path: Path) -> Maps:
    """Reads what `map_scans` wrote."""
    with np.load(path) as stored:
        maps = {name: stored[name].astype(np.float32) for name in Maps._fields}
    codes = {"head": 255, "brain": BRAIN_CODES, "tissues": 255}
    return Maps(**{n: m / codes.get(n, 1) for n, m in maps.items()})


def find_tissues(
    head: Volume, template: Template, *, rounds: int = 25
) -> tuple[np.ndarray, Volume, np.ndarray]:
    """Gives the tissues' probabilities, the brain without bias, and the contrast."""
    inside = template.inside
    some = np.zeros_like(inside)
    some[::2, ::2], some[1::2, 1::2] = inside[::2, ::2], inside[1::2, 1::2]
    logs = np.log(np.maximum(head[some], 0.02)).astype(np.float64)
    prior, basis = _prior(template, some), _polynomials(template.points[:, some])
    bias, shares = np.zeros_like(logs), prior
    mean = spread = weights = np.zeros(0)
    for number in range(rounds):
        flat, total = logs - bias, shares.sum(1)
        mean = shares @ flat / total
        spread = (shares * (flat - mean[:, None]) ** 2).sum(1) / total
        spread = np.maximum(spread, 1e-3)
        shares = _posterior(flat, mean, spread, prior)
        if number > 3:
            weights = _fit_bias(logs, mean, spread, shares, basis)
            bias = basis @ weights
    flat = np.log(np.maximum(head[inside], 0.02))
    flat = flat - _polynomials(template.points[:, inside]) @ weights
    tissues = np.zeros((3, *inside.shape), np.float32)
    tissues[:, inside] = _posterior(flat, mean, spread, _prior(template, inside))
    brain = np.zeros(inside.shape, np.float32)
    grey, white = np.exp(mean[:2])
    brain[inside] = _as_tissue(np.exp(flat), grey, white)
    return tissues, brain, np.r_[mean, np.log(spread)]


def _prior(template: Template, part: np.ndarray) -> Float[np.ndarray, "3 n"]:
    prior = np.clip(template.priors[:, part], FLOOR, None)
    return prior / prior.sum(0)


def _posterior(flat, mean, spread, prior) -> Float[np.ndarray, "3 n"]:
    distance = (flat - mean[:, None]) ** 2 / spread[:, None]
    likely = prior * np.exp(-0.5 * distance) / np.sqrt(spread[:, None])
    # The constant takes what is none of the three: vessels, dura, marrow.
    return likely / (likely.sum(0) + 1e-3)


def _fit_bias(logs, mean, spread, shares, basis) -> Float[np.ndarray, " k"]:
    """Fits the bias to grey and white matter, by weighted least squares."""
    some = np.s_[::3]
    trust = (shares[:2] / spread[:2, None])[:, some]
    right = basis[some].T @ (trust * (logs[some] - mean[:2, None])).sum(0)
    left = (basis[some].T * trust.sum(0)) @ basis[some]
    return np.linalg.solve(
        left + 1e-3 * np.trace(left) / len(left) * np.eye(len(left)), right
    )


def _polynomials(points: Points, order: int = 3) -> Float[np.ndarray, "n k"]:
    """Products of powers of x, y, z up to an order, without the constant."""
    x, y, z = points / 80
    powers = np.ndindex(order + 1, order + 1, order + 1)
    return np.stack(
        [x**i * y**j * z**k for i, j, k in powers if 0 < i + j + k <= order], axis=1
    )


def _as_tissue(values, grey, white) -> np.ndarray:
    """Scales intensities so that grey matter is 0.66 and white matter 1."""
    grey, white = np.mean(grey), np.mean(white)
    return np.clip(0.66 + 0.34 * (values - grey) / (white - grey), 0, 1.4)


def warp(target: Volume, brain: Volume, within: Volume) -> np.ndarray:
    """Gives the shift [3, ...] in voxels at which the brain is most like the target."""
    shift = np.zeros((3, *target.shape), np.float32)
    places = np.indices(target.shape, np.float32)
    for blur, rounds in DEMONS:
        fixed = gaussian_filter(target, blur - 1)
        moving = gaussian_filter(brain, blur - 1)
        for _ in range(rounds):
            moved = map_coordinates(moving, places + shift, order=1, mode="nearest")
            slope = 0.5 * (slopes_of(fixed) + slopes_of(moved))
            error = (fixed - moved) * within
            step = error * slope / ((slope**2).sum(0) + error**2 + 1e-4)
            step = np.stack([gaussian_filter(axis, 1.0) for axis in step])
            shift = np.stack([gaussian_filter(axis, 1.2) for axis in shift + step])
    return shift


def growth(shift: Float[np.ndarray, "3 i j k"]) -> Volume:
    """Gives the log of the volume that a voxel of the template has in the head."""
    slopes = np.stack([slopes_of(axis) for axis in shift])
    slopes += np.eye(3).reshape(3, 3, 1, 1, 1)
    volume = np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1)))
    return np.log(np.clip(volume, 0.05, 20)).astype(np.float32)


def shrink(volume: Volume) -> Volume:
    """Gives the means of 2x2x2 voxels."""
    x, y, z = (n // 2 for n in volume.shape)
    return volume.reshape(x, 2, y, 2, z, 2).mean((1, 3, 5))
