"""How pictures of any size and mode were made those of a model: kept with it, so that later ones are made so, too."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from gpcnn_deploy.spec import MAX_PIXELS, ModelSpec, VqvaeSpec

Resampling = Literal["area", "lanczos"]
Colour = Literal["grey", "rgb"]
Side = Annotated[int, msgspec.Meta(ge=1, le=MAX_PIXELS)]
HexColour = Annotated[str, msgspec.Meta(pattern="^#[0-9a-f]{6}$")]


class Preparation(msgspec.Struct, frozen=True, kw_only=True):
    """What `gpcnn-train` did to the pictures that it was given; None everywhere if they were taken as they are.

    Attributes:
        image_size: (H, W) that pictures of another size were resized to, another aspect being stretched.
        resampling: how: `area` means the pixels that one pixel covers, and interpolates (bicubic) where it enlarges;
            `lanczos` is sharper.
        background: colour that transparent pictures were laid on, `#rrggbb`.
        colour: pictures of other modes, 16 bits and CMYK among them, were made 8-bit grey or RGB.
    """

    image_size: tuple[Side, Side] | None = None
    resampling: Resampling | None = None
    background: HexColour | None = None
    colour: Colour | None = None

    def __bool__(self) -> bool:
        return self != Preparation()

    def __str__(self) -> str:
        """In words, such as `resized to 32×32 (area), laid on #ffffff, made grey`; height × width."""
        words = []
        if self.image_size is not None:
            words.append(f"resized to {self.image_size[0]}×{self.image_size[1]} ({self.resampling or 'area'})")
        if self.background is not None:
            words.append(f"laid on {self.background}")
        if self.colour is not None:
            words.append("made grey" if self.colour == "grey" else "made RGB")
        return ", ".join(words) or "taken as they are"

    def fits(self, spec: ModelSpec | VqvaeSpec) -> bool:
        """Whether what it makes are images of that model."""
        size = self.image_size in (None, (spec.height, spec.width))
        return size and self.colour in (None, "grey" if spec.channels == 1 else "rgb")
