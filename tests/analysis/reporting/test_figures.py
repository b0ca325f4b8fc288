"""Figures: what the artists show is what the frames say."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from reprkit.analysis import style
from reprkit.analysis.figures import (
    curves_figure,
    placed_figure,
    probe_figure,
    strip_figure,
    tsne_figure,
    universality_figure,
    write_figures,
)
from reprkit.analysis.reporting.training_log import read_curves
from reprkit.errors import InputError
from reprkit.tasks import Task

TASKS = (Task("left", "classification", 3), Task("sum", "ordinal", 5))


def panels(figure):
    """Axes by title, without legends' and colour bars' axes."""
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def marks(axes):
    """encoder -> (x, y, low, high) of its marks."""
    found = {}
    for container in axes.containers:
        line, _, (bars,) = container.lines
        ends = np.array(bars.get_segments())
        found[container.get_label()] = (*line.get_data(), ends[:, 0, 1], ends[:, 1, 1])
    return found


def test_probe_whiskers_of_one_seed_are_the_rows_own_intervals(make):
    frame = make(seeds=1).probes
    figure = probe_figure(frame)
    assert list(panels(figure)) == ["left", "sum", "age"]
    for task, axes in panels(figure).items():
        assert list(marks(axes)) == ["single", "vanilla", "vanilla+dgr"]
        for encoder, (x, y, low, high) in marks(axes).items():
            metric = "r2" if task == "age" else "accuracy"
            own = frame[(frame.task == task) & (frame.encoder == encoder) & (frame.metric == metric)]
            own = own.set_index("probe").loc[["knn", "linear"]]
            assert [axes.get_xticklabels()[round(at)].get_text() for at in x] == ["kNN", "Linear"]
            assert y == pytest.approx(own.value.to_numpy())
            assert low == pytest.approx(own.low.to_numpy())
            assert high == pytest.approx(own.high.to_numpy())


def test_probe_whiskers_of_several_seeds_are_student_intervals(make):
    frame = make(seeds=3).probes
    axes = panels(probe_figure(frame))["left"]
    own = frame[(frame.task == "left") & (frame.encoder == "vanilla") & (frame.probe == "knn")].value
    _, y, low, high = marks(axes)["vanilla"]
    half = 4.302652729911275 * own.std(ddof=1) / np.sqrt(3)  # t quantile at 0.975 with 2 degrees of freedom
    assert (y[0], low[0], high[0]) == pytest.approx((own.mean(), own.mean() - half, own.mean() + half))
    dots = next(c for c in axes.collections if c.get_label() == "_seeds vanilla")
    knn = dots.get_offsets()[dots.get_offsets()[:, 0] < 0.5]  # the first group stands around 0
    assert sorted(knn[:, 1]) == pytest.approx(sorted(own))


def test_floor_is_drawn_or_the_axis_is_marked_as_broken(make):
    frame = make(seeds=1).probes
    far = panels(probe_figure(frame))["left"]
    assert [line for line in far.lines if line.get_label() == "_break"]
    assert any("0.30" in text.get_text() for text in far.texts)
    assert not [line for line in far.lines if line.get_label() == "_floor"]
    frame.loc[frame.probe == "prior", "value"] = 0.76
    near = panels(probe_figure(frame))["left"]
    (floor,) = [line for line in near.lines if line.get_label() == "_floor"]
    assert floor.get_ydata()[0] == pytest.approx(0.76)
    low, high = near.get_ylim()
    assert low < 0.76 < high


def test_axis_from_zero_is_not_marked_as_broken(make):
    frame = make(seeds=1).probes
    frame.loc[frame.probe == "prior", ["value", "low", "high"]] = 0.0
    frame.loc[(frame.probe == "knn"), ["value", "low"]] = 0.0
    axes = panels(probe_figure(frame))["left"]
    assert axes.get_ylim()[0] <= 0
    assert not [line for line in axes.lines if line.get_label() == "_break"]


def test_encoder_keeps_its_colour_and_place_where_others_are_missing(make):
    frame = make(seeds=1).probes
    frame = frame[~((frame.encoder == "single") & (frame.task == "left"))]
    shown = panels(probe_figure(frame))
    first, second = marks(shown["left"]), marks(shown["sum"])
    assert "single" not in first
    assert first["vanilla"][0] == pytest.approx(second["vanilla"][0])
    colour = {name: shown[name].containers[-1].lines[0].get_color() for name in ("left", "sum")}
    assert colour["left"] == colour["sum"] == style.encoder_styles(["vanilla+dgr"])["vanilla+dgr"]["color"]


def test_universality_shows_intervals_and_prints_what_has_no_value(make):
    frame = make(seeds=1).universality
    gone = (frame.encoder == "vanilla+dgr") & (frame.task == "sum")
    frame.loc[gone, ["U_rel", "U_rel_low", "U_rel_high"]] = np.nan
    frame.loc[gone, "status"] = "no_headroom"
    figure = universality_figure(frame)
    shown = list(panels(figure).values())
    assert len(shown) == 6
    _, y, low, high = marks(shown[0])["vanilla+dgr"]
    own = frame[(frame.encoder == "vanilla+dgr") & (frame.task != "sum")]
    assert y == pytest.approx(own.U_rel.to_numpy())
    assert low == pytest.approx(own.U_rel_low.to_numpy())
    assert high == pytest.approx(own.U_rel_high.to_numpy())
    assert [text.get_text() for text in shown[0].texts] == ["no headroom"]
    assert not shown[1].texts


def test_unbounded_interval_leaves_the_axis_finite(make):
    frame = make(seeds=1).universality
    frame.loc[0, "U_high"] = np.inf
    axes = list(panels(universality_figure(frame)).values())[2]
    assert np.isfinite(axes.get_ylim()).all()
    assert axes.get_ylim()[1] < 2


def test_map_panels_are_encoders_by_tasks_with_ordinal_colours_in_order(frames):
    figure = tsne_figure(frames.tsne, frames.tasks, frames.tsne_quality)
    grid = [axes for axes in figure.axes if any(c.get_label() in frames.tasks for c in axes.collections)]
    assert len(grid) == 9
    axes = next(a for a in grid if a.collections[0].get_label() == "sum")
    colours = [to_hex(c, keep_alpha=False) for c in axes.collections[0].get_facecolors()]
    one = frames.tsne[(frames.tsne.encoder == "single") & (frames.tsne.task == "sum") & (frames.tsne.seed == 0)]
    expected = style.class_colours(frames.tasks["sum"])
    assert colours == [expected[c] for c in one["sum"]]
    light = [0.2126 * int(c[1:3], 16) + 0.7152 * int(c[3:5], 16) + 0.0722 * int(c[5:], 16) for c in expected]
    assert light == sorted(light)  # also in print without colour
    (bar, _) = [child for axes in figure.axes for child in axes.child_axes]  # of sum and of age
    assert [t.get_text() for t in bar.get_xticklabels()] == ["0", "1", "2", "3", "4"]
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert [t.get_text() for t in legends[0].get_texts()] == ["a", "b", "c"]
    captions = [axes.get_xlabel() for axes in grid]
    assert "NH@10 0.60 (0.30) · recall@10 0.40\ntrust 0.90 · Spearman 0.50 · KL 0.70" in captions
    assert not [c for c in captions if "age" in c]


def test_map_panels_show_the_same_samples(frames):
    figure = tsne_figure(frames.tsne, frames.tasks, aligned=False)
    scatters = [c for axes in figure.axes for c in axes.collections if c.get_label() == "left"]
    assert len(scatters) == 3
    for drawn, (encoder, task) in zip(
        scatters, [("single", "left"), ("vanilla", ""), ("vanilla+dgr", "")], strict=True
    ):
        own = frames.tsne[(frames.tsne.encoder == encoder) & (frames.tsne.task == task) & (frames.tsne.seed == 0)]
        xy = own[["x", "y"]].to_numpy()
        shown = np.asarray(drawn.get_offsets())
        assert shown - shown[0] == pytest.approx(xy - xy[0])


def several_maps(frames):
    """Frames as `reprkit tsne --map tsne pca lda --perplexity 5 30` writes them: one map, each time another size."""
    maps = [("tsne", 5.0), ("tsne", 30.0), ("pca", np.nan), ("lda:left", np.nan), ("lda:sum", np.nan)]
    coordinates, qualities = [], []
    for number, (kind, perplexity) in enumerate(maps):
        own = {"map": kind, "perplexity": perplexity}
        turned = frames.tsne.assign(x=frames.tsne.y * (number + 1), y=-frames.tsne.x * (number + 1))
        coordinates.append(turned.assign(**own))
        linear = {"kl": np.nan, "explained": 0.25} if kind != "tsne" else {"kl": perplexity, "explained": np.nan}
        qualities.append(frames.tsne_quality.assign(**own, **linear))
    return pd.concat(coordinates, ignore_index=True), pd.concat(qualities, ignore_index=True)


def test_a_strip_has_a_column_a_map_and_each_its_own_caption(frames):
    frame, quality = several_maps(frames)
    figure = strip_figure(frame, "sum", frames.tasks, quality)
    grid = [axes for axes in figure.axes if any(c.get_label() == "sum" for c in axes.collections)]
    titles = [axes.get_title() for axes in grid][:4]
    assert titles == ["t-SNE, perplexity 5", "t-SNE, perplexity 30", "PCA", "LDA"]
    assert len(grid) == 3 * 4
    assert [axes.get_ylabel() for axes in grid][::4] == ["Single", "Vanilla", "Vanilla + DGR"]
    told = [axes.get_xlabel() for axes in grid]
    line = "NH@10 0.60 (0.30) · recall@10 0.40\ntrust 0.90 · Spearman 0.50"
    assert told[:4] == [
        f"{line} · KL 5.00", f"{line} · KL 30.00", f"{line}\n25% of variance", f"{line}\n25% of separation"
    ]  # fmt: skip
    for axes in grid:  # all turned onto one of them: they were the same but for a turn and a scale
        drawn = np.asarray(next(c for c in axes.collections if c.get_label() == "sum").get_offsets())
        mine = drawn - drawn.mean(axis=0)
        theirs = np.asarray(grid[4 * (grid.index(axes) // 4) + 1].collections[0].get_offsets())
        theirs = theirs - theirs.mean(axis=0)
        assert mine / np.linalg.norm(mine) == pytest.approx(theirs / np.linalg.norm(theirs))
    note = figure.get_supxlabel()
    assert all(part in note for part in ("Colour: sum", "t-SNE: ", "PCA: ", "LDA: ", "fitted on train"))


def test_one_kind_of_several_maps(frames):
    frame, quality = several_maps(frames)
    every = {"left", "sum", "age"}
    for kind, names in {"tsne": every, "pca": every, "lda": {"left", "sum"}}.items():
        figure = tsne_figure(frame, frames.tasks, quality, kind=kind)
        titles = {axes.get_title() for axes in figure.axes if axes.get_title()}
        assert titles == names
        told = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
        assert ("KL 30.00" in told[0]) == (kind == "tsne")  # the perplexity nearest to 30
        assert ("perplexity 30" in figure.get_supxlabel()) == (kind == "tsne")
    with pytest.raises(InputError, match=r"no map \(umap\) of seed 0"):
        tsne_figure(frame, frames.tasks, quality, kind="umap")
    with pytest.raises(InputError, match="no map of task 'colour'"):
        strip_figure(frame, "colour", frames.tasks, quality)


def test_maps_from_before_they_had_a_name_are_shown(frames):
    old = frames.tsne_quality.drop(columns=["trustworthiness", "map"])
    figure = tsne_figure(frames.tsne.drop(columns=["map", "perplexity"]), frames.tasks, old)
    assert "NH@10 0.60 (0.30) · recall@10 0.40\nSpearman 0.50 · KL 0.70" in [a.get_xlabel() for a in figure.axes]


def test_placed_samples_stand_over_mapped_ones(frames):
    frame, quality = several_maps(frames)
    one = [part[(part.encoder == "vanilla") & (part.seed == 0)] for part in (frame, quality)]
    placed = one[0].groupby("map").head(20).assign(x=lambda f: f.x + 0.1, id=lambda f: "new" + f.id)
    figure = placed_figure(one[0], placed[placed["map"] != "tsne"], frames.tasks, one[1])
    rows = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert rows == ["PCA", "LDA"]
    pca = next(axes for axes in figure.axes if axes.get_ylabel() == "PCA")
    grey, drawn = pca.collections
    assert (grey.get_label(), drawn.get_label()) == ("_mapped", "left")
    assert (len(grey.get_offsets()), len(drawn.get_offsets())) == (40, 20)
    assert "20 new samples" in figure.get_supxlabel()
    with pytest.raises(InputError, match="no placed samples"):
        placed_figure(one[0], placed[:0], frames.tasks)


def test_missing_targets_and_missing_maps(frames):
    frame = frames.tsne.copy()
    frame.loc[frame.index % 2 == 0, "left"] = -1
    frame = frame[~((frame.encoder == "single") & (frame.task == "sum"))]
    frame.loc[frame.encoder == "vanilla+dgr", ["x", "y"]] = 0.0
    figure = tsne_figure(frame, frames.tasks)
    texts = [t.get_text() for axes in figure.axes for t in axes.texts]
    assert texts.count("no map") == 4
    assert any(c.get_label() == "_missing" for axes in figure.axes for c in axes.collections)


def test_curves_are_means_of_the_recorded_epochs(tmp_path):
    lines = [
        '{"epoch": 1, "step": 1, "split": "train", "loss": {"a": 2.0}, "penalty": 0.5}',
        '{"epoch": 1, "step": 2, "split": "train", "loss": {"a": 1.0}, "penalty": 0.3}',
        '{"epoch": 1, "step": 2, "split": "val", "loss": {"a": 1.2}, "score": {"a": null}}',
        '{"epoch": 2, "step": 3, "sp',
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(lines))
    frame = read_curves([("vanilla+dgr", 0, path), ("vanilla+dgr", 1, path)])
    loss = frame[(frame.quantity == "loss") & (frame.split == "train") & (frame.seed == 0)]
    assert loss.value.tolist() == [1.5]
    figure = curves_figure(frame)
    penalty = next(axes for axes in figure.axes if axes.get_ylabel() == "DGR penalty")
    assert penalty.lines[-1].get_ydata() == pytest.approx([0.4])
    path.write_text("\n".join(["nonsense", *lines]))
    with pytest.raises(InputError, match="line 1"):
        read_curves([("vanilla", 0, path)])


def test_files_repeat_byte_for_byte_and_hold_the_data(tmp_path, make, write):
    frames = make(methods=["vanilla", "vanilla+dgr"], tasks=TASKS, seeds=1)
    folder = write(tmp_path / "sweep", frames)
    once, twice = write_figures(folder, tmp_path / "a"), write_figures(folder, tmp_path / "b")
    assert {path.name for path in once} == {
        f"{stem}.{ending}"
        for stem in ("probes", "differences", "universality", "tsne", "curves")
        for ending in ("pdf", "png", "csv")
    }
    for first, second in zip(once, twice, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name
    assert len(pd.read_csv(tmp_path / "a" / "probes.csv")) == len(frames.probes)
    assert b"CreationDate" not in (tmp_path / "a" / "probes.pdf").read_bytes()


def test_labels_are_text_not_formulas(make):
    frame = make(methods=["vanilla"], seeds=1).probes.assign(encoder="a$\\nonsense{b}$ & <c>")
    figure = probe_figure(frame)
    style.png_bytes(figure, dpi=40)  # would not parse as a formula
    assert figure.legends[0].get_texts()[0].get_text() == "a$\\nonsense{b}$ & <c>"


def test_encoder_order_and_styles_are_stable():
    names = ["mine", "pcgrad", "vanilla+dgr", "dwa+pta", "dwa+dgr", "single", "dwa", "a new one", "nash_mtl", "vanilla"]
    assert style.encoder_order(names) == [
        "single", "vanilla", "vanilla+dgr", "dwa", "dwa+dgr", "dwa+pta", "pcgrad", "nash_mtl", "a new one", "mine",
    ]  # fmt: skip
    looks = style.encoder_styles(names)
    assert len({tuple(look.values()) for look in looks.values()}) == len(names)
    assert style.encoder_styles(["vanilla"])["vanilla"] == looks["vanilla"]


@pytest.mark.parametrize("count", [2, 8, 10, 16, 40])
def test_classes_have_distinct_colours(count):
    for kind in ("classification", "ordinal"):
        assert len(set(style.class_colours(Task("t", kind, count)))) == count


def test_empty_frames_are_refused_in_one_line(frames):
    for draw, frame in (
        (probe_figure, frames.probes[:0]),
        (universality_figure, frames.universality[:0]),
        (tsne_figure, frames.tsne[:0]),
        (curves_figure, pd.DataFrame(columns=["encoder", "seed", "task", "quantity", "split", "epoch", "value"])),
    ):
        with pytest.raises(InputError):
            draw(frame)


def test_pyplot_and_user_settings_are_left_alone():
    code = """
