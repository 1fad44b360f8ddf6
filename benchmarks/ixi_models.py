"""Age and sex from maps of few heads: Gaussian processes over kinds of features.

A kind (say, grey matter at 4 mm) gives one linear kernel. A Gaussian process adds them
up with a weight each, and finds the weights and the noise by the likelihood of the
training labels (Rasmussen and Williams 2006, chapter 5): nothing is chosen by hand,
and nothing by the held-out fold.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ixi_align import load_template
from ixi_maps import Maps, load_maps, shrink
from jaxtyping import Float, Int
from scipy import linalg, optimize
from scipy.ndimage import gaussian_filter, map_coordinates

from brainjax.records.store import RecordDataset

Indices = Int[np.ndarray, " k"]

FWHM_MM = 8.0
"""Blur of the tissues."""

BLUR_MM = FWHM_MM / 2.355

STARTS = (0.1, 1.0)
"""First guesses of the noise, in units of the labels' variance."""


def whole_heads(dataset: RecordDataset) -> Float[np.ndarray, "n f"]:
    """Features of heads that were only prepared: blurred, at twice the spacing."""
    sigma = BLUR_MM / dataset.rows[0]["affine"][0][0]
    heads = (dataset.read(i).astype(np.float32) for i in range(len(dataset)))
    rows = [shrink(gaussian_filter(head, sigma)).ravel() for head in heads]
    return np.stack([row / row.mean() for row in rows])


def make_features(maps: Sequence[Path]) -> dict[str, Float[np.ndarray, "n f"]]:
    """Gives the features of every kind, a row a head, from files of maps.

    Of a template grid of 4 mm, inside the brain: `tissues` grey, white and fluid in
    their affine place; `warped` the same by way of the demons, with the volume they
    had before; `growth`; `intensity` of the brain, bias removed. `outline`: size and
    shape by the affine, share and contrast of the tissues.
    """
    inside = shrink(load_template(2.0).inside.astype(np.float32)) > 0.3
    rows = [_describe(load_maps(path), inside) for path in maps]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _describe(maps: Maps, inside: np.ndarray) -> dict[str, np.ndarray]:
    tissues = [_blurred(t, 2.0)[inside] for t in maps.tissues]
    return {
        "tissues": np.concatenate(tissues),
        "warped": np.concatenate(_warped(maps, inside)),
        "growth": maps.growth[inside],
        "intensity": _blurred(maps.brain, 2.0, BLUR_MM / 2)[inside],
        "outline": _outline(maps),
    }


def _blurred(volume: np.ndarray, mm: float, sigma: float = BLUR_MM) -> np.ndarray:
    return shrink(gaussian_filter(volume, sigma / mm))


def _warped(maps: Maps, inside: np.ndarray) -> list[np.ndarray]:
    places = np.indices(inside.shape, np.float32) + maps.shift
    moved = [map_coordinates(shrink(t), places, order=1) for t in maps.tissues]
    held = [t * np.exp(maps.growth) for t in moved]
    return [gaussian_filter(t, BLUR_MM / 4.0)[inside] for t in held]


def _outline(maps: Maps) -> np.ndarray:
    linear = maps.affine[:, :3]
    size = np.log(np.abs(np.linalg.det(linear)))
    share = np.log(maps.tissues.mean((1, 2, 3)))
    bright = maps.contrast[[0, 2]] - maps.contrast[1]
    sides = np.log(np.linalg.norm(linear, axis=0))
    return np.r_[size, sides, share, bright, maps.contrast[3:]]


class Kinds(NamedTuple):
    """What a Gaussian process may look at.

    Attributes:
      wide: products of features of every two heads, by the kind of feature.
      narrow: few numbers a head, of different units; no columns for none.
    """

    wide: Mapping[str, Float[np.ndarray, "n n"]]
    narrow: Float[np.ndarray, "n f"]

    def only(self, *names: str) -> "Kinds":
        """Gives some kinds; the narrow numbers are called `outline`."""
        wide = {name: self.wide[name] for name in names if name in self.wide}
        keep = self.narrow.shape[1] if "outline" in names else 0
        return Kinds(wide, self.narrow[:, :keep])


def make_kinds(features: Mapping[str, np.ndarray]) -> Kinds:
    """Multiplies out all features but `outline`; no label enters."""
    wide = {}
    for name, found in features.items():
        if name != "outline":
            # Any one head as the origin: products are centred again on training.
            moved = (found - found[0]).astype(np.float64)
            wide[name] = moved @ moved.T
    return Kinds(wide, features["outline"].astype(np.float64))


