"""Runs engines in other people's runtimes: `python runtimes.py RUNTIME FOLDER…`, in an environment that has them.

A folder holds `engine.onnx`, `repeats` (calls to time) and, as `KIND.INPUT.npy`, what it is fed. Next to that go
`KIND.image.npy` and `KIND.log_prob.npy`, and `ms`: milliseconds an image, the median of the timed calls on one thread.
"""

from __future__ import annotations

import ctypes
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

Arrays = dict[str, Any]
Call = Callable[[Arrays], Arrays]


def openvino(path: Path, graph: onnx.GraphProto) -> Call:
    import openvino

    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    request = core.compile_model(path, "CPU").create_infer_request()
    return lambda fed: {key.get_any_name(): value.copy() for key, value in request.infer(fed).items()}


def onnxruntime(path: Path, graph: onnx.GraphProto) -> Call:
    """For the times beside the others'."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in graph.output]
    return lambda fed: dict(zip(names, session.run(names, fed), strict=True))


def opencv(path: Path, graph: onnx.GraphProto) -> Call:
    import cv2

    cv2.setNumThreads(1)
    net, names = cv2.dnn.readNetFromONNX(str(path)), [value.name for value in graph.output]

    def call(fed: Arrays) -> Arrays:
        for name, array in fed.items():
            net.setInput(array, name)
        return dict(zip(names, net.forward(names), strict=True))

    return call


def tract(path: Path, graph: onnx.GraphProto) -> Call:
    import tract

    runnable = tract.onnx().load(str(path)).into_model().into_runnable()
    names = [value.name for value in graph.output]

    def call(fed: Arrays) -> Arrays:
        results = runnable.run([fed[value.name] for value in graph.input])
        return {name: result.to_numpy() for name, result in zip(names, results, strict=True)}

    return call


def emx(path: Path, graph: onnx.GraphProto) -> Call:
    """emx-onnx-cgen makes C of the graph; GCC compiles it."""
    source, library = path.with_suffix(".c"), path.with_suffix(".so")
    compiler = Path(sys.executable).with_name("emx-onnx-cgen")
    options = ["--model-name", "model", "--large-weight-threshold", "0"]
    done = subprocess.run([compiler, "compile", *options, path, source], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr).strip())
    gcc = ["gcc", "-O3", "-march=native", "-w", "-shared", "-fPIC", source, "-o", library, "-lm"]
    subprocess.run(gcc, check=True)
    function = ctypes.CDLL(str(library)).model
    function.restype = None
    outputs = {value.name: value.type.tensor_type for value in graph.output}

    def call(fed: Arrays) -> Arrays:
        results = {
            name: np.empty(
                [dim.dim_value for dim in kind.shape.dim], onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            )
            for name, kind in outputs.items()
        }
        arrays = [np.ascontiguousarray(fed[value.name]) for value in graph.input] + list(results.values())
        function(*(array.ctypes.data_as(ctypes.c_void_p) for array in arrays))
        return results

    return call


def reference(path: Path, graph: onnx.GraphProto) -> Call:
    """The evaluator that is in the package `onnx`."""
    from onnx.reference import ReferenceEvaluator

    evaluator, names = ReferenceEvaluator(str(path)), [value.name for value in graph.output]
    return lambda fed: dict(zip(names, evaluator.run(names, fed), strict=True))


def draw(call: Call, fed: Arrays, is_step: bool) -> Arrays:
    """What docs/engines.md says: one call of a sampler, or a step until nothing changes."""
    if not is_step:
        return call(fed)
    image = np.where(fed["mask"], fed["known"], 0).astype(np.int32)
    for _ in range(image[0].size + 1):
        result = call({"image": image, **fed})
        image = np.array(result["image_next"], np.int32)
        if not np.any(result["changed"]):
            return {"image": image, "log_prob": result["log_prob"]}
    raise RuntimeError("still changing after as many steps as there are sub-pixels")


def run(runtime: str, folder: Path) -> None:
    path = folder / "engine.onnx"
    graph = onnx.load(path).graph
    call = globals()[runtime](path, graph)
    is_step = "image" in {value.name for value in graph.input}
    fed: dict[str, Arrays] = {}
    for file in sorted(folder.glob("*.*.npy")):
        kind, name, _ = file.name.split(".")
        fed.setdefault(kind, {})[name] = np.load(file)
    for kind, arrays in fed.items():
        drawn = draw(call, arrays, is_step)
        for name in ("image", "log_prob"):
            np.save(folder / f"{kind}.{name}.npy", drawn[name])
    times = []
    for _ in range(int((folder / "repeats").read_text())):
        begin = time.perf_counter()
        draw(call, fed["samples"], is_step)
        times.append((time.perf_counter() - begin) * 1e3 / len(fed["samples"]["noise"]))
    (folder / "ms").write_text(f"{statistics.median(times) if times else 0:.3f}")


if __name__ == "__main__":
    for name in sys.argv[2:]:
        run(sys.argv[1], Path(name))
