"""The command line: parse, build, run, exit code. Imports nothing heavy before it knows what is asked."""

import logging
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from seedpod import __version__
from seedpod.config import LoadedConfig, OptimizationConfig, help_on, help_text, load, origins_text
from seedpod.config.wording import shown
from seedpod.errors import (
    ConfigError,
    EndpointRefused,
    EndpointUnreachable,
    FinalModelError,
    SeedpodError,
)
from seedpod.guarded import Guarded

if TYPE_CHECKING:
    from seedpod.board import FinishedTrial
    from seedpod.dashboard.web.page import Importances, WebDashboard
    from seedpod.remote.secret import Secret

DONE, FAILED, BAD_CONFIG, BAD_ENDPOINT, NO_FINAL_MODEL = 0, 1, 2, 3, 4
INTERRUPTED = 128  # + the signal's number: 130 for Ctrl-C, 143 for SIGTERM
_STOP_PATIENCE = 4.0  # seconds; whoever stops a search waits for no endpoint that does not answer
_HELP_WORDS = {"help", "--help", "-h"}
_VERSION_WORDS = (["--version"], ["-V"], ["version"])


def main(arguments: Sequence[str] | None = None, *, trainer: str | None = None) -> int:
    """Run one command and return its exit code; see ``python optimizer.py help``.

    Args:
        arguments: The words of the command line; those of this process by default.
        trainer: ``module:factory`` of what runs a search's trials on this machine; Keras by default.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_encode(stream)
    try:
        return _command(words, trainer)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return BAD_CONFIG
    except (EndpointRefused, EndpointUnreachable) as error:
        print(error, file=sys.stderr)
        return BAD_ENDPOINT
    except SeedpodError as error:
        print(error, file=sys.stderr)
        return NO_FINAL_MODEL if isinstance(error, FinalModelError) else FAILED
    except KeyboardInterrupt:  # before a search could begin
        return INTERRUPTED + signal.SIGINT
    except BrokenPipeError:  # the reader of a pipe has left, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED


def _command(words: list[str], trainer: str | None) -> int:
    text = _about(words)
    if text:
        print(text, end="")
        return DONE
    if words and words[0] == "endpoint":
        from seedpod.commands import serve_endpoint

        serve_endpoint(words[1:], Path(load([], os.environ).config.cache_dir).expanduser(), _show)
        return DONE
    if words and words[0] in {"evaluate", "final", "predict", "report"}:
        return _on_a_run(words[0], words[1:])
    from seedpod.keys import take_key, with_dotenv

    command = words[0] if words and words[0] in {"config", "doctor"} else ""
    environment = with_dotenv(os.environ, Path.cwd())
    rest, key = take_key(words[bool(command) :], environment, _warn)
    loaded = load(rest, environment)
    if command == "config":
        print(origins_text(loaded), end="")
        return DONE
    if command == "doctor":
        from seedpod.commands import doctor

        return DONE if doctor(loaded.config, key, _show) else BAD_ENDPOINT
    return _search(loaded, key, trainer)


def _about(words: list[str]) -> str:
    """Help, or the version, where one of them is asked for."""
    if words in _VERSION_WORDS:
        return f"seedpod {__version__}\n"
    if not words or words[0] not in _HELP_WORDS:
        return ""
    width = shutil.get_terminal_size((100, 24)).columns
    if not words[1:]:
        return help_text(width)
    from seedpod.keys import take_key

    asked, _ = take_key(words[1:], {}, _warn)  # what is refused is quoted, and must not be a key
    return help_on(asked, width)


def _warn(line: str) -> None:
    print(line, file=sys.stderr)


def _show(line: str) -> None:
    print(line, flush=True)


def _search(loaded: LoadedConfig, key: "Secret | None", trainer: str | None) -> int:
    from seedpod.assembly import final_elsewhere, make_backend
    from seedpod.config.needed import require_for_search
    from seedpod.dashboard.terminal import Terminal
    from seedpod.dashboard.together import Together, View
    from seedpod.dashboard.wording import again
    from seedpod.optimizer import Finisher, ModelOptimizer
    from seedpod.training.pool import KERAS_TRAINER
    from seedpod.training.runtime import usable_cores

    config = loaded.config
    require_for_search(config)
    terminal = Terminal(sys.stdout, usable_cores(), mode="auto" if config.dashboard == "web" else config.dashboard)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_Lines(terminal.say)])
    for line in _unused(loaded):
        terminal.say(line)
    views: list[View] = [terminal]
    if config.dashboard == "web":
        views.append(_page(config, terminal.say, lambda: optimizer.importances()))  # noqa: PLW0108 - made below
    watch = Together(*views)
    optimizer = ModelOptimizer(
        config,
        observer=watch,
        progress_callback=watch.updated,
        make_backend=partial(make_backend, config, key, terminal.say, trainer=trainer or KERAS_TRAINER),
    )
    cache_dir = Path(config.cache_dir).expanduser()
    elsewhere = final_elsewhere(config, key, terminal.say, cache_dir)
    finisher = Finisher(config, observer=terminal, elsewhere=elsewhere)

    def stop(reason: str) -> None:
        finisher.stop()
        optimizer.stop(reason)

    def goes_on() -> str:
        noted = ", and jobs that still run are noted" if config.use_runpod_service else ""
        how = again(optimizer.folder, "resume") if optimizer.folder else "the same command"
        return f"Not everything could be ended in time. Finished trials are saved{noted}: {how} goes on."

    with _signals(stop, terminal.say, goes_on) as received:
        try:
            summary = optimizer.run()
            if summary.outcome != "interrupted":  # who has stopped it is told how it goes on
                finisher.finish(summary.run)
        except SeedpodError:
            if received:  # what broke, broke because the run was asked to stop
                return INTERRUPTED + received[0]
            raise
        except Exception:  # noqa: BLE001 - a bug is shown whole, and is an exit code like any other
            traceback.print_exc()
            print("This is a bug of seedpod. What is known of the trials is saved.", file=sys.stderr)
            return FAILED
        finally:
            watch.close()
    if received:
        return INTERRUPTED + received[0]
    return DONE if summary.best is not None else FAILED


def _page(config: OptimizationConfig, say: Callable[[str], None], importances: "Importances") -> "WebDashboard":
    from seedpod.dashboard.web.page import WebDashboard
    from seedpod.results.run_folder import RunFolder

    def earlier(folder: Path) -> Iterable["FinishedTrial"]:
        return RunFolder(folder).read_trials().values()

    return WebDashboard(say, port=config.web_port, earlier=earlier, importances=importances)


def _on_a_run(command: str, words: list[str]) -> int:
    from seedpod.run_commands import COMMANDS, config_of_run

    if command == "final":
        from seedpod.keys import take_key, with_dotenv

        environment = with_dotenv(os.environ, Path.cwd())
        rest, key = take_key(words, environment, _warn)
        return _final(config_of_run(command, rest, environment), key)
    return COMMANDS[command](words, os.environ, _show, _warn)


def _final(config: OptimizationConfig, key: "Secret | None") -> int:
    from seedpod.assembly import final_elsewhere
    from seedpod.config.needed import require_for_final_model
    from seedpod.dashboard.terminal import Terminal
    from seedpod.optimizer import Finisher
    from seedpod.training.runtime import usable_cores

    require_for_final_model(config)
    terminal = Terminal(sys.stdout, usable_cores(), mode="plain")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_Lines(terminal.say)])
    elsewhere = final_elsewhere(config, key, terminal.say, Path(config.cache_dir).expanduser())
    finisher = Finisher(config, observer=terminal, elsewhere=elsewhere)
    run = config.run_name

    def tries_again() -> str:
        return f"It could not be ended in time. The search is saved: python optimizer.py final run={run} tries again."

    with _signals(lambda _: finisher.stop(), terminal.say, tries_again) as received:
        final = finisher.finish(run)
    if received:
        return INTERRUPTED + received[0]
    if final is None:
        print(f"run {run} has no complete trial, so there is nothing to train.", file=sys.stderr)
        return FAILED
    return DONE


def _unused(loaded: LoadedConfig) -> Iterator[str]:
    """A line for settings that were given and that this search has no use for."""
    config = loaded.config
    # What a run that goes on was begun with has been said then; its configuration names every setting.
    own = f"{shown(Path(config.results_dir).expanduser() / config.run_name / 'config.yaml')}:"
    given = {name for name, origin in loaded.origins.items() if origin != "default" and not origin.startswith(own)}
    if "web_port" in given and config.dashboard != "web":
        yield "web_port: for dashboard=web alone."
    needed = config.use_runpod_service and (config.own_images or config.final_on == "remote")
    if "data_store" in given and config.data_store and not needed:
        yield "data_store: for remote trials on images of your own alone; nothing is uploaded."
    remote = [name for name in ("concurrent", "concurrent_workers") if name in given]
    if remote and not config.use_runpod_service:
        yield f"{' and '.join(remote)}: for remote trials alone; local_workers=N runs N at once on this machine."


@contextmanager
def _signals(
    stop: Callable[[str], None], say: Callable[[str], None], too_late: Callable[[], str]
) -> Iterator[list[int]]:
    """Turn the first Ctrl-C or SIGTERM into an orderly stop and the second into an end; yields those received.

    What ``too_late`` returns is said where the stop takes too long.
    """
    received: list[int] = []
    over = Guarded([False])

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            # The trainer processes end with this one: their input closes, and Linux signals them.
            os._exit(INTERRUPTED + number)
        # In a thread of its own: the interrupted main thread may hold the very locks that stopping needs.
        threading.Thread(target=_stop, args=(stop, say, too_late, number, over), daemon=True, name="stopping").start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        with over.locked() as ended:
            ended[0] = True
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(
    stop: Callable[[str], None],
    say: Callable[[str], None],
    too_late: Callable[[], str],
    number: int,
    over: Guarded[list[bool]],
) -> None:
    say("Stopping: what runs is cancelled, results are saved. Once more ends at once.")
    stop("interrupted")
    if over.wait_for(lambda ended: ended[0] or None, _STOP_PATIENCE):
        return
    say(too_late())
    os._exit(INTERRUPTED + number)


class _Lines(logging.Handler):
    """Log records as lines above whatever moves on the terminal."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(self.format(record))


def _never_fail_to_encode(stream: TextIO) -> None:
    """A class name in a script that the terminal's encoding lacks becomes a question mark, not a crash."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
