"""ViT and UNETR beside the live MONAI (and nidl): whole arrays, and strict loads."""

import warnings

import numpy as np
import pytest

from brainjax.interop.layout import gather, scatter
from brainjax.models.positions import is_sincos, sincos_positions
from brainjax.models.resizing import resize_positions
from tests.golden import make_nidl, make_vit
from tests.golden.our_vits import LAYOUTS, complete, fill, run_ours
from tests.golden.weights import make_volumes, make_weights, relative_difference

pytestmark = pytest.mark.reference


@pytest.fixture(autouse=True)
def torch():
    found = pytest.importorskip("torch", reason="PyTorch is not here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, at import and in constructors
        pytest.importorskip("monai.networks.nets", reason="MONAI is not here")
        yield found


def compare(case, network, run_peer) -> float:
    """Gives the largest relative difference of any block."""
    shapes = make_vit.load_named_weights(network)
    volumes = make_volumes(1, case.shape, channels=case.channels)
    theirs = run_peer(network, case.family, volumes)
    keywords = complete(case.family, shapes, case.keywords)
    graphdef, trees = fill(case.family, keywords, make_weights(shapes))
    ours = run_ours(case.family, graphdef, trees["params"], volumes)
    pairs = zip(theirs.items(), ours, strict=True)
    found = {name: relative_difference(o, t) for (name, t), o in pairs}
    worst = max(found, key=lambda name: found[name])
    print(f"\n{case.family}: max |difference| / std {found[worst]:.2g} at {worst}")
    return found[worst]


@pytest.mark.parametrize("name", make_vit.CASES)
def test_every_block_equals_monai(name):
    case = make_vit.CASES[name]
    assert compare(case, make_vit.build(case), make_vit.run_peer) < 1e-4


@pytest.mark.parametrize("name", make_nidl.CASES)
def test_every_block_equals_nidl(name):
    pytest.importorskip("nidl.volume.backbones.vit3d", reason="nidl is not here")
    case = make_nidl.CASES[name]
    assert compare(case, make_nidl.build(case), make_nidl.run_peer) < 1e-4


@pytest.mark.parametrize("name", make_vit.CASES)
def test_given_back_it_loads_strictly_and_answers_the_same(name, torch):
    import monai

    case = make_vit.CASES[name]
    first, second = make_vit.build(case), make_vit.build(case)
    shapes = make_vit.load_named_weights(first)
    held = {key: value.numpy() for key, value in first.state_dict().items()}
    layout = LAYOUTS[case.family]
    keywords = complete(case.family, shapes, case.keywords)
    trees = gather(layout.entries(keywords), held.__getitem__)
    back = scatter(layout.entries(keywords), trees)
    back |= layout.extras(keywords, monai.__version__[:3])
    heads = tuple(f"{head}." for head in layout.heads)
    back |= {key: held[key] for key in held if key.startswith(heads)}
    second.load_state_dict(
        {key: torch.tensor(array) for key, array in back.items()}, strict=True
    )
    volumes = make_volumes(1, case.shape, channels=case.channels)
    answers = [
        make_vit.run_peer(network, case.family, volumes) for network in (first, second)
    ]
    for block, array in answers[0].items():
        if name == "vit_sincos":  # a formula of two libraries: the last bits differ
            assert relative_difference(answers[1][block], array) < 1e-5
        else:
            np.testing.assert_array_equal(answers[1][block], array, err_msg=block)


@pytest.mark.parametrize(("grid", "width"), [((6, 6, 6), 768), ((12, 3, 5), 192)])
def test_sincos_positions_are_monais(grid, width):
    from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = build_sincos_position_embedding(list(grid), width).numpy()
    assert is_sincos(theirs, grid)
    difference = np.abs(sincos_positions(grid, width) - theirs).max()
    print(f"\nsincos: max |difference| {difference:.2g}")
    assert difference < 2e-6


@pytest.mark.parametrize("new", [(12, 12, 12), (3, 8, 5), (6, 6, 6), (1, 2, 13)])
def test_positions_interpolate_as_pytorch_does(new, torch):
    positions = np.random.default_rng(0).standard_normal((1, 216, 8), np.float32)
    cube = torch.tensor(positions.reshape(1, 6, 6, 6, 8)).movedim(-1, 1)
    theirs = torch.nn.functional.interpolate(
        cube, size=new, mode="trilinear", align_corners=False
    )
    theirs = theirs.movedim(1, -1).reshape(1, -1, 8).numpy()
    got = resize_positions(positions, (6, 6, 6), new)
    np.testing.assert_allclose(got, theirs, atol=2e-6)
