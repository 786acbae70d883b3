"""Tables, files and plots of a comparison: completeness, width and escaping."""

import io
import re
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from cascaderank.errors import MissingExtraError
from cascaderank.experiments.results import summarise
from cascaderank.reports.comparison_files import write_comparison, write_plot
from cascaderank.reports.comparison_tables import comparison_tables
from cascaderank.reports.paper_tables import latex, markdown
from tests.experiments.runs import runs_of, searched, with_final_lists

STAGES = ("retrieval", "pre_ranking", "ranking", "re-ranking")
MEANS = {
    "random order": 0.5,
    "bce": 0.8,
    "fs_lambdaloss": 0.7,
    "lcron": 0.87,
    "conditional_survival (cut=quotas)": 0.8,
}


@pytest.fixture
def comparison(settings_for):
    """Build a comparison with the given stages, folds and changes to the settings."""

    def build(
        stages=2, folds=1, means=MEANS, day=False, search=(), more=(), final=False, old=False,
        **changes,
    ):  # fmt: skip
        names = STAGES[:stages]
        tables = {s: {"model": "mlp", "quota": 40 - 5 * i} for i, s in enumerate(names)}
        settings = settings_for("log").changed({"stages": tables, **changes})
        runs = searched(runs_of(means, stages=names, folds=folds), metrics=search)
        for name in more:
            runs[name].sees_more = True
        if final:
            settings = settings.changed({"evaluation.metrics": ["ndcg@5"]})
            runs = with_final_lists(runs, stages=names)
        if old:
            del runs["bce"].values[0]["ndcg_linear"]
        labels = [f"day 2024-01-{9 + i:02d}" if day else f"fold {i}" for i in range(folds)]
        return summarise(settings, runs, dataset="a_shop & more", fold_names=labels)

    return build


def printed(found):
    console = Console(width=80, file=io.StringIO())
    console.print(*comparison_tables(found))
    return console.file.getvalue()


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize("published", [None, "lcron_table_6"])
def test_tables_fit_80_columns_with_every_number_whole(comparison, stages, published):
    found = comparison(stages, folds=3, **{"compare.published": published})
    text = printed(found)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for m in found.methods:
        assert m.name.split()[0] in text
        assert f"{m.joint_recall:.4f}".removeprefix("0") in text
        for stage in found.methods[0].stage_recall:
            assert f"{m.stage_recall[stage]:.4f}".removeprefix("0") in text
    assert ("…" in text) is False
    assert all(stage in text for stage in STAGES[:stages])
    assert ("Table 6" in text) is (published is not None)
    assert (".7390 ± .0008" in text) is (published is not None)


def test_tables_contain_tuning_and_edges(comparison):
    long = "a variant whose name goes on and on, as far as a folder would let it (x=1, y=2)"
    text = printed(comparison(folds=3, means={"bce": 0.8, long: 0.8}))
    assert text.count("learning_rate=0.03 (edge): 2 of 3") == 2
    assert text.count("learning_rate=0.01: 1 of 3") == 2
    assert "a better one may lie beyond" in text


def test_retrieval_is_printed_with_interval_gain_and_p(comparison):
    names = [f"{m}@{n}" for n in (20, 50) for m in ("hit_rate", "ndcg", "recall", "precision")]
    found = comparison(search=names)
    text = printed(found)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert text.count("Search of all items") == 4
    assert "Welch" in text
    for v in found.methods[3].search:
        assert v.metric in text
        for number in (f"{v.mean:.4f}", f"{v.low:.3f}", f"{v.high:.3f}", f"{v.gain:+.4f}"):
            assert number.replace("0.", ".", 1) in text
    assert "Search" not in printed(comparison())
    by_name = cells_of(markdown(found))
    v = found.methods[3].search[6]
    cell = f"{v.mean:.4f} ± {v.deviation:.4f}".replace("0.", ".")
    assert by_name["lcron"]["all items recall@50"] == cell
    assert by_name["random order"]["all items recall@50"] == ""
    assert f"{v.mean:.4f}"[1:] in latex_tables(latex(found))[-1]


