"""ResNet, SegResNet's encoder and DenseNet beside the live MONAI: whole arrays."""

import warnings

import numpy as np
import pytest
from flax import nnx

from brainjax.interop.layout import gather, scatter
from brainjax.interop.layouts import LAYOUTS
from brainjax.models import count_parameters, make_encoder, to_pure
from tests.golden import make_cnn
from tests.golden.our_cnns import fill, run_ours
from tests.golden.weights import make_volumes, relative_difference

pytestmark = pytest.mark.reference

SIDES = [
    *((name, case.side) for name, case in make_cnn.CASES.items()),
    ("resnet18", 128),
    ("resnet50", 128),
    ("resnet50_stride2", 128),
    ("segresnet", 64),
    ("densenet121", 96),
]


@pytest.fixture(autouse=True)
def torch():
    found = pytest.importorskip("torch", reason="PyTorch is not here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, at import and in constructors
        pytest.importorskip("monai.networks.nets", reason="MONAI is not here")
        yield found


@pytest.mark.parametrize(("name", "side"), SIDES)
def test_every_block_equals_monai(name, side):
    case = make_cnn.CASES[name]
    network = make_cnn.build(case)
    shapes = make_cnn.load_named_weights(network)
    given = {"shape": side, **case.keywords}
    keywords, graphdef, trees = fill(LAYOUTS[case.family], shapes, given)
    volumes = make_volumes(1, (side, side, side), channels=keywords["channels"])
    theirs = make_cnn.run_peer(network, case.family, volumes)
    pairs = zip(theirs.items(), run_ours(graphdef, trees, volumes), strict=True)
    found = {block: relative_difference(ours, array) for (block, array), ours in pairs}
    worst = max(found, key=lambda block: found[block])
    print(f"\n{name} at {side}: max |difference| / std {found[worst]:.2g} at {worst}")
    assert found[worst] < 1e-4


@pytest.mark.parametrize("name", make_cnn.CASES)
def test_given_back_it_loads_strictly_and_is_bitwise(name, torch):
    case = make_cnn.CASES[name]
    layout = LAYOUTS[case.family]
    first, second = make_cnn.build(case), make_cnn.build(case)
    shapes = make_cnn.load_named_weights(first)
    held = {key: value.numpy() for key, value in first.state_dict().items()}
    keywords = {**layout.infer(shapes), **case.keywords}
    trees = gather(layout.entries(keywords), held.__getitem__)
    back = scatter(layout.entries(keywords), trees) | layout.extras(keywords, "")
    heads = tuple(f"{head}." for head in layout.heads)
    back |= {key: held[key] for key in held if heads and key.startswith(heads)}
    second.load_state_dict(
        {key: torch.tensor(array) for key, array in back.items()}, strict=True
    )
    for key, value in second.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(value.numpy(), held[key], err_msg=key)


@pytest.mark.parametrize("name", make_cnn.CASES)
def test_parameters_are_as_many_as_monais(name):
    case = make_cnn.CASES[name]
    network = make_cnn.build(case)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    layout = LAYOUTS[case.family]
    keywords = {**layout.infer(shapes), **case.keywords}
    module = nnx.eval_shape(
        lambda: make_encoder(layout.encoder, rngs=nnx.Rngs(0), **keywords)
    )
    heads = tuple(f"{head}." for head in layout.heads)
    wanted = sum(
        parameter.numel()
        for key, parameter in network.named_parameters()
        if not (heads and key.startswith(heads))
    )
    assert count_parameters(to_pure(module).params) == wanted


def test_a_whole_segmentation_network_has_the_encoder_below_its_prefix():
    from monai.networks.nets import SegResNetDS

    network = SegResNetDS(init_filters=4, blocks_down=(1, 2, 1), dsdepth=2)
    layout = LAYOUTS["segresnet"]
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    below = {
        key.removeprefix("encoder."): shape
        for key, shape in shapes.items()
        if key.startswith("encoder.")
    }
    keywords = layout.infer(below)
    assert keywords == {"channels": 1, "init_filters": 4, "blocks": (1, 2, 1)}
    ours = {entry.theirs for entry in layout.entries(keywords)}
    assert ours | set(layout.extras(keywords, "")) == set(below)
    others = [key for key in shapes if not key.startswith("encoder.")]
    assert all(key.startswith("up_layers.") for key in others)
