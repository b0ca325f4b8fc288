#!/usr/bin/env python3
"""What each method costs: passes through encoder and heads a step, time and memory, beside Vanilla.

Example: python analysis/cost_table.py --runs runs/digits --out tables
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reprkit.exits import exit_code
from reprkit.files import check_out_folder


def main(arguments: list[str] | None = None) -> int:
    """Write cost_table as CSV, Markdown and LaTeX, and print the Markdown; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", required=True, action="extend", nargs="+", type=Path, metavar="OUT",
        help="folders that `reprkit run` wrote",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write the table to")
    options = parser.parse_args(arguments)

    def draw() -> None:
        from reprkit.analysis.cost import write_cost_table

        check_out_folder(options.out)
        paths = write_cost_table(options.runs, options.out)
        print(next(path for path in paths if path.suffix == ".md").read_text(encoding="utf-8"))
        for path in paths:
            print(path)

    return exit_code(draw)


if __name__ == "__main__":
    sys.exit(main())
