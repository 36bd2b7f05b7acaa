"""What a real Triton answers: the images of gpcnn-sample, in batches; errors to whom they belong; and it stays up."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_engines import EMBEDDED, PLAIN
from triton_server import Server, body_of

from gpcnn_runtime.sampler import Sampler

pytestmark = pytest.mark.triton
MODEL = "mnist-conditional"
ENGINE = f"zoo:{MODEL}"
RUNS = [(0, 1.0), (7, 0.7), (2**64 - 1, 1.0), (12, 1.3)]
"""(seed, temperature) of each run of gpcnn-sample; 50 images each."""


@pytest.fixture(scope="module")
def sampler() -> Any:
    with Sampler.load(ENGINE) as sampler:
        yield sampler


def samples(seed: int, temperature: float, folder: Path) -> Any:
    """levels of `gpcnn-sample --label all --count 5`: image k has label k // 5 and position k."""
    out = folder / f"{seed}.npz"
    command = [Path(sys.executable).with_name("gpcnn-sample"), "--engine", ENGINE, "--label", "all", "--count", "5"]
    more = ["--seed", str(seed), "--temperature", str(temperature), "--output-format", "npz", "-o", out]
    subprocess.run([*command, *more], check=True, capture_output=True)
    with np.load(out) as found:
        return found["levels"]


