"""From a foreign file to the keywords and parameter trees of one of our networks."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.interop.account import Recognised, Row
from brainjax.interop.files import TensorFile
from brainjax.interop.layout import THREADS, gather
from brainjax.interop.layouts import LAYOUTS
from brainjax.interop.recognise import in_file, recognise
from brainjax.interop.statement import Statement
from brainjax.interop.trees import flatten
from brainjax.models.encoded import triple
from brainjax.models.resizing import resize_encoder

DROPOUT = 0.2
"""Of BrainIAC's heads, before their one linear layer."""


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

    @property
    def encoder(self) -> dict[str, Any]:
        """The keywords of its encoder."""
        return self.keywords["encoder"]

    @property
    def hash(self) -> str:
        """12 hex characters that name these very weights."""
        leaves = flatten({"params": self.params, "batch_stats": self.batch_stats})
        with ThreadPoolExecutor(THREADS) as pool:
            digests = pool.map(_hash, [leaves[key] for key in sorted(leaves)])
            text = "".join(map("".join, zip(sorted(leaves), digests, strict=True)))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _hash(array: np.ndarray) -> str:
    start = f"{array.dtype} {array.shape}".encode()
    digest = hashlib.sha256(start)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


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
    if not found.head:
        if statement.inputs != 1:
            raise InputRefusedError(
                f"{file.path}: wanted a head for --inputs, got none"
            )
        return network
    if statement.task is not None and found.head.endswith("classification_head.0"):
        raise InputRefusedError(
            f"{file.path}: wanted a linear head for --task, got MONAI's, which a tanh "
            "follows; its features can be embedded"
        )
    weight, bias = (file.read(f"{found.head}.{end}") for end in ("weight", "bias"))
    return add_head(network, {"weight": weight, "bias": bias}, statement.inputs)


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


def as_two(network: Network) -> Network:
    """Gives a head of two logits for one: sigmoid(z) is the softmax of (0, z)."""
    linear = network.params["head"]["linear"]
    two = {
        "kernel": np.pad(linear["kernel"], ((0, 0), (1, 0))),
        "bias": np.pad(linear["bias"], (1, 0)),
    }
    return network._replace(
        keywords={**network.keywords, "outputs": 2},
        params={**network.params, "head": {**network.params["head"], "linear": two}},
    )


def _encoder(
    file: TensorFile, found: Recognised, params: dict[str, Any], statement: Statement
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gives an encoder's keywords, complete, and its parameters, resized as stated."""
    name = LAYOUTS[found.layout].encoder
    keywords = dict(found.keywords)
    _refuse_channels(file, keywords)
    if statement.pool:
        if name != "vit":
            raise InputRefusedError(
                f"{file.path}: --pool {statement.pool}: encoder {name} has one way only"
            )
        keywords["pool"] = statement.pool
    if "shape" not in keywords:
        keywords["shape"] = _stated_shape(file, statement)
    keywords, params = in_file(
        file,
        lambda: resize_encoder(
            name, keywords, params, shape=statement.shape, patch=statement.patch
        ),
    )
    return {"name": name, **keywords}, params


def _stated_shape(file: TensorFile, statement: Statement) -> tuple[int, int, int]:
    """Gives the input of a network that takes any: as stated, or an exact recipe's."""
    if statement.shape is not None:
        return triple(statement.shape, "--shape")
    if statement.recipe is not None and statement.recipe.storage == "float32":
        return statement.recipe.shape
    raise InputRefusedError(
        f"{file.path}: wanted the input's size, which the file does not tell: convert "
        "it with --shape, such as --shape 96"
    )


def _segmentation(
    file: TensorFile, found: Recognised, trees: dict[str, Any], statement: Statement
) -> Network:
    if statement.shape or statement.patch or statement.inputs != 1:
        raise InputRefusedError(
            f"{file.path}: a segmentation network takes no --shape, --patch or --inputs"
        )
    keywords = dict(found.keywords)
    _refuse_channels(file, keywords["encoder"])
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


def _refuse_channels(file: TensorFile, keywords: Mapping[str, Any]) -> None:
    channels = keywords.get("channels", 1)
    if channels != 1:
        raise InputRefusedError(
            f"{file.path}: wanted a network of 1 channel, as a scan has, got {channels}"
        )
