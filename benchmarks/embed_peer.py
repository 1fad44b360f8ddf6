"""PyTorch and MONAI beside `benchmarks/embed.py`: the features of scans, as BrainIAC.

python embed_peer.py CHECKPOINT OUT.csv SCAN...  Runs under another interpreter; needs
torch and monai, which brainjax itself never needs.
"""

import csv
import importlib
import sys

PREFIX = "backbone."


def main() -> None:
    """Writes one row a scan: its path, and the first token's features."""
    torch = importlib.import_module("torch")
    nets = importlib.import_module("monai.networks.nets")
    transforms = importlib.import_module("monai.transforms")
    checkpoint, out, *scans = sys.argv[1:]
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    network = nets.ViT(
        in_channels=1,
        img_size=(96, 96, 96),
        patch_size=(16, 16, 16),
        hidden_size=768,
        mlp_dim=3072,
        num_layers=12,
        num_heads=12,
    )
    own = {k.removeprefix(PREFIX): a for k, a in state.items() if k.startswith(PREFIX)}
    missing, unexpected = network.load_state_dict(own, strict=False)
    if unexpected or any("cross_attn" not in key for key in missing):
        raise SystemExit(f"missing {missing}, unexpected {unexpected}")
    network.eval()
    prepare = transforms.Compose(
        [
            transforms.LoadImage(image_only=True),
            transforms.EnsureChannelFirst(),
            transforms.Resize(spatial_size=(96, 96, 96), mode="trilinear"),
            transforms.NormalizeIntensity(nonzero=True, channel_wise=True),
        ]
    )
    with open(out, "w", newline="") as file, torch.no_grad():
        writer = csv.writer(file)
        for scan in scans:
            tokens, _ = network(prepare(scan)[None])
            writer.writerow([scan, *tokens[0, 0].tolist()])


if __name__ == "__main__":
    main()