import sys, matplotlib
matplotlib.rcParams["font.size"] = 31
before = matplotlib.rcParams.copy()
from reprkit.analysis import style
figure = style.new_figure(2, 2)
with style.context():
    figure.subplots()
style.png_bytes(figure, dpi=20)
assert "matplotlib.pyplot" not in sys.modules
now = matplotlib.rcParams.copy()
assert all(now[key] == before[key] for key in before if key != "backend")  # reading that one would choose it
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_changes_figure_marks_what_the_intervals_tell() -> None:
    import pandas as pd

    from reprkit.analysis.figures import changes_figure

    rows = [("a", "knn", 0.02, "better"), ("a", "tree", -0.01, "not distinguishable"), ("b", "knn", -0.05, "worse")]
    frame = pd.DataFrame(
        [
            {"task": t, "encoder": "x", "baseline": "y", "predictor": p, "metric": "accuracy", "difference": d,
             "reading": r}
            for t, p, d, r in [*rows, ("b", "tree", 0.0, "not distinguishable")]
        ]
    )  # fmt: skip
    figure = changes_figure(frame)
    axes = figure.axes[0]
    assert axes.get_title() == "x minus y"
    texts = {text.get_text(): text.get_fontweight() for text in axes.texts}
    assert texts == {"+2.0": "bold", "−1.0": "normal", "−5.0": "bold", "0.0": "normal"}
    with pytest.raises(ValueError, match="accuracy"):
        changes_figure(frame.assign(metric="r2"))


def test_a_figure_shows_itself_in_jupyter_without_pyplot():
    code = (
        "import sys; from IPython.core.formatters import DisplayFormatter; from reprkit.analysis import style;"
        "shown, _ = DisplayFormatter().format(style.new_figure(2, 1));"
        "assert 'matplotlib.pyplot' not in sys.modules; print(shown['image/png'][1:4])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if "No module named 'IPython'" in done.stderr:
        pytest.skip("IPython is not installed")
    assert done.stdout.strip() == "b'PNG'", done.stderr[-500:]
