#!/usr/bin/env python3
"""Table 1 of the paper, with intervals: test accuracy of every method on every task, and the multi-task gain.

Beside it, dgr_gain: what DGR changes in the gain of each method, paired over seeds.

Example: python analysis/table1.py --runs runs/digits --out tables
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reprkit.exits import exit_code
from reprkit.files import check_out_folder


def main(arguments: list[str] | None = None) -> int:
    """Write table1 (and dgr_gain) as CSV, Markdown and LaTeX, and print the Markdown; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", required=True, action="extend", nargs="+", type=Path, metavar="OUT",
        help="folders that `reprkit run` wrote",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write the table to")
    parser.add_argument("--baseline", default="single", help="encoder that the gain is measured against")
    options = parser.parse_args(arguments)

    def draw() -> None:
        from reprkit.analysis.tables import write_table1

        check_out_folder(options.out)
        paths = write_table1(options.runs, options.out, baseline=options.baseline)
        for path in paths:
            if path.suffix == ".md":
                print(path.read_text(encoding="utf-8"))
        for path in paths:
            print(path)

    return exit_code(draw)


if __name__ == "__main__":
    sys.exit(main())
