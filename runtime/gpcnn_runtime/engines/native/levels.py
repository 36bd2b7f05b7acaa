"""Two models of the library that draw one sheet of codes: the top level of a VQ-VAE-2, then the bottom one under it."""

from __future__ import annotations

from ctypes import c_int32
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.code_sheet import join_sheet, split_sheet
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.engines.native.library import NativeModel

_Floats = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int32]


class NativeLevels:
    """What `NativeModel` is for one level of codes. Several threads may draw with it at once."""

    def __init__(self, spec: ModelSpec, top: NativeModel, bottom: NativeModel) -> None:
        """Take over the models of `spec.priors`."""
        self._spec, self._top, self._bottom = spec, top, bottom

    def draw(
        self,
        noise: _Floats,
        known: _Ints | None = None,
        mask: npt.NDArray[np.bool_] | None = None,
        label: _Ints | None = None,
        embedding: _Floats | None = None,
        temperature: float = 1.0,
        window: int = 0,
        cancel: c_int32 | None = None,
        map: _Floats | None = None,
    ) -> tuple[_Ints, _Floats, int]:
        """Draw one batch of sheets; arguments, result and errors as of `NativeModel.draw`."""
        assert embedding is None
        assert map is None
        cut = [(None, None) if sheet is None else split_sheet(self._spec, sheet) for sheet in (noise, known, mask)]
        (u, below_u), (kept, below_kept), (keep, below_keep) = cast("list[tuple[Any, Any]]", cut)
        columns = self._spec.code_grids[0][1]
        of_top = self._top.draw(u, kept, keep, label, None, temperature, min(window, columns), cancel)
        codes = np.ascontiguousarray(of_top[0], np.float32)
        of_bottom = self._bottom.draw(below_u, below_kept, below_keep, None, None, temperature, window, cancel, codes)
        levels = join_sheet(self._spec, of_top[0], of_bottom[0])
        log_prob = join_sheet(self._spec, of_top[1], of_bottom[1])
        return cast(_Ints, levels), cast(_Floats, log_prob), of_top[2] + of_bottom[2]

    def close(self) -> None:
        """Release the weights of both."""
        self._top.close()
        self._bottom.close()
