"""Our reader and writer of PyTorch's files, beside PyTorch's own."""

import argparse
import collections
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.interop.files import open_tensors, write_safetensors, write_torch

pytestmark = pytest.mark.reference

FORMATS = {"zip": True, "legacy": False}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def bits(array: Any) -> bytes:
    """Gives an array's or a tensor's elements, bit for bit."""
    if not isinstance(array, np.ndarray):
        import torch

        dense = array.detach().contiguous().reshape(-1)
        return dense.view(torch.uint8).numpy().tobytes() if dense.numel() else b""
    return array.tobytes()


def assert_same(path: Path, wanted: dict[str, Any]) -> None:
    """Asserts that we read every tensor of `wanted` as PyTorch has it."""
    file = open_tensors(path)
    assert list(file.tensors) == list(wanted)
    for key, tensor in wanted.items():
        assert file.tensors[key].shape == tuple(tensor.shape)
        assert file.tensors[key].dtype == str(tensor.dtype).removeprefix("torch.")
        assert bits(file.read(key)) == bits(tensor), key


def make_tensors(torch) -> dict[str, Any]:
    """Gives every dtype and every kind of view that a state dict may hold."""
    torch.manual_seed(0)
    base = torch.randn(4, 5, 6)
    kinds = (torch.bfloat16, torch.float16, torch.float64, torch.complex64)
    whole = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    tensors = {str(kind): torch.randn(3, 2).to(kind) for kind in kinds}
    tensors |= {str(kind): torch.arange(-3, 5).clamp(0).to(kind) for kind in whole}
    return tensors | {
        "base": base,
        "same": base,
        "permuted": base.permute(2, 0, 1),
        "sliced": base[1:, ::2, 3],
        "expanded": base[0, 0, :1].expand(7, 1),
        "half_permuted": base[0].half().T,
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "frozen": torch.nn.Parameter(torch.randn(3), requires_grad=False),
        "tagged": tag(torch.nn.Parameter(torch.randn(3))),
        "tagged_tensor": tag(torch.randn(3)),
    }


def tag(tensor: Any) -> Any:
    tensor.note = "an attribute changes how it is pickled"
    return tensor


@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_kind_of_tensor_is_what_pytorch_loads(torch, tmp_path, zipped, protocol):
    path = tmp_path / "file.pt"
    torch.save(
        {"state_dict": make_tensors(torch)},
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )
    assert_same(path, torch.load(path, weights_only=False)["state_dict"])
    file = open_tensors(path)
    assert file.kind == ("torch zip" if zipped else "torch legacy")
    assert file.is_shared("base", "same")
    assert not file.is_shared("base", "permuted")


def test_dtypes_without_a_storage_of_their_own_are_read(torch, tmp_path):
    kinds = (torch.uint16, torch.uint32, torch.float8_e4m3fn, torch.float8_e5m2)
    tensors = {str(kind): torch.ones(5).to(kind)[1:] for kind in kinds}
    torch.save(tensors, tmp_path / "file.pt")
    assert_same(tmp_path / "file.pt", tensors)


def make_module(torch) -> Any:
    return torch.nn.ModuleDict(
        {
            "stem": torch.nn.Conv3d(1, 4, 3),
            "norm": torch.nn.BatchNorm3d(4),
            "blocks": torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(3)]),
        }
    )


