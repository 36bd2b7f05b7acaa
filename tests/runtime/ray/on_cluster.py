"""Draw or score on a cluster of two nodes, one of which is killed in the middle. `test_cluster.py` runs it, with Ray.

    python on_cluster.py draw|score ENGINE FOLDER RESULT.npz

The result has the columns of all rows, among them `node` and `threads` of whoever made each; `before`: how many rows
there were when the second node was killed; and `passed`: how many bytes came through.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray
import ray.data
from ray.cluster_utils import Cluster

from gpcnn_runtime.ray import Drawer, Scorer, put_engine

NODE = {"object_store_memory": 100_000_000, "include_dashboard": False}
NOTICES = {"health_check_period_ms": 500}
"""A node is given up after five checks without an answer: 2.5 s in place of Ray's 15 s."""
PAUSE_S = 0.15
"""How long each batch takes at least, so that there is a middle."""
LABELS, COUNT, SEED = [2, 0], 60, 7
LOAD_BYTES = 3_000_000
"""What each row carries beside it: all of them are more than the object stores of both nodes hold."""


def watched(kind: type) -> type:
    class Watched(kind):  # type: ignore[misc]
        """It tells who did the work; Ray sends it to workers by value."""

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            time.sleep(PAUSE_S)
            made = super().__call__(batch)
            rows = len(made["nats"])
            sampler = self._sampler if hasattr(self, "_sampler") else self._scoring.sampler
            node = ray.get_runtime_context().get_node_id()
            return {**made, "node": np.array([node] * rows, object), "threads": np.full(rows, sampler.threads)}

    return Watched


def loaded(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "load": np.ones((len(batch["id"]), LOAD_BYTES), np.uint8)}


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[Cluster, Any]]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "_system_config": NOTICES, **NODE})
    try:
        second = cluster.add_node(num_cpus=1, **NODE)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield cluster, second
    finally:
        ray.shutdown()
        cluster.shutdown()


def switch_off(cluster: Cluster, node: Any) -> None:
    """As the power of a machine goes: at once, and no process of it lives to tell that the others are gone."""
    import psutil  # Ray brings it

    (raylet,) = node.all_processes["raylet"]
    for process in psutil.Process(raylet.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    cluster.remove_node(node, allow_graceful=False)


def main(what: str, engine: str, folder: str, result: str) -> None:
    with two_nodes() as (cluster, second):
        sent = put_engine(engine)
        os.remove(engine)  # noqa: PTH107 - from here on only the object store has it
        if what == "draw":
            rows = ray.data.range(len(LABELS) * COUNT, override_num_blocks=30).map_batches(loaded, batch_size=4)
            kind, arguments = Drawer, {"labels": LABELS, "count": COUNT, "seed": SEED}
        else:
            rows = ray.data.read_binary_files(folder, include_paths=True, override_num_blocks=10)
            kind, arguments = Scorer, {}
        arguments |= {"engine": sent}
        pool = ray.data.ActorPoolStrategy(size=2)
        rows = rows.map_batches(watched(kind), fn_constructor_kwargs=arguments, batch_size=4, num_cpus=1, compute=pool)
        parts: list[dict[str, Any]] = []
        before = passed = 0
        for batch in rows.iter_batches(batch_size=None, prefetch_batches=0):
            passed += sum(values.nbytes for values in batch.values())
            batch.pop("load", None)
            parts.append(batch)
            if not before and len({node for part in parts for node in part["node"]}) == 2:
                before = sum(len(part["node"]) for part in parts)
                switch_off(cluster, second)
        alive = [node["Alive"] for node in ray.nodes()]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    texts = {name: values.astype(str) for name, values in columns.items() if values.dtype == object}
    np.savez(result, **{**columns, **texts}, before=before, passed=passed, alive=alive)


if __name__ == "__main__":
    main(*sys.argv[1:])
