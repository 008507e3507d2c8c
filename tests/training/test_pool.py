"""TrainerPool under everything that happens to processes."""

import inspect
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import pytest

import seedpod
from priorities import priorities_of
from seedpod.errors import Cause, TrainingError, TrialCancelled, TrialPruned
from seedpod.training.child import PoolLimits
from seedpod.training.headroom import LATEST
from seedpod.training.memory import Room, room
from seedpod.training.pool import TrainerPool
from seedpod.trial import ParamValue, Status, TrialProgress, TrialResult, TrialSpec

pytestmark = pytest.mark.processes

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(TESTS)}
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is known from /proc")
QUICK = PoolLimits(grace=0.5, start=20.0, overtime=0.5)


def spec(number: int = 0, *, max_seconds: float = 0.0, **params: ParamValue) -> TrialSpec:
    return TrialSpec(
        number=number,
        dataset="digits",
        fingerprint="f" * 16,
        params=params,
        seed=42 + number,
        split_seed=42,
        objectives=("val_accuracy",),
        max_epochs=4,
        min_epochs=1,
        validation_split=0.2,
        max_parameters=1000,
        max_seconds=max_seconds,
    )


def make_pool(
    tmp_path: Path,
    processes: int = 2,
    limits: PoolLimits = QUICK,
    trainer: str = "make",
    measure: Callable[[], Room] = room,
) -> TrainerPool:
    return TrainerPool(
        processes,
        tmp_path,
        limits=limits,
        trainer=f"stand_in_trainers:{trainer}",
        environment=ENVIRONMENT,
        measure=measure,
    )


def limited_pool(tmp_path: Path, memory_mb: float) -> TrainerPool:
    """Two trials at once, as far as they fit, and no standby."""
    return TrainerPool(
        2,
        tmp_path,
        limits=QUICK,
        trainer="stand_in_trainers:make",
        environment=ENVIRONMENT,
        standby=0,
        memory_mb=memory_mb,
    )


@contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A control group of our own with so many bytes; skips the test where none can be made."""
    group = _new_group("sys/fs/cgroup", "memory.max", limit)
    group = group or _new_group("sys/fs/cgroup/memory", "memory.limit_in_bytes", limit)
    if group is None:
        pytest.skip("no control group can be made here: needs root and a writable /sys/fs/cgroup")
    members = group / "cgroup.procs"
    try:
        yield group
    finally:
        assert eventually(lambda: not members.read_text(encoding="ascii").strip())
        group.rmdir()


def _new_group(mount: str, name: str, limit: int) -> Path | None:
    group = Path("/", mount, f"seedpod-test-{os.getpid()}")
    try:
        group.mkdir()
        if (group / "cgroup.procs").exists():
            (group / name).write_text(str(limit), encoding="ascii")
            return group
    except OSError:
        pass
    with suppress(OSError):
        group.rmdir()
    return None


@pytest.fixture(name="pool")
def running_pool(tmp_path: Path) -> Iterator[TrainerPool]:
    with make_pool(tmp_path) as made:
        yield made


def ignore(_: TrialProgress) -> None:
    pass


def eventually(true: Callable[[], bool], seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return true()


def test_result_and_progress_come_back(pool: TrainerPool) -> None:
    """A trial's progress arrives epoch by epoch, in order, and its result after it."""
    seen: list[TrialProgress] = []
    result = pool.run(spec(3), seen.append)
    assert [p.epoch for p in seen] == [1, 2, 3, 4]
    assert result.status is Status.COMPLETE
    assert result.number == 3
    assert result.value == seen[-1].value


def test_trials_run_side_by_side_and_never_more(tmp_path: Path) -> None:
    """With two processes, six trials use exactly two at a time, and they are the same two all along."""
    running, most = [0], [0]
    lock = threading.Lock()

    def trial(number: int) -> object:
        def report(progress: TrialProgress) -> None:
            with lock:
                running[0] += (progress.epoch == 1) - (progress.epoch == 4)
                most[0] = max(most[0], running[0])

        return pool.run(spec(number, pause=0.02), report).environment["pid"]

    with make_pool(tmp_path) as pool, ThreadPoolExecutor(6) as threads:
        assert pool.wait_until_ready(20)
        pids = set(threads.map(trial, range(6)))
    assert most == [2]
    assert len(pids) <= 3  # two, and the standby where it was ready first


