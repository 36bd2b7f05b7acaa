"""Build hook: compiles the native engine's library for the machine that the wheel is for."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGET = "GPCNN_BUILD_TARGET"
"""Environment: builds a wheel for this target (`runtime/native/build.py --list`); `none` leaves the library out."""
INSIDE = "gpcnn_runtime/engines/native/lib"


def _build_script() -> ModuleType:
    name = "gpcnn_native_build"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "runtime" / "native" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


native = _build_script()


class NativeLibraryHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the library into the wheel, or for an editable install into the source tree."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What must be installed before the build: ziglang, where no C compiler is.

        Raises:
            SystemExit: $CC names no compiler.
        """
        named = os.environ.get(TARGET)
        try:
            enough = named == "none" or (not named and native.find_compiler() is not None)
        except native.BuildError as error:
            raise SystemExit(f"Error: {error}") from error
        return [] if enough else [native.ZIG]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the library before the wheel is packed.

        Raises:
            SystemExit: it cannot be compiled; the message says how to mend it.
        """
        named = os.environ.get(TARGET)
        if named == "none":
            return
        if named and named not in native.TARGETS:
            raise SystemExit(f"Error: {TARGET} is '{named}': expected none, or one of {', '.join(native.TARGETS)}")
        target = native.TARGETS[named] if named else native.host()
        try:
            if version == "editable":
                if not native.is_current(target, native.LIBRARY_FOLDER):
                    native.build_library(target, native.LIBRARY_FOLDER)
                return
            self._folder = tempfile.TemporaryDirectory()
            made = native.build_library(target, Path(self._folder.name), native.find_zig() if named else None)
        except native.BuildError as error:
            raise SystemExit(f"Error: {error}; or build without it: {TARGET}=none") from error
        build_data["force_include"][str(made)] = f"{INSIDE}/{made.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform() if not named else target.wheel}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what `initialize` left."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def _platform() -> str:
    """Platform tag of this machine, for a wheel that is installed here."""
    from packaging.tags import platform_tags

    tags = list(platform_tags())
    own = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return own if own in tags else tags[0]
