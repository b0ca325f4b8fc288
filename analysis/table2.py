#!/usr/bin/env python3
"""Table 2 of the paper, with intervals: NYUv2 with Split and MTAN, every metric of every task and the multi-task gain.

Beside it, table2_dgr_gain: what DGR changes in the gain of each method, paired over seeds.

Example: python analysis/table2.py --runs runs/nyuv2_split runs/nyuv2_mtan --out tables
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reprkit.exits import exit_code
from reprkit.files import check_out_folder


def main(arguments: list[str] | None = None) -> int:
    """Write table2 (and its dgr_gain) as CSV, Markdown and LaTeX, and print the Markdown; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", required=True, action="extend", nargs="+", metavar="OUT", help="folders that `reprkit run` wrote"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write the table to")
    options = parser.parse_args(arguments)

    def draw() -> None:
        from reprkit.analysis.score_tables import write_score_table

        check_out_folder(options.out)
        paths = write_score_table(options.runs, options.out, "table2")
        for path in paths:
            if path.suffix == ".md":
                print(path.read_text(encoding="utf-8"))
        for path in paths:
            print(path)

    return exit_code(draw)


if __name__ == "__main__":
    sys.exit(main())
