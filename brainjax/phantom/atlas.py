"""The ICBM152 anatomy that nilearn ships, made into maps a subject is sampled from.

Nothing is downloaded: nilearn packages the T1, grey and white matter maps at 1 mm.
Coordinates are millimetres of the template (MNI, RAS+).
"""

import functools
import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from brainjax.errors import MissingExtraError
from brainjax.phantom.fields import Field, sigmoid

FINE = ("grey", "white", "ventricle", "pial", "detail", "enhancement")
"""Channels of the fine maps; `pial` is the depth below the pial surface in mm."""

SPACES = ("ventricles", "cisterns")
"""Fluid spaces that can widen: three channels each, the unit field that does it."""

_MARGIN_MM = 60
_PIAL_CSF = 0.5
_REACH_MM = 12.0


class Atlas(NamedTuple):
    """Maps of the template: the FINE channels, mm outside the brain, the SPACES."""

    fine: Field
    outside: Field
    spaces: Field


class _Template(NamedTuple):
    t1: np.ndarray
    grey: np.ndarray
    white: np.ndarray
    csf: np.ndarray
    brain: np.ndarray
    origin: tuple[float, float, float]
    step: int


def build_atlas(spacing: float) -> Atlas:
    """Gives the atlas for scans of a spacing in mm: some seconds, 110 MB.

    Maps are low-passed by a Gaussian of 0.4 x spacing, so that a voxel holds the
    mean of what it covers. Raises MissingExtraError where nilearn is absent.
    """
    if importlib.util.find_spec("nilearn") is None:
        raise MissingExtraError("nilearn", "phantom")
    return _build(spacing)


@functools.lru_cache(maxsize=1)
def _build(spacing: float) -> Atlas:
    whole = _load_template()
    half = _shrink(whole)
    template = half if spacing >= 3 else whole
    fine = Field(_fine_maps(template, spacing), template.origin, template.step)
    return Atlas(fine, *_coarse_fields(half))


def save_atlas(atlas: Atlas, folder: Path) -> None:
    """Writes the atlas to `.npy` files that processes share by memory map."""
    for name, field in zip(atlas._fields, atlas, strict=True):
        np.save(folder / f"{name}.npy", field.values)
        np.save(folder / f"{name}_at.npy", np.array([*field.origin, field.spacing]))


def load_atlas(folder: Path) -> Atlas:
    """Gives the atlas that `save_atlas` wrote."""
    fields = []
    for name in Atlas._fields:
        x, y, z, spacing = np.load(folder / f"{name}_at.npy").tolist()
        values = np.load(folder / f"{name}.npy", mmap_mode="r")
        fields.append(Field(values, (x, y, z), spacing))
    return Atlas(*fields)


def _load_template() -> _Template:
    from nilearn import datasets

    images = [
        datasets.load_mni152_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
    ]
    t1, grey, white = (np.asarray(image.dataobj, np.float32) for image in images)
    part, corner = _box(t1 > 0, margin=4)
    t1, grey, white = t1[part], grey[part], white[part]
    brain = ndimage.binary_opening(t1 > 0, iterations=2)
    brain = np.asarray(ndimage.binary_fill_holes(brain), np.float32)
    # The stem ends at the last slice of the file: room below closes it smoothly.
    pad = ((0, 0), (0, 0), (4, 0))
    t1, grey, white, brain = (np.pad(m, pad) for m in (t1, grey, white, brain))
    share = brain / np.maximum(grey + white, 1)
    grey, white = grey * share, white * share
    at = images[0].affine[:3, 3] + corner - (0, 0, 4)
    origin = (float(at[0]), float(at[1]), float(at[2]))
    return _Template(t1, grey, white, brain - grey - white, brain, origin, 1)


def _box(mask: Bool[np.ndarray, "x y z"], margin: int) -> tuple[tuple, np.ndarray]:
    """Slices of the box round a mask, and its corner; cut at the array's edge."""
    bounds = ndimage.find_objects(mask.astype(np.int8))[0]
    part = tuple(slice(max(b.start - margin, 0), b.stop + margin) for b in bounds)
    return part, np.array([p.start for p in part])


