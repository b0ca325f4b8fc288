"""What each command of the command line does with its arguments. Heavy imports wait until a command runs."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from reprkit.errors import InputError
from reprkit.exits import is_first_process
from reprkit.files import check_out_file, check_out_folder
from reprkit.recipe import split_method


def demo(args: Namespace) -> None:
    """The whole way on the embedded digits."""
    from reprkit.config import parse_recipe
    from reprkit.run import DEMO, run

    recipe = parse_recipe(DEMO.to_json(), args.overrides) if args.overrides else DEMO
    _announce(run(recipe, args.out, jobs=args.jobs))


def run(args: Namespace) -> None:
    """Run a recipe."""
    from reprkit.config import load_recipe
    from reprkit.run import parse_shard, run

    recipe = load_recipe(args.recipe, args.overrides)
    if args.data:
        recipe = replace(recipe, data=replace(recipe.data, root=args.data))
    if args.print_config:
        _print_recipe(recipe)
        return
    _announce(run(recipe, args.out, shard=parse_shard(args.shard), jobs=args.jobs))


def _announce(result: Path) -> None:
    if result.suffix == ".html":
        print(f"report: {result}")
        print(f"tables and figures: {result.parent}")
    else:
        print(f"waiting for other shards: {result}")


def train(args: Namespace) -> None:
    """Train one encoder, score its heads on test and print the scores."""
    from reprkit.config import load_recipe
    from reprkit.training import score_test_split, train

    if args.recipe and args.config:
        raise InputError("name the recipe once: as RECIPE or with --config")
    alone = []
    if args.method:
        split_method(args.method)  # its error should name no file
        alone = [f"--methods={json.dumps([args.method])}", "--grid={}"]
    recipe = load_recipe(args.recipe or args.config, [*args.overrides, *alone])
    if args.data:
        recipe = replace(recipe, data=replace(recipe.data, root=args.data))
    if args.print_config:
        _print_recipe(recipe)
        return
    from reprkit.data import load_dataset
    from reprkit.training.job import Job

    if args.out:
        check_out_folder(args.out)
    Job(recipe, args.method or recipe.methods[0], recipe.seeds[0] if args.seed is None else args.seed, args.task)
    dataset = load_dataset(recipe.data)
    if is_first_process():
        print(dataset.summary(), file=sys.stderr)
    folder = train(recipe, args.out, method=args.method, seed=args.seed, task=args.task, dataset=dataset)
    if not is_first_process():
        return
    scores = json.loads(score_test_split(folder, dataset, recipe.embed.checkpoint, recipe.train.device).read_text())
    for name, task in scores["tasks"].items():
        score = "none" if task["score"] is None else f"{task['score']:.4f}"
        print(f"test {name}: {task['metric']} {score} (n = {task['n']})")
    print(f"run folder: {folder}")


def _print_recipe(recipe: Any) -> None:
    import yaml

    print(yaml.safe_dump(recipe.to_json(), sort_keys=False, width=100), end="")


def embed(args: Namespace) -> None:
    """Dump the frozen embeddings of a checkpoint."""
    from reprkit.config import parse_recipe
    from reprkit.recipe import EmbedConfig
    from reprkit.training import embed
    from reprkit.training.checkpoint import find_checkpoint, read_header

    given = {
        "checkpoint": args.which, "batch_size": args.batch_size, "dtype": args.dtype, "precision": args.precision,
        "positions": args.positions,
    }  # fmt: skip
    first = find_checkpoint(args.checkpoint)
    recipe = parse_recipe(read_header(first)["recipe"], source=str(first))
    config = replace(recipe.embed, **{name: value for name, value in given.items() if value is not None})
    out = args.out
    if out is None:
        usual = EmbedConfig()
        odd = [v for name, v in given.items() if name != "batch_size" and v not in (None, getattr(usual, name))]
        out = first.parent / ("-".join(["embeddings", *map(str, odd)]) + ".h5")
    path = embed(args.checkpoint, out, data=args.data, config=config, device=args.device)
    if is_first_process():
        print(path)


def predict(args: Namespace) -> None:
    """Write panels of predictions."""
    from reprkit.predict import predict

    options = {name: getattr(args, name) for name in ("data", "out", "split", "samples", "ids", "device")}
    for path in predict(args.checkpoint, **options):
        print(path)


def universality(args: Namespace) -> None:
    """Print how universal embeddings are."""
    import pandas as pd

    from reprkit.analysis.universal.score import universality
    from reprkit.embeddings import Embeddings, distinct_labels
    from reprkit.embeddings.verification import split_notes
    from reprkit.files import write_frame
    from reprkit.recipe import UniversalityConfig

    if args.out:
        check_out_file(args.out)
    config = UniversalityConfig(num_dummies=args.num_dummies, heads=tuple(args.heads), init=args.init)
    with ExitStack() as stack:
        files = [stack.enter_context(Embeddings(path, groups=args.groups)) for path in args.embeddings]
        frames = [
            universality(file, tasks=args.tasks, config=config, label=label)
            for file, label in zip(files, distinct_labels(files), strict=True)
        ]
        notes = split_notes(files)
    frame = pd.concat(frames, ignore_index=True)
    shown = ["encoder", "seed", "task", "head", "status", "U_rel", "U_rel_low", "U_rel_high", "U_rel_tau", "gap", "U",
             "L_star", "L_dummy", "H_y", "rms", "effective_rank"]  # fmt: skip
    print(frame[shown].to_string(index=False, float_format="%#.4g"), *notes, sep="\n")
    if args.out:
        write_frame(frame, Path(args.out))


def compare(args: Namespace) -> None:
    """Print what tells encoders apart."""
    from reprkit.analysis.comparison.compare import compare_encoders, compare_seeds

    if bool(args.seeds) == bool(args.embeddings):
        raise InputError("compare: give two or more embeddings files, or folders of runs after --seeds")
    if args.out:
        check_out_folder(args.out)
    given = {name: value for name in ("probes", "parts") if (value := getattr(args, name)) is not None}
    options = {name: getattr(args, name) for name in ("tasks", "baseline", "view", "different_transform")}
    if args.seeds:
        if args.groups:
            raise InputError("compare: --groups is for files; the files of run folders say it themselves")
        result = compare_seeds(args.seeds, **options, **given)
    else:
        result = compare_encoders(*args.embeddings, groups=args.groups, **options, **given)
    print(result.text())
    if args.out:
        print(f"\nreport: {result.write(args.out)[-1]}")


def geometry(args: Namespace) -> None:
    """Print size, shape and order of embeddings."""
    import pandas as pd

    from reprkit.analysis.shape.ordinal import ordinal_alignment
    from reprkit.analysis.shape.table import geometry
    from reprkit.analysis.workspace import Workspace
    from reprkit.embeddings import Embeddings, distinct_labels
    from reprkit.files import write_frame

    if args.out:
        check_out_folder(args.out)
    shapes, orders = [], []
    with ExitStack() as stack:
        files = [stack.enter_context(Embeddings(path)) for path in args.embeddings]
        for file, label in zip(files, distinct_labels(files, across_seeds=True), strict=True):
            workspace = Workspace(file)
            shapes.append(geometry(workspace, tasks=args.tasks, split=args.split, label=label))
            orders.append(ordinal_alignment(workspace, tasks=args.tasks, label=label))
    found = {"geometry": pd.concat(shapes, ignore_index=True), "ordinal": pd.concat(orders, ignore_index=True)}
    for frame, keys in zip(found.values(), (["task", "metric"], ["task", "space", "metric"]), strict=True):
        if len(frame):
            wide = frame.pivot_table(index=keys, columns="encoder", values="value", sort=False, dropna=False)
            print(wide.dropna(how="all").to_string(float_format="%.4g"), end="\n\n")
    for reason in dict.fromkeys(row for row in found["geometry"]["status"] if not row.startswith("ok")):
        print(f"note: {reason}")
    if args.out:
        for name, frame in found.items():
            write_frame(frame, Path(args.out) / f"{name}.csv")
        print(f"tables: {args.out}")


def tsne(args: Namespace) -> None:
    """Draw maps."""
    from reprkit.analysis.maps.write import write_maps
    from reprkit.embeddings import Embeddings, distinct_labels
    from reprkit.recipe import TsneConfig

    check_out_folder(args.out)
    config, *_ = [TsneConfig(samples=args.samples, perplexity=value) for value in args.perplexity]  # all are checked
    with ExitStack() as stack:
        files = [stack.enter_context(Embeddings(path)) for path in args.embeddings]
        place = stack.enter_context(Embeddings(args.place)) if args.place else None
        labels = distinct_labels(files, across_seeds=True)
        options = {"kinds": args.map, "perplexities": args.perplexity, "place": place}
        quality, figures = write_maps(files, labels, Path(args.out), config=config, **options)
    print(quality.to_string(index=False, float_format="%.4g", na_rep=""))
    for figure in figures:
        print(f"figure: {figure}")


def explore(args: Namespace) -> None:
    """Write the page of linked maps."""
    from reprkit.explore import explore_files
    from reprkit.recipe import TsneConfig

    check_out_file(args.out)
    config = TsneConfig(samples=args.samples, perplexity=args.perplexity)
    probe = "" if args.probe == "none" else args.probe
    page = explore_files(args.embeddings, data=args.data, images=args.images, config=config, probe=probe)
    print(f"page: {page.write(args.out)}")


def report(args: Namespace) -> None:
    """Draw figures and report of a run again."""
    from reprkit.analysis.reporting.report import write_report

    _announce(write_report(Path(args.folder)))


def inspect(args: Namespace) -> None:
    """Say what a file is."""
    from reprkit.inspection import describe_path

    print(describe_path(Path(args.file)))


def doctor(args: Namespace) -> None:
    """Say what is wrong with the installation, and mend what can be."""
    from reprkit.doctor import doctor

    doctor([Path(path) for path in args.paths], mend=args.mend)
