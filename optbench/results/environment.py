"""The environment of results: versions, processor, threads, commit and GPU."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from optbench.core.workers import available_cores


def environment() -> dict[str, str]:
    """Versions, processor, threads, commit, the GPU if this process uses one, and the command line if there is one.

    Workers inherit the command line in the variable OPTBENCH_COMMAND.
    """
    command = os.environ.get("OPTBENCH_COMMAND")
    return _host_environment() | _gpu() | ({"command": command} if command else {})


@functools.cache
def _host_environment() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    def version_of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "absent"

    return {
        "optbench": version_of("optbench"),
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("numpy", "scipy", "scikit-learn", "pandas", "pyarrow")},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(available_cores()),
        "blas threads": "1",
        "commit": _commit(),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        if model := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return model[1].strip()
    return platform.processor() or "unknown"


def _commit() -> str:
    """Commit of the repository that optbench runs from; empty for an installed package."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return ""
    try:
        result = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def _gpu() -> dict[str, str]:
    cupy = sys.modules.get("cupy")
    if cupy is None or not cupy.cuda.is_available():
        return {}
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    # CuPy comes before the variable, because a program may have set the compute type itself
    switch = os.environ.get("CUPY_TF32", "0")
    try:
        from cupy._core import _routines_linalg as products

        kind = products.compute_type_to_str(products.get_compute_type(np.dtype("float32")))
        tf32 = "on" if "TF32" in str(kind) else "off"
    except (ImportError, AttributeError, TypeError):  # private names of CuPy, which may change
        tf32 = "off" if switch in ("", "0") else "on"
    return {
        "gpu": properties["name"].decode(),
        "compute capability": f"{properties['major']}.{properties['minor']}",
        "cupy": cupy.__version__,
        "cuda": str(cupy.cuda.runtime.runtimeGetVersion()),
        "driver": str(cupy.cuda.runtime.driverGetVersion()),
        "tf32": tf32,
        "accelerators": os.environ.get("CUPY_ACCELERATORS", "cub"),
    }
