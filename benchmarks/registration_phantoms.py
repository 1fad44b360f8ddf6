"""Phantoms with a head whose place is known: made, moved, and asked about."""

import time
from typing import NamedTuple

import numpy as np
from common import Report
from jaxtyping import Bool, Float, Float32
from scipy.spatial.transform import Rotation

from brainjax.phantom.anatomy import make_grid, place
from brainjax.phantom.atlas import build_atlas
from brainjax.phantom.contrast import make_contrast
from brainjax.phantom.effects import EFFECTS, make_anatomy
from brainjax.phantom.fields import spline
from brainjax.phantom.latents import draw_subject
from brainjax.phantom.scanner import draw_scanner, scan_image
from brainjax.volume.bias import correct_bias
from brainjax.volume.mask import find_mask
from brainjax.volume.placing import template_on_scan
from brainjax.volume.register import Alignment, align_to_template, template_levels
from brainjax.volume.scan import Scan
from brainjax.volume.space import Grid, GridAxis
from brainjax.volume.template import load_template
from brainjax.volume.through import resample_through

KNOT_MM = 70.0
"""Of the phantom scanner's bias field."""

Matrix = Float[np.ndarray, "4 4"]


class Phantom(NamedTuple):
    """An anatomy on a RAS grid, and the affine nearest to the truth."""

    image: Float32[np.ndarray, "x y z"]
    brain: Bool[np.ndarray, "x y z"]
    affine: Matrix
    truth: Matrix
    rest_mm: float


def draw_move(rng: np.random.Generator, *, scale: float = 0.1) -> Matrix:
    """Gives a turn of up to 30 degrees about any axis, a shift of up to 30 mm."""
    axis, shift = rng.standard_normal(3), rng.standard_normal(3)
    turn = np.radians(rng.uniform(0, 30)) * axis / np.linalg.norm(axis)
    move = np.eye(4)
    move[:3, :3] = Rotation.from_rotvec(turn).as_matrix() * rng.uniform(
        1 - scale, 1 + scale
    )
    move[:3, 3] = rng.uniform(0, 30) * shift / np.linalg.norm(shift)
    return move


def make_phantom(number: int, sequence: str, spacing: float) -> Phantom:
    """Gives the noiseless phantom, and its template to scan mm by least squares.

    The truth is deformed; `rest_mm` is what no affine can follow, root mean square.
    """
    subject = draw_subject(0, number)
    atlas = build_atlas(spacing)
    grid = make_grid(spacing, head=True)
    anatomy = make_anatomy(subject, atlas, grid, head=True)
    rng = subject.stream(f"scan {sequence}")
    image = make_contrast(anatomy, sequence, rng)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = grid.origin
    brain = np.zeros(int(np.prod(grid.shape)), bool)
    brain[anatomy.voxels] = anatomy.maps["outside"] < 0
    brain = brain.reshape(grid.shape)
    shape = place(subject, atlas, grid, head=True)
    for effect in EFFECTS:
        if effect.stage == "shape":
            shape = effect.apply(shape, subject, atlas)
    inside = brain.ravel()[shape.voxels]
    at = np.array(np.unravel_index(shape.voxels[inside], grid.shape))
    at = affine[:3, :3] @ at + affine[:3, 3:]
    columns = np.concatenate([shape.points[:, inside], np.ones((1, at.shape[1]))])
    solved = np.linalg.lstsq(columns.T.astype(np.float64), at.T, rcond=None)[0].T
    truth = np.eye(4)
    truth[:3] = solved
    rest = np.linalg.norm(solved @ columns - at, axis=0)
    return Phantom(image, brain, affine, truth, float(np.sqrt((rest**2).mean())))


