"""The network without JAX: equal to the one with, and the brain on the scan's grid."""

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file
from threadpoolctl import threadpool_limits

from brainjax.augment import evaluation_view
from brainjax.errors import InputRefusedError
from brainjax.interop.trees import flatten
from brainjax.models.cnn import fold as fold_in_jax
from brainjax.models.segmenters import make_segmenter
from brainjax.volume import brain_own
from brainjax.volume.brain_network import fold, read_weights, segment, unfold
from brainjax.volume.brain_own import network_input, normalise
from brainjax.volume.brainmask import choose, compare, find_brain, need_backend
from brainjax.volume.recipe import make_recipe, recipe_from_dict
from tests.volume.pointwise import affine, brain, head, write_weights

ODD = (10, 9, 7)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Weights of few layers in the place of those that ship."""
    path = write_weights(tmp_path / "weights" / "brain_mask.safetensors")
    monkeypatch.setattr(brain_own, "WEIGHTS", path)
    return path


@pytest.fixture(scope="module")
def network():
    """A small U-Net of two channels and three outputs, and its parameters by path."""
    made = make_segmenter(
        "unet",
        shape=ODD,
        channels=2,
        outputs=3,
        widths=(8, 12),
        blocks=(1, 2),
        decoder_blocks=(1,),
        rngs=nnx.Rngs(0),
    )
    drawn = np.random.default_rng(0)
    state = nnx.state(made, nnx.Param)
    # Scales of 1 and biases of 0 would hide a mistake.
    moved = jax.tree.map(lambda p: p + 0.2 * drawn.standard_normal(p.shape), state)
    nnx.update(made, jax.tree.map(lambda p: p.astype(np.float32), moved))
    return made, weights_of(made)


def weights_of(network) -> dict[str, np.ndarray]:
    def named(tree):
        if not isinstance(tree, dict):
            return tree
        return {str(key): named(value) for key, value in tree.items()}

    return flatten(named(nnx.to_pure_dict(nnx.state(network, nnx.Param))))


def test_numpy_gives_what_jax_gives(network):
    made, weights = network
    volume = np.random.default_rng(1).standard_normal((*ODD, 2)).astype(np.float32)
    expected = made(volume[None]).logits[0]
    found = segment(weights, volume)
    assert found.shape == (*ODD, 3)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_bytes_do_not_depend_on_threads(network):
    volume = np.random.default_rng(2).standard_normal((16, 24, 20, 2))
    volume = volume.astype(np.float32)
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            found.append(segment(network[1], volume).tobytes())
    assert found[0] == found[1]


def test_folding_is_as_in_the_room_of_models():
    cells = np.random.default_rng(0).standard_normal((5, 6, 3, 2)).astype(np.float32)
    np.testing.assert_array_equal(fold(cells), fold_in_jax(cells[None])[0])
    np.testing.assert_array_equal(unfold(fold(cells))[:5, :, :3], cells)


def test_the_z_score_is_that_of_training():
    codes = np.random.default_rng(0).integers(0, 256, (6, 7, 8)).astype(np.uint8)
    np.testing.assert_allclose(
        normalise(codes), evaluation_view(codes, codes.shape), atol=1e-5
    )
    assert (normalise(np.full((4, 4, 4), 9, np.uint8)) == 0).all()


def test_the_brain_of_a_head_comes_back_on_its_grid(own):
    found = find_brain(head().astype(np.float32), affine(), backend="own")
    assert found.mask.shape == head().shape
    assert compare(found.mask, brain(), affine()).dice > 0.97


def test_orientation_and_spacing_of_the_input_do_not_matter(own):
    scan = head().astype(np.float32)
    fine = scan.repeat(2, 0).repeat(2, 1)
    thin = affine() @ np.diag([0.5, 0.5, 1.0, 1.0])
    thin[:2, 3] -= affine()[0, 0] / 4
    found = find_brain(fine, thin, backend="own")
    assert compare(found.mask, brain().repeat(2, 0).repeat(2, 1), thin).dice > 0.96
    volume, grid = network_input(fine, thin)
    assert volume.shape == grid.shape == (96, 112, 96)


def test_auto_is_the_network_where_its_weights_are(own):
    voxels = head().astype(np.float32)
    voxels[0] = 3  # a border of a stripped scan would be empty
    voxels[-1, ::2] = 5
    assert choose(voxels, affine()) == "own"
    need_backend("own")
    own.unlink()
    assert choose(voxels, affine()) == "template"
    with pytest.raises(InputRefusedError, match="wanted the weights of 'own'"):
        need_backend("own")


def test_other_weights_make_another_recipe(own):
    recipe = make_recipe("mni_affine", spacing=8.0)
    kept, before = recipe.to_dict(), recipe.hash
    other = make_recipe("mni_affine", spacing=8.0, mask="template").hash
    assert recipe_from_dict(kept) == recipe
    own.write_bytes(own.read_bytes() + b" ")
    assert recipe.hash != before
    assert make_recipe("mni_affine", spacing=8.0, mask="template").hash == other
    with pytest.raises(InputRefusedError, match=r"brains found by weights \w{12}, got"):
        recipe_from_dict(kept)


def test_a_file_that_is_no_network_is_refused(tmp_path):
    with pytest.raises(InputRefusedError, match="wanted safetensors, got"):
        read_weights(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights at all")
    with pytest.raises(InputRefusedError, match="wanted safetensors, got"):
        read_weights(tmp_path / "text.safetensors")
    save_file({"kernel": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InputRefusedError, match=r"got no stem\.kernel"):
        read_weights(tmp_path / "other.safetensors")
