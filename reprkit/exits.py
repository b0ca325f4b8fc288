"""Exit codes: 0 done, 1 failed, 2 wrong use or input, 130 interrupted and resumable."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from tqdm.contrib.logging import logging_redirect_tqdm

from reprkit.errors import Failed, InputError

_NO_MEMORY = "out of memory; lower the batch size, the size of the model or the number of rows"


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def is_first_process() -> bool:
    """True unless torchrun started this process beside a first one, which does the talking."""
    return os.environ.get("RANK", "0") == "0"


def exit_code(command: Callable[[], None]) -> int:
    """Run a command; turn what it raises into one clear line on stderr and an exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("reprkit").setLevel(logging.INFO if is_first_process() else logging.WARNING)
    try:
        with logging_redirect_tqdm():  # log lines above the bars, not through them
            command()
    except InputError as error:
        return _say(error, 2)
    except KeyboardInterrupt as error:
        return _say(error if str(error) else "interrupted; the same command continues", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader, such as `head`, has gone
        return 0
    except (Failed, OSError) as error:
        return _say(error, 1)
    except MemoryError:
        return _say(_NO_MEMORY, 1)
    except Exception as error:
        if "allocate memory" in str(error) or "out of memory" in str(error):  # torch raises a RuntimeError
            return _say(_NO_MEMORY, 1)
        traceback.print_exc()
        return 1
    return 0


def _say(message: object, code: int) -> int:
    text = " ".join(str(message).split())
    if code != 130:
        text = f"error: {text}" if is_first_process() else f"process {os.environ['RANK']}: error: {text}"
    elif not is_first_process():
        return code
    print(text, file=sys.stderr)
    return code
