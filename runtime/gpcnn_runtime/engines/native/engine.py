"""The native engine: one kernel that draws, completes and scores with any model file, whatever the batch size."""

from __future__ import annotations

import numpy as np

from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_runtime.engines.base import Engine, EngineInfo, Request, Result, Strategy, refuse_strategy
from gpcnn_runtime.engines.native.decoder import NativeDecoder
from gpcnn_runtime.engines.native.levels import NativeLevels
from gpcnn_runtime.engines.native.library import CancelledError, NativeModel, cancel_flag


class NativeEngine(Engine):
    """A model file and the library that draws it.

    Attributes:
        window: columns that the library guesses at a time; 0 leaves the choice to it. All draw the same images.
        decoder: of a VQ-VAE, whose prior the model is; None for other models.
    """

    concurrent = True

    def __init__(
        self,
        model: NativeModel | NativeLevels,
        metadata: EngineMetadata,
        info: EngineInfo,
        window: int = 0,
        decoder: NativeDecoder | None = None,
    ) -> None:
        self.metadata, self.info, self.window = metadata, info, window
        self._model, self.decoder = model, decoder

    def run(self, request: Request, strategy: Strategy = "jacobi") -> Result:
        """Draw one batch in one call of the library; shapes and errors as `Engine.run`."""
        refuse_strategy(self.metadata, strategy)
        known = bool(request.mask.any())
        flag, stop = cancel_flag()
        try:
            with request.cancellation.hook(stop):
                levels, log_prob, evaluations = self._model.draw(
                    request.noise,
                    request.known if known else None,
                    request.mask if known else None,
                    request.label,
                    request.embedding,
                    request.temperature,
                    self.window,
                    flag,
                    None if request.map is None else np.ascontiguousarray(request.map, np.float32),
                )
        except CancelledError:
            request.cancellation.check()
            raise
        pictures = None if self.decoder is None else self.decoder.decode(levels)
        return Result(levels, log_prob, evaluations, pictures)

    def close(self) -> None:
        """Release the weights; a call that is running keeps them until it returns."""
        self._model.close()
        if self.decoder is not None:
            self.decoder.close()
