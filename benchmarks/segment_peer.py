"""MONAI beside `benchmarks/segment.py`: a whole head by sliding windows of a UNETR.

python segment_peer.py SCAN OUT.nii.gz OVERLAP  Runs under another interpreter; needs
torch and monai, which brainjax itself never needs. Random weights: the time counts.
"""

import importlib
import json
import sys
import time


def main() -> None:
    """Reads a scan, outlines it at 1 mm, and writes the outline on the scan's grid."""
    begin = time.perf_counter()
    torch = importlib.import_module("torch")
    nets = importlib.import_module("monai.networks.nets")
    inferers = importlib.import_module("monai.inferers")
    transforms = importlib.import_module("monai.transforms")
    data = importlib.import_module("monai.data")
    scan, out, overlap = sys.argv[1:]
    torch.set_num_threads(2)
    torch.manual_seed(0)
    network = nets.UNETR(
        in_channels=1,
        out_channels=1,
        img_size=(96, 96, 96),
        feature_size=16,
        hidden_size=768,
        mlp_dim=3072,
        num_heads=12,
        norm_name="instance",
        res_block=True,
    ).eval()
    prepare = transforms.Compose(
        [
            transforms.LoadImaged("image"),
            transforms.EnsureChannelFirstd("image"),
            transforms.Orientationd("image", axcodes="RAS"),
            transforms.Spacingd("image", pixdim=(1.0, 1.0, 1.0), mode="bilinear"),
            transforms.NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )
    sample = prepare({"image": scan})
    loaded = time.perf_counter()
    with torch.inference_mode():
        logits = inferers.sliding_window_inference(
            sample["image"][None], (96, 96, 96), 1, network, overlap=float(overlap)
        )
    answered = time.perf_counter()
    back = transforms.Invertd(
        "outline", transform=prepare, orig_keys="image", nearest_interp=True
    )
    found = back({**sample, "outline": data.MetaTensor((logits[0] > 0).float())})
    affine = found["outline"].affine.numpy()
    nibabel = importlib.import_module("nibabel")
    voxels = found["outline"][0].numpy().astype("uint8")
    nibabel.save(nibabel.Nifti1Image(voxels, affine), out)
    end = time.perf_counter()
    versions = {name: importlib.import_module(name).__version__ for name in ("torch",)}
    print(
        json.dumps(
            {
                "prepare_s": loaded - begin,
                "network_s": answered - loaded,
                "back_s": end - answered,
                "voxels": list(sample["image"].shape[1:]),
                **versions,
            }
        )
    )


if __name__ == "__main__":
    main()
