"""`metrics.jsonl`: one JSON object a line, in the order of the steps."""

from __future__ import annotations

import json
import math
from pathlib import Path

from gpcnn_deploy.errors import OutputError
from gpcnn_deploy.system.files import write_atomic


class Metrics:
    """The figures of a run; every row has `step`, and rows of later steps come later."""

    def __init__(self, path: Path, first_step: int) -> None:
        """Continue the file at `path` from a step; rows of later steps, which will be trained anew, are dropped.

        Raises:
            OutputError: the file cannot be written.
        """
        self.path = path
        self._begin = ""  # of the next row
        if path.exists():
            rows = (line for line in path.read_text(errors="replace").splitlines() if _step(line) <= first_step)
            write_atomic(path, "".join(f"{row}\n" for row in rows).encode())

    def write(self, **row: float | None) -> None:
        """Append a row.

        Raises:
            OutputError: the file cannot be written.
        """
        try:
            with self.path.open("a") as stream:
                stream.write(self._begin + json.dumps(row) + "\n")
            self._begin = ""
        except OSError as error:
            self._begin = "\n"  # half a row may be there
            reason = error.strerror or error
            raise OutputError(f"cannot write {self.path}: {reason}; free space or fix permissions") from error


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf  # the unfinished last line of a run that was killed
