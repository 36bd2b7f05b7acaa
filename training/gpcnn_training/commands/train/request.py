"""What `gpcnn-train` was asked to do: its flags, with the recipe's where they are left out.

A flag is declared here, once, with its option (`flag`). One that the trainer needs is a field of the same name of
`Settings` or `ModelSpec`, which takes it from here. docs/training.md tells people of it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from gpcnn_deploy.commands.command import data_dir_option, json_option
from gpcnn_deploy.commands.outputs import OUTPUT_FOLDER
from gpcnn_deploy.commands.paths import PATH
from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.spec import MAX_CATEGORIES, MAX_FEATURES, MAX_LAYERS, MAX_MIXTURES
from gpcnn_training.commands.train.duration import DURATION
from gpcnn_training.commands.train.flag import FiniteRange, flag, flags_of
from gpcnn_training.commands.train.image_size import IMAGE_SIZE

if TYPE_CHECKING:
    from gpcnn_deploy.preparation import Preparation, Resampling
    from gpcnn_deploy.spec import Architecture, Head, Input
    from gpcnn_training.trainer.compute import CompileChoice, PrecisionChoice
    from gpcnn_training.trainer.settings import OptimizerName

StageName = Literal["codes", "prior"]

_MACHINE = "it is of the machine, not of the model"
_RESULT = "it says what becomes of one run"


@dataclasses.dataclass(frozen=True)
class TrainRequest:
    """The flags of `gpcnn-train`; None where one was not given."""

    data: str | None = flag(
        metavar="NAME|PATH",
        help="What to train on: digits (default), emoji, mnist, fashion-mnist, cifar10, an .npz file with `images` and "
        "`labels`, or a folder of pictures. That folder holds a folder for each class, perhaps in train/, "
        "val/ and test/, or pictures alone.",
        resumed=True,
        samples=True,
    )
    data_dir: Path | None = flag(option=data_dir_option, no_key=_MACHINE, resumed=True, samples=True)
    model: str | None = flag(
        click.Choice(["conditional", "embedding", "map", "upscale", "unconditional", "autoencoder", "vqvae", "vqvae2"]),
        "What decides what is drawn: the class label, the `embeddings` or the `maps` of an .npz, the picture itself at "
        "a smaller size, nothing, or the code of a picture (default: maps or embeddings where the data have some, else "
        "the label). vqvae draws grids of codes, which a decoder makes pictures of: large ones, in colour. vqvae2 "
        "draws two levels of codes, the outline first.",
        samples=True,
    )
    recipe: str | None = flag(
        metavar="NAME|FILE",
        help="Take flags from this recipe. Those on the command line win.",
        no_key="a recipe is one file",
    )
    epochs: int | None = flag(
        click.IntRange(0),
        "Stop after so many passes over the images. 0 trains nothing and draws samples from a checkpoint.",
        key=click.IntRange(1),
        resumed=True,
        samples=True,
    )
    max_steps: int | None = flag(click.IntRange(1), "Stop after so many optimizer steps.", resumed=True)
    time_limit: float | None = flag(
        DURATION,
        "Stop after this time, such as 90s, 10m or 1h. Of several limits, the first one ends the run.",
        resumed=True,
    )
    batch_size: int | None = flag(click.IntRange(1), "Images in a step, of all processes together.")
    optimizer: OptimizerName | None = flag(
        click.Choice(["adamw", "muon", "rmsprop"]),
        "Which optimizer (default: adamw; for MNIST muon, which learns more from a step).",
    )
    learning_rate: float | None = flag(
        FiniteRange(0, 1, min_open=True),
        "Highest learning rate. It warms up to this, then falls along a cosine.",
        resumed=True,
    )
    warm_up: float | None = flag(
        FiniteRange(0, 1), "Share of the run in which the learning rate rises (default: 0.03)."
    )
    weight_decay: float | None = flag(FiniteRange(0), "Weight decay of AdamW and Muon (default: 0.1).")
    clip: float | None = flag(
        FiniteRange(0, min_open=True), "Largest norm of a gradient, with the loss in nats a sub-pixel (default: 1)."
    )
    ema: float | None = flag(
        FiniteRange(0, 1, max_open=True),
        "Decay of the moving average of the weights. The average is what is scored and exported. 0 for none "
        "(default: 0.999).",
    )
    architecture: Architecture | None = flag(
        click.Choice(["gated", "pixelcnn"]),
        "Which network (default: gated). pixelcnn is the PixelCNN of 2016 that came before it, for comparison: it "
        "draws in PyTorch and as a step engine alone.",
    )
    layers: int | None = flag(click.IntRange(1, MAX_LAYERS), "Gated layers of each stack.")
    features: int | None = flag(click.IntRange(1, MAX_FEATURES), "Feature maps of each stack.")
    head_features: int | None = flag(click.IntRange(1, MAX_FEATURES), "Hidden feature maps of the head.")
    kernel_size: int | None = flag(click.IntRange(3, 63), "Odd kernel size of the layers after the first.")
    first_kernel_size: int | None = flag(click.IntRange(3, 63), "Odd kernel size of the first layer.")
    code_size: int | None = flag(
        click.IntRange(1, 4096),
        "Length of an autoencoder's code (default: 10), or of each vector in a VQ-VAE's codebook (default: 64).",
    )
    factor: int | None = flag(
        click.IntRange(2, 64), "How many times larger --model upscale draws a small picture, each way (default: 4)."
    )
    map_features: int | None = flag(
        click.IntRange(1, MAX_FEATURES),
        "Feature maps of the network that brings a map, or the top codes of a VQ-VAE-2, to the size of the image "
        "(default: 32).",
    )
    stage: StageName | None = flag(
        click.Choice(["codes", "prior"]),
        "Train one stage of a VQ-VAE alone: codes is encoder and decoder, prior draws codes (default: both in turn).",
        no_key=_RESULT,
        resumed=True,
    )
    codes: int | None = flag(
        click.IntRange(2, MAX_CATEGORIES), "How many vectors the codebook of a VQ-VAE has (default: 256)."
    )
    downsample: int | None = flag(
        click.IntRange(2, 16),
        "One code of a VQ-VAE stands for N×N pixels: 2, 4, 8 or 16 (default: 4; of the bottom codes of vqvae2: 2).",
    )
    coder_features: int | None = flag(
        click.IntRange(1, MAX_FEATURES), "Feature maps of a VQ-VAE's encoder and decoder (default: 64)."
    )
    coder_blocks: int | None = flag(
        click.IntRange(0, MAX_LAYERS), "Residual blocks of a VQ-VAE's encoder, and of its decoder (default: 2)."
    )
    mirror: bool | None = flag(switch=True, help="Train a VQ-VAE on pictures as they are and mirrored.")
    shift: int | None = flag(
        click.IntRange(0, 64), "Train a VQ-VAE on pictures moved by up to N pixels, anew each time (default: 0)."
    )
    dropout: float | None = flag(
        FiniteRange(0, 1, max_open=True),
        "Share of the features behind each gate that a step leaves out, against learning by heart (default: 0).",
    )
    levels: int | None = flag(
        click.IntRange(2, 256), "How many values a pixel can take. 2 binarizes grey images at random, anew each epoch."
    )
    input: Input | None = flag(
        click.Choice(["values", "categorical"]),
        "How the network reads a level: as a value (default), or as a category, by a vector that it learns.",
    )
    input_size: int | None = flag(
        click.IntRange(1, MAX_FEATURES), "Length of the vector of a category (default: 16, with --input categorical)."
    )
    head: Head | None = flag(
        click.Choice(["categorical", "mixture"]),
        "What a sub-pixel is drawn from: a probability for every level (default), or a mixture of logistics, as in "
        "PixelCNN++, which needs fewer numbers for many levels.",
    )
    mixtures: int | None = flag(
        click.IntRange(1, MAX_MIXTURES), "Logistics of a mixture (default: 10, with --head mixture)."
    )
    image_size: tuple[int, int] | None = flag(
        IMAGE_SIZE,
        "Resize pictures of another size to N×N, or to H rows of W pixels. Another aspect is stretched.",
        metavar="N|HxW",
        key=int | str,
    )
    resampling: Resampling | None = flag(
        click.Choice(["area", "lanczos"]),
        "How --image-size resizes: by the mean of the area that a pixel covers (default), or more sharply.",
    )
    background: str | None = flag(
        metavar="COLOUR", help="Lay transparent pictures on this colour, such as white or '#ff8800'."
    )
    grey: bool | None = flag(also=("--gray",), switch=True, help="Make all pictures grey, of 8 bits.")
    rgb: bool | None = flag(switch=True, help="Make all pictures RGB, of 8 bits a channel.")
    init: Path | None = flag(
        PATH,
        "Start from the weights of this checkpoint. It must have the same dimensions. With --stage prior, take its "
        "codes.",
    )
    seed: int | None = flag(
        click.IntRange(0, 2**63 - 1), "Seed of weights, order and binarization (default: 0).", samples=True
    )
    device: str = flag(
        default="auto",
        help="Where to train: auto, cpu, cuda, cuda:0 or mps.",
        no_key=_MACHINE,
        resumed=True,
        samples=True,
    )
    devices: int = flag(
        click.IntRange(1), "Processes on this machine.", default=1, no_key=_MACHINE, resumed=True, samples=True
    )
    nodes: int = flag(
        click.IntRange(1), "Machines. See docs/training.md.", default=1, no_key=_MACHINE, resumed=True, samples=True
    )
    precision: PrecisionChoice | None = flag(
        click.Choice(["auto", "fp32", "bf16"]), "Arithmetic. auto (default) measures which is faster."
    )
    compile: CompileChoice | None = flag(
        click.Choice(["auto", "on", "off"]), "Use torch.compile. auto (default) measures whether it pays."
    )
    out: Path | None = flag(
        OUTPUT_FOLDER, "Folder of the run (default: runs/DATA-MODEL, then -2, -3, …).", no_key=_RESULT, samples=True
    )
    resume: Path | None = flag(
        PATH,
        "Go on with this run. With --epochs 0, draw samples from it.",
        no_key=_RESULT,
        resumed=True,
        samples=True,
    )
    test_images: int | None = flag(
        click.IntRange(1),
        "Score only so many test images at the end (default: all).",
        no_key=_RESULT,
        resumed=True,
        samples=True,
    )
    json_path: Path | None = flag(option=json_option, no_key=_RESULT, resumed=True, samples=True)

    def __post_init__(self) -> None:
        from gpcnn_training.data.names import data_name

        if self.data is not None:
            object.__setattr__(self, "data", data_name(self.data))

    def preparation(self) -> Preparation | None:
        """What is to be done to pictures that do not fit; None takes them as they are.

        Raises:
            UsageError: flags that contradict each other, or no such colour.
        """
        from gpcnn_deploy.pictures.files import hex_colour
        from gpcnn_deploy.preparation import Preparation

        if self.grey and self.rgb:
            raise UsageError("--grey and --rgb both say what pictures become: leave one of them out")
        if self.resampling is not None and self.image_size is None:
            raise UsageError(f"--resampling {self.resampling} goes with --image-size: add it, as in --image-size 32")
        resampling = None if self.image_size is None else self.resampling or "area"
        made = Preparation(
            image_size=self.image_size,
            resampling=resampling,
            background=None if self.background is None else hex_colour(self.background),
            colour="grey" if self.grey else "rgb" if self.rgb else None,
        )
        return made or None

    def refuse_what_runs_keep(self) -> None:
        """Refuse the flags that a run which is gone on with, or drawn from, does not take.

        Raises:
            UsageError: names those that were given.
        """
        if self.epochs == 0:
            self.refuse("samples", "--epochs 0 trains nothing, it only draws samples")
        elif self.resume is not None:
            self.refuse("resumed", f"--resume goes on with {self.resume} as it was begun")

    def refuse(self, run: Literal["resumed", "samples"], reason: str) -> None:
        """Refuse the flags that a run of this kind does not take.

        Args:
            run: as `Flag` names it.
            reason: why it takes none of them.

        Raises:
            UsageError: names those that were given.
        """
        flags = [name for name, declared in flags_of(TrainRequest) if not getattr(declared, run)]
        given = [f"--{name.replace('_', '-')}" for name in flags if getattr(self, name) is not None]
        if given:
            raise UsageError(f"{reason}: leave out {', '.join(given)}")
