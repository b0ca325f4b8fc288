"""What the scripts of `analysis/` share: run folders in, files out, one line where the input is wrong."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path

from reprkit.exits import exit_code
from reprkit.files import check_out_folder

Write = Callable[[Namespace], Sequence[Path]]
"""Makes the files of a script from its options; returns their paths."""


def script_parser(description: str | None, *, runs: bool = True) -> ArgumentParser:
    """A parser with `--runs OUT [OUT ...]` (unless `runs` is False) and `--out DIR`, to which options may be added."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False)
    if runs:
        parser.add_argument(
            "--runs", required=True, action="extend", nargs="+", type=Path, metavar="OUT",
            help="folders that `reprkit run` wrote",
        )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write to")
    return parser


def run_script(parser: ArgumentParser, write: Write, arguments: Sequence[str] | None = None) -> int:
    """Parse, write, print the Markdown tables and the paths of all files; returns the exit code.

    Args:
        parser: of `script_parser`.
        write: what the script does; it imports what is heavy itself, so that `--help` does not wait.
        arguments: None takes those of the command line.
    """
    options = parser.parse_args(arguments)

    def work() -> None:
        check_out_folder(options.out)
        paths = write(options)
        for path in paths:
            if path.suffix == ".md":
                print(path.read_text(encoding="utf-8"))
        for path in paths:
            print(path)

    return exit_code(work)
