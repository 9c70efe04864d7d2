"""Laws of the helper processes: results in order, a bounded number begun, nothing asked of the script."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.runtime.workers import FEW, map_ordered

MANY = [(number,) for number in range(3 * FEW)]


def late(number):
    time.sleep(0.02 if number % 7 == 0 else 0)
    return number


def whose(_):
    return os.getpid()


def full(_):
    raise MemoryError


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("ahead", [1, 5, 1000])
def test_results_come_in_the_order_of_the_jobs(workers, ahead):
    assert list(map_ordered(late, MANY, ahead, workers)) == [number for (number,) in MANY]
    assert list(map_ordered(late, iter(MANY[:3]), ahead, workers)) == [0, 1, 2]
    assert list(map_ordered(late, [], ahead, workers)) == []


def test_many_jobs_are_done_beside_this_process_and_few_in_it():
    others = set(map_ordered(whose, MANY, 9, 2))
    assert os.getpid() not in others and len(others) <= 2
    assert set(map_ordered(whose, MANY[: FEW - 1], 9, 2)) == set(map_ordered(whose, MANY, 9, 1)) == {os.getpid()}


def test_no_more_is_begun_than_was_asked_for():
    begun = []
    results = map_ordered(begun.append, MANY, ahead=5, workers=1)
    for used in range(1, 20):
        next(results)
        time.sleep(0.001)
        assert used <= len(begun) <= used + 5


def test_an_error_comes_at_its_place():
    def halves(number):
        return 1 / (number - 4)

    results = map_ordered(halves, MANY[:8], ahead=8, workers=2)
    assert [next(results) for _ in range(4)] == [1 / (number - 4) for number in range(4)]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("pause", [0, 3], ids=["while results are awaited", "while jobs are handed out"])
def test_a_killed_worker_is_reported(pause):
    def jobs():
        yield from MANY[:FEW]
        time.sleep(pause)  # long enough for the first job to end its process
        yield from MANY[FEW:]

    with pytest.raises(MedcapError, match="free some memory"):
        list(map_ordered(os._exit, jobs(), 9, 2))
    assert list(map_ordered(late, MANY, 9, 2))[-1] == MANY[-1][0]  # and the next pool is a new one


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_without_memory_is_reported(workers):
    with pytest.raises(MedcapError, match="MemoryError.*free some memory"):
        list(map_ordered(full, MANY, 9, workers))


def test_a_script_without_a_guard_runs_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
        from pathlib import Path
        from medcap_paddle import phantom
        print("once")
        folder = phantom.make(Path({str(tmp_path)!r}) / "phantom", studies={FEW + 4}, size=32, workers=2)
        print(len(list(folder.rglob("*.png"))))
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split()
    assert lines[0] == "once" and len(lines) == 2 and int(lines[1]) > FEW


@pytest.mark.skipif(os.name == "nt", reason="no kill -9")
def test_helpers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, time
        sys.path[:0] = [{str(Path(__file__).parent.parent)!r}, {str(Path(__file__).parent)!r}]
        import test_workers
        owners = test_workers.map_ordered(test_workers.whose, test_workers.MANY, 9, 2)
        print(*set(owners), flush=True)
        time.sleep(60)
        """)
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    helpers = [int(number) for number in process.stdout.readline().split()]
    assert helpers and all(alive(helper) for helper in helpers)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(alive(helper) for helper in helpers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(alive(helper) for helper in helpers)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # whom nobody waits for stays as a zombie
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")