class Parts(NamedTuple):
    """Kernels among the learnt, and from those asked for to the learnt."""

    learnt: Float[np.ndarray, "k n n"]
    asked: Float[np.ndarray, "k m n"]


def split_kernels(kinds: Kinds, train: Indices, test: Indices) -> Parts:
    """Centres every kernel on the training scans, and scales it to a mean of 1.

    Narrow numbers are divided by their spread in the training scans.
    """
    kernels = list(kinds.wide.values())
    if kinds.narrow.shape[1]:
        known = kinds.narrow[train]
        scaled = (kinds.narrow - known.mean(0)) / known.std(0)
        kernels.append(scaled @ scaled.T)
    learnt, asked = [], []
    for kernel in kernels:
        inner, outer = kernel[np.ix_(train, train)], kernel[np.ix_(test, train)]
        column, whole = inner.mean(0), inner.mean()
        inner = inner - column - column[:, None] + whole
        outer = outer - outer.mean(1, keepdims=True) - column + whole
        scale = np.trace(inner) / len(train)
        learnt.append(inner / scale)
        asked.append(outer / scale)
    return Parts(np.stack(learnt), np.stack(asked))


def gaussian_process(
    kinds: Kinds, labels: np.ndarray, train: Indices, test: Indices
) -> Float[np.ndarray, " m"]:
    """Answers test scans by the Gaussian process that explains the training labels."""
    parts = split_kernels(kinds, train, test)
    mean, spread = labels[train].mean(), labels[train].std()
    known = (labels[train] - mean) / spread
    count = len(parts.learnt)

    def cost(logs: np.ndarray) -> tuple[float, np.ndarray]:
        covariance = _covariance(parts.learnt, np.exp(logs))
        factor = linalg.cholesky(covariance, lower=True)
        inverse = linalg.cho_solve((factor, True), np.eye(len(train)))
        weights = inverse @ known
        value = 0.5 * known @ weights + np.log(np.diag(factor)).sum()
        gap = inverse - np.outer(weights, weights)
        slope = [0.5 * (gap * kernel).sum() for kernel in parts.learnt]
        return value, np.exp(logs) * np.array([*slope, 0.5 * np.trace(gap)])

    found = [
        optimize.minimize(
            cost,
            np.log([*[1 / count] * count, noise]),
            jac=True,
            bounds=[(-9, 4)] * count + [(-6, 2)],
        )
        for noise in STARTS
    ]
    scales = np.exp(min(found, key=lambda f: f.fun).x)
    weights = linalg.solve(_covariance(parts.learnt, scales), known, assume_a="pos")
    return mean + spread * np.tensordot(scales[:-1], parts.asked, 1) @ weights


def _covariance(kernels: np.ndarray, scales: np.ndarray) -> np.ndarray:
    noise = (scales[-1] + 1e-6) * np.eye(kernels.shape[1])
    return np.tensordot(scales[:-1], kernels, 1) + noise


Predict = Callable[[Indices, Indices], np.ndarray]


def make_candidates(
    kinds: Kinds, sets: Mapping[str, tuple[str, ...]], labels: np.ndarray
) -> dict[str, Predict]:
    """Gives a Gaussian process for every set of kinds."""

    def predict(part: Kinds, train: Indices, test: Indices) -> np.ndarray:
        return gaussian_process(part, labels, train, test)

    return {name: partial(predict, kinds.only(*some)) for name, some in sets.items()}


def by_inner_folds(
    candidates: Mapping[str, Predict],
    labels: np.ndarray,
    train: Indices,
    test: Indices,
    *,
    folds: int = 10,
    seed: int = 0,
) -> tuple[str, np.ndarray]:
    """Takes the candidate with the least error in folds of the training scans alone.

    Returns:
      Its name, and its answers for the test scans, learnt from all training scans.
    """
    fold = np.random.default_rng(seed).permutation(len(train)) % folds
    errors = {}
    for name, predict in candidates.items():
        answers = np.empty(len(train))
        for number in range(folds):
            answers[fold == number] = predict(
                train[fold != number], train[fold == number]
            )
        errors[name] = float(np.abs(answers - labels[train]).mean())
    best = min(errors, key=lambda name: errors[name])
    return best, candidates[best](train, test)