def test_a_single_method_has_no_column_of_gains(comparison):
    text = printed(comparison(means={"bce": 0.8}))
    assert "Gain: over" not in text
    assert ".8" in text


def rows_of(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def cells_of(text):
    """Cells of all Markdown tables by method and heading."""
    by_name = {}
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        heading, rule, *rows = rows_of(table)
        assert all(len(row) == len(heading) for row in (rule, *rows))
        assert all(set(cell) <= {"-", ":"} for cell in rule)
        assert len(set(heading)) == len(heading)
        for row in rows:
            name = row[0].strip("*").replace("\\", "")
            by_name.setdefault(name, {}).update(zip(heading, row, strict=True))
    return by_name


def test_markdown_has_a_cell_for_every_heading(comparison):
    found = comparison(3, **{"compare.published": "lcron_table_6"})
    by_name = cells_of(markdown(found))
    assert set(by_name) == {*MEANS, "ceiling (quotas)"}
    lcron = by_name["lcron"]
    assert lcron["joint recall"].startswith("**.8")
    assert lcron["published"] == ".7390 ± .0008"
    assert lcron["p"] == "<.001"
    assert (
        lcron["pre\\_ranking recall"] == f"{found.methods[3].stage_recall['pre_ranking']:.4f}"[1:]
    )
    assert by_name["bce"]["gain"] == ""
    assert "not on this data set" in markdown(found)


@pytest.mark.parametrize(
    ("table", "target", "gains"),
    [
        ("lcron_table_6", None, 'the labels of data.target = "released"'),
        ("lcron_table_6", "released", None),
        ("arf_mslr", "label", '2^y - 1, those of the metric "ndcg"'),
        ("lcron_table_5", None, None),
        (None, None, None),
    ],
)
def test_ndcg_stands_beside_published_numbers_only_if_its_gains_are_theirs(
    comparison, table, target, gains
):
    found = comparison(3, **{"compare.published": table, "data.target": target})
    texts = printed(found), markdown(found), latex(found)
    ndcg = f"{found.methods[3].stage_ndcg['ranking']:.4f}"[1:]
    for text in texts:
        plain = " ".join(text.replace("\\", "").split())
        assert (ndcg in plain) == (gains is None)
        assert ("NDCG of the stages is left out" in plain) == (gains is not None)
    if gains is not None:
        assert found.published["ndcg"].endswith(gains)
    assert found.to_json()["methods"][3]["stage_ndcg"]["ranking"] > 0


def latex_tables(text):
    return [t for t in text.split(r"\begin{table}")[1:] if t.rstrip().endswith(r"\end{table}")]


def latex_rows(table):
    body = table[table.index(r"\toprule") : table.index(r"\bottomrule")]
    return [line for line in body.splitlines() if line.endswith(r"\\")]


def test_latex_tables_have_balanced_rows(comparison):
    names = [f"recall@{n}" for n in (20, 50)]
    changes = {"compare.published": "lcron_table_6", "data.target": "released"}
    text = latex(comparison(3, final=True, search=names, **changes))
    tables = latex_tables(text)
    assert len(tables) == 3
    for table in tables:
        columns = re.search(r"\\begin\{tabular\}\{(l)(r+)\}", table)
        for row in latex_rows(table):
            spanned = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", row))
            cells_of_row = len(re.findall(r"(?<!\\)&", row)) + 1 + spanned
            assert cells_of_row == len(columns[1] + columns[2])
    assert r"pre\_ranking" in tables[2]
    assert r"a\_shop \& more" in text
    assert not re.search(r"(?<!\\)_", text)
    for rule in ("toprule", "midrule", "bottomrule", r"cmidrule(lr){4-5}"):
        assert f"\\{rule}" in tables[2]


def test_latex_has_gain_interval_p_bold_and_daggers(comparison):
    found = comparison(3, final=True)
    recall, final, _ = latex_tables(latex(found))
    line = {row.split(" & ")[0]: row for row in latex_rows(recall)}
    headings = r"method & joint recall & 95\% interval & gain & p & s \\"
    assert headings in recall
    lcron = found.methods[3]
    gain = f"{lcron.gain:+.4f} [{lcron.gain_low:+.3f}, {lcron.gain_high:+.3f}]".replace("0.", ".")
    assert f"[{lcron.low:.3f}, {lcron.high:.3f}]".replace("0.", ".") in line["lcron"]
    assert f"& {gain} & $<$.001 &" in line["lcron"]
    assert r"\textbf{.8" in line["lcron"]
    assert r"$^\dagger$" in line["lcron"]
    assert r"$^\ddagger$" in line[r"fs\_lambdaloss"]
    assert r"\textbf" not in line["bce"]
    assert "dagger" not in line["bce"]
    assert r"$^\dagger$ better, $^\ddagger$ worse than bce" in recall
    worse = f"& $-${-found.methods[2].gain:.4f} ".replace("0.", ".")
    assert worse in line[r"fs\_lambdaloss"]
    of = {row.split(" & ")[0]: row for row in latex_rows(final)}
    v = lcron.final_metrics[2]
    gain = f"{v.gain:+.4f} [{v.gain_low:+.3f}, {v.gain_high:+.3f}]".replace("0.", ".")
    assert f"& \\textbf{{{v.mean:.4f}}} & {gain} & $<$.001".replace("{0.", "{.") in of["lcron"]


def test_joint_recall_by_day_is_printed_if_folds_are_days(comparison):
    found = comparison(2, folds=4, day=True)
    text, cell = printed(found), cells_of(markdown(found))
    table = text[text.index("Joint recall by test day") : text.index("Means over seeds")]
    for m in found.methods:
        row = next(x for x in table.splitlines() if x.startswith(f" {m.name[:8]}"))
        by_day = [f"{r:.4f}"[1:] for r in m.by_fold]
        assert row.split()[-4:] == by_day
        named = cell[m.name]
        assert [named[f"2024-01-{9 + i:02d}"].strip("*") for i in range(4)] == by_day
    assert "by test day" not in latex(found)
    for other in (comparison(2, folds=4), comparison(2, day=True)):
        assert "by test day" not in printed(other) + markdown(other)


def test_every_day_of_a_long_stream_is_printed_whole(comparison):
    found = comparison(2, folds=20, day=True)
    text = printed(found)
    assert max(map(len, text.splitlines())) <= 80
    for i in range(20):
        assert f"01-{9 + i:02d}" in text
    values = [f"{r:.4f}"[1:] for m in found.methods for r in m.by_fold]
    assert all(text.count(v) >= values.count(v) for v in values)


def test_braces_in_latex_are_balanced(comparison):
    text = latex(comparison(4)).replace(r"\{", "").replace(r"\}", "")
    depth = 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0
    assert depth == 0


def test_files_are_written(comparison, tmp_path):
    pytest.importorskip("matplotlib")
    found = comparison(3, folds=3, day=True, **{"compare.published": "lcron_table_6"})
    write_comparison(found, str(tmp_path))
    write_plot(found, str(tmp_path))
    assert (tmp_path / "comparison.md").read_text() == markdown(found)
    assert (tmp_path / "comparison.tex").read_text() == latex(found)
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert {p.suffix for p in tmp_path.iterdir()} == {".md", ".tex", ".png", ".svg"}


def figure_of(found):
    from matplotlib import figure

    from cascaderank.reports.comparison_plot import _draw

    return _draw(found, figure)


def test_the_plot_has_a_row_per_method_and_days_below(comparison):
    pytest.importorskip("matplotlib")
    joint, alive, days = figure_of(comparison(3, folds=3, day=True)).axes
    names = [label.get_text().split(" †")[0].split(" ‡")[0] for label in joint.get_yticklabels()]
    assert set(names) == set(MEANS) - {"random order"}
    assert names[-1] == "lcron", "the best is on top"
    assert [label.get_text() for label in alive.get_legend().texts] == list(STAGES[:3])
    assert [t.get_text() for t in days.get_xticklabels()] == [
        f"2024-01-{d:02d}" for d in (9, 10, 11)
    ]
    assert len(figure_of(comparison(3, folds=3)).axes) == 2


def test_values_off_the_scale_are_noted_and_not_drawn(comparison):
    pytest.importorskip("matplotlib")
    drawn = figure_of(comparison(means={"random order": 0.3, "bce": 0.8, "lcron": 0.82}))
    notes = drawn.get_supxlabel()
    assert "off the scale: random order .3" in notes
    assert drawn.axes[0].get_xlim()[0] > 0.7
    near = figure_of(comparison(means={"random order": 0.79, "bce": 0.8, "lcron": 0.82}))
    assert "off the scale: random order" not in near.get_supxlabel()
    assert "random order" in [t.get_text() for t in near.axes[0].get_yticklabels()]


def test_a_baseline_above_all_methods_is_drawn_and_marked(comparison):
    pytest.importorskip("matplotlib")
    means = {"random order": 0.1, "feature x": 0.95, "bce": 0.5, "lcron": 0.52}
    found = comparison(means=means, more=("feature x",))
    drawn = figure_of(found)
    rows = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert rows == ["bce", "lcron †", "feature x §"]
    point = drawn.axes[0].get_xlim()
    assert point[0] < found.methods[1].joint_recall < point[1]
    assert "feature x" not in drawn.get_supxlabel()
    assert "§ uses features that a stage of the cascade may not use" in drawn.get_supxlabel()


def test_a_method_that_sees_more_is_marked_in_every_table(comparison):
    found = comparison(more=("random order",))
    assert "§: uses features that a stage" in printed(found)
    assert "random order §" in printed(found)
    for text in (markdown(found), latex(found)):
        assert "uses features that a stage of the cascade may not use" in text
    assert "| random order § |" in markdown(found)
    assert r"random order\textsuperscript{\S}" in latex(found)
    assert "§" not in printed(comparison()) + markdown(comparison()) + latex(comparison())


def test_metrics_of_the_final_list_are_in_every_table(comparison):
    found = comparison(final=True)
    lcron = found.methods[3]
    decided, ndcg, at_5 = lcron.final_metrics
    text = printed(found)
    assert "Final list, which the cascade returns" in text
    assert "decided: over the 180 of 360 requests with more candidates than" in text
    for v in (decided, ndcg, at_5):
        for number in (f"{v.mean:.4f}", f"{v.low:.3f}", f"{v.gain:+.4f}", f"{v.gain_high:+.3f}"):
            assert number.replace("0.", ".", 1) in text
    cell = cells_of(markdown(found))["lcron"]
    assert cell["final ndcg@5"] == f"{at_5.mean:.4f}"[1:]
    assert cell["final ndcg@5 gain"].startswith(f"{at_5.gain:+.4f}".replace("0.", ".", 1))
    assert cell["final ndcg@5 p"] == "<.001"
    assert f"{at_5.mean:.4f}"[1:] in latex(found)


def test_tables_list_metrics_that_old_runs_lack(comparison):
    found = comparison(final=True, old=True)
    for text in (printed(found), markdown(found).replace("\\", "")):
        assert "Not in runs that version 0.2 wrote: ndcg_linear." in text


def test_equal_comparisons_have_equal_plots(comparison, tmp_path):
    pytest.importorskip("matplotlib")
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        write_plot(comparison(), folder)
    for kind in ("png", "svg"):
        name = f"comparison.{kind}"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    ET.parse(tmp_path / "a" / "comparison.svg")


def test_without_matplotlib_the_error_names_the_extra(comparison, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cascaderank\[report\]'"):
        write_plot(comparison(), tmp_path)
    assert not list(tmp_path.iterdir())
