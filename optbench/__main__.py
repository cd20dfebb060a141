"""``optbench`` and ``python -m optbench``: signals and standard streams, before anything large is imported."""

import os
import signal
import sys
from types import FrameType

MESSAGE = b"optbench: interrupted\n"

_is_running = False  # whether a command has begun, which ends in order by KeyboardInterrupt
_received = 0  # number of the signal that ends this process


def main() -> int:
    """Run a command and return its exit status; 128 and the number of the signal if a signal ended it."""
    global _is_running
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _end)
    if problem := _check_streams():
        print(f"optbench: {problem}", file=sys.stderr)
        return 2
    from optbench.cli import main as run_command

    _is_running = True
    status = 0
    try:
        status = run_command()
    except SystemExit as end:  # of --help and --version
        status = 2 if end.code else 0
    except Exception:
        if not _received:
            raise
        os.write(2, MESSAGE)  # a library has turned the interruption into an error
    finally:
        _is_running = False
    if _received:
        for number in {signal.SIGINT, _received}:
            signal.signal(number, signal.SIG_IGN)  # Python would restore the handlers of the system at its end
        return 128 + _received
    return _flush(status)


def _flush(status: int) -> int:
    """Write what is buffered for the standard streams; returns the exit status."""
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)  # or Python would complain at its end
            if isinstance(error, BrokenPipeError):
                return 141
            if status == 0:
                print(f"optbench: standard output cannot be written: {error.strerror}", file=sys.stderr)
                status = 2
    return status


def _end(number: int, frame: FrameType | None) -> None:
    """Handle a signal: the first one ends a command in order, a further one at once.

    During an import a process ends at once, too, because some modules turn KeyboardInterrupt into other errors or print it.
    """
    global _received
    is_first, _received = not _received, number
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    if _is_running and is_first and frame is None:
        raise KeyboardInterrupt
    os.write(2, MESSAGE)
    os._exit(128 + number)


def _check_streams() -> str:
    """Open missing streams, so that no file of ours takes their place; returns what keeps a command from printing."""
    is_closed = sys.stdout is None
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8")  # noqa: SIM115
    if is_closed:
        return "standard output is closed; send it to a file or to /dev/null"
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # what an encoding lacks is written as \u2013
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
