"""The model spec: every dimension of a Gated PixelCNN, frozen, validated once, carried by checkpoints and engines."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from gpcnn_deploy.errors import SpecError
from gpcnn_deploy.text import counted, spanned

Conditioning = Literal["none", "label", "embedding", "map"]
Head = Literal["categorical", "mixture"]
Architecture = Literal["gated", "pixelcnn"]
MapKind = Literal["values", "categories", "picture"]
"""What a spatial map holds: numbers, numbers of categories, or the picture itself at a smaller size."""

MAX_PIXELS = 1 << 20
MAX_FEATURES = 4096
MAX_LAYERS = 512
MAX_CATEGORIES = 4096
"""Levels of a model whose levels are categories (others have at most 256), and categories of a map."""
MAX_MIXTURES = 128
"""Logistics of a mixture."""
MAX_PLANES = 256
"""Of a map."""

Features = Annotated[int, msgspec.Meta(ge=1, le=MAX_FEATURES)]
Input = Literal["values", "categorical"]
Quantization = Literal["stochastic-binary", "nearest", "codes"]
"""How pixels become levels: binarized at random, rounded to the nearest level, or by the encoder of a VQ-VAE."""


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dimensions of a Gated PixelCNN (van den Oord et al. 2016, arXiv 1606.05328).

    Shape legend used throughout: N images, C channels, H rows, W columns, K levels, F features, L layers.

    Attributes:
        height: H, image rows.
        width: W, image columns.
        channels: C, 1 (grey) or 3 (R, then G given R, then B given R and G).
        levels: K, values a sub-pixel can take: 2 to 256, or to 4,096 where they are categories.
        features: F, feature maps of each stack; gates work on 2F.
        layers: L, gated layers of each stack.
        first_kernel_size: odd k of layer 1, which sees pixels: k//2 rows above × k, and k//2 pixels to the left.
        kernel_size: odd k of layers 2..L, which see features: (k//2 rows above + this row) × k, k//2 + 1 to the left.
        head_features: hidden features per channel of the 1×1 head behind the skip sum.
        conditioning: what the gates are conditioned on: nothing, a class label, an embedding vector h, or a spatial map
            (section 2.3: "location dependent").
        conditioning_size: number of classes, length of h, or planes of the map; 0 without conditioning.
        input: how the network reads a level: as a value from -1 to 1, or as a category, by a learned vector.
        input_size: D, length of the vector of a category; 0 for values.
        head: the distribution of a sub-pixel: a softmax over the levels, or a discretized mixture of logistics
            (PixelCNN++, Salimans et al. 2017, arXiv 1701.05517).
        mixtures: M, logistics of a mixture; 0 for a softmax.
        map_height: rows of the map, which divide H; 0 without one, as all that follows.
        map_width: columns of the map, which divide W.
        map_features: feature maps of the network m that brings the map to the size of the image.
        map_categories: categories that each plane of the map can have; 0 where it has other values.
        map_kind: what the map holds.
        architecture: gated, or the PixelCNN that came before it (van den Oord, Kalchbrenner and Kavukcuoglu 2016, arXiv
            1601.06759): one stack of masked convolutions. There, layer 1 is the convolution of mask A and each further
            one a residual block around a convolution of mask B with F features; 2F features go from block to block.
        code_levels: 1; or 2, of the prior of a VQ-VAE-2, which is two Gated PixelCNNs, see `priors`. Its image is a
            sheet of the codes of both levels, in the order in which they are drawn: all top codes in raster order,
            which fill the first H / 5 rows, then the bottom codes, as many columns and 4 H / 5 rows of them.

    Raises:
        SpecError: a dimension is out of range or two of them contradict each other.
    """

    height: int
    width: int
    channels: int = 1
    levels: int = 2
    features: int = 32
    layers: int = 12
    first_kernel_size: int = 7
    kernel_size: int = 3
    head_features: int = 64
    conditioning: Conditioning = "none"
    conditioning_size: int = 0
    input: Input = "values"
    input_size: int = 0
    head: Head = "categorical"
    mixtures: int = 0
    map_height: int = 0
    map_width: int = 0
    map_features: int = 0
    map_categories: int = 0
    map_kind: MapKind = "values"
    architecture: Architecture = "gated"
    code_levels: int = 1

    def __post_init__(self) -> None:
        _between("height", self.height, 1, MAX_PIXELS)
        _between("width", self.width, 1, MAX_PIXELS)
        _between("height × width", self.height * self.width, 1, MAX_PIXELS)
        if self.channels not in (1, 3):
            raise SpecError(f"channels is {self.channels}: expected 1 (grey) or 3 (RGB)")
        _between("levels", self.levels, 2, 256 if self.input == "values" else MAX_CATEGORIES)
        _between("features", self.features, 1, MAX_FEATURES)
        _between("layers", self.layers, 1, MAX_LAYERS)
        _between("head_features", self.head_features, 1, MAX_FEATURES)
        for name in ("first_kernel_size", "kernel_size"):
            size = getattr(self, name)
            if size < 3 or size % 2 == 0 or size > 63:
                raise SpecError(f"{name} is {size}: expected an odd number from 3 to 63")
        if self.conditioning == "none" and self.conditioning_size != 0:
            raise SpecError(f"conditioning_size is {self.conditioning_size} but conditioning is none: expected 0")
        if self.conditioning != "none":
            _between(f"conditioning_size ({self.conditioning})", self.conditioning_size, 1, 1_000_000)
        if self.input == "values" and self.input_size != 0:
            raise SpecError(f"input_size is {self.input_size} but input is values: expected 0")
        if self.input == "categorical":
            _between("input_size (categorical)", self.input_size, 1, MAX_FEATURES)
        if self.head == "categorical" and self.mixtures != 0:
            raise SpecError(f"mixtures is {self.mixtures} but head is categorical: expected 0")
        if self.head == "mixture":
            _between("mixtures", self.mixtures, 1, MAX_MIXTURES)
            if self.input == "categorical":
                raise SpecError("head is mixture but input is categorical: expected values, whose order logistics need")
        if self.architecture == "pixelcnn":
            if self.conditioning not in ("none", "label"):
                raise SpecError(
                    f"conditioning is {self.conditioning} but architecture is pixelcnn: expected none or label"
                )
            if self.head != "categorical":
                raise SpecError(f"head is {self.head} but architecture is pixelcnn: expected categorical")
        _between("code_levels", self.code_levels, 1, 2)
        if self.code_levels == 2:
            self._check_sheet()
        self._check_map()

    def _check_sheet(self) -> None:
        if self.height % 5 or self.width % 2:
            raise SpecError(
                f"code_levels is 2 and the sheet {self.height}×{self.width}: expected a multiple of 5 by one of 2"
            )
        for name, wanted in (("channels", 1), ("input", "categorical"), ("head", "categorical")):
            if getattr(self, name) != wanted:
                raise SpecError(f"code_levels is 2 and {name} is {getattr(self, name)}: expected {wanted}")
        if self.architecture != "gated" or self.conditioning not in ("none", "label"):
            raise SpecError(
                f"code_levels is 2 but architecture is {self.architecture} and conditioning {self.conditioning}: "
                "expected gated, and none or label"
            )
        _between("map_features (code_levels 2)", self.map_features, 1, MAX_FEATURES)

    def _check_map(self) -> None:
        if self.conditioning != "map":
            of_sheet = {"map_features"} if self.code_levels == 2 else set()
            for name in ("map_height", "map_width", "map_features", "map_categories"):
                if getattr(self, name) != 0 and name not in of_sheet:
                    raise SpecError(
                        f"{name} is {getattr(self, name)} but conditioning is {self.conditioning}: expected 0"
                    )
            if self.map_kind != "values":
                raise SpecError(f"map_kind is {self.map_kind} but conditioning is {self.conditioning}: expected values")
            return
        _between("conditioning_size (map)", self.conditioning_size, 1, MAX_PLANES)
        _between("map_features", self.map_features, 1, MAX_FEATURES)
        for name, size, side in (
            ("map_height", self.map_height, self.height),
            ("map_width", self.map_width, self.width),
        ):
            _between(name, size, 1, side)
            if side % size:
                raise SpecError(f"{name} is {size}: expected a divisor of the image's {side}")
        if self.map_kind == "categories":
            _between("map_categories", self.map_categories, 2, MAX_CATEGORIES)
        elif self.map_categories != 0:
            raise SpecError(f"map_categories is {self.map_categories} but map_kind is {self.map_kind}: expected 0")
        if self.map_kind == "picture" and self.conditioning_size != self.channels:
            raise SpecError(
                f"conditioning_size is {self.conditioning_size}: expected {self.channels} as the picture has"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.channels, self.height, self.width

    @property
    def code_grids(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of the codes of each level, in the order in which they are drawn: (top, bottom) of two."""
        if self.code_levels == 1:
            return ((self.height, self.width),)
        rows = self.height // 5 * 4
        return (rows // 2, self.width // 2), (rows, self.width)

    @property
    def priors(self) -> tuple[ModelSpec, ...]:
        """Dimensions of the Gated PixelCNNs that the model is: itself; of two levels of codes (top, bottom).

        The top one has the model's condition. The bottom one is conditioned on the top codes, by a map of categories
        (Razavi et al. 2019, arXiv 1906.00446, section 3.2).
        """
        if self.code_levels == 1:
            return (self,)
        (top_rows, top_columns), (rows, columns) = self.code_grids
        replace = msgspec.structs.replace
        top = replace(self, height=top_rows, width=top_columns, map_features=0, code_levels=1)
        bottom = replace(
            self,
            height=rows,
            width=columns,
            conditioning="map",
            conditioning_size=1,
            map_height=top_rows,
            map_width=top_columns,
            map_kind="categories",
            map_categories=self.levels,
            code_levels=1,
        )
        return top, bottom

    @property
    def subpixels(self) -> int:
        """C × H × W, the number of conditionals in the factorization of one image."""
        return self.channels * self.height * self.width

    @property
    def inputs(self) -> int:
        """Numbers of a pixel that the network reads: C, or C · D of categories."""
        return self.channels * (self.input_size or 1)

    @property
    def head_outputs(self) -> int:
        """Numbers that the head gives for a pixel: K logits a channel, or 10 (in grey 3) for each logistic."""
        c = self.channels
        return c * self.levels if self.head == "categorical" else self.mixtures * (1 + 2 * c + c * (c - 1) // 2)

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """(M, h, w) of one map: planes, rows, columns."""
        return self.conditioning_size, self.map_height, self.map_width

    @property
    def map_inputs(self) -> int:
        """Numbers that m reads of a pixel of the map: one of a value, and of a category one for each there is."""
        return self.conditioning_size * max(1, self.map_categories)

    @property
    def map_stages(self) -> tuple[tuple[int, int], ...]:
        """Factors (rows, columns) of m's transposed convolutions, which bring a map to the size of the image.

        They are the prime factors of H / h and of W / w, in ascending order, and 1 where one axis has fewer.
        """
        if self.conditioning != "map":
            return ()
        rows, columns = _primes(self.height // self.map_height), _primes(self.width // self.map_width)
        count = max(len(rows), len(columns))
        return tuple(zip(rows + [1] * (count - len(rows)), columns + [1] * (count - len(columns)), strict=True))

    def multiply_adds(self) -> int:
        """Multiply-adds of one image when each row and column is evaluated once: the arithmetic floor of a sampler."""
        if self.code_levels > 1:
            return sum(prior.multiply_adds() for prior in self.priors)
        if self.architecture == "pixelcnn":
            return self._masked_multiply_adds() * self.height * self.width
        f, c, above, taps = self.features, self.channels, self.kernel_size // 2 + 1, self.kernel_size // 2 + 1
        k1, inputs = self.first_kernel_size, self.inputs
        vertical = (k1 // 2) * k1 * inputs * 2 * f + (self.layers - 1) * above * self.kernel_size * f * 2 * f
        link = self.layers * 2 * f * 2 * f
        horizontal = (k1 // 2) * inputs * 2 * f + (self.layers - 1) * taps * f * 2 * f
        out = (self.layers - 1) * f * f + self.layers * f * f  # the last layer's residual output is not used
        head = f * c * self.head_features
        if self.head == "categorical":
            head += self.head_features * self.head_outputs
            head += c * (c - 1) // 2 * (self.input_size or 1) * self.head_features  # earlier channels of the pixel
        else:
            head += c * self.head_features * self.head_outputs
        each = vertical + link + horizontal + out + head
        return each * self.height * self.width + self._map_multiply_adds()

    def _masked_multiply_adds(self) -> int:
        """Of a pixel of the PixelCNN of 2016: the weights that no mask takes away."""
        f, k1, k = self.features, self.first_kernel_size, self.kernel_size
        hidden = self.channels * self.head_features

        def here(inputs: int, outputs: int, sees_itself: bool = True) -> int:
            """Weights within a pixel: a feature sees those of earlier channels, and perhaps of its own."""
            groups = [[sum(channel_of(i, n, self.channels) == c for i in range(n)) for c in range(self.channels)]
                      for n in (inputs, outputs)]  # fmt: skip
            return sum(count * sum(groups[0][: c + sees_itself]) for c, count in enumerate(groups[1]))

        first = (k1 // 2) * (k1 + 1) * self.inputs * 2 * f + here(self.inputs, 2 * f, sees_itself=False)
        block = here(2 * f, f) + (k // 2) * (k + 1) * f * f + here(f, f) + here(f, 2 * f)
        return first + (self.layers - 1) * block + here(2 * f, hidden) + here(hidden, self.head_outputs)

    def _map_multiply_adds(self) -> int:
        if self.conditioning != "map":
            return 0
        g, (planes, rows, columns) = self.map_features, self.map_shape
        total = rows * columns * (planes * g + 2 * 9 * g * g)
        for down, across in self.map_stages:
            rows, columns = rows * down, columns * across
            total += rows * columns * g * g
        return total + self.height * self.width * self.layers * 2 * 2 * self.features * g


def channel_of(feature: int, features: int, channels: int) -> int:
    """The channel that a feature map of a PixelCNN belongs to: 0 for the first third in RGB, and so on."""
    return feature * channels // features


def map_in_words(spec: ModelSpec) -> str:
    """`a map of 8×8, 5 categories`, `… 3 planes of values`, or `the picture at 8×8`; rows × columns."""
    size = f"{spec.map_height}×{spec.map_width}"
    if spec.map_kind == "picture":
        return f"the picture at {size}"
    planes = "" if spec.conditioning_size == 1 else f"{spec.conditioning_size} planes of "
    what = f"{spec.map_categories} categories" if spec.map_categories else "values"
    return f"a map of {size}, {planes}{what}"


def layers_in_words(spec: ModelSpec) -> str:
    """`12 layers × 32 features`, or `PixelCNN of 2016, …` of that architecture, or `two networks of …`."""
    if spec.code_levels == 2:
        return f"two networks of {counted(spec.layers, 'layer')} × {counted(spec.features, 'feature')}"
    architecture = "PixelCNN of 2016, " if spec.architecture == "pixelcnn" else ""
    return f"{architecture}{counted(spec.layers, 'layer')} × {counted(spec.features, 'feature')}"


def levels_in_words(spec: ModelSpec) -> str:
    """How the levels are read and drawn.

    `16 levels`, `512 levels, categories that are read as vectors of 16 numbers`, or `256 levels by mixtures of 10
    logistics`.
    """
    if spec.head == "mixture":
        what = f"mixtures of {spec.mixtures} logistics" if spec.mixtures > 1 else "logistics"
        return f"{spec.levels} levels by {what}"
    if spec.input == "values":
        return f"{spec.levels} levels"
    return f"{spec.levels} levels, categories that are read as vectors of {counted(spec.input_size, 'number')}"


FIRST_FIELDS: Final = (
    "height",
    "width",
    "channels",
    "levels",
    "features",
    "layers",
    "first_kernel_size",
    "kernel_size",
    "head_features",
    "conditioning",
    "conditioning_size",
)
"""Those of the first version, in order, which every file has."""

LATER_FIELDS: Final[dict[str, Any]] = {
    field.name: field.default for field in msgspec.structs.fields(ModelSpec) if field.name not in FIRST_FIELDS
}
"""Fields that the first version had not, and their defaults: the values that make a model of that version."""


class EncoderSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dimensions of an encoder; the rest follows from the model that reads its code.

    Attributes:
        features: feature maps of the three convolutions.
    """

    features: tuple[Features, Features, Features] = (100, 150, 200)


def _primes(number: int) -> list[int]:
    """Prime factors, ascending; none of 1."""
    found, prime = [], 2
    while number > 1:
        while number % prime == 0:
            found.append(prime)
            number //= prime
        prime += 1
    return found


class VqvaeSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dimensions of a VQ-VAE's encoder, codebook and decoder (van den Oord et al. 2017, arXiv 1711.00937).

    Or of a VQ-VAE-2's (Razavi et al. 2019, arXiv 1906.00446), with two levels of codes and two codebooks.

    Attributes:
        height: H, rows of a picture.
        width: W, columns of a picture.
        channels: C, 1 (grey) or 3 (RGB).
        codes: K, vectors of the codebook: 2 to 4,096.
        downsample: a code stands for so many rows and columns: 2, 4, 8 or 16, which divides H and W.
        code_size: D, numbers of a vector of the codebook.
        features: F, feature maps of encoder and decoder.
        blocks: residual blocks of each.
        code_levels: 1, or 2: a top code stands for 2×2 of the bottom codes, which `downsample` is of.

    Raises:
        SpecError: a dimension is out of range or two of them contradict each other.
    """

    height: int
    width: int
    channels: int
    codes: int = 256
    downsample: int = 4
    code_size: int = 64
    features: int = 64
    blocks: int = 2
    code_levels: int = 1

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise SpecError(f"channels is {self.channels}: expected 1 (grey) or 3 (RGB)")
        if self.downsample not in (2, 4, 8, 16):
            raise SpecError(f"downsample is {self.downsample}: expected 2, 4, 8 or 16")
        _between("code_levels", self.code_levels, 1, 2)
        of_two = (4, 2) if self.code_levels == 2 else (1, 1)
        for name, size, multiple in zip(("height", "width"), (self.height, self.width), of_two, strict=True):
            _between(name, size, 1, MAX_PIXELS)
            if size % (multiple * self.downsample):
                why = "the downsampling" if multiple == 1 else f"{multiple} times the downsampling, for two levels"
                raise SpecError(f"{name} is {size}: expected a multiple of {multiple * self.downsample}, {why}")
        _between("height × width", self.height * self.width, 1, MAX_PIXELS)
        _between("codes", self.codes, 2, MAX_CATEGORIES)
        _between("code_size", self.code_size, 1, MAX_FEATURES)
        _between("features", self.features, 1, MAX_FEATURES)
        _between("blocks", self.blocks, 0, MAX_LAYERS)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a picture."""
        return self.channels, self.height, self.width

    @property
    def levels(self) -> int:
        """Of a sub-pixel of its pictures, which are 8-bit."""
        return 256

    @property
    def halvings(self) -> int:
        """How often the encoder halves a picture: log2 of `downsample`."""
        return self.downsample.bit_length() - 1

    @property
    def bottom(self) -> tuple[int, int]:
        """(h, w) of the codes of a picture; of two levels, of the bottom codes."""
        return self.height // self.downsample, self.width // self.downsample

    @property
    def code_grids(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of the codes of each level, as `ModelSpec` has them."""
        h, w = self.bottom
        return ((h, w),) if self.code_levels == 1 else ((h // 2, w // 2), (h, w))

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of all codes of a picture; of two levels, those of the sheet that `ModelSpec` describes."""
        h, w = self.bottom
        return h + (h // 4 if self.code_levels == 2 else 0), w

    def multiply_adds(self) -> int:
        """Multiply-adds of decoding one picture."""
        h, w = self.bottom
        f, d = self.features, self.code_size
        work = h * w * (9 * d * f * self.code_levels + self.blocks * 10 * f * f)
        if self.code_levels == 2:
            work += h * w * 4 * d * d
        for step in range(self.halvings):
            outputs = self.channels if step == self.halvings - 1 else f
            work += h * w * 4**step * 16 * f * outputs
        return work

    def refuse(self, prior: ModelSpec) -> str | None:
        """Why a model cannot be the prior over these codes; None if it can."""
        wanted = (1, *self.grid, self.codes, "categorical", self.code_levels)
        found = (*prior.image_shape, prior.levels, prior.input, prior.code_levels)
        if found == wanted:
            return None if prior.architecture == "gated" else "its prior is a PixelCNN of 2016: expected a gated one"
        words = [
            f"{h}×{w} grids of {k} {kind} levels" + (" of codes in two levels" if two == 2 else "")
            for _, h, w, k, kind, two in (found, wanted)
        ]
        return f"its prior draws {words[0]}, its decoder reads {words[1]}"


def grids_in_words(spec: PictureSpec) -> str:
    """Codes of a picture: `16×16`, or of two levels `8×8 and 16×16`; rows × columns."""
    return " and ".join(f"{rows}×{columns}" for rows, columns in spec.code_grids)


LATER_FIELDS_OF_VQVAE: Final[dict[str, Any]] = {"code_levels": 1}
"""Fields that the first VQ-VAEs had not, and the values that make one of these."""

PictureSpec = ModelSpec | VqvaeSpec
"""What says how large pictures are, and of how many channels and levels."""


def _between(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise SpecError(f"{name} is {value}: expected {spanned(low, high)}")