@pytest.mark.parametrize(
    ("do", "said"),
    [
        ("exit", "exited with code 3"),
        ("segfault", "SIGSEGV"),
        ("kill", "SIGKILL"),
    ],
)
def test_dead_process_fails_its_trial_alone(pool: TrainerPool, do: str, said: str) -> None:
    """A process that dies fails the one trial in it, with signal or code, while its neighbour completes."""
    with ThreadPoolExecutor(2) as threads:
        neighbour = threads.submit(pool.run, spec(1, pause=0.1), ignore)
        with pytest.raises(TrainingError, match=said) as caught:
            pool.run(spec(0, do=do), ignore)
        assert caught.value.cause is Cause.PROCESS_DIED
        assert neighbour.result().status is Status.COMPLETE
    assert pool.run(spec(2), ignore).status is Status.COMPLETE


def test_last_output_is_kept(pool: TrainerPool) -> None:
    """What a process printed last is in the failure's detail."""
    with pytest.raises(TrainingError) as caught:
        pool.run(spec(do="exit"), ignore)
    assert "last words" in caught.value.detail


def test_exception_keeps_its_frames(pool: TrainerPool) -> None:
    """An exception in the training code fails its trial with type, message and last frames."""
    with pytest.raises(TrainingError, match="ValueError: a shape that fits nothing") as caught:
        pool.run(spec(do="raise"), ignore)
    assert caught.value.cause is Cause.EXCEPTION
    assert "stand_in_trainers.py" in caught.value.detail


def test_cause_survives_the_pipe(pool: TrainerPool) -> None:
    """A failure that the trainer names keeps its cause."""
    with pytest.raises(TrainingError) as caught:
        pool.run(spec(do="diverge"), ignore)
    assert caught.value.cause is Cause.DIVERGED


@pytest.mark.parametrize("do", ["hang", "hang_in_native_code"])
def test_hanging_trial_is_killed_after_its_deadline(pool: TrainerPool, do: str) -> None:
    """A trainer that no longer answers is killed after the trial's own limit and the overtime."""
    with pytest.raises(TrainingError, match="no longer answered") as caught:
        pool.run(spec(do=do, max_seconds=0.2), ignore)
    assert caught.value.cause is Cause.DEADLINE
    assert pool.run(spec(1), ignore).status is Status.COMPLETE


@pytest.mark.parametrize("stop", [TrialCancelled("enough"), TrialPruned("enough")])
def test_report_can_stop_its_trial(pool: TrainerPool, stop: Exception) -> None:
    """A stop that the report raises ends the trial between batches and keeps the process warm."""

    def report(_: TrialProgress) -> None:
        raise stop

    pool.wait_until_ready(20)
    before = set(pool.pids())
    with pytest.raises(type(stop)):
        pool.run(spec(pause=0.05), report)
    assert before <= set(pool.pids())


def test_cancel_reaches_a_hanging_trial(pool: TrainerPool) -> None:
    """Cancelling a trial that does not listen kills its process after the grace."""
    wanted = spec(do="hang")
    with ThreadPoolExecutor(1) as threads:
        trial = threads.submit(pool.run, wanted, ignore)
        assert eventually(lambda: bool(pool.pids(running=True)))
        pool.cancel(wanted.uid)
        with pytest.raises(TrialCancelled):
            trial.result(timeout=20)


def test_late_cancel_harms_nobody(pool: TrainerPool) -> None:
    """Cancelling a trial that has ended does not touch the next one in its process."""
    for number in range(5):
        pool.run(spec(number), ignore)
        pool.cancel(spec(number).uid)
    assert pool.run(spec(9, pause=0.02), ignore).status is Status.COMPLETE


def test_waiting_trial_can_be_cancelled(tmp_path: Path) -> None:
    """A trial that waits for a process is cancelled at once and by its own key; the running one goes on."""
    with make_pool(tmp_path, 1) as pool, ThreadPoolExecutor(2) as threads:
        running = threads.submit(pool.run, spec(0, pause=0.2), ignore, "first")
        assert eventually(lambda: bool(pool.pids(running=True)))
        waiting = threads.submit(pool.run, spec(0, pause=0.2), ignore, "second")
        time.sleep(0.1)
        pool.cancel("second")
        with pytest.raises(TrialCancelled):
            waiting.result(timeout=0.5)
        assert running.result().status is Status.COMPLETE


def test_processes_share_out_the_gpus(tmp_path: Path) -> None:
    """Each process sees one GPU, and no GPU is seen by two more processes than another."""
    pool = TrainerPool(
        4, tmp_path, limits=QUICK, trainer="stand_in_trainers:make", environment=ENVIRONMENT, devices=["0", "1"]
    )
    with pool, ThreadPoolExecutor(4) as threads:
        assert pool.wait_until_ready(20)
        seen = list(threads.map(lambda n: pool.run(spec(n, pause=0.1), ignore).environment["device"], range(4)))
    assert 1 <= seen.count("0") <= 3
    assert seen.count("0") + seen.count("1") == 4


