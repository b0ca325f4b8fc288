#!/usr/bin/env python3
"""Figure 3 of the paper, done properly: simple predictors on frozen embeddings (a) and t-SNE maps (b).

Example: python analysis/figure3.py --runs runs/digits --out figures
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reprkit.exits import exit_code
from reprkit.files import check_out_folder


def main(arguments: list[str] | None = None) -> int:
    """Write figure3a and figure3b as PDF, PNG and CSV; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", required=True, type=Path, metavar="OUT", help="folder that `reprkit run` wrote")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write the figure to")
    parser.add_argument("--seed", type=int, help="training seed of the maps (default: the lowest)")
    options = parser.parse_args(arguments)

    def draw() -> None:
        check_out_folder(options.out)
        from reprkit.analysis.figures.write import write_figure3

        for path in write_figure3(options.runs, options.out, seed=options.seed):
            print(path)

    return exit_code(draw)


if __name__ == "__main__":
    sys.exit(main())
