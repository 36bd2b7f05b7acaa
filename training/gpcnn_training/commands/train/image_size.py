"""Sizes of images on the command line: `32`, or `24x32` for 24 rows of 32 pixels."""

from __future__ import annotations

import re
from typing import Any

import click

from gpcnn_deploy.spec import MAX_PIXELS


class ImageSize(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """`32`, or `24x32`: (H, W)."""

    name = "image-size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """`32` or `24x32` → (H, W)."""
        if isinstance(value, tuple):
            return value
        sides = re.fullmatch(r"([0-9]{1,7})(?:[x×X]([0-9]{1,7}))?", value.strip())
        if sides is None:
            self.fail(f"'{value}': expected a number, such as 32, or height x width, such as 24x32", param, ctx)
        height, width = int(sides[1]), int(sides[2] or sides[1])
        if not 1 <= height * width <= MAX_PIXELS:
            self.fail(f"'{value}': expected 1 to {MAX_PIXELS:,} pixels", param, ctx)
        return height, width


IMAGE_SIZE = ImageSize()
