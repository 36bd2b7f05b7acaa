"""Draws, completes and scores images in Triton's Python backend. `gpcnn-export --format triton` wrote this file.

It needs gpcnn-deploy in the Python that Triton runs. `model.gpcnn` beside it is the model, and `model.plan`, where
there is one, the same model for the GPU. `config.pbtxt` in the folder above names the inputs and outputs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

try:
    from gpcnn_runtime import GpcnnError, UsageError
    from gpcnn_runtime.serving import BatchSampler, check_images, load_served
except ModuleNotFoundError as error:
    raise pb_utils.TritonModelException(
        f"{error.name} is not installed in the Python of this server: pip install gpcnn-deploy there"
    ) from error

INPUTS = ("label", "embedding", "map", "seed", "position", "temperature", "known", "mask")


class TritonPythonModel:
    """One model that Triton serves."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model; Triton shows what is raised here as the reason why the model is not available."""
        config = json.loads(args["model_config"])
        threads = config.get("parameters", {}).get("threads", {}).get("string_value")
        if threads is not None and not threads.isdecimal():
            raise pb_utils.TritonModelException(f"parameter threads is '{threads}': expected a whole number from 1")
        self._names = [output["name"] for output in config["output"]]
        try:
            sampler = load_served(
                Path(__file__).parent, None if threads is None else int(threads), pb_utils.Logger.log_warn
            )
        except GpcnnError as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self._sampler = BatchSampler(sampler)
        info = sampler.engine.info
        pb_utils.Logger.log_info(f"{args['model_name']}: {info.runtime} {info.version} on {info.provider}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests that Triton put together; each has its own images or its own error."""
        answers: dict[int, Any] = {}
        sound = {}
        for place, request in enumerate(requests):
            if request.is_cancelled():
                answers[place] = _refusal("the client called the request off", pb_utils.TritonError.CANCELLED)
                continue
            tensors = {name: pb_utils.get_input_tensor_by_name(request, name) for name in INPUTS}
            given = {name: tensor.as_numpy() for name, tensor in tensors.items() if tensor is not None}
            try:
                sound[place] = check_images(self._sampler.sampler.metadata, **given)
            except UsageError as error:
                answers[place] = _refusal(str(error), pb_utils.TritonError.INVALID_ARG)
        for place, drawn in zip(sound, self._sampler.draw(list(sound.values())), strict=True):
            if isinstance(drawn, GpcnnError):
                answers[place] = _refusal(str(drawn), pb_utils.TritonError.INTERNAL)
                continue
            results = {"image": drawn.levels, "log_prob": drawn.log_prob, "picture": drawn.pictures}
            wanted = requests[place].requested_output_names()
            answers[place] = pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, np.ascontiguousarray(results[name])) for name in self._names if name in wanted]
            )
        return [answers[place] for place in range(len(requests))]

    def finalize(self) -> None:
        """Release the engine, when Triton unloads the model."""
        self._sampler.close()


def _refusal(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
