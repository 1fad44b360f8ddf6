"""SimpleITK, with our mm and our axes; one thread, so that the bytes repeat."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64

from brainjax.errors import MissingExtraError

BINS = 32

STEP_MM, STILL_MM = 1.0, 0.003
ROUNDS = 150
RELAXATION = 0.7
"""Of regular-step gradient descent: first and last step, steps, shortening."""

KINDS = ("rigid", "sized", "affine")
"""What may change: turn and place; the same, at the size of the start; all twelve."""


class Image(NamedTuple):
    """Voxels and their affine: indices to mm, axes in RAS+."""

    voxels: Float32[np.ndarray, "x y z"] | Bool[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]


def simple_itk() -> Any:
    """Gives the package; MissingExtraError where it is absent."""
    try:
        import SimpleITK
    except ImportError:
        raise MissingExtraError("SimpleITK", "scanner") from None
    return SimpleITK


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Lets SimpleITK sum in one order, whatever the machine's cores.

    By the default of the whole package: filters within filters ask for no other. Of
    several threads inside the first sets it and the last gives it back.
    """
    process = simple_itk().ProcessObject
    with _guard:
        if not _inside:
            _before.append(process.GetGlobalDefaultNumberOfThreads())
            process.SetGlobalDefaultNumberOfThreads(1)
        _inside.append(True)
    try:
        yield
    finally:
        with _guard:
            _inside.pop()
            if not _inside:
                process.SetGlobalDefaultNumberOfThreads(_before.pop())


_guard = threading.Lock()
_inside: list[bool] = []
_before: list[int] = []


def to_itk(image: Image) -> Any:
    """Gives an image of SimpleITK whose mm are ours: RAS, not its usual LPS.

    The affine may turn, and may not shear: see `straighten`.
    """
    voxels = image.voxels
    if voxels.dtype == bool:
        voxels = voxels.astype(np.uint8)
    found = simple_itk().GetImageFromArray(np.ascontiguousarray(voxels.T))
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(image.affine[:3, :3] / spacing)
    found.SetSpacing(spacing.tolist())
    found.SetDirection((left @ right).ravel().tolist())
    found.SetOrigin(image.affine[:3, 3].tolist())
    return found


def straighten(image: Image) -> tuple[Float64[np.ndarray, "4 4"] | None, Image]:
    """Gives an image without shear, and what brings mm of the scan to mm of it.

    A tilted gantry's shear is no direction of an image: it goes into a transform. None
    where there is no shear.
    """
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    axes = image.affine[:3, :3] / spacing
    if np.allclose(axes.T @ axes, np.eye(3), atol=1e-4):
        return None, image
    plain = np.diag([*spacing, 1.0])
    return plain @ np.linalg.inv(image.affine), image._replace(affine=plain)


def climb(
    still: Image,
    inside: Image,
    moving: Image,
    start: Float64[np.ndarray, "4 4"],
    *,
    kind: str,
    centre: Float64[np.ndarray, " 3"],
    share: float = 1.0,
) -> tuple[Float64[np.ndarray, "4 4"], float]:
    """Climbs Mattes mutual information (Mattes et al. 2003) from a start.

    Args:
        still: the image that stays, without shear; inside: where of it counts.
        moving: the scan.
        start: mm of `still` to mm of the scan.
        kind: of KINDS.
        centre: in mm of `still`; what it turns and scales about.
        share: of the voxels inside, so many are looked at, spread evenly.

    Returns:
      The matrix, and its mutual information in nats; the start and 0 where the two
      images share too little to climb.
    """
    skew, straight = straighten(moving)
    if kind == "sized":
        size = np.eye(4)
        size[:3, :3] *= np.cbrt(np.linalg.det(start[:3, :3]))
        still, inside = (i._replace(affine=size @ i.affine) for i in (still, inside))
        start, centre = start @ np.linalg.inv(size), size[:3, :3] @ centre
    transform = _to_transform(start, centre, kind)
    with one_thread():
        way = _method(to_itk(inside), share)
        way.SetInitialTransform(transform, inPlace=True)
        if skew is not None:
            way.SetMovingInitialTransform(_to_transform(skew, np.zeros(3), "affine"))
        try:
            way.Execute(to_itk(still), to_itk(straight))
            metric = round(-float(way.GetMetricValue()), 6)
        except RuntimeError:  # Next to nothing of what counts lies in the scan.
            transform, metric = _to_transform(start, centre, kind), 0.0
    matrix = _to_matrix(transform)
    if kind == "sized":
        matrix = matrix @ size
    return matrix, metric


def _method(inside: Any, share: float) -> Any:
    """Gives what climbs; its shares are drawn by a seed."""
    itk = simple_itk()
    way = itk.ImageRegistrationMethod()
    way.SetMetricAsMattesMutualInformation(BINS)
    way.SetMetricFixedMask(inside)
    if share < 1:
        way.SetMetricSamplingStrategy(way.REGULAR)
        way.SetMetricSamplingPercentage(share, seed=1)
    way.SetInterpolator(itk.sitkLinear)
    way.SetOptimizerAsRegularStepGradientDescent(
        STEP_MM, STILL_MM, ROUNDS, relaxationFactor=RELAXATION
    )
    way.SetOptimizerScalesFromPhysicalShift()
    return way


def _to_transform(
    matrix: Float64[np.ndarray, "4 4"], centre: Float64[np.ndarray, " 3"], kind: str
) -> Any:
    """Gives a transform about a centre: of a matrix, what `kind` can hold of it."""
    itk, turn = simple_itk(), matrix[:3, :3]
    transform = itk.AffineTransform(3)
    if kind != "affine":
        left, _, right = np.linalg.svd(turn)
        turn, transform = left @ right, itk.VersorRigid3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(turn.ravel().tolist())
    moved = matrix[:3, :3] @ centre + matrix[:3, 3]
    transform.SetTranslation((moved - centre).tolist())
    return transform


def _to_matrix(transform: Any) -> Float64[np.ndarray, "4 4"]:
    matrix = np.eye(4)
    centre = np.array(transform.GetCenter())
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    moved = centre + np.array(transform.GetTranslation())
    matrix[:3, 3] = moved - matrix[:3, :3] @ centre
    return matrix
