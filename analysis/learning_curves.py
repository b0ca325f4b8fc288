#!/usr/bin/env python3
"""Learning curves: loss and headline metric of every task by epoch, on train and validation, and the DGR penalty.

Example: python analysis/learning_curves.py --runs runs/digits --out figures
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reprkit.exits import exit_code
from reprkit.files import check_out_folder


def main(arguments: list[str] | None = None) -> int:
    """Write learning_curves as PDF, PNG and CSV; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", required=True, action="extend", nargs="+", type=Path, metavar="OUT",
        help="folders that `reprkit run` wrote",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write the figure to")
    options = parser.parse_args(arguments)

    def draw() -> None:
        check_out_folder(options.out)
        from reprkit.analysis.figures.write import write_learning_curves

        for path in write_learning_curves(options.runs, options.out):
            print(path)

    return exit_code(draw)


if __name__ == "__main__":
    sys.exit(main())
