"""From a foreign file to the keywords and parameter trees of one of our networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.interop.account import Recognised, Row
from brainjax.interop.files import TensorFile, open_tensors
from brainjax.interop.layout import gather
from brainjax.interop.layouts import LAYOUTS
from brainjax.interop.recognise import recognise
from brainjax.interop.stablehlo import unflatten
from brainjax.interop.statement import Statement
from brainjax.models.resizing import resize_encoder

DROPOUT = 0.2
"""Of BrainIAC's heads, before their one linear layer."""

MONAI_LAYOUTS = ("vit", "resnet", "segresnet", "densenet")
"""Encoders that `export` writes under MONAI's names; others keep ours."""


class Network(NamedTuple):
    """A network as a file holds it.

    Attributes:
        kind: row of `train.restore.NETWORKS`.
        keywords: of its constructor.
        params, batch_stats: its trees, NumPy.
        origin: row of `ORIGINS`, or "brainjax".
        rows: what became of every key.
    """

    kind: str
    keywords: dict[str, Any]
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    origin: str
    rows: list[Row]


def read_network(file: TensorFile, statement: Statement) -> Network:
    """Reads another package's network.

    Raises:
        InputRefusedError: not understood, or a statement that does not fit.
    """
    found = recognise(
        file,
        origin=statement.origin,
        settings=statement.settings,
        prefix=statement.prefix,
        ignore=statement.ignore,
    )
    trees = gather(found.entries, lambda key: file.read(found.prefix + key))
    if found.layout == "unetr":
        return _segmentation(file, found, trees, statement)
    keywords, params = _encoder(file, found, trees["params"], statement)
    stats = trees["batch_stats"]
    network = Network(
        "encoder",
        {"encoder": keywords},
        {"encoder": params},
        {"encoder": stats} if stats else {},
        found.origin,
        found.rows,
    )
    if found.head:
        weight, bias = (file.read(f"{found.head}.{end}") for end in ("weight", "bias"))
        return add_head(network, {"weight": weight, "bias": bias}, statement.inputs)
    if statement.inputs != 1:
        raise InputRefusedError(f"{file.path}: wanted a head for --inputs, got none")
    return network


def read_own(
    file: TensorFile, about: Mapping[str, Any], statement: Statement
) -> Network:
    """Reads back what `export` wrote, exactly: `about` is its description.

    The head of MONAI's naming lies in a file beside it, "head" with the same suffix.

    Raises:
        InputRefusedError: the files are not what the description says.
    """
    keywords = about["network"]
    settings = dict(keywords["encoder"])
    name = settings.pop("name", "vit")
    if about["kind"] == "segmentation":
        settings, name = dict(keywords), "unetr"
    if name == "unetr" or name in MONAI_LAYOUTS:
        own = statement._replace(origin="monai", settings=settings)
        network = read_network(file, own)
    else:
        trees = unflatten({key: file.read(key) for key in file.tensors})
        rows = [Row(k, info.shape, "mapped", "") for k, info in file.tensors.items()]
        stats = trees.get("batch_stats", {})
        network = Network(
            "encoder",
            {"encoder": {"name": name, **settings}},
            {"encoder": trees["params"]},
            {"encoder": stats} if stats else {},
            "brainjax",
            rows,
        )
    inputs = keywords.get("inputs", 1)
    beside = file.path.with_name("head" + file.path.suffix)
    if network.kind == "encoder" and about["kind"] == "finetune" and beside.is_file():
        head = _read_head(beside)
        rows = [
            Row(f"{beside.name}:{k}", a.shape, "mapped", "") for k, a in head.items()
        ]
        network = add_head(network, head, inputs)
        network = network._replace(rows=network.rows + rows)
    if network.kind == "finetune":
        network.keywords["head"] = keywords["head"]
        network.keywords["inputs"] = inputs
    return network._replace(origin="brainjax")


def add_head(
    network: Network, arrays: Mapping[str, np.ndarray], inputs: int = 1
) -> Network:
    """Sets a linear head, with a LayerNorm before it or not, on an encoder.

    arrays: as `torch.nn.Linear` names them, or `Sequential(LayerNorm, Linear)`.
    """
    arrays = {key: np.asarray(array, np.float32) for key, array in arrays.items()}
    norm = "0.weight" in arrays
    start = "1." if norm else ""
    kernel = np.ascontiguousarray(arrays[f"{start}weight"].T)
    head: dict[str, Any] = {
        "linear": {"kernel": kernel, "bias": arrays[f"{start}bias"]}
    }
    if norm:
        head["norm"] = {"scale": arrays["0.weight"], "bias": arrays["0.bias"]}
    keywords = {
        **network.keywords,
        "head": {"norm": norm, "dropout": DROPOUT},
        "outputs": kernel.shape[1],
        "frozen": False,
        "inputs": inputs,
    }
    params = {**network.params, "head": head}
    return network._replace(kind="finetune", keywords=keywords, params=params)


def _read_head(path: Path) -> dict[str, np.ndarray]:
    file = open_tensors(path)
    arrays = {key: file.read(key) for key in file.tensors}
    linear, norm = {"weight", "bias"}, {"0.weight", "0.bias", "1.weight", "1.bias"}
    if set(arrays) not in (linear, norm):
        raise InputRefusedError(
            f"{path}: wanted a head's weight and bias, got {', '.join(arrays)}"
        )
    return arrays


def _encoder(
    file: TensorFile, found: Recognised, params: dict[str, Any], statement: Statement
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gives an encoder's keywords, complete, and its parameters, resized as stated."""
    name = LAYOUTS[found.layout].encoder
    keywords = dict(found.keywords)
    if statement.pool:
        keywords["pool"] = statement.pool
    if "shape" not in keywords:
        if statement.shape is None:
            raise InputRefusedError(
                f"{file.path}: wanted the input's size, which the file does not tell: "
                "state --shape, such as --shape 96"
            )
        keywords["shape"] = statement.shape
    keywords, params = resize_encoder(
        name, keywords, params, shape=statement.shape, patch=statement.patch
    )
    return {"name": name, **keywords}, params


def _segmentation(
    file: TensorFile, found: Recognised, trees: dict[str, Any], statement: Statement
) -> Network:
    if statement.shape or statement.patch or statement.inputs != 1:
        raise InputRefusedError(
            f"{file.path}: a segmentation network takes no --shape, --patch or --inputs"
        )
    keywords = dict(found.keywords)
    if statement.pool:
        keywords["encoder"] = {**keywords["encoder"], "pool": statement.pool}
    return Network(
        "segmentation",
        keywords,
        trees["params"],
        trees["batch_stats"],
        found.origin,
        found.rows,
    )
