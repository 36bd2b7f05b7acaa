"""Write `recorded_api.json`: what the Python bindings of several TensorRT versions offer, read without running them.

The wheels `tensorrt_cu12_bindings` are small and on PyPI, but import only beside libraries of 2 GB. Their classes and
methods can be listed all the same: empty libraries in the place of the real ones satisfy the loader, because an import
calls nothing in them. Needs a C compiler, pip and the network:

    python tests/helpers/record_api.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEELS = {
    "10.13": "tensorrt-cu12-bindings==10.13.0.35",
    "10.16": "tensorrt-cu12-bindings==10.16.0.72",
    "11.4": "tensorrt-cu13-bindings==11.4.0.106",
}
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
LIST = """
import importlib.util, json, os, sys
sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)
spec = importlib.util.spec_from_file_location("tensorrt", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
public = lambda owner: [name for name in dir(owner) if not name.startswith("_")]
print(json.dumps({name: public(getattr(module, name)) for name in public(module)}))
"""


def record(requirement: str, folder: Path) -> dict[str, list[str]]:
    """Public members of every class of one bindings wheel."""
    run = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), requirement]
    subprocess.run(run, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    bindings = folder / "tensorrt_bindings" / "tensorrt.so"
    undefined = subprocess.run(["nm", "-D", "--undefined-only", bindings], capture_output=True, text=True, check=True)
    symbols = [line.split()[-1] for line in undefined.stdout.splitlines()]
    wanted = [name for name in symbols if name.isalnum() or name.endswith("_INTERNAL")]
    source = "".join(f"int {name}(void) {{ return 0; }}\n" for name in wanted if not name.startswith(("Py", "_")))
    major = requirement.split("==")[1].split(".")[0]
    for library in LIBRARIES:
        name = f"lib{library}.so.{major}"
        command = ["cc", "-w", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name, "-x", "c", "-"]
        subprocess.run(command, input=source, text=True, check=True)
    listed = subprocess.run(
        [sys.executable, "-c", LIST, bindings],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    api: dict[str, list[str]] = json.loads(listed.stdout)
    return api


def main() -> None:
    """Record all versions, keeping the classes that the compat module uses."""
    from test_contract import used

    classes = {name[0] for name in used()}
    lines = []
    for version, requirement in WHEELS.items():
        with tempfile.TemporaryDirectory() as folder:
            api = record(requirement, Path(folder))
        rows = [f"  {json.dumps(name)}: {json.dumps(api[name])}" for name in sorted(classes & api.keys())]
        lines.append(f" {json.dumps(version)}: {{\n" + ",\n".join(rows) + "\n }")
    Path(__file__).with_name("recorded_api.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
