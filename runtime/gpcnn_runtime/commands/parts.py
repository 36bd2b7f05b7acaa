"""Parts of a job, as `--positions` and `--shard` name them: each can be done on a machine of its own."""

from __future__ import annotations

import dataclasses
import re

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.text import counted

_NUMBER = r"(\d{1,19})"


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a job whose size is not known yet; either positions or a shard.

    Attributes:
        option: how the command line says it, such as `--shard 2/8`.
        positions: (start, stop), stop being the first position that is not in it.
        shard: (number, of how many), counted from 1.
    """

    option: str
    positions: tuple[int, int] | None = None
    shard: tuple[int, int] | None = None

    def of(self, total: int, things: str = "images") -> range:
        """The positions of this part in a job of `total` images.

        Shards follow each other, and their sizes differ by 1 at most.

        Raises:
            UsageError: it reaches beyond the job, or holds nothing of it.
        """
        if self.positions is not None:
            start, stop = self.positions
            if stop > total:
                most = f"at most {start}:{total}" if start < total else f"0:{total}, or a part of it"
                raise UsageError(f"{self.option}: there are {total} {things}: expected {most}")
            return range(start, stop)
        assert self.shard is not None
        number, shards = self.shard
        if shards > total:
            raise UsageError(f"{self.option}: there are {total} {things}: expected at most {counted(total, 'shard')}")
        return range(total * (number - 1) // shards, total * number // shards)

    def in_file_name(self) -> str:
        """`2-of-8` or `0-50000`; of shards, names are in order."""
        if self.positions is not None:
            return f"{self.positions[0]}-{self.positions[1]}"
        assert self.shard is not None
        number, shards = self.shard
        return f"{number:0{len(str(shards))}}-of-{shards}"


def parse_part(positions: str | None, shard: str | None) -> Part | None:
    """The part that the options name; None where they name none.

    Raises:
        UsageError: both are given, or one is malformed or empty.
    """
    if positions is not None and shard is not None:
        raise UsageError("--positions and --shard both name a part: leave one of them out")
    if positions is not None:
        found = re.fullmatch(f"{_NUMBER}:{_NUMBER}", positions, re.ASCII)
        if found is None:
            raise UsageError(f"--positions {positions}: expected START:STOP, such as 0:50000")
        start, stop = map(int, found.groups())
        if start >= stop:
            raise UsageError(f"--positions {positions} is empty: STOP is the first that is left out; expected a larger")
        return Part(f"--positions {positions}", positions=(start, stop))
    if shard is not None:
        found = re.fullmatch(f"{_NUMBER}/{_NUMBER}", shard, re.ASCII)
        if found is None:
            raise UsageError(f"--shard {shard}: expected NUMBER/SHARDS, such as 2/8 for the second of eight")
        number, shards = map(int, found.groups())
        if not 1 <= number <= shards:
            upto = f"1/{shards} to {shards}/{shards}" if shards else "at least one shard"
            raise UsageError(f"--shard {shard}: shards are counted from 1; expected {upto}")
        return Part(f"--shard {shard}", shard=(number, shards))
    return None
