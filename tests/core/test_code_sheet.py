"""The sheet of codes of two levels: where each code is, and which dimensions it can have."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.code_sheet import join_sheet, split_sheet
from gpcnn_deploy.errors import SpecError
from gpcnn_deploy.kinds import kind_in_words
from gpcnn_deploy.schema import written
from gpcnn_deploy.spec import ModelSpec, VqvaeSpec, grids_in_words

FIELDS: dict[str, Any] = {"height": 20, "width": 16, "levels": 9, "input": "categorical", "input_size": 4,
                          "conditioning": "label", "conditioning_size": 3, "map_features": 5,
                          "code_levels": 2}  # fmt: skip
SPEC = ModelSpec(**FIELDS)
CODER = VqvaeSpec(height=64, width=64, channels=3, codes=9, code_levels=2)


def test_top_codes_come_first_in_raster_order_then_the_bottom_codes() -> None:
    sheet = np.arange(2 * 320).reshape(2, 1, 20, 16)
    top, bottom = split_sheet(SPEC, sheet)
    assert (top.shape, bottom.shape) == ((2, 1, 8, 8), (2, 1, 16, 16))
    assert np.array_equal(top[0, 0].ravel(), np.arange(64))
    assert np.array_equal(bottom[0, 0].ravel(), np.arange(64, 320))
    assert np.array_equal(join_sheet(SPEC, top, bottom), sheet)
    one = msgspec.structs.replace(SPEC, code_levels=1, map_features=0)
    assert split_sheet(one, sheet) == (sheet,)
    assert join_sheet(one, sheet) is sheet


def test_each_level_has_a_model_of_its_own_and_the_bottom_one_is_conditioned_on_the_top_codes() -> None:
    top, bottom = SPEC.priors
    assert (top.image_shape, top.conditioning, top.conditioning_size) == ((1, 8, 8), "label", 3)
    assert (bottom.image_shape, bottom.conditioning, bottom.map_shape) == ((1, 16, 16), "map", (1, 8, 8))
    assert (bottom.map_kind, bottom.map_categories) == ("categories", 9)
    assert top.code_levels == bottom.code_levels == 1
    assert SPEC.multiply_adds() == top.multiply_adds() + bottom.multiply_adds()
    assert CODER.refuse(SPEC) is None
    assert CODER.grid == (20, 16)
    assert grids_in_words(SPEC) == grids_in_words(CODER) == "8×8 and 16×16"
    plain = VqvaeSpec(height=64, width=64, channels=3, codes=9)
    assert kind_in_words(SPEC, CODER) == "a VQ-VAE-2 with labels"
    assert plain.refuse(SPEC) == (
        "its prior draws 20×16 grids of 9 categorical levels of codes in two levels, its decoder reads 16×16 grids of "
        "9 categorical levels"
    )


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("code_levels is 3", {"code_levels": 3}),
        ("the sheet 19×16: expected a multiple of 5 by one of 2", {"height": 19}),
        ("the sheet 20×15", {"width": 15}),
        ("input is values: expected categorical", {"input": "values", "input_size": 0}),
        ("channels is 3: expected 1", {"channels": 3}),
        ("conditioning embedding", {"conditioning": "embedding"}),
        ("architecture is pixelcnn", {"architecture": "pixelcnn"}),
        ("map_features (code_levels 2) is 0", {"map_features": 0}),
        ("map_height is 4", {"map_height": 4}),
        ("map_features is 5 but conditioning is label", {"code_levels": 1}),
    ],
)
def test_a_sheet_of_other_dimensions_is_refused(message: str, change: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as error:
        ModelSpec(**{**FIELDS, **change})
    assert message in str(error.value)


def test_a_picture_of_two_levels_has_a_multiple_of_sixteen_rows() -> None:
    with pytest.raises(SpecError, match="height is 24: expected a multiple of 16, 4 times the downsampling, for two"):
        VqvaeSpec(height=24, width=64, channels=3, code_levels=2)
    with pytest.raises(SpecError, match="width is 12: expected a multiple of 8"):
        VqvaeSpec(height=32, width=12, channels=3, code_levels=2)


def test_files_of_one_level_say_nothing_of_levels_so_that_earlier_versions_read_them() -> None:
    one = Header(spec=ModelSpec(height=2, width=2), data="my", quantization="codes",
                 vqvae=VqvaeSpec(height=8, width=8, channels=3))  # fmt: skip
    assert "code_levels" not in str(written(one))
    two = msgspec.structs.replace(one, spec=SPEC, vqvae=CODER)
    assert str(written(two)).count("'code_levels': 2") == 2
