"""The tissue inside a brain mask: signal, contrast, noise and smoothness."""

from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from brainjax.volume.air import ENOUGH, coarse_steps, distance

BINS = 128
MAD_TO_SD = 1.4826


def deep_signal(
    voxels: Float32[np.ndarray, "x y z"],
    spacing: tuple,
    brain: Bool[np.ndarray, "x y z"],
) -> float:
    """Gives the median of the brain's inner third, most of which is white matter.

    By depth and not by brightness, so that it is of the same tissue in all sequences.
    """
    steps = coarse_steps(spacing)
    inside = brain[steps]
    if not inside.any():
        return 0.0
    depth = distance(inside, spacing)
    deep = depth >= np.quantile(depth[inside], 2 / 3)
    return float(np.median(voxels[steps][deep & inside]))


def contrast_to_noise(
    voxels: Float32[np.ndarray, "x y z"], brain: Bool[np.ndarray, "x y z"]
) -> float | None:
    """Gives how far the two main tissues are apart, in deviations of the local noise.

    |a - b| / noise (Magnotta 2006) of the larger two of three classes. The spread of a
    tissue, which others divide by, is mostly the bias field's before that is taken out;
    noise is what neighbours differ by. Noise alone gives 1.2. None where the brain has
    no spread or its values are too few.
    """
    classes = tissue_classes(voxels[brain])
    noise = local_noise(voxels, brain)
    if classes is None or not noise:
        return None
    (_, mean), (_, other) = sorted(classes)[-2:]
    return abs(mean - other) / noise


def tissue_classes(
    values: Float32[np.ndarray, "n"],
) -> list[tuple[float, float]] | None:
    """Gives share and mean of three classes (Otsu 1979), the darkest first."""
    if values.size < ENOUGH:
        return None
    low, high = np.percentile(values, (0.5, 99.5)).tolist()
    if not low < high:
        return None
    counts, edges = np.histogram(values, BINS, (low, high))
    shares = counts / counts.sum()
    mass = np.concatenate([[0], np.cumsum(shares)])
    moment = np.concatenate([[0], np.cumsum(shares * (edges[1:] + edges[:-1]) / 2)])

    def between(start: np.ndarray | int, stop: np.ndarray | int) -> np.ndarray:
        return (moment[stop] - moment[start]) ** 2 / (mass[stop] - mass[start] + 1e-12)

    first, second = np.triu_indices(BINS, 1)
    parts = between(0, first) + between(first, second) + between(second, BINS)
    best = int(np.argmax(parts))
    cuts = [0, int(first[best]), int(second[best]), BINS]
    found = []
    for start, stop in pairwise(cuts):
        share = float(mass[stop] - mass[start])
        found.append((share, float(moment[stop] - moment[start]) / max(share, 1e-12)))
    return found


def local_noise(
    voxels: Float32[np.ndarray, "x y z"], brain: Bool[np.ndarray, "x y z"]
) -> float | None:
    """Gives the deviation of the noise in the brain, the median of three axes.

    By second differences of three voxels in line, from which slopes cancel; of their
    sizes the median, which edges of tissue hardly move.
    """
    if not brain.any():
        return None
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    voxels, brain = voxels[box], brain[box]
    found = []
    for axis in range(3):
        first, middle, last = _in_line(axis, 3)
        inside = brain[first] & brain[middle] & brain[last]
        if not inside.any():
            return None
        bend = voxels[first] - 2 * voxels[middle] + voxels[last]
        found.append(float(np.median(np.abs(bend[inside]))) * MAD_TO_SD / np.sqrt(6))
    return sorted(found)[1]


def smoothness(
    voxels: Float32[np.ndarray, "x y z"],
    spacing: tuple,
    brain: Bool[np.ndarray, "x y z"],
) -> float | None:
    """Gives the smoothness of the brain in mm FWHM, the mean of the three axes.

    By the variance of neighbours' differences against that of the values (Forman
    1995; AFNI's 3dFWHMx). Anatomy counts as smoothness: it is for comparing scans of
    one kind. Noise makes it less, motion and wide voxels make it more.
    """
    if not brain.any():
        return None
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    inside, cut = brain[box], voxels[box]
    variance = float(cut[inside].var(dtype=np.float64))
    if variance <= 0:
        return None
    widths = []
    for axis, mm in enumerate(spacing):
        first, second = _in_line(axis, 2)
        both = inside[first] & inside[second]
        steps = (cut[second] - cut[first])[both]
        ratio = 1 - float((steps**2).mean(dtype=np.float64)) / (2 * variance)
        # Differences as large as those of pure noise: no width at all.
        wide = -2 * np.log(2) / np.log(ratio) if 0 < ratio < 1 else 0.0
        widths.append(mm * float(np.sqrt(wide)))
    return sum(widths) / 3


def _in_line(axis: int, count: int) -> list[tuple[slice, ...]]:
    """Slices that put each voxel beside the next ones along an axis."""
    found = []
    for shift in range(count):
        whole = [slice(None)] * 3
        whole[axis] = slice(shift, shift + 1 - count or None)
        found.append(tuple(whole))
    return found
