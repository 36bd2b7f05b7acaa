"""Counts over all rows of `gpcnn-score`, however many, and the few that people are shown."""

from __future__ import annotations

import dataclasses
import heapq
import math

from gpcnn_runtime.commands.score.rows import Row, Summary

SHOWN = 20
"""Most pictures that are listed for people; of more, the most surprising ones are."""
_MOST_SURPRISING = 5


@dataclasses.dataclass
class Tally:
    """Counts over all rows, in bounded memory, and the rows that people are shown."""

    has_threshold: bool = False
    first: list[Row] = dataclasses.field(default_factory=list)
    pictures: int = 0
    errors: int = 0
    anomalies: int = 0
    _mean: float = 0.0
    _squares: float = 0.0
    _bits: float = 0.0
    _labelled: int = 0
    _right: int = 0
    _top: list[tuple[float, int, Row]] = dataclasses.field(default_factory=list)

    def add(self, row: Row) -> None:
        """Take one more row."""
        if len(self.first) <= SHOWN:
            self.first.append(row)
        if row.nats is None or row.bits_per_dim is None:
            self.errors += 1
            return
        self.pictures += 1
        step = row.nats - self._mean  # Welford's way: exact enough for any number of rows
        self._mean += step / self.pictures
        self._squares += step * (row.nats - self._mean)
        self._bits += row.bits_per_dim
        self.anomalies += bool(row.anomalous)
        if row.given_label is not None and row.label is not None:
            self._labelled += 1
            self._right += row.given_label == row.label
        heapq.heappush(self._top, (row.surprise, -self.pictures, row))
        if len(self._top) > _MOST_SURPRISING:
            heapq.heappop(self._top)

    def few(self) -> bool:
        """Whether all rows can be shown."""
        return len(self.first) <= SHOWN

    def most_surprising(self) -> list[Row]:
        """A few of them, the most surprising first."""
        return [row for _, _, row in sorted(self._top, key=lambda entry: entry[:2], reverse=True)]

    def summary(self, seconds: float, prepared: int = 0) -> Summary:
        """Of the rows so far, of whose pictures so many were prepared."""
        some = self.pictures > 0
        return Summary(
            pictures=self.pictures,
            errors=self.errors,
            prepared=prepared,
            mean_nats=self._mean if some else None,
            std_nats=math.sqrt(self._squares / self.pictures) if some else None,
            mean_bits_per_dim=self._bits / self.pictures if some else None,
            anomalies=self.anomalies if self.has_threshold else None,
            label_accuracy=self._right / self._labelled if self._labelled else None,
            seconds=seconds,
        )