def test_output_of_libraries_does_not_disturb_the_wire(pool: TrainerPool) -> None:
    """Megabytes on standard output and error neither block the trial nor corrupt its messages."""
    assert pool.run(spec(do="shout"), ignore).status is Status.COMPLETE


def test_bug_in_the_report_leaves_no_trial_behind(pool: TrainerPool) -> None:
    """When the report raises something unexpected, it propagates and the half-done process is replaced."""

    def report(_: TrialProgress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pool.run(spec(pause=0.05), report)
    assert pool.run(spec(1), ignore).status is Status.COMPLETE


def test_processes_are_recycled(tmp_path: Path) -> None:
    """After its number of trials a process is replaced, and the old one is gone."""
    with make_pool(tmp_path, 1, replace(QUICK, trials=2)) as pool:
        pids = [pool.run(spec(n), ignore).environment["pid"] for n in range(6)]
        runs = Counter(pids)
        assert max(runs.values()) == 2
        assert eventually(lambda: not any(psutil.pid_exists(int(pid)) for pid, count in runs.items() if count == 2))


def test_processes_over_the_memory_mark_are_recycled(tmp_path: Path) -> None:
    """A process that holds more memory than the mark does not run a second trial."""
    with make_pool(tmp_path, 1, replace(QUICK, memory_mb=1.0)) as pool:
        assert len({pool.run(spec(n), ignore).environment["pid"] for n in range(3)}) == 3


def test_idle_process_that_is_killed_costs_no_trial(pool: TrainerPool) -> None:
    """A process killed while it waits is replaced without failing anything."""
    pool.wait_until_ready(20)
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
    assert [pool.run(spec(n), ignore).status for n in range(4)] == [Status.COMPLETE] * 4


@needs_proc
def test_standby_takes_the_place_of_a_killed_process(tmp_path: Path) -> None:
    """A killed process is followed by one that was ready before. It has loaded at the lowest priority, and none of its
    threads has that any more.
    """
    with make_pool(tmp_path, 1, trainer="make_noting") as pool:
        assert pool.wait_until_ready(60, standby=True)
        _, standby = ready = pool.pids()
        with pytest.raises(TrainingError):
            pool.run(spec(do="kill"), ignore)
        assert pool.run(spec(1), ignore).environment["pid"] == standby
        mine = os.getpriority(os.PRIO_PROCESS, 0)
        # The thread that loaded it gives way to all others to its very end.
        assert eventually(lambda: priorities_of(standby) == {mine})
    assert [int((tmp_path / str(pid)).read_text("ascii")) for pid in ready] == [mine, 19]


def test_no_trial_waits_for_a_standby_that_loads(tmp_path: Path) -> None:
    """A process that dies before its standby has loaded is replaced by one that does not give way."""
    with make_pool(tmp_path, 1, trainer="make_late") as pool:
        for number in range(2):
            assert eventually(lambda: len(pool.pids()) == 2)
            with pytest.raises(TrainingError):
                pool.run(spec(number, do="kill"), ignore)
        assert pool.run(spec(2), ignore).status is Status.COMPLETE


def test_processes_that_never_start_are_said(tmp_path: Path) -> None:
    """When no process becomes ready, trials fail with the end of its output instead of waiting for ever."""
    with make_pool(tmp_path, trainer="broken") as pool:
        with pytest.raises(TrainingError, match="no such accelerator") as caught:
            pool.run(spec(), ignore)
        assert caught.value.cause is Cause.PROCESS_START


def test_standbys_that_never_start_cost_no_trial(tmp_path: Path) -> None:
    """After three standbys that died while they loaded the pool does without, and trials run as before."""
    with make_pool(tmp_path, 1, trainer="make_alone") as pool:
        assert eventually(lambda: len(list(tmp_path.iterdir())) == 3)
        for number in range(2):
            assert pool.run(spec(number), ignore).status is Status.COMPLETE
        assert eventually(lambda: len(pool.pids()) == 1)
        assert len(list(tmp_path.iterdir())) == 3


def test_closing_after_an_interrupt_that_came_too_early(tmp_path: Path) -> None:
    """Ctrl-C in a program's own thread, when it has a process but does not use it yet, keeps nobody from closing."""
    lines, begin = inspect.getsourcelines(TrainerPool._in_a_process)
    number = begin + next(index for index, line in enumerate(lines) if line.strip() == "try:")

    def interrupt(frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code is TrainerPool._in_a_process.__code__ and event == "line" and frame.f_lineno == number:
            sys.settrace(None)
            raise KeyboardInterrupt
        return interrupt

    tracing = sys.gettrace()
    pool = make_pool(tmp_path, 1)
    try:
        sys.settrace(interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.run(spec(), ignore)
    finally:
        sys.settrace(tracing)
        pool.close()
    assert pool.pids() == []


def test_twenty_kills_in_forty_trials(tmp_path: Path) -> None:
    """Of forty trials, the twenty whose process is killed fail and the other twenty complete."""

    def trial(number: int) -> str:
        try:
            return str(pool.run(spec(number, do="kill" if number % 2 else "train"), ignore).status)
        except TrainingError as error:
            return str(error.cause)

    with make_pool(tmp_path, 2) as pool, ThreadPoolExecutor(4) as threads:
        assert list(threads.map(trial, range(40))) == ["complete", "process_died"] * 20


def test_close_leaves_nothing(tmp_path: Path) -> None:
    """Closing in the middle of trials cancels them and leaves no process, thread or descriptor."""
    me = psutil.Process()
    descriptors, threads_before, children = me.num_fds(), threading.active_count(), me.children()
    pool = make_pool(tmp_path, 2)
    with ThreadPoolExecutor(2) as threads:
        trials = [threads.submit(pool.run, spec(n, do="hang"), ignore) for n in range(2)]
        assert eventually(lambda: len(pool.pids(running=True)) == 2)
        pool.close()
        for trial in trials:
            with pytest.raises(TrialCancelled):
                trial.result(timeout=10)
    assert pool.pids() == []
    assert me.children() == children
    assert threading.active_count() == threads_before
    assert me.num_fds() == descriptors
    with pytest.raises(TrialCancelled):
        pool.run(spec(), ignore)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGABRT])
@pytest.mark.parametrize("do", ["hang", "hang_in_native_code"])
def test_no_orphan_when_the_parent_dies(tmp_path: Path, how: signal.Signals, do: str) -> None:
    """When the pool's process dies by a signal, its trainers die too, hanging ones included."""
    program = f"""
        import signal, sys, threading, time
        from pathlib import Path
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
        sys.path[:0] = {[str(TESTS), str(TESTS / "training")]!r}
        from test_pool import eventually, ignore, make_pool, spec
        pool = make_pool(Path({str(tmp_path)!r}), 2)
        threading.Thread(target=pool.run, args=(spec(do={do!r}), lambda p: print(*pool.pids(), flush=True)),
                         daemon=True).start()
        time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        time.sleep(0.2)
        parent.send_signal(how)
        parent.wait(timeout=10)
    assert pids
    assert eventually(lambda: not any(_alive(pid) for pid in pids))


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Together:
    """Counts the trials that run at once, by their reports."""

    def __init__(self, pool: TrainerPool, epochs: int = 4) -> None:
        self._pool, self._epochs = pool, epochs
        self._lock = threading.Lock()
        self._running = 0
        self.most = 0

    def run(self, trial: TrialSpec) -> TrialResult:
        def report(progress: TrialProgress) -> None:
            with self._lock:
                self._running += (progress.epoch == 1) - (progress.epoch == self._epochs)
                self.most = max(self.most, self._running)

        return self._pool.run(trial, report)


@needs_proc
def test_memory_limit_bounds_what_runs_at_once(tmp_path: Path) -> None:
    """Under a memory_limit that one trial nearly fills the next ones run one after the other, with the same results as
    without it; once smaller ones have run, two run at once again.
    """
    large = [spec(number, do="hold", megabytes=150, pause=0.02) for number in range(4)]
    small = [spec(number, pause=0.0) for number in range(10, 10 + LATEST)]
    with limited_pool(tmp_path, 250) as pool, ThreadPoolExecutor(2) as threads:
        first = pool.run(large[0], ignore)
        assert 150 <= first.peak_mb < 200
        one = Together(pool)
        results = list(threads.map(one.run, large[1:]))
        assert one.most == 1
        assert all(150 <= result.peak_mb < 200 for result in results)
        two = Together(pool)
        list(threads.map(lambda trial: pool.run(trial, ignore), small))
        assert pool.wait_until_ready(20)
        list(threads.map(two.run, [spec(number, pause=0.05) for number in (30, 31)]))
        assert two.most == 2
    with make_pool(tmp_path) as pool:
        assert [replace(pool.run(trial, ignore), environment={}, run={}) for trial in large[1:]] == [
            replace(result, environment={}, run={}) for result in results
        ]


@needs_proc
def test_one_trial_runs_whatever_the_limit(tmp_path: Path) -> None:
    """A limit that nothing fits under leaves one process, and trials go through it."""
    with limited_pool(tmp_path, 1) as pool, ThreadPoolExecutor(3) as threads:
        together = Together(pool)
        results = threads.map(together.run, [spec(number, pause=0.01) for number in range(6)])
        assert all(result.status is Status.COMPLETE for result in results)
        assert eventually(lambda: len(pool.pids()) == 1)


def test_full_machine_shrinks_and_grows_back(tmp_path: Path) -> None:
    """As the machine fills up the processes that wait are ended, all but one; as it empties they come back."""
    free = [10_000.0]
    with make_pool(tmp_path, measure=lambda: Room(10_000, free[0], "here")) as pool:
        assert eventually(lambda: len(pool.pids()) == 3)  # two and a standby
        free[0] = 0.0
        assert eventually(lambda: len(pool.pids()) == 1)
        assert pool.run(spec(0), ignore).status is Status.COMPLETE
        free[0] = 10_000.0
        assert eventually(lambda: len(pool.pids()) == 3)


def test_killed_while_memory_is_short(tmp_path: Path) -> None:
    """A process that is killed while memory is short fails its trial for lack of memory, with what it held and what to
    do; it was alone, so it is not tried again.
    """
    with make_pool(tmp_path, measure=lambda: Room(10_000, 0.0, "here")) as pool:
        with pytest.raises(TrainingError, match=r"lack of memory.*local_workers") as caught:
            pool.run(spec(0, do="kill", pause=0.4), ignore)
        assert caught.value.cause is Cause.OUT_OF_MEMORY
        assert pool.run(spec(1), ignore).status is Status.COMPLETE


def test_all_that_one_shortage_ends_run_again_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of two trials that are killed at once each ran beside the other, whichever end is noticed first."""
    free = [10_000.0]
    with make_pool(tmp_path, measure=lambda: Room(10_000, free[0], "here")) as pool, ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(pool.run, spec(number, do="kill", pause=0.6), ignore) for number in range(2)]
        assert eventually(lambda: len(pool.pids(running=True)) == 2)
        free[0] = 0.0
        for run in runs:
            with pytest.raises(TrainingError, match="lack of memory"):
                run.result()
    again = [text for record in caplog.records if "runs again, without them" in (text := record.getMessage())]
    assert sorted(text.split(" was ")[0] for text in again) == ["trial 0", "trial 1"]


