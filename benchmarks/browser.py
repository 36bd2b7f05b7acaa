"""What the page needs: milliseconds an image in Node and Chromium, time to the first picture, bytes of a first visit.

    python -m benchmarks.browser

The native engine on one thread is measured before and after them, as a peer. Needs what `make test-browser` installs,
and Chromium; without Chromium or Node it says so and measures the rest.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import statistics
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from gpcnn_deploy.model_file import read_model_bytes
from gpcnn_export.site import make_site
from gpcnn_runtime import Sampler
from gpcnn_runtime.zoo.catalogue import resolve_engine

ZOO = "zoo:mnist-conditional"
COUNTS = (1, 10)
RUNS = 11

# A function of (load, model): for each count, the best and the median of the milliseconds an image.
_TIME = """async (load, source, relaxed, wasm) => {
  const model = await load(source, { relaxed, wasm });
  const medians = [];
  for (const images of %s) {
    const each = [];
    for (let k = 0; k < %d + 3; k++) each.push(model.draw({ label: 3, count: images, seed: k }).milliseconds / images);
    const sorted = each.slice(3).sort((a, b) => a - b);
    medians.push([sorted[0], sorted[%d >> 1]]);
  }
  return [model.instructions, medians];
}""" % (list(COUNTS), RUNS, RUNS)  # noqa: UP031
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


def native() -> None:
    """The native engine, one thread."""
    with Sampler.load(ZOO, threads=1) as sampler:
        medians = []
        for count in COUNTS:
            each = [sampler.sample([3], seed, count).seconds * 1e3 / count for seed in range(RUNS + 3)][3:]
            medians.append((min(each), statistics.median(each)))
        _say("native engine, one thread", sampler.engine.info.provider, medians)


def node(folder: Path) -> None:
    """gpcnn.js in Node, both modules."""
    program = shutil.which("node")
    if program is None:
        print("no Node.js here: install nodejs")
        return
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    for relaxed in ("false", "true"):
        call = f"import {{ load }} from '{folder}/gpcnn.js'; const time = {_TIME};"
        call += f"console.log(JSON.stringify(await time(load, '{folder}/model.gpcnn', {relaxed})));"
        flags = ["--experimental-wasm-relaxed-simd"] if int(version[1:].split(".")[0]) < 21 else []
        command = [program, *flags, "--input-type=module", "-e", call]
        _say(f"Node {version}", *json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def chromium(folder: Path) -> None:
    """The page in headless Chromium: both modules, the first visit."""
    program = shutil.which("chromium")
    if program is None:
        print("no Chromium here: apt-get install chromium")
        return
    from playwright.sync_api import sync_playwright

    sent = 0

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

        def copyfile(self, source: Any, outputfile: Any) -> None:
            """Count what is sent."""
            nonlocal sent
            content = source.read()
            sent += len(content)
            outputfile.write(content)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(_FLAGS))
        page = browser.new_page()
        page.goto(url)
        for relaxed in ("false", "true"):
            call = f"const {{ load }} = await import('{url}gpcnn.js'); const time = {_TIME};"
            found = page.evaluate(f"(async () => {{ {call} return time(load, '{url}model.gpcnn', {relaxed}); }})()")
            _say(f"Chromium {browser.version}", *found)
        visits: dict[str, list[float]] = {"?label=3&count=1": [], "": []}
        sizes = []
        for _ in range(5):
            for address, times in visits.items():
                sent = 0
                context = browser.new_context()
                page = context.new_page()
                page.goto(url + address)
                page.wait_for_selector("#chosen:not([hidden])")
                times.append(page.evaluate("performance.getEntriesByName('gpcnn-drawn')[0].startTime"))
                page.wait_for_selector("#offline:not(:empty)")
                sizes.append(sent)
                context.close()
        for address, what in (("?label=3&count=1", "one picture"), ("", "ten pictures")):
            best, median = min(visits[address]), statistics.median(visits[address])
            print(f"from address to {what} on the screen, row by row: {best:.0f} ({median:.0f}) ms")
        print(f"first visit, with all that is kept for offline use: {max(sizes) / 1e6:.2f} MB")
        browser.close()
    server.shutdown()


def _say(where: str, instructions: str, found: list[tuple[float, float]]) -> None:
    times = (f"{best:.2f} ({median:.2f}) of {count}" for count, (best, median) in zip(COUNTS, found, strict=True))
    print(f"{where} ({instructions}): best (median) ms an image, {', '.join(times)}", flush=True)


def main() -> None:
    """Run the command line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "site").resolve()
        path = resolve_engine(ZOO)
        make_site(read_model_bytes(path), ZOO, path.stem, ZOO).write(folder)
        native()
        node(folder)
        chromium(folder)
        native()


if __name__ == "__main__":
    main()