def test_200_requests_at_once_give_the_images_of_gpcnn_sample_in_batches(server: Server, tmp_path: Path) -> None:
    wanted = {run: samples(*run, tmp_path) for run in RUNS}
    requests = [(run, k) for run in RUNS for k in range(50)]
    np.random.default_rng(0).shuffle(requests)  # type: ignore[arg-type]

    def ask(request: tuple[tuple[int, float], int]) -> Any:
        (seed, temperature), k = request
        given = {"seed": [[seed]], "temperature": [[temperature]], "position": [[k]], "label": [[k // 5]]}
        return server.infer(MODEL, **given)

    before = server.counts(MODEL)
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(ask, requests))
    images, batches = np.subtract(server.counts(MODEL), before)
    assert [status for status, _ in answers] == [200] * 200, [told for status, told in answers if status != 200]
    for (run, k), (_, found) in zip(requests, answers, strict=True):
        assert np.array_equal(found["image"][0], wanted[run][k]), (run, k)
        assert np.isfinite(found["log_prob"]).all()
    assert images == 200
    print(f"{images} images in {batches} batches")
    assert batches < images / 2


def test_a_request_of_many_images_is_one_call_of_the_sampler(server: Server, sampler: Sampler) -> None:
    status, found = server.infer(MODEL, label=np.repeat([3, 5], 4)[:, None])
    expected = sampler.sample([3, 5], count=4)
    assert status == 200
    assert np.array_equal(found["image"], expected.levels)
    assert np.array_equal(found["log_prob"], expected.log_prob)


def test_it_completes_and_scores(server: Server, sampler: Sampler) -> None:
    picture = sampler.sample(3, seed=5).levels.astype(np.int32)
    mask = np.zeros(picture.shape, np.bool_)
    mask[:, :, :14] = True
    status, found = server.infer(MODEL, label=[[3]], seed=[[9]], known=picture, mask=mask)
    expected = sampler.sample(3, 9, known=picture, mask=mask)
    assert status == 200
    assert np.array_equal(found["image"], expected.levels)
    assert np.array_equal(found["image"][mask], picture[mask])
    status, found = server.infer(MODEL, label=[[3]], known=picture, mask=np.ones_like(mask))
    assert status == 200
    assert np.array_equal(found["image"], picture)
    assert np.array_equal(found["log_prob"], sampler.score(picture, 3))


def test_the_python_of_the_page(server: Server, sampler: Sampler) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "127.0.0.1:8000" in code
    names: dict[str, Any] = {}
    exec(compile(code.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"), "serving.md", "exec"), names)
    expected = [sampler.sample(3, 7), sampler.sample(5, 7, temperature=0.8, first=1)]
    assert np.array_equal(names["arrays"]["image"], np.concatenate([one.levels for one in expected]))


def test_models_in_colour_and_with_embeddings(server: Server) -> None:
    folder = server.repository
    with Sampler.load(folder / "colour/1/model.gpcnn") as colour:
        status, found = server.infer("colour", seed=[[4], [4], [4]])
        assert status == 200
        assert found["image"].shape == (3, *PLAIN.image_shape)
        assert np.array_equal(found["image"], colour.sample(seed=4, count=3).levels)
    vector = np.random.default_rng(0).normal(size=(2, EMBEDDED.conditioning_size)).astype(np.float32)
    with Sampler.load(folder / "embedded/1/model.gpcnn") as embedded:
        status, found = server.infer("embedded", embedding=vector, seed=[[1], [1]])
        assert status == 200
        assert np.array_equal(found["image"], embedded.sample(embedding=vector, seed=1).levels)


def test_a_vqvae_gives_codes_and_their_pictures(server: Server) -> None:
    with Sampler.load(server.repository / "codes/1/model.gpcnn") as sampler:
        expected = sampler.sample([0, 1], seed=4)
    status, found = server.infer("codes", label=[[0], [1]], seed=[[4], [4]])
    assert status == 200
    assert np.array_equal(found["image"], expected.levels)
    assert np.array_equal(found["picture"], expected.pixels())


PIXELS = np.zeros((1, 1, 28, 28), np.int32)
BAD = [
    ({"label": [[10]]}, "unknown label 10: expected one of 0, 1, 2"),
    ({"label": [[-1]]}, "unknown label -1"),
    ({"seed": [[1]]}, "this model draws one class at a time: give the input label, one of 0, 1"),
    ({"label": [[3]], "temperature": [[float("nan")]]}, "temperature is nan: expected"),
    ({"label": [[3]], "temperature": [[0.0]]}, "temperature is 0: expected 1e-06 or more"),
    ({"label": [[3], [4]], "temperature": [[1.0], [-1.0]]}, "image 1: temperature is -1"),
    ({"label": [[3]], "known": PIXELS + 2, "mask": PIXELS == 0}, "known holds levels outside 0 to 1"),
    ({"label": [[3]], "known": PIXELS}, "known and mask belong together"),
    ({"label": [[3]], "position": [[2**64 - 1]]}, "expected 0 to 2\\*\\*64"),
    # What Triton itself refuses, by the configuration:
    ({"label": [[3]], "seed": [[-1]]}, "Unable to parse 'data': attempt to access JSON non-unsigned-integer"),
    ({"label": [[3]], "seed": [[2**64]]}, "Unable to parse 'data': attempt to access JSON non-unsigned-integer"),
    ({"label": [[3]], "known": PIXELS[:, :, 1:], "mask": PIXELS == 0}, "unexpected shape for input 'known'"),
    ({"label": [3]}, "unexpected shape for input 'label'"),
    ({"label": [[3], [4]], "seed": [[1]]}, "batch size does not match other inputs"),
    ({"label": np.full((65, 1), 3)}, "batch-size must be <= 64"),
]


def test_bad_requests_get_clear_errors_and_spoil_no_other(server: Server, sampler: Sampler) -> None:
    good = [{"label": [[k % 10]], "seed": [[k]]} for k in range(len(BAD))]
    mixed = [request for pair in zip((given for given, _ in BAD), good, strict=True) for request in pair]
    with ThreadPoolExecutor(len(mixed)) as pool:
        answers = list(pool.map(lambda given: server.infer(MODEL, **given), mixed))
    for (given, match), (status, told) in zip(BAD, answers[::2], strict=True):
        assert status in (400, 500), given
        assert re.search(match, told), (given, told)
        assert "Traceback" not in told
    for k, (status, found) in enumerate(answers[1::2]):
        assert status == 200, found
        assert np.array_equal(found["image"], sampler.sample(k % 10, k).levels)


def test_the_server_survives_clients_that_are_killed(server: Server, sampler: Sampler) -> None:
    label = np.full((64, 1), 3)
    body = json.dumps(body_of(label=label)).encode()
    head = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for sent in (head[:20], head, head + body[:50], head + body):  # gone within the head, the body, and the drawing
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(sent)
    code = (
        "import sys, urllib.request\n"
        f"request = urllib.request.Request('http://127.0.0.1:{server.port}/v2/models/{MODEL}/infer', {body!r})\n"
        "print('asking', flush=True)\n"
        "while True: urllib.request.urlopen(request).read()\n"
    )
    clients = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)]
    for client in clients:
        assert client.stdout is not None
        assert client.stdout.readline() == b"asking\n"
        client.send_signal(signal.SIGKILL)
        client.wait()
        client.stdout.close()
    status, found = server.infer(MODEL, label=[[3]], seed=[[8]])
    assert status == 200
    assert np.array_equal(found["image"], sampler.sample(3, 8).levels)
    assert server.process.poll() is None
    assert server.ask("GET", "/v2/health/live")[0] == server.ask("GET", "/v2/health/ready")[0] == 200
