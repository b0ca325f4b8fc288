#!/usr/bin/env python3
"""Figure 2 of the paper, with intervals: multi-task gain of Vanilla and other methods, alone and with DGR, SAM, PTA.

Example: python analysis/figure2.py --runs runs/digits --out figures --bases vanilla cagrad nash_mtl
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reprkit.exits import exit_code
from reprkit.files import check_out_folder


def main(arguments: list[str] | None = None) -> int:
    """Write figure2 as PDF, PNG and CSV; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", required=True, action="extend", nargs="+", type=Path, metavar="OUT",
        help="folders that `reprkit run` wrote",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write the figure to")
    parser.add_argument(
        "--bases", nargs="+", default=(), metavar="METHOD", help="methods to show (default: all that have an addition)"
    )
    options = parser.parse_args(arguments)

    def draw() -> None:
        check_out_folder(options.out)
        from reprkit.analysis.figures.additions import write_figure2

        for path in write_figure2(options.runs, options.out, bases=options.bases):
            print(path)

    return exit_code(draw)


if __name__ == "__main__":
    sys.exit(main())
