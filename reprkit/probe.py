"""`python -m reprkit.probe CHECKPOINT_OR_EMBEDDINGS`: how good are these frozen representations?"""

from __future__ import annotations

import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from reprkit.embeddings import sources
from reprkit.embeddings.dispatch import split_name
from reprkit.errors import InputError
from reprkit.exits import OneLineParser, exit_code
from reprkit.recipe import PROBE_GROUPS, PROBES

if TYPE_CHECKING:
    import pandas as pd

    from reprkit.embeddings import Embeddings

_CHECKPOINTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    groups = ", ".join(f"{name} means {' '.join(members)}" for name, members in PROBE_GROUPS.items())
    parser = OneLineParser(
        prog="python -m reprkit.probe",
        description="Fit simple predictors (probes) on frozen embeddings and score them on the test split with 95%\n"
        "intervals. Hyperparameters are chosen on the validation split only. analysis/COLUMNS.md explains the table.",
        epilog="A checkpoint (.safetensors) or run folder is embedded first. Sources of any kinds and tasks make\n"
        f"one table.\n\n{sources()}",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("sources", nargs="+", metavar="CHECKPOINT_OR_EMBEDDINGS")
    parser.add_argument("--data", help="root of the data set, for a checkpoint whose data has moved")
    parser.add_argument("--probes", nargs="+", default=["knn", "linear", "svm", "tree"],
                        help=f"any of {' '.join(PROBES)}; {groups} (default: knn linear svm tree)")  # fmt: skip
    parser.add_argument("--tasks", nargs="+", help="default: the tasks the encoder was trained for; a source that has "
                        "only some of them is probed on those")  # fmt: skip
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples for intervals (default: %(default)s)")
    parser.add_argument("--out", help="CSV to write as well; predictions go to a folder beside it")
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    return exit_code(lambda: _probe(args.sources, args.data, args.probes, args.tasks, args.bootstrap, args.out))


def _probe(
    named: list[str], data: str | None, probes: list[str], tasks: list[str] | None, bootstrap: int, out: str | None
) -> None:
    import pandas as pd

    from reprkit.analysis.probes import probe_with_predictions
    from reprkit.embeddings import Embeddings, distinct_labels
    from reprkit.files import check_out_file, slug, write_frame
    from reprkit.recipe import ProbeConfig

    config = ProbeConfig(probes=tuple(probes), bootstrap=bootstrap)
    if out:
        check_out_file(out)
    frames = []
    with ExitStack() as stack:
        files = [stack.enter_context(Embeddings(embeddings_of(Path(source), data))) for source in named]
        for file, label in zip(files, distinct_labels(files), strict=True):
            result = probe_with_predictions(file, tasks=own_tasks(file, files, tasks), config=config, label=label)
            frames.append(result.frame)
            if out:
                home = Path(out).with_name(Path(out).stem + "_predictions")
                for task, predictions in result.predictions.items():
                    write_frame(predictions, home / f"{slug(label)}_seed{file.seed}__{slug(task)}.csv")
    frame = pd.concat(frames, ignore_index=True)
    if out:
        write_frame(frame, Path(out))
    print(table(frame))


def own_tasks(file: Embeddings, files: Sequence[Embeddings], tasks: Sequence[str] | None) -> Sequence[str] | None:
    """Those of `tasks` that `file` has; also those that no file has, and all if it has none: they are refused."""
    if tasks is None:
        return None
    anywhere = {name for each in files for name in each.tasks}
    return [name for name in tasks if name in file.tasks or name not in anywhere] or tasks


def embeddings_of(source: Path, data: str | None = None) -> Path:
    """The embeddings file that `source` means; a checkpoint or run folder is embedded first.

    A run folder's own `embeddings.h5` is used as it is, unless other data is named; a bare checkpoint is embedded
    beside itself.
    """
    if source.is_dir():
        if data is None and (source / "embeddings.h5").is_file():
            return source / "embeddings.h5"
        from reprkit.training import embed

        return embed(source, data=data)
    if not split_name(source)[0].is_file():
        raise InputError(f"{source}: no such file; give a checkpoint, a run folder or an embeddings file")
    if source.suffix in _CHECKPOINTS:
        from reprkit.training import embed

        return embed(source, source.with_suffix(".embeddings.h5"), data=data)
    return source


def table(frame: pd.DataFrame) -> str:
    """Headline scores of a probe table as text: one row per encoder and task, one column per probe."""
    head = frame[frame.metric.isin(["accuracy", "r2"])].copy()
    if head.empty:
        return frame.to_string(index=False)
    head["score"] = [f"{v:.3f} [{a:.3f}, {b:.3f}]" for v, a, b in zip(head.value, head.low, head.high, strict=True)]
    order = list(dict.fromkeys(head.probe))
    wide = head.pivot_table(index=["encoder", "seed", "task", "metric"], columns="probe", values="score",
                            aggfunc="first", sort=False)  # fmt: skip
    text = wide[order].reset_index().to_string(index=False)
    odd = frame[(frame.status != "ok")].drop_duplicates(["encoder", "seed", "task", "probe"])
    notes = [f"note: {r.encoder} {r.task} {r.probe}: {r.status}" for r in odd.itertuples()]
    return "\n".join([text, *notes])


if __name__ == "__main__":
    sys.exit(main())
