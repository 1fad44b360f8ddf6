"""What can be told of a scan's quality by its voxels and masks alone, in numbers.

All of them are of the scan as it was read, before its bias field was taken out: what
divides the tissue divides the air too. A measure that cannot be had (no air round a
stripped brain) is None, never NaN. Definitions follow the literature as MRIQC gathered
it (Esteban et al. 2017); where ours differ the docstring says how.
"""

import numpy as np
from jaxtyping import Bool, Float32, Float64

from brainjax.volume.air import find_air
from brainjax.volume.mask import millilitres
from brainjax.volume.scan import spacing_of
from brainjax.volume.tissue import contrast_to_noise, deep_signal, smoothness

TOUCH_MM = 20.0
"""A side of the image is touched where the contact is a square of this side or more."""


def measure(
    voxels: Float32[np.ndarray, "x y z"],
    affine: Float64[np.ndarray, "4 4"],
    brain: Bool[np.ndarray, "x y z"],
    head: Bool[np.ndarray, "x y z"],
    *,
    overlap: float | None = None,
    metric: float | None = None,
    codes_clipped: float | None = None,
) -> dict[str, float | None]:
    """Gives the quality measures of a RAS+ scan; see docs/quality.md.

    Args:
      voxels: as read. affine: voxel indices to mm.
      brain, head: masks on the scan's grid; the same twice for a stripped scan.
      overlap: Dice of the brain with the template's, in its space.
      metric: mutual information that the registration ended with.
      codes_clipped: share of the stored voxels inside that are 1 or 255.

    Returns:
      The measures by name, always the same names in the same order. brain_ml, head_ml
      in ml; cut_off_mm, blur in mm; cut_faces a count of 0..6; the rest are ratios.
    """
    spacing = spacing_of(affine)
    shown = brain if brain.any() else head
    either = head | brain
    box = _image_box(voxels)
    air = find_air(voxels[box], spacing, shown[box], either[box])
    signal = deep_signal(voxels, spacing, shown)
    # Where the air was emptied, or there is none, the body alone makes the box.
    seen = box if air else (slice(None),) * 3
    cut_off, faces = find_cuts(brain[seen], head[seen], spacing)
    measures = {
        "brain_ml": millilitres(brain, affine),
        "head_ml": millilitres(head, affine),
        "overlap": overlap,
        "metric": metric,
        "snr": signal / air.sd if air else None,
        "cnr": contrast_to_noise(voxels, shown),
        "clipped": saturated_share(voxels[either]),
        "codes_clipped": codes_clipped,
        "ghosting": _ratio(air.ghost if air else None, signal),
        "air_outliers": air.outliers if air else None,
        "cut_off_mm": cut_off,
        "cut_faces": float(faces),
        "blur": smoothness(voxels, spacing, shown),
        "efc": focus_entropy(voxels),
    }
    return {name: _finite(value) for name, value in measures.items()}


def saturated_share(values: Float32[np.ndarray, "n"]) -> float | None:
    """Gives the share of the voxels in the head that have its highest value."""
    return float((values == values.max()).mean()) if values.size else None


def focus_entropy(voxels: Float32[np.ndarray, "x y z"]) -> float | None:
    """Gives the entropy focus criterion: 0 all energy in one voxel, 1 all equal.

    Ghosts and blur by motion raise it (Atkinson 1997), divided by its maximum so that
    the size of the image does not count.
    """
    share = np.abs(voxels).ravel()
    energy = float(np.sqrt((share.astype(np.float64) ** 2).sum()))
    if energy <= 0 or share.size < 2:
        return None
    share = share[share > 0] / np.float32(energy)
    entropy = -float((share * np.log(share)).sum(dtype=np.float64))
    return entropy / (np.sqrt(voxels.size) * np.log(np.sqrt(voxels.size)))


def find_cuts(
    brain: Bool[np.ndarray, "x y z"], head: Bool[np.ndarray, "x y z"], spacing: tuple
) -> tuple[float, int]:
    """Gives where the field of view cuts: its width in mm, and the faces it is at.

    The width is the side of a square as large as the widest contact of the brain with
    one face of the image. Faces are those that the brain touches, and those that the
    upper head (above the brain's middle) does: the neck always, the nose and the ears
    often leave the image, and nothing is lost.
    """
    levels = np.flatnonzero(brain.any(axis=(0, 1)))
    middle = int(levels.mean()) if levels.size else brain.shape[2] // 2
    upper = head[..., middle:]
    widest, faces = 0.0, 0
    for axis in range(3):
        pixel = float(np.prod(spacing)) / spacing[axis]
        for side in (0, -1):
            width = _contact(brain, axis, side, pixel)
            below = (axis, side) == (2, 0)
            touched = width if below else max(width, _contact(upper, axis, side, pixel))
            widest, faces = max(widest, width), faces + (touched >= TOUCH_MM)
    return widest, faces


def _contact(
    mask: Bool[np.ndarray, "x y z"], axis: int, side: int, pixel: float
) -> float:
    return float(np.sqrt(np.count_nonzero(mask.take(side, axis)) * pixel))


def _image_box(voxels: Float32[np.ndarray, "x y z"]) -> tuple[slice, ...]:
    """What is left when faces of one value, padded on, are taken off."""
    if voxels.min() == voxels.max():
        return (slice(None),) * 3
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        flat = voxels.max(axis=others) == voxels.min(axis=others)
        used = np.flatnonzero(~flat)
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)


def _ratio(value: float | None, by: float) -> float | None:
    return None if value is None or by <= 0 else value / by


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
