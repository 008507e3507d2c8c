"""What a no-op trial takes where its study is kept: journal, SQLite, PostgreSQL or that behind Optuna's gRPC proxy.

    uv run --extra postgres --group test benchmarks/shared_storage.py [trials=100] [optimizers=1,2,4] [stores=…]

The searches of searching.py, four trials at once in the threads of each of 1, 2, 4 optimizers, each a process.
PostgreSQL is a server of our own on this machine, with its usual ``fsync``; so is the proxy. Told are trials a second
of all optimizers together, and the CPU time of an optimizer for each of its trials. Where trials take longer than the
search's share of them, that CPU time bounds how many one optimizer can have in flight: in flight <= seconds of a trial
/ CPU seconds of a trial.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from searching import search

from seedpod.training.datasets import prepare

PSQL = Path("/usr/bin/psql")
ARGUMENTS = {"trials": "100", "optimizers": "1,2,4", "stores": "journal,SQLite,PostgreSQL,gRPC"}


@contextmanager
def postgres() -> Iterator[str]:
    """The address of a server of our own, on a Unix socket."""
    initdb = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    before = [] if os.getuid() else ["runuser", "-u", "postgres", "--"]
    folder = Path(mkdtemp(prefix="seedpod-pg-"))
    folder.chmod(0o777)
    data, control = folder / "data", str(initdb.with_name("pg_ctl"))
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"

    def run(*words: str) -> None:
        subprocess.run([*before, *words], check=True, stdout=subprocess.DEVNULL, cwd="/")

    try:
        run(str(initdb), "-D", str(data), "-A", "trust", "-U", "postgres", "-N")
        run(control, "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        with suppress(subprocess.CalledProcessError):
            run(control, "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


PROXY = """
import socket, sys, optuna
free = socket.socket()
free.bind(("127.0.0.1", 0))
port = free.getsockname()[1]
free.close()
storage = optuna.storages.RDBStorage(sys.argv[1])
print(port, flush=True)
optuna.storages.run_grpc_proxy_server(storage, host="127.0.0.1", port=port)
"""


@contextmanager
def proxy(database: str) -> Iterator[str]:
    """The address of Optuna's gRPC server before a database."""
    address = database.replace("postgresql://", "postgresql+psycopg://")
    command = [sys.executable, "-W", "ignore", "-c", PROXY, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"grpc://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


def measured(folder: Path, trials: int, storage: str, optimizers: int) -> tuple[float, float]:
    """Trials a second of all, and CPU milliseconds a trial; each optimizer in a process of its own."""
    places = [folder / str(number) for number in range(optimizers)]
    for place in places:
        place.mkdir()
        (place / "cache").symlink_to(folder.parent / "cache")
    commands = [[sys.executable, __file__, "--one", str(place), str(trials), storage] for place in places]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    told = [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]
    began, ended = min(each["first"] for each in told), max(each["last"] for each in told)
    return trials / (ended - began), 1e3 * sum(each["cpu"] for each in told) / trials


def one(folder: Path, trials: int, storage: str) -> None:
    """One optimizer; how long its trials took."""
    cache = str(folder / "cache")
    print(json.dumps(search(trials=trials, folder=str(folder), cache_dir=cache, storage=storage, processes=False)))


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--one"]:
        one(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
        return
    given = ARGUMENTS | dict(argument.split("=", 1) for argument in sys.argv[1:])
    trials, counts = int(given["trials"]), [int(count) for count in given["optimizers"].split(",")]
    print(f"{trials} no-op trials, 4 at once in each optimizer\n")
    print("| study in | optimizers | trials/s | CPU of an optimizer a trial |\n|---|---|---|---|")
    with TemporaryDirectory() as name, postgres() as server:
        prepare("digits", Path(name) / "cache")
        rows = [("journal", "", 1), ("SQLite", f"sqlite:///{name}/study.db", 1)]
        rows += [(label, server, count) for label in ("PostgreSQL", "gRPC") for count in counts]
        for number, (label, storage, count) in enumerate(row for row in rows if row[0] in given["stores"].split(",")):
            place = Path(name) / str(number)
            place.mkdir()
            address = storage.replace("/postgres?", f"/run{number}?")
            if storage == server:
                make = [str(PSQL), "-q", "-U", "postgres", "-h", storage.partition("host=")[2]]
                subprocess.run([*make, "-c", f"create database run{number}"], check=True)
            with proxy(address) if label == "gRPC" else nullcontext(address) as kept:
                speed, cpu = measured(place, trials, kept, count)
            print(f"| {label} | {count} | {speed:.1f} | {cpu:.1f} ms |", flush=True)


if __name__ == "__main__":
    main()