def scan_phantom(
    phantom: Phantom, move: Matrix, rng: np.random.Generator, spacing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gives the moved head as a scanner sees it, its true log field, its brain."""
    back = np.linalg.inv(move)
    grid = make_grid(spacing, head=True)
    places = phantom.affine, back, phantom.affine, grid.shape
    image = resample_through(phantom.image, *places)
    brain = resample_through(phantom.brain, *places, order="nearest") > 0.5
    scanner = draw_scanner(rng, grid)
    # Stronger than the cohort's, so that there is something to take away.
    strength = rng.uniform(0.2, 0.5) / max(float(scanner.bias.std()), 1e-6)
    scanner = scanner._replace(bias=(strength * scanner.bias).astype(np.float32))
    field = scanner.gamma * spline(scanner.bias, grid, KNOT_MM)
    return scan_image(image, scanner, grid, rng), field, brain


def brain_points() -> np.ndarray:
    """Gives points of the template's brain, mm."""
    template = load_template(2.0)
    points = np.stack(template.brain.nonzero())[:, ::7]
    return template.affine[:3, :3] @ points + template.affine[:3, 3:]


def apart(one: Matrix, other: Matrix) -> np.ndarray:
    """Gives how far two matrices lay the template's brain from each other, mm."""
    gap = (one - other)[:3, :3] @ brain_points() + (one - other)[:3, 3:]
    return np.linalg.norm(gap, axis=0)


def head_mask(voxels: np.ndarray, spacing: tuple) -> np.ndarray:
    """Gives the head on the scan's own grid."""
    mask = find_mask(voxels, spacing, kind="head")
    return mask.on(Grid(*(GridAxis(0.0, 1.0, n) for n in voxels.shape)))


def left_of(field: np.ndarray, found: np.ndarray, inside: np.ndarray) -> float:
    """Gives the coefficient of variation of what is left of a field inside."""
    rest = np.exp((field - np.log(found))[inside].astype(np.float64))
    return float(rest.std() / rest.mean())


class Laid(NamedTuple):
    """A scan without its field, and where the template lies on it."""

    voxels: Float32[np.ndarray, "x y z"]
    field: Float32[np.ndarray, "x y z"]
    alignment: Alignment


def lay(voxels: np.ndarray, affine: Matrix, spacing: tuple) -> Laid:
    """Aligns, flattens near the template's brain, aligns again: as recipes do."""
    rough = align_to_template(voxels, affine)
    scan = Scan(voxels, affine, spacing, {})
    near = head_mask(voxels, spacing) & template_on_scan(scan, rough)
    flat = correct_bias(voxels, spacing, near)
    return Laid(*flat, align_to_template(flat.voxels, affine, start=rough))


def ask(number: int, sequence: str, spacing: float) -> Report:
    """Gives what became of one phantom, still and moved, in mm and shares."""
    rng = np.random.default_rng([number, len(sequence)])
    phantom = make_phantom(number, sequence, spacing)
    row: Report = {"phantom": number, "sequence": sequence, "rest": phantom.rest_mm}
    found = {}
    for name, move in (("still", np.eye(4)), ("moved", draw_move(rng))):
        seen = scan_phantom(phantom, move, rng, spacing)
        start = time.process_time()
        laid = lay(seen[0], phantom.affine, (spacing, spacing, spacing))
        row[name] = {"seconds": time.process_time() - start}
        row[name] |= judge(laid, seen, phantom.affine, move @ phantom.truth)
        found[name] = np.linalg.inv(move) @ laid.alignment.matrix
    row["disagree"] = rms(apart(found["still"], found["moved"]))
    return row


def judge(laid: Laid, seen: tuple, affine: Matrix, truth: Matrix) -> Report:
    """Gives errors of place in mm, overlap of the brains, and what is left of a field.

    seen: what `scan_phantom` gave.
    """
    _, field, brain = seen
    template, matrix = load_template(2.0), laid.alignment.matrix
    grid = template.affine, template.brain.shape
    shares = resample_through(brain.astype(np.float32), affine, matrix, *grid)
    both = float(((shares > 0.5) & template.brain).sum())
    return {
        "error": rms(apart(matrix, truth)),
        "dice": 2 * both / float((shares > 0.5).sum() + template.brain.sum()),
        "metric": laid.alignment.metric,
        "field_before": left_of(field, np.ones_like(field), brain),
        "field_after": left_of(field, laid.field, brain),
    }


def rms(values: np.ndarray) -> float:
    """Gives the root mean square."""
    return float(np.sqrt((values**2).mean()))


def warm() -> None:
    """Loads what is kept."""
    template_levels()
