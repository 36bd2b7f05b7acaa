"""The schedule of a sampler: how many columns it draws at a time, for few images and for many."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypedDict

LARGEST_FROM = 64
"""Largest `batch_from`: the runtime cuts what it draws into calls of at most so many images, unless told otherwise."""

_TEXT = re.compile(r"(-?\d{1,9})(?:,(-?\d{1,9})@(-?\d{1,9}))?")


@dataclass(frozen=True)
class Schedule:
    """Windows of a sampler. Every schedule draws the same images.

    Attributes:
        window: columns drawn at a time.
        batch_window: columns drawn at a time, not as many as `window`, where a call has `batch_from` images or more;
            None: `window` always. Where all sub-pixels are known, the larger of the two serves any number.
        batch_from: images, 2 to LARGEST_FROM; None without `batch_window`.
    """

    window: int
    batch_window: int | None = None
    batch_from: int | None = None

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read `28`, or `28,1@16`: 28 columns at a time, and 1 where a call draws 16 images or more.

        Raises:
            ValueError: not of this form.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError(text)
        return cls(*(None if part is None else int(part) for part in found.groups()))  # type: ignore[arg-type]

    def of(self, images: int) -> int:
        """The window of a call that has so many images, not all known."""
        if self.batch_window is None or self.batch_from is None or images < self.batch_from:
            return self.window
        return self.batch_window

    def fits(self, width: int) -> bool:
        """Whether an image of this width can be drawn so."""
        if (self.batch_window is None) != (self.batch_from is None):
            return False
        if not 1 <= self.window <= width:
            return False
        if self.batch_window is None or self.batch_from is None:
            return True
        other = 1 <= self.batch_window <= width and self.batch_window != self.window
        return other and 2 <= self.batch_from <= LARGEST_FROM

    @property
    def text(self) -> str:
        """As `parse` reads it."""
        return str(self.window) if self.batch_window is None else f"{self.window},{self.batch_window}@{self.batch_from}"

    def __str__(self) -> str:
        """In words: `window 28`, or `window 28, from 16 images on 1`."""
        if self.batch_window is None:
            return f"window {self.window}"
        return f"window {self.window}, from {self.batch_from} images on {self.batch_window}"


class WindowFields(TypedDict, total=False):
    """The windows of an engine as its metadata has them."""

    window: int
    batch_window: int | None
    batch_from: int | None


def window_fields(schedule: Schedule | int | None) -> WindowFields:
    """Arguments of `EngineMetadata`; None stands for an engine that is no sampler."""
    if schedule is None:
        return {}
    if isinstance(schedule, int):
        return {"window": schedule}
    return {"window": schedule.window, "batch_window": schedule.batch_window, "batch_from": schedule.batch_from}