def _shrink(template: _Template) -> _Template:
    """Gives the template at 2 mm: means of 2x2x2 voxels."""

    def mean(values: np.ndarray) -> np.ndarray:
        even = np.pad(values, [(0, n % 2) for n in values.shape]).astype(np.float32)
        x, y, z = (n // 2 for n in even.shape)
        return even.reshape(x, 2, y, 2, z, 2).mean((1, 3, 5))

    t1, grey, white, csf = (mean(m) for m in template[:4])
    x, y, z = (o + 0.5 for o in template.origin)
    brain = mean(template.brain) >= 0.5
    return _Template(t1, grey, white, csf, brain, (x, y, z), 2)


def _distance(mask: Bool[np.ndarray, "x y z"], step: int) -> np.ndarray:
    """Signed distance to the surface of a mask: mm, negative inside."""
    out = np.asarray(ndimage.distance_transform_edt(~mask))
    within = np.asarray(ndimage.distance_transform_edt(mask))
    signed = step * np.where(mask, 0.5 - within, out - 0.5)
    return signed.astype(np.float32)


def _near_distance(mask: Bool[np.ndarray, "x y z"], step: int) -> np.ndarray:
    """The same within 36 mm of a small mask; beyond, 36 mm."""
    part, _ = _box(mask, margin=36 // step)
    signed = np.full(mask.shape, 36, np.float32)
    signed[part] = _distance(mask[part], step)
    return signed


def _positions(template: _Template) -> list[np.ndarray]:
    axes = zip(template.origin, template.csf.shape, strict=True)
    return [
        (o + template.step * np.arange(n, dtype=np.float32)).reshape(
            np.roll((-1, 1, 1), axis)
        )
        for axis, (o, n) in enumerate(axes)
    ]


def _lateral_ventricles(template: _Template) -> Bool[np.ndarray, "x y z"]:
    """CSF deep in the cerebrum beside the midline: bodies, front and back horns."""
    x, y, z = _positions(template)
    x = abs(x)
    box = (x < 40) & (y > -62) & (y < 42) & (z > -4) & (z < 32)
    # Third ventricle and the cisterns behind it: at the midline, lower.
    middle = ((x < 4) & (z < 4)) | ((x < 10) & (y < -8) & (z < 17))
    middle = middle | ((x < 14) & (y < -24) & (z < 14))
    cavities = np.zeros(template.csf.shape, np.int32)
    ndimage.label((template.csf > 0.5) & box & ~middle, output=cavities)
    seeds = np.broadcast_to(
        (x > 5) & (x < 28) & (y > -46) & (y < 25) & (z > 6) & (z < 24), cavities.shape
    )
    sizes = np.bincount(cavities.ravel()[seeds.ravel()])
    sizes[0] = 0
    return np.isin(cavities, np.flatnonzero(sizes > 0.2 * sizes.max()))


def _fine_maps(template: _Template, spacing: float) -> Float[np.ndarray, "x y z c"]:
    step = template.step
    near = sigmoid((2.5 - _near_distance(_lateral_ventricles(template), step)) / 0.7)
    ventricle = template.csf * near
    surface = (template.csf * (1 - near) > _PIAL_CSF) | (template.brain < 0.5)
    maps = {
        "grey": template.grey,
        "white": template.white,
        "ventricle": ventricle,
        "pial": np.clip(_distance(surface, step), -3, 12),
        "detail": _detail(template),
        "enhancement": _enhancement(template, ventricle),
    }
    sigma = 0.28 * spacing / step
    blurred = [ndimage.gaussian_filter(maps[name], sigma, truncate=3) for name in FINE]
    return np.stack(blurred, axis=-1).astype(np.float32)


def _detail(template: _Template) -> Float[np.ndarray, "x y z"]:
    """What the T1 shows beyond its three tissues: deep nuclei, tracts, stem."""
    deep = np.zeros(template.brain.shape, bool)
    ndimage.binary_erosion(template.brain > 0.5, iterations=3, output=deep)
    tissues = (template.grey, template.white, template.csf)
    known = np.stack([values[deep] for values in tissues], axis=-1)
    fit = np.linalg.lstsq(known, template.t1[deep], rcond=None)[0]
    rest = template.t1.copy()
    for values, weight in zip(tissues, fit, strict=True):
        # Rounded: the last bits of a fit depend on the number of threads.
        rest -= values * np.float32(round(float(weight), 3))
    # Near CSF the residual is partial volume, not tissue.
    rest *= deep * np.clip(1 - 3 * template.csf, 0, 1)
    return ndimage.gaussian_filter(rest, 1.0)


def _enhancement(
    template: _Template, ventricle: np.ndarray
) -> Float[np.ndarray, "x y z"]:
    """Where contrast agent shows, 0..1: meninges, sinus, falx, vessels, plexus."""
    x, y, z = _positions(template)
    outside = _distance(template.brain > 0.5, template.step)
    upper = sigmoid((z - 10) / 5)
    meninges = 0.4 * np.exp(-(((outside + 1) / 1.5) ** 2))
    sinus = np.exp(-((x / 3.5) ** 2) - ((outside + 2) / 3.5) ** 2)
    sinus = sinus * upper * sigmoid((40 - y) / 8)
    falx = 0.5 * np.exp(-((x / 1.5) ** 2)) * upper * np.clip(2 * template.csf, 0, 1)
    arteries = sigmoid((abs(x) - 24) / 2) * sigmoid((12 - abs(z + 2)) / 3)
    arteries = arteries + sigmoid((12 - np.hypot(y - 2, z + 16)) / 2)
    vessels = 1.2 * np.clip(template.csf - ventricle - 0.3, 0, None) * arteries
    plexus = np.exp(-(((abs(x) - 21) / 5) ** 2) - ((y + 38) / 7) ** 2) * ventricle
    layers = (meninges, sinus, falx, vessels, 0.8 * plexus)
    return np.clip(sum(layers), 0, 1) * template.brain


def _coarse_fields(template: _Template) -> tuple[Field, Field]:
    """Distance to the brain (padded for whatever is round it), expansion fields."""
    pad = _MARGIN_MM // template.step
    x, y, z = (o - pad * template.step for o in template.origin)
    outside = _distance(np.pad(template.brain > 0.5, pad), template.step)
    outside = ndimage.gaussian_filter(outside, 0.5)[..., None]
    cavity = _lateral_ventricles(template)
    cavities = {"ventricles": cavity, "cisterns": _cisterns(template, cavity)}
    spaces = [_expansion(cavities[name], template.step) for name in SPACES]
    values = np.concatenate(spaces, axis=-1).astype(np.float32)
    return (
        Field(outside, (x, y, z), template.step),
        Field(values, template.origin, template.step),
    )


def _cisterns(template: _Template, ventricles: np.ndarray) -> np.ndarray:
    """Basal cisterns and Sylvian fissures: CSF that a nuisance widens."""
    x, y, z = _positions(template)
    sylvian = (abs(x) > 26) & (y > -32) & (y < 24) & (z > -16) & (z < 20)
    basal = (abs(x) < 24) & (y > -62) & (z < -8)
    deep = _distance(template.brain > 0.5, template.step) < -5
    near = ndimage.binary_dilation(ventricles, iterations=6 // template.step)
    cavity = (template.csf > 0.4) & (sylvian | basal) & deep
    return cavity & np.logical_not(near)


def _expansion(cavity: np.ndarray, step: int) -> Float[np.ndarray, "x y z 3"]:
    """Outward unit field at the wall of a cavity, fading within about 12 mm."""
    signed = np.asarray(ndimage.gaussian_filter(_near_distance(cavity, step), 2 / step))
    fade = np.exp(-((np.clip(signed, 0, None) / _REACH_MM) ** 2))
    slopes = [np.gradient(signed, step, axis=axis) for axis in range(3)]
    field = np.stack(slopes, axis=-1) * fade[..., None]
    return ndimage.gaussian_filter(field, (*(3 * [2 / step]), 0))
