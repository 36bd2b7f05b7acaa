"""Published files: downloaded once into the platform's cache folder, and never accepted with another hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpcnn_deploy.errors import DataError


def download(name: str, url: str, md5: str) -> Path:
    """The file of a data set, from the cache or else from its address; progress is drawn on stderr.

    Args:
        name: of the data set, and of its folder in the cache.
        url: where the file is published; its last part becomes the file's name.
        md5: hexadecimal MD5 that the file must have.

    Raises:
        DataError: no connection, no such page, or another file in its place; names the address and the way around.
    """
    import pooch  # type: ignore[import-untyped]

    file = url.rpartition("/")[2]
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=f"md5:{md5}",
                fname=file,
                path=Path(pooch.os_cache("gpcnn-deploy")) / name,
                downloader=pooch.HTTPDownloader(progressbar=_RichBar(f"{name} {file}"), timeout=30),
            )
        )
    except (OSError, ValueError) as error:  # what requests and pooch raise for a dead line and for a wrong hash
        raise DataError(
            f"cannot download {url} ({type(error).__name__}): fetch {file} by hand, "
            f"put it into a folder, and name that folder with --data-dir"
        ) from error


class _RichBar:
    """The little of tqdm's interface that pooch asks of a progress bar, drawn by rich on stderr."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.total = 0
        self._bar: Any = None

    def _started(self) -> Any:
        if self._bar is None:
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            from gpcnn_deploy.commands.console import console as make_console

            console = make_console(stderr=True)
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            if not console.is_terminal:
                console.print(f"downloading {self.title}")
            self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
            self._bar.start()
            self._bar.add_task(self.title, total=self.total or None)
        return self._bar

    def update(self, amount: int) -> None:
        """Count `amount` bytes more."""
        bar = self._started()
        bar.advance(bar.task_ids[0], amount)

    def reset(self) -> None:
        """Forget what was counted: pooch then counts the whole file at once."""
        bar = self._started()
        bar.reset(bar.task_ids[0], total=self.total or None)

    def close(self) -> None:
        """Leave the finished bar on the screen."""
        if self._bar is not None:
            self._bar.stop()
