#!/usr/bin/env python3
"""Table 4 of the paper, with intervals: (a) number of dummies and of tasks, (b) Swin, (c) PASCAL-Context.

Each part is written that is given its folders. In (a) each folder has DGR with one number of dummies.

Example: python analysis/table4.py --dummies runs/imagenet_1 runs/imagenet_3 --swin runs/nyuv2_swin --out tables
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reprkit.exits import exit_code
from reprkit.files import check_out_folder


def main(arguments: list[str] | None = None) -> int:
    """Write table4a, table4b, table4c as CSV, Markdown and LaTeX, and print the Markdown; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part, what in (("dummies", "for (a)"), ("swin", "for (b)"), ("pascal", "for (c)")):
        parser.add_argument(
            f"--{part}", action="extend", nargs="+", metavar="OUT", help=f"folders that `reprkit run` wrote, {what}"
        )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write the tables to")
    options = parser.parse_args(arguments)
    if not (options.dummies or options.swin or options.pascal):
        parser.error("give folders after --dummies, --swin or --pascal")

    def draw() -> None:
        from reprkit.analysis.dummies_table import write_dummies_table
        from reprkit.analysis.score_tables import write_score_table

        check_out_folder(options.out)
        paths = write_dummies_table(options.dummies, options.out, "table4a") if options.dummies else []
        for folders, name in ((options.swin, "table4b"), (options.pascal, "table4c")):
            paths += write_score_table(folders, options.out, name) if folders else []
        for path in paths:
            if path.suffix == ".md":
                print(path.read_text(encoding="utf-8"))
        for path in paths:
            print(path)

    return exit_code(draw)


if __name__ == "__main__":
    sys.exit(main())
