"""What a likelihood is of: an image and its sub-pixels or, of a VQ-VAE, a picture's codes."""

from __future__ import annotations

from typing import Final, NamedTuple


class Units(NamedTuple):
    """Words behind a slash: `nats/image`, `nats/pixel`, `bits/dim`.

    Attributes:
        image: what nats are counted over.
        pixel: a place of it.
        dim: a number that is drawn, where bits are counted.
        subpixel: the same, where nats are.
    """

    image: str
    pixel: str
    dim: str
    subpixel: str


IMAGES: Final = Units("image", "pixel", "dim", "sub-pixel")
CODES: Final = Units("picture's codes", "code", "code", "code")


def units_of(of_codes: bool) -> Units:
    """The words for a model; `of_codes` says that it is a VQ-VAE, whose likelihood is that of codes."""
    return CODES if of_codes else IMAGES
