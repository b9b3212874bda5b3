import pytest

from bench import document, report
from bench.report import Report, Table
from bench.stats import Figure


@pytest.fixture
def found():
    table = Table("One call", ["what", "µs"], [["bare", "300.0"], ["gated", "1,400.0"]])
    return Report("gate", [table], [Figure("gate over peers", 0.05, 0.1)], {"rounds": 3}, ["A note."])


def test_a_table_is_aligned(found):
    assert found.tables[0].text().splitlines() == [
        "One call",
        "",
        "what        µs",
        "-----  -------",
        "bare     300.0",
        "gated  1,400.0",
    ]


def test_a_report_comes_back_from_its_file(found, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "VAR", tmp_path)
    found.save()

    assert list(report.saved()) == [found]


def test_the_page_takes_the_tables_and_keeps_its_words(found):
    page = "Before.\n\n<!-- bench gate -->\nold\n<!-- /bench gate -->\n\nAfter.\n"

    written = document.rewrite(page, [found])

    assert "old" not in written
    assert "| gated | 1,400.0 |" in written
    assert "- met     gate over peers: 0.05 (at most 0.1)\n- A note." in written
    assert written.startswith("Before.")
    assert written.endswith("After.\n")
    assert document.rewrite(written, [found]) == written


def test_a_page_without_a_place_is_refused(found):
    with pytest.raises(ValueError, match="no place for gate"):
        document.rewrite("Nothing here.", [found])


def test_the_page_in_the_docs_has_a_place_for_every_part():
    text = document.PAGE.read_text()

    assert document.rewrite(text, [Report(part) for part in report.PARTS])
