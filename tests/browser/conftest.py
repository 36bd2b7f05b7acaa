"""gpcnn.js in Node, and the page in Chromium; each where it is installed."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpcnn_deploy.spec import ModelSpec

HERE = Path(__file__).parent

Node = Callable[..., list[Any]]
MakeModel = Callable[[ModelSpec], Path]


@pytest.fixture(scope="session")
def node() -> Node:
    """node(call, …, flags=…) → what gpcnn.js answers to each call; skips where Node is missing or too old."""
    program = shutil.which("node") or shutil.which("nodejs")
    if program is None:
        pytest.skip("no Node.js here: install nodejs 18 or newer")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < 18:
        pytest.skip(f"Node.js {version.strip()} is too old: install 18 or newer")

    def run(*calls: dict[str, Any], flags: tuple[str, ...] = ()) -> list[Any]:
        command = [program, *flags, str(HERE / "answer.mjs")]
        done = subprocess.run(command, input=json.dumps({"calls": calls}), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answers: list[Any] = json.loads(done.stdout)
        return answers

    return run


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Spec → path of a model file with random weights, made once."""
    from small_engines import model_of, names_of

    from gpcnn_export.checkpoint_to_native import draft_model_file

    folder = tmp_path_factory.mktemp("models")

    @functools.cache
    def make(spec: ModelSpec) -> Path:
        path = folder / f"{len(list(folder.iterdir()))}.gpcnn"
        path.write_bytes(draft_model_file(model_of(spec), names_of(spec)).content)
        return path

    return make


@dataclass
class Served:
    """A folder behind a web server on this machine.

    Attributes:
        url: of the folder.
        sent: bytes of bodies sent so far.
        asked: paths asked for.
    """

    url: str
    sent: int = 0
    asked: list[str] = field(default_factory=list)
    stop: Callable[[], None] = lambda: None


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[Path], Served]]:
    """Folder → a server for it, on a free port of 127.0.0.1."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(folder: Path) -> Served:
        served = Served("")

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *arguments: Any) -> None:
                served.asked.append(self.path)

            def copyfile(self, source: Any, outputfile: Any) -> None:
                content = source.read()
                served.sent += len(content)
                outputfile.write(content)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        served.url = f"http://127.0.0.1:{server.server_port}/"

        def stop() -> None:
            server.shutdown()
            server.server_close()

        served.stop = stop
        return served

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Callable[..., Any]]:
    """chromium(flag, …) → a browser of Playwright; one for each set of flags. Skips where it is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: pip install playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    flags = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
    with playwright.sync_playwright() as driver:

        @functools.cache
        def launch(*more: str) -> Any:
            return driver.chromium.launch(executable_path=program, args=[*flags, *more])

        yield launch
