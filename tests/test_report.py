import html.parser
import re
import sys
import xml.etree.ElementTree as ET
from typing import ClassVar

import pytest
from synthetic_studies import (
    bare_study,
    digits_study,
    diverged_study,
    folds_study,
    halving_study,
    hostile_study,
    hyperband_study,
    one_rate_study,
    regression_study,
    write_best,
    write_study,
)

from kerascomp.studies import _records, _report, _tables, _verdict

pytestmark = pytest.mark.one_backend

STUDIES = {
    "finished": digits_study,
    "three seeds": lambda d: digits_study(d, count=12, seeds=3),
    "running, no trial": lambda d: write_study(d, [], status="running"),
    "interrupted, one trial": one_rate_study,
    "all diverged": diverged_study,
    "hostile": hostile_study,
    "regression": regression_study,
    "hyperband": hyperband_study,
    "halving": halving_study,
    "folds": folds_study,
    "bare": bare_study,
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The report of every study, by name."""
    found = {}
    for name, make in STUDIES.items():
        directory = make(tmp_path_factory.mktemp("study"))
        found[name] = _report.write_report(directory).read_text("utf-8")
    return found


class Reader(html.parser.HTMLParser):
    """Collects what a page holds and checks that its tags are balanced."""

    VOID: ClassVar = {"meta", "br", "hr", "img", "link", "input"}

    def __init__(self, page):
        super().__init__()
        self.tags, self.ids, self.text, self.open = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def svgs(page):
    return re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)


def words_of(page):
    return " ".join(" ".join(Reader(page).text).split())


def verdict_of(directory):
    record = _records.read(directory)
    return " ".join(_verdict.sentences(record, _report.read_best(record)))


@pytest.mark.parametrize("name", STUDIES)
class TestEveryPage:
    def test_parses_and_its_ids_are_unique(self, pages, name):
        reader = Reader(pages[name])
        assert len(reader.ids) == len(set(reader.ids))
        used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', pages[name]))
        assert used == set(reader.ids)

    def test_needs_no_other_file(self, pages, name):
        reader = Reader(pages[name])
        allowed = {"a", "use"}  # Links of the references; parts of a plot.
        for tag, attributes in reader.tags:
            assert "src" not in attributes
            assert tag in allowed or "href" not in attributes
        for attributes in reader.all("use"):
            assert attributes["href"].startswith("#")
        assert not {"link", "img", "iframe"} & {tag for tag, _ in reader.tags}
        assert "@import" not in pages[name]
        assert not re.search(r"url\([^#]", pages[name])

    def test_plots_are_xml_with_words_and_page_colors(self, pages, name):
        for svg in svgs(pages[name]):
            ET.fromstring(svg)
            assert not re.search("#01[0-9a-f]{4}", svg)
            assert "<metadata" not in svg
        reader = Reader(pages[name])
        described = [a for a in reader.all("div") if a.get("role") == "img"]
        assert len(described) == len(svgs(pages[name]))
        assert all(len(a["aria-label"]) > 30 for a in described)

    def test_headers_of_tables_have_a_scope(self, pages, name):
        reader = Reader(pages[name])
        assert all("scope" in attributes for attributes in reader.all("th"))
        assert len(reader.all("caption")) == len(reader.all("table"))

    def test_speaks_of_no_missing_values(self, pages, name):
        assert not re.search(r"\b(nan|None|inf)\b", words_of(pages[name]))


def test_same_study_gives_the_same_bytes(tmp_path):
    digits_study(tmp_path, count=9)
    first = _report.write_report(tmp_path).read_bytes()
    other = _report.write_report(tmp_path, tmp_path / "other" / "page.html")
    assert other == tmp_path / "other" / "page.html"
    assert other.read_bytes() == first


def test_many_trials_make_a_small_file(tmp_path):
    digits_study(tmp_path, count=100)
    path = _report.write_report(tmp_path)
    assert path.stat().st_size < 1_000_000


def test_leaves_matplotlib_as_it_was(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    _report.write_report(one_rate_study(tmp_path))
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_markup_in_names_is_text(pages):
    page = pages["hostile"]
    reader = Reader(page)
    assert len(reader.all("script")) == 1  # The report's own.
    assert "<script>alert" not in page
    assert words_of(page).count("<script>alert(1)</script>") > 5
    assert "$x$" in page
    assert "\x00" not in page


def test_says_what_is_missing(tmp_path, monkeypatch):
    find = _report.importlib.util.find_spec
    monkeypatch.setattr(
        _report.importlib.util,
        "find_spec",
        lambda name: None if name == "jinja2" else find(name),
    )
    with pytest.raises(ImportError, match=r"jinja2.*kerascomp\[studies\]"):
        _report.write_report(write_study(tmp_path, []))


def test_directory_without_a_study_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no study"):
        _report.write_report(tmp_path)


class TestVerdict:
    def test_names_winner_test_result_and_baseline(self, pages):
        text = words_of(pages["finished"])
        assert "of 15 completed trials: validation accuracy 0.9" in text
        assert "which the search never saw" in text
        # 0.9694 - 0.9378 = 0.0316.
        assert "adds 3.2 points of accuracy over logistic regression" in text
        assert "therefore optimistic" in text

    def test_admits_that_the_linear_model_is_better(self, pages):
        text = words_of(pages["regression"])
        assert "does not beat ridge regression (13)" in text
        assert "its mean absolute error is 1.25 higher" in text

    def test_says_when_chance_explains_the_difference(self, tmp_path):
        digits_study(tmp_path, count=4, lost=())
        write_best(tmp_path, _records.read(tmp_path).best.id, accuracy=0.9400)
        text = verdict_of(tmp_path)
        assert "It includes the baseline: this may be chance." in text

    def test_gives_the_interval_over_seeds(self, tmp_path, pages):
        digits_study(tmp_path, count=12, seeds=3)
        low, high = _records.read(tmp_path).best.interval()
        interval = f"95% interval {low:.4f} to {high:.4f}"
        assert interval in words_of(pages["three seeds"])

    def test_compares_in_validation_without_a_model(self, pages):
        text = words_of(pages["interrupted, one trial"])
        assert "There is no test result yet" in text
        assert "On the validation part it adds" in text
        assert "No model has been saved yet." in text

    def test_says_that_the_saved_model_is_of_another_trial(self, tmp_path):
        digits_study(tmp_path, count=4, lost=())
        write_best(tmp_path, "9999")
        text = verdict_of(tmp_path)
        assert "It is the model of trial 9999" in text

    def test_warns_of_a_format_that_differs(self, pages):
        text = words_of(pages["hostile"])
        assert "Do not ship TensorFlow SavedModel" in text
        assert "predicts what the trained one did on 32 samples" in words_of(
            pages["finished"]
        )

    def test_explains_an_empty_study(self, pages):
        assert "No trial has finished yet." in words_of(
            pages["running, no trial"]
        )
        assert "All 5 trials diverged." in words_of(pages["all diverged"])

    def test_tells_diverged_and_failed_trials(self, pages):
        assert "Without a score: 1 diverged (0003)." in words_of(
            pages["finished"]
        )
        assert "not finite in epoch 4: loss" in words_of(pages["finished"])

    def test_warns_of_unequal_lengths(self, pages):
        text = words_of(pages["hyperband"])
        assert "trained for 3 to 9 epochs" in text
        assert "for 15 to 15" not in words_of(pages["finished"])

    def test_says_how_halving_went(self, pages):
        text = words_of(pages["halving"])
        assert "15 of 18 trials were ended early, after 2 and 5 epochs" in text
        assert "after epoch 2, 6 of 18 and after epoch 5, 2 of 5." in text
        assert "Halving ended 15 trials early" in text
        assert "2 trials completed all epochs." in text
        assert "best of 2 trials that were not ended early" in text
        assert "Needs 8 completed trials that were not ended early" in text
        assert "18 \u2192 6" in text
        assert "5 \u2192 2" in text
        assert "ended early" not in words_of(pages["finished"])

    def test_marks_trials_that_were_ended_early(self, tmp_path):
        record = _records.read(halving_study(tmp_path))
        table = _tables.trials(record, record.trials, "All")
        columns = {column.title: column.cells for column in table.columns}
        assert columns["status"] == [
            *["completed"] * 2,
            "ended early",
            "diverged",
            *["ended early"] * 14,
        ]
        assert columns["epochs"][5:7] == ["5", "2"]
        # Only two trials may be compared.
        assert len(Reader(_report.render(record)).all("tr")) > 18
        top = _report._page(record)["top"]
        assert len(top.rows) == 2

    def test_speaks_of_folds_where_there_are_no_seeds(self, pages, tmp_path):
        text = words_of(pages["folds"])
        assert "Over 3 folds, the 95% interval" in text
        assert "folds share training data" in text
        assert "the saved model (of one fold out of 3)" in text
        assert "(its first fold)" in text
        assert "seeds," not in text
        assert "first seed" not in text
        assert "Over 3 seeds, the 95%" in words_of(pages["three seeds"])

    def test_model_of_a_fold_is_validated_on_the_folds(self, tmp_path):
        record = _records.read(folds_study(tmp_path))
        table = _tables.comparison(record, _report.read_best(record))
        columns = {column.title: column.cells for column in table.columns}
        # The saved 0.9722 is of examples that the model was trained on.
        assert columns["validation accuracy"][0] == f"{record.best.score:.4f}"
        assert columns["note"][0] == "Validation: mean over 3 folds."

    def test_does_not_set_folds_against_the_validation_part(self, tmp_path):
        record = _records.read(folds_study(tmp_path))
        nothing = {"metrics": {}, "parity": {}}
        assert _verdict.compare(record, nothing) is None
        assert _verdict.compare(record, _report.read_best(record)) is not None

    def test_lanes_share_seconds(self, pages):
        words = "not how long it would take alone"
        assert words in words_of(pages["halving"])
        assert words not in words_of(pages["finished"])

    def test_importance_needs_enough_trials(self, tmp_path):
        digits_study(tmp_path, count=8)
        text = words_of(_report.write_report(tmp_path).read_text("utf-8"))
        assert "Needs 8 completed trials; there are 7 so far." in text


def test_written_atomically_beside_a_reader(tmp_path):
    path = _report.write_report(one_rate_study(tmp_path))
    assert path == tmp_path / "report.html"
    assert not list(tmp_path.glob(".writing-*"))
