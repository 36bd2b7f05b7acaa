"""Times on the command line and in recipes: `90s`, `10m`, `1h30m`."""

from __future__ import annotations

import re
from typing import Any

import click

_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """`90s`, `10m`, `1h30m`: a time, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`90s`, `10m`, `1h30m` → seconds."""
        if isinstance(value, float):
            return value
        parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", value)
        if not parts or "".join(number + unit for number, unit in parts) != value:
            self.fail(f"'{value}': expected for example 90s, 10m or 1h30m", param, ctx)
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        if not 0 < seconds < 1e9:
            self.fail(f"'{value}': expected more than 0 seconds, and less than 30 years", param, ctx)
        return seconds


DURATION = Duration()
