"""What all commands share."""

from __future__ import annotations

import os
import signal
import time

import click
import pytest
from click.testing import CliRunner

from gpcnn_deploy.command import Command
from gpcnn_deploy.errors import GpcnnError, MissingExtraError, UsageError


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MissingExtraError("numpy", "cpu", "drawing"), 130, "Error: interrupted: nothing half-finished is left behind"),
        (UsageError("something else"), 2, "Error: something else"),
    ],
)
def test_an_interrupt_that_a_package_made_an_import_error_of_is_one(error: GpcnnError, code: int, message: str) -> None:
    @click.command(cls=Command)
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise error from None

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = CliRunner().invoke(command)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert (result.exit_code, result.stderr) == (code, message + "\n")


def test_without_an_interrupt_a_missing_package_is_one() -> None:
    @click.command(cls=Command)
    def command() -> None:
        raise MissingExtraError("numpy", "cpu", "drawing")

    result = CliRunner().invoke(command)
    assert result.exit_code == 1
    assert "which is not installed: pip install 'gpcnn-deploy[cpu]'" in result.stderr
