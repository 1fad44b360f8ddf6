"""Writes exact_recipes.npz: what MONAI gives for one small scan, by BrainIAC's recipes.

Run where `make test-reference` runs: python -m tests.golden.make_recipes
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np

from tests.golden.weights import sample

FIXTURE = Path(__file__).with_name("exact_recipes.npz")
SHAPE = (37, 41, 29)
COUNT = 512
SLOPE, INTERCEPT = 0.5, -3.0


def odd_voxels(seed: int = 0) -> np.ndarray:
    """Gives int16 [37, 41, 29]: an ellipsoid of noise; scaled, its outside is 0."""
    grid = np.indices(SHAPE, np.float64)
    half = (np.array(SHAPE)[:, None, None, None] - 1) / 2
    inside = (((grid - half) / (0.8 * half)) ** 2).sum(0) < 1
    noise = np.random.default_rng(seed).integers(200, 900, SHAPE)
    return np.where(inside, noise, int(-INTERCEPT / SLOPE)).astype(np.int16)


def write_odd_scan(path: Path, matrix: np.ndarray | None = None) -> Path:
    """Writes that array, with slope and intercept, stored L-A-S unless said."""
    if matrix is None:
        matrix = np.diag([-4.0, 3.5, 5.0, 1.0])
        matrix[:3, 3] = [70, -60, -50]
    image = nib.Nifti1Image(odd_voxels(), matrix)
    image.set_sform(matrix, 1)
    image.set_qform(None, 0)
    image.header.set_slope_inter(SLOPE, INTERCEPT)
    nib.save(image, path)
    return path


def monai_recipes() -> dict:
    """Gives each recipe by MONAI's transforms: path -> tensor [1, x, y, z]."""
    import torch
    from monai import transforms

    image = {"keys": ["image"]}
    validation = transforms.Compose(
        [
            transforms.LoadImaged(**image),
            transforms.EnsureChannelFirstd(**image),
            transforms.Resized(**image, spatial_size=(96,) * 3, mode="trilinear"),
            transforms.NormalizeIntensityd(**image, nonzero=True, channel_wise=True),
        ]
    )
    scale = transforms.ScaleIntensityd(**image, minv=0.0, maxv=1.0)

    def first_version(path, **mode):
        stored = nib.load(path).get_fdata()
        stored = torch.tensor(stored, dtype=torch.float32).unsqueeze(0)
        resize = transforms.Resized(**image, spatial_size=(128,) * 3, **mode)
        return scale(resize({"image": stored}))["image"]

    return {
        "brainiac_v2": lambda path: validation({"image": str(path)})["image"],
        "brainiac_v1": first_version,
        "brainiac_v1_trilinear": lambda path: first_version(path, mode="trilinear"),
    }


def main() -> None:
    found = {}
    with TemporaryDirectory() as folder:
        path = write_odd_scan(Path(folder) / "odd.nii.gz")
        for name, give in monai_recipes().items():
            tensor = give(path)
            found[name] = sample(tensor.numpy()[0], COUNT)
            if name == "brainiac_v2":
                found["affine"] = np.asarray(tensor.affine, np.float64)
    np.savez_compressed(FIXTURE, **found)


if __name__ == "__main__":
    main()
