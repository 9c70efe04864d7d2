"""The process is prepared for Paddle, which reads these variables once, while it is being imported.

- ``OMP_NUM_THREADS``: Paddle computes on one thread unless told otherwise. Processes that
  ``paddle.distributed.launch`` started share the cores of their machine. A 1 that stands there after Paddle, or its
  launcher, was imported is Paddle's own and is replaced.
- ``MKL_CBWR=AUTO,STRICT``: on Intel processors the last bit of a large matrix product depends on where the memory lies
  without it, and a resumed training would not end with the bytes of an uninterrupted one.
- ``MKL_DEBUG_CPU_TYPE=5``: on AMD processors the MKL inside Paddle picks a slow path without it.

What the user has set is left alone. What we set is reported once, in a line on stderr: helper processes inherit it and
print nothing, neither do ranks other than the first, nor notebooks, where `notebook.start` reports it. With glibc,
memory that an operator frees is kept for the next one: handing every large tensor back to the system and asking for it
again costs a tenth of a training step.
"""

import ctypes
import os
import sys
import warnings
from pathlib import Path

LOCAL_RANKS = "PADDLE_LOCAL_SIZE"  # how many processes paddle.distributed.launch has started on this machine


def cores() -> int:
    """Cores for this process: those it may run on, within its container's quota, shared with the ranks beside it."""
    from loky import cpu_count

    return max(cpu_count() // int(os.environ.get(LOCAL_RANKS) or 1), 1)


def prepare() -> None:
    """Set the variables that the user has not set, and keep freed memory."""
    late = "paddle" in sys.modules
    if (late or LOCAL_RANKS in os.environ) and os.environ.get("OMP_NUM_THREADS") == "1":
        del os.environ["OMP_NUM_THREADS"]  # not the user's: Paddle sets it when it is imported, in the launcher too
    missing = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(cores())}
    missing |= {name: value for name, value in _mkl().items() if name not in os.environ}
    settings = ", ".join(f"{name}={value}" for name, value in missing.items())
    if missing and late:
        warnings.warn(
            "paddle was imported before medcap_paddle, so it computes with its slow defaults: "
            f"import medcap_paddle first, or set {settings}",
            stacklevel=4,
        )
    elif missing and os.environ.get("PADDLE_TRAINER_ID", "0") == "0" and "ipykernel" not in sys.modules:
        print(f"medcap_paddle prepares Paddle: {settings}", file=sys.stderr)
    os.environ.update(missing)
    _keep_memory()


def _mkl() -> dict[str, str]:
    cpuinfo = Path("/proc/cpuinfo")
    maker = cpuinfo.read_text(errors="ignore") if cpuinfo.exists() else ""
    if "GenuineIntel" in maker:
        return {"MKL_CBWR": "AUTO,STRICT"}
    return {"MKL_DEBUG_CPU_TYPE": "5"} if "AuthenticAMD" in maker else {}


def _keep_memory() -> None:
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt:
        mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap too ...
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: ... which is not given back
