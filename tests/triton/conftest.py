"""A real Triton Inference Server, which `make test-triton` installs into `build/triton`; skips where there is none."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_vqvae
from small_engines import EMBEDDED, PLAIN, model_of
from triton_server import Server

from gpcnn_export.checkpoint_to_native import draft_model_file

VENV = Path(__file__).parents[2] / "build" / "triton"


@pytest.fixture(scope="session")
def triton() -> dict[str, Path]:
    """Paths of the server's parts; skips where one is missing."""
    packages = next(iter(VENV.glob("lib/python3.*/site-packages")), None)
    if packages is None or not (packages / "pytriton").is_dir():
        pytest.skip("no Triton here: make test-triton installs it for the system's Python on x86-64 Linux")
    if not (packages / "gpcnn_runtime").is_dir():
        pytest.skip("gpcnn-deploy is not installed beside Triton: make test-triton does it")
    parts = {
        "packages": packages,
        "program": packages / "pytriton/tritonserver/bin/tritonserver",
        "backends": packages / "pytriton/tritonserver/backends",
        "libraries": packages / "nvidia_pytriton.libs",
        "stub": packages / f"pytriton/tritonserver/python_backend_stubs/{packages.parent.name[6:]}"
        "/triton_python_backend_stub",
    }
    for name, path in parts.items():
        if not path.exists():
            pytest.skip(f"this Triton has no {name} for {packages.parent.name}: {path} is missing")
    needed = subprocess.run(
        ["ldd", parts["stub"]], env={**os.environ, "LD_LIBRARY_PATH": str(parts["libraries"])}, capture_output=True
    )
    if missing := [line.split()[0] for line in needed.stdout.decode().splitlines() if "not found" in line]:
        pytest.skip(f"Triton's Python backend needs {', '.join(missing)}: apt-get install python3-dev")
    return parts


@pytest.fixture(scope="session")
def server(triton: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of four models, exported by the package that is installed in the server's own Python."""
    folder = tmp_path_factory.mktemp("triton")
    for name, spec in (("colour", PLAIN), ("embedded", EMBEDDED)):
        (folder / f"{name}.gpcnn").write_bytes(draft_model_file(model_of(spec), ()).content)
    prior, pictures = small_vqvae.models()
    (folder / "codes.gpcnn").write_bytes(draft_model_file(prior, ("a", "b"), pictures=pictures).content)
    for source in ("zoo:mnist-conditional", "colour.gpcnn", "embedded.gpcnn", "codes.gpcnn"):
        command = [VENV / "bin/gpcnn-export", source, "--format", "triton", "-o", "models"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    backends = folder / "backends"
    shutil.copytree(triton["backends"], backends)
    shutil.copy(triton["stub"], backends / "python")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [
                triton["program"],
                f"--model-repository={folder / 'models'}",
                f"--backend-directory={backends}",
                "--http-address=127.0.0.1",
                f"--http-port={port}",
                "--allow-grpc=false",
                "--allow-metrics=false",
            ],
            # The stub runs isolated, and takes the packages of the python3 that it finds first.
            env={
                **os.environ,
                "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "LD_LIBRARY_PATH": str(triton["libraries"]),
            },
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    started = Server(process, port, folder / "models", log)
    try:
        _wait(started)
        yield started
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(server: Server) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert server.process.poll() is None, server.log.read_text(errors="replace")
        with contextlib.suppress(OSError):
            if server.ask("GET", "/v2/health/ready")[0] == 200:
                return
        time.sleep(0.1)
    raise AssertionError(server.log.read_text(errors="replace"))
