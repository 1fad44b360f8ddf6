"""What a recipe says that lays a raw head over the adult ICBM152 brain."""

from dataclasses import dataclass
from importlib.util import find_spec

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.volume.brain_own import weights_digest
from brainjax.volume.brainmask import BACKENDS, need_backend
from brainjax.volume.canonical import Hashed

ALIGNED_VERSION = 2

BIASES = ("n4", "none")
REGISTRATIONS = ("affine", "rigid", "none")
INTENSITIES = ("codes", "zscore_nonzero")


@dataclass(frozen=True)
class AlignedRecipe(Hashed):
    """A named way from a raw head to a brain in the space of a template.

    Attributes:
        name: a key of RECIPES.
        version: of the code that carries it out.
        spacing: of the isotropic output voxels, in mm; 0 where `size` decides.
        fov_mm: field of view along x, y, z, in mm, the template's brain in its middle.
        size: voxels along each axis, whatever the field of view; 0: `spacing` decides.
        bias: of BIASES.
        registration: of REGISTRATIONS; "none" centres a scan in its own space.
        mask: back ends of `brainmask.BACKENDS` with commas between, the first of them
            used, the others held against it; "auto" is "nonzero" for a stripped scan
            and "own" for a head ("template" without its weights); "head" keeps it all.
        session: whether the scans of a session go through one of them, the reference.
        clip: percentiles inside the mask that become 0 and 1.
        intensity: of INTENSITIES.
        storage: type of the stored array.
    """

    name: str
    version: int = ALIGNED_VERSION
    spacing: float = 1.0
    fov_mm: tuple[float, float, float] = (192.0, 192.0, 192.0)
    size: int = 0
    bias: str = "n4"
    registration: str = "affine"
    mask: str = "auto"
    session: bool = True
    clip: tuple[float, float] = (0.5, 99.5)
    intensity: str = "codes"
    storage: str = "uint8"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        if self.size:
            return self.size, self.size, self.size
        x, y, z = (round(mm / self.spacing) for mm in self.fov_mm)
        return x, y, z

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Spacing of the output along x, y, z, in mm."""
        x, y, z = (mm / n for mm, n in zip(self.fov_mm, self.shape, strict=True))
        return x, y, z

    @property
    def steps(self) -> tuple[str, ...]:
        """What it does, for people: "N4", "affine to ICBM152", "brain mask: auto"."""
        done = ["reorient"]
        if self.bias == "n4":
            done.append("N4")
        if self.registration != "none":
            done.append(f"{self.registration} to ICBM152")
        return (*done, f"mask: {self.mask}", "resample once", self.intensity)

    def to_dict(self) -> dict:
        """Gives JSON values; with the hash of the weights that may find the brain."""
        words = self.mask.split(",")
        own = {"weights": weights_digest()} if {"own", "auto"} & set(words) else {}
        return super().to_dict() | own

    def describe(self) -> str:
        """Gives "mni_affine (192x192x192, 1 mm; N4, affine, mask auto)"."""
        size = "x".join(map(str, self.shape))
        mm = "" if self.size else f", {self.spacing:g} mm"
        bias = "N4" if self.bias == "n4" else "no N4"
        ways = f"{bias}, registration {self.registration}, mask {self.mask}"
        return f"{self.name} ({size}{mm}; {ways})"


ALIGNED_RECIPES = {
    "mni_affine": AlignedRecipe("mni_affine"),
    "mni_rigid": AlignedRecipe("mni_rigid", registration="rigid"),
    # The steps of BrainIAC's preparation, then its network's input: the field of the
    # template, resized to a cube, z-scores of the brain.
    "brainiac_like": AlignedRecipe(
        "brainiac_like",
        spacing=0.0,
        fov_mm=(197.0, 233.0, 189.0),
        size=96,
        registration="rigid",
        intensity="zscore_nonzero",
        storage="float32",
    ),
}


def check_masks(words: str) -> None:
    """Refuses names that are no back ends."""
    known = ("auto", "head", *BACKENDS)
    for word in words.split(","):
        if word not in known:
            raise InputRefusedError(
                f"mask: wanted one of {', '.join(known)}, got {word!r}"
            )


def check_installed(recipe: AlignedRecipe) -> None:
    """Refuses a recipe that wants what is not installed, before any scan is read.

    Raises:
      MissingExtraError: SimpleITK or nilearn is absent.
      InputRefusedError: a mask back end is absent; the line says how to get it.
    """
    for package in ("SimpleITK", "nilearn"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "scanner")
    for name in recipe.mask.split(","):
        need_backend(name)


def check_weights(name: str, found: str | None) -> None:
    """Refuses a recipe whose brains were found by other weights than these.

    found: the digest that was kept with the recipe; None where there was none.
    """
    here = weights_digest()
    if found is not None and found != here:
        raise InputRefusedError(
            f"recipe {name}: wanted brains found by weights {here or 'none'}, got "
            f"{found or 'none'}"
        )
