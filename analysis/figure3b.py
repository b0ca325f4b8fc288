#!/usr/bin/env python3
"""Figure 3(b) of the paper: t-SNE maps of the same test samples, with what each map keeps.

Example: python analysis/figure3b.py --runs runs/digits --out figures
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reprkit.exits import exit_code
from reprkit.files import check_out_folder


def main(arguments: list[str] | None = None) -> int:
    """Write figure3b as PDF, PNG and CSV; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", required=True, action="extend", nargs="+", type=Path, metavar="OUT",
        help="folders that `reprkit run` wrote",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write the figure to")
    parser.add_argument("--seed", type=int, help="training seed of the maps (default: the lowest)")
    options = parser.parse_args(arguments)

    def draw() -> None:
        check_out_folder(options.out)
        from reprkit.analysis.figures.write import write_figure3b

        for path in write_figure3b(options.runs, options.out, seed=options.seed):
            print(path)

    return exit_code(draw)


if __name__ == "__main__":
    sys.exit(main())
