"""medcap_paddle: from a chest radiograph to the FINDINGS of its report, in PaddlePaddle.

Rooms, in the order the data flows (each imports only from those before it):

    files  resume  ranks  crew  config  findings  body  film  frontal  lateral  signs  lesions  devices  radiograph
    phrasing  phantom  archive  reports  image  encoder  features
    vocab  dataset  model  train  beam_search  generate  labels  evaluate  baselines  reward  show

Importing the package loads no library; it only prepares the process for Paddle, which reads these
variables once, while it is being imported:

- ``OMP_NUM_THREADS``: Paddle computes on one thread unless told otherwise. Processes that
  ``paddle.distributed.launch`` started share the cores of their machine. A 1 that stands there after Paddle, or its
  launcher, was imported is Paddle's own and is replaced.
- ``MKL_CBWR=AUTO,STRICT``: on Intel processors the last bit of a large matrix product depends on where the memory lies
  without it, and a training that was stopped would not end with the bytes of one that was not.
- ``MKL_DEBUG_CPU_TYPE=5``: on AMD processors the MKL inside Paddle picks a slow path without it.

What the user has set is left alone. What we set is said once, in a line on stderr: the processes that help inherit it
and say nothing, as do all ranks but the first. With glibc, memory that an operator frees is kept for the next one:
handing every large tensor back to the system and asking for it again costs a tenth of a training step.
"""

import ctypes
import math
import os
import sys
import warnings
from pathlib import Path

__version__ = "0.1.0"
CONTROL = Path("/sys/fs/cgroup")  # where Linux tells a container its limits
RANKS = "PADDLE_LOCAL_SIZE"  # how many processes paddle.distributed.launch has started on this machine


def cores() -> int:
    """Cores for this process: those it may run on, within its container's quota, shared with the ranks beside it."""
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(int(min(free, _quota())) // int(os.environ.get(RANKS) or 1), 1)


def _quota() -> float:
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # control groups 2 and 1
        try:
            quota, period = (int(number) for name in names for number in (CONTROL / name).read_text().split())
        except (OSError, ValueError):  # not there, or "max"
            continue
        if quota > 0:  # -1: no limit
            return quota / period
    return math.inf


def _prepare_cpu() -> None:
    late = "paddle" in sys.modules
    if (late or RANKS in os.environ) and os.environ.get("OMP_NUM_THREADS") == "1":
        del os.environ["OMP_NUM_THREADS"]  # nobody's wish: Paddle sets it when it is imported, in the launcher too
    wanted = {"OMP_NUM_THREADS": str(cores())}
    cpuinfo = Path("/proc/cpuinfo")
    maker = cpuinfo.read_text(errors="ignore") if cpuinfo.exists() else ""
    if "GenuineIntel" in maker:
        wanted["MKL_CBWR"] = "AUTO,STRICT"
    if "AuthenticAMD" in maker:
        wanted["MKL_DEBUG_CPU_TYPE"] = "5"
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    told = ", ".join(f"{name}={value}" for name, value in missing.items())
    if missing and late:
        warnings.warn(
            "paddle was imported before medcap_paddle, so it computes with its slow defaults: "
            f"import medcap_paddle first, or set {told}",
            stacklevel=3,
        )
    elif missing and os.environ.get("PADDLE_TRAINER_ID", "0") == "0":
        print(f"medcap_paddle prepares Paddle: {told}", file=sys.stderr)
    os.environ.update(missing)


def _keep_memory() -> None:
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt:
        mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap too ...
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: ... which is not given back


_prepare_cpu()
_keep_memory()