def test_no_memory_for_native_code(pool: TrainerPool) -> None:
    """A process that C++ aborts because it gets no memory fails its trial for that reason."""
    with pytest.raises(TrainingError, match="lack of memory") as caught:
        pool.run(spec(0, do="bad_alloc"), ignore)
    assert caught.value.cause is Cause.OUT_OF_MEMORY


KILLED = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
sys.path[:0] = sys.argv[2:4]
Path(sys.argv[1]).write_text(str(__import__("os").getpid()))
from seedpod.errors import TrainingError
from test_pool import make_pool, spec, ignore

with make_pool(Path(sys.argv[4])) as pool, ThreadPoolExecutor(2) as threads:
    for number in (8, 9):  # small ones, so that two are expected to fit
        pool.run(spec(number), ignore)
    assert pool.wait_until_ready(20)
    trials = [spec(number, do="hold", megabytes=200) for number in range(2)]
    print([result.number for result in threads.map(lambda trial: pool.run(trial, ignore), trials)])
    try:
        pool.run(spec(2, do="hold", megabytes=500), ignore)
    except TrainingError as error:
        print(error.cause, error)
"""


def test_kernel_ends_a_trainer_for_its_memory(tmp_path: Path) -> None:
    """In a real group of 350 MB two trials of 200 MB do not fit beside each other: the kernel ends a trainer, and its
    trial runs again alone. One of 500 MB fails, and says that memory was lacking. The pool's process lives.
    """
    source = str(Path(seedpod.__file__).parents[1])
    with memory_group(350_000_000) as group:
        arguments = [str(group / "cgroup.procs"), source, str(TESTS / "training"), str(tmp_path)]
        done = subprocess.run(
            [sys.executable, "-c", KILLED, *arguments],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "[0, 1]"
    assert "trial 0 was ended for lack of memory while others" in done.stderr.replace("trial 1", "trial 0")
    assert "out_of_memory the trainer process was ended for lack of memory" in done.stdout
