"""A running Triton Inference Server, asked over plain HTTP with JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

KINDS = {
    "label": "INT32",
    "embedding": "FP32",
    "seed": "UINT64",
    "position": "UINT64",
    "temperature": "FP32",
    "known": "INT32",
    "mask": "BOOL",
}
ANSWERS = {"INT32": np.int32, "FP32": np.float32, "UINT8": np.uint8}


@dataclasses.dataclass
class Server:
    """Triton on a port of this machine; plain HTTP and JSON.

    Attributes:
        process: of the server.
        port: of 127.0.0.1.
        repository: folder of its models.
        log: file that it writes to.
    """

    process: subprocess.Popen[bytes]
    port: int
    repository: Path
    log: Path

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, decoded JSON, or None of an empty answer)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None

    def infer(self, model: str, **given: npt.ArrayLike) -> tuple[int, Any]:
        """(200, arrays by name), or (status, error message)."""
        status, answer = self.ask("POST", f"/v2/models/{model}/infer", body_of(**given))
        if status != 200:
            return status, answer["error"]
        return status, {
            output["name"]: np.array(output["data"], ANSWERS[output["datatype"]]).reshape(output["shape"])
            for output in answer["outputs"]
        }

    def counts(self, model: str) -> tuple[int, int]:
        """(images drawn, batches that they were drawn in) so far."""
        _, answer = self.ask("GET", f"/v2/models/{model}/stats")
        (stats,) = answer["model_stats"]
        return stats["inference_count"], stats["execution_count"]


def body_of(**given: npt.ArrayLike) -> dict[str, Any]:
    """What a request says."""
    arrays = {name: np.asarray(value) for name, value in given.items()}
    return {
        "inputs": [
            {"name": name, "datatype": KINDS[name], "shape": list(array.shape), "data": array.ravel().tolist()}
            for name, array in arrays.items()
        ]
    }