@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS)
def test_a_checkpoint_of_lightning_is_read_past_all_that_is_not_weights(
    torch, tmp_path, zipped
):
    module = make_module(torch)
    optimizer = torch.optim.AdamW(module.parameters())
    module["blocks"][0](torch.randn(2, 4)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 7,
        "global_step": 1234,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": module.state_dict(),
        "loops": {"fit_loop": {"state_dict": {}, "progress": {"total": {"ready": 8}}}},
        "callbacks": {"ModelCheckpoint{'mode': 'min'}": {"best": torch.tensor(0.1)}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [collections.defaultdict(dict, {"last": {"lr": 0.1}})],
        "hparams_name": "config",
        "hyper_parameters": {
            "args": argparse.Namespace(lr=1e-3, path=Path("data") / "brains"),
            "device": torch.device("cpu"),
            "dtype": torch.float32,
            "size": torch.Size([96, 96, 96]),
            "seen": {1, 2},
            "metric": np.float64(0.5),
        },
    }
    path = tmp_path / "last.ckpt"
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    assert_same(path, module.state_dict())
    facts = open_tensors(path).facts
    assert (facts["epoch"], facts["container"]) == (7, "state_dict")
    assert facts["left out"] == ["callbacks", "optimizer_states"]
    assert facts["hyper_parameters"] == {
        "args": {"lr": 1e-3, "path": "data/brains"},
        "device": "<torch.device>",
        "dtype": "<torch.float32>",
        "size": [96, 96, 96],
        "seen": [1, 2],
        "metric": facts["hyper_parameters"]["metric"],
    }
    assert facts["hyper_parameters"]["metric"].startswith("<numpy")


def test_a_whole_module_is_refused_by_its_name(torch, tmp_path):
    for zipped in FORMATS.values():
        torch.save(
            torch.nn.Linear(2, 2),
            tmp_path / "file.pt",
            _use_new_zipfile_serialization=zipped,
        )
        with pytest.raises(InputRefusedError, match=r"got torch.*Linear; save"):
            open_tensors(tmp_path / "file.pt")


def test_a_script_is_refused(torch, tmp_path):
    class Doubled(torch.nn.Module):
        def forward(self, x):
            return x + x

    with warnings.catch_warnings(action="ignore"):
        traced = torch.jit.trace(Doubled(), torch.ones(2))
    traced.save(str(tmp_path / "file.pt"))
    with pytest.raises(InputRefusedError, match="got a TorchScript program"):
        open_tensors(tmp_path / "file.pt")


def make_arrays() -> dict[str, np.ndarray]:
    import ml_dtypes

    random = np.random.default_rng(0)
    kinds = ["f4", "f8", "f2", "i8", "i4", "i2", "i1", "u1", "?", "c8"]
    values = 3 * random.standard_normal((4, 3))
    arrays = {kind: values.astype(kind) for kind in kinds}
    return arrays | {
        "bf16": values.astype(ml_dtypes.bfloat16),
        "transposed": values.T,
        "scalar": np.array(3),
        "empty": np.zeros((0, 3), np.float32),
    }


@pytest.mark.parametrize("container", ["state_dict", ""])
@pytest.mark.parametrize("mapped", [False, True])
def test_pytorch_loads_what_we_write(torch, tmp_path, container, mapped):
    path, arrays = tmp_path / "file.pt", make_arrays()
    facts = {"epoch": 3, "hyper_parameters": {"lr": 0.1, "sizes": [1, None, "ü", True]}}
    write_torch(path, arrays, facts=facts, container=container)
    loaded = torch.load(path, weights_only=True, mmap=mapped)
    assert {key: loaded[key] for key in facts} == facts
    found = loaded[container] if container else loaded
    for key, array in arrays.items():
        assert bits(found[key]) == bits(np.array(array, order="C")), key
        assert tuple(found[key].shape) == array.shape
        assert str(found[key].dtype).removeprefix("torch.") == array.dtype.name
    assert_same(path, {key: found[key] for key in arrays})


def test_a_module_takes_what_we_write_strictly(torch, tmp_path):
    module = make_module(torch)
    torch.save(module.state_dict(), tmp_path / "theirs.pt")
    file = open_tensors(tmp_path / "theirs.pt")
    arrays = {key: file.read(key) for key in file.tensors}
    write_torch(tmp_path / "ours.pt", arrays)
    again = make_module(torch)
    loaded = torch.load(tmp_path / "ours.pt", weights_only=True)
    again.load_state_dict(loaded["state_dict"], strict=True)
    for key, tensor in module.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor)


def test_safetensors_go_both_ways(torch, tmp_path):
    library = pytest.importorskip("safetensors.torch")
    tensors = {
        "a": torch.randn(3, 4),
        "b": torch.randn(5).bfloat16(),
        "c": torch.ones(4).to(torch.float8_e4m3fn),
        "d": torch.tensor([True, False]),
    }
    library.save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    file = open_tensors(tmp_path / "theirs")
    assert file.facts["format"] == "pt"
    arrays = {key: file.read(key) for key in file.tensors}
    assert {key: bits(array) for key, array in arrays.items()} == {
        key: bits(tensor) for key, tensor in tensors.items()
    }
    write_safetensors(tmp_path / "ours", arrays)
    for key, tensor in library.load_file(tmp_path / "ours").items():
        assert bits(tensor) == bits(tensors[key])
        assert tensor.dtype == tensors[key].dtype
