import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from seqgen.errors import InputError
from seqgen.report import canvas, html
from seqgen.report.spectra import SpectraPanel, spectra_figure

EVIL = "Glu<script>alert('x')</script>&\"q\""
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Tags, attributes, texts and ids of a page; refuses tags that do not nest."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts, self._open = [], [], [], []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style" and data.strip():
            self.texts.append(data.strip())

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


def small_figure(points=50):
    ppm = np.linspace(1, 5, points)
    panel = SpectraPanel(title=EVIL, ppm=ppm, curves={EVIL: np.random.default_rng(0).normal(size=points)})
    return spectra_figure([panel], range_ppm=(1, 5), signal_label="Signal")


def content(**changes):
    checks = html.Checks(
        caption="Limits",
        checks=(
            html.Check(name="Peak B1", value="300 Hz", limit="851 Hz", outcome="passed"),
            html.Check(name="Slew", value="201 T/m/s", limit="200 T/m/s", outcome="failed"),
            html.Check(name="PNS", value="", limit="100 %", outcome="not checked", note="no coefficients"),
        ),
    )
    table = html.Table(
        header=("Metabolite", "Amount (mM)", EVIL),
        rows=((EVIL, "12.5", "a" * 64), ("Gln", "\u22121e-3", "short"), ("GABA", "not stated", "")),
        caption=EVIL,
    )
    whole = html.ReportContent(
        title=EVIL,
        subtitle="See https://example.org/paper for the method",
        verdicts=(
            html.Verdict(name=EVIL, fitted=12.31, crlb_sd=0.21, unit="mM", truth=12.5),
            html.Verdict(name="Gln", fitted=3.1234, crlb_sd=0.018, unit="mM"),
        ),
        verdict_text="One paragraph.\n\nAnother.",
        sections=(
            html.Section(title="Tables", text=EVIL, items=(table, checks, "A closing word.")),
            html.Section(title=EVIL, items=(html.Figure(drawing=small_figure(), caption=EVIL, alt=EVIL),)),
            html.Section(title="Big", items=(html.Figure(drawing=small_figure(9000), caption="c", alt="Noise"),)),
        ),
    )
    return replace(whole, **changes)


@pytest.fixture(scope="module")
def raw():
    return html.report_html(content())


@pytest.fixture(scope="module")
def page(raw):
    return Page(raw)


def test_page_is_one_well_formed_document(page):
    assert [page.tags.count(tag) for tag in ("html", "head", "body", "h1", "main")] == [1] * 5
    assert page.tags.count("section") == 3
    assert ("html", "lang", "en") in page.attributes


def test_nothing_is_loaded_and_nothing_runs(page):
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert all(value.startswith("data:image/") for value in page.values("src"))
    assert all(value.startswith("#") for value in page.values("href"))
    assert not [
        key for _, key, _ in page.attributes if key.startswith("on") or key in ("srcset", "style", "background")
    ]
    style = re.search(r"<style>(.*?)</style>", html.report_html(content(sections=())), re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    policy = dict(zip(page.values("http-equiv"), page.values("content")[-1:], strict=True))
    assert policy["Content-Security-Policy"].startswith("default-src 'none'")


def test_names_are_escaped_everywhere(raw):
    assert "<script" not in raw
    assert (
        raw.count("Glu&lt;script&gt;alert(") == 11
    )  # two titles, verdict, text, 3 in the table, contents, h2, alt, caption
    assert EVIL in Page(raw).texts
    assert EVIL in Page(raw).values("alt")


def test_no_field_goes_unescaped():
    check = html.Check(name=EVIL, value=EVIL, limit=EVIL, outcome="failed", note=EVIL)
    section = html.Section(title=EVIL, text=EVIL, items=(html.Checks(checks=(check,), caption=EVIL), EVIL))
    verdict = html.Verdict(name=EVIL, fitted=1.0, crlb_sd=0.1, unit=EVIL)
    raw = html.report_html(
        html.ReportContent(
            title=EVIL, subtitle=EVIL, made_at=EVIL, verdicts=(verdict,), verdict_text=EVIL, sections=(section,)
        )
    )
    assert "<script" not in raw
    assert " ".join(Page(raw).texts).count(EVIL) == 17  # title and the failed check stand there twice


def test_contents_lead_to_the_sections(page):
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert [value[1:] for value in page.values("href")] == ids == ["section-1", "section-2", "section-3"]


def test_images_decode(page):
    small, big = page.values("src")
    head, data = small.split(",")
    assert head == "data:image/svg+xml;base64"
    root = ElementTree.fromstring(base64.b64decode(data))
    assert root.get("viewBox") == "0 0 648 259.2"
    assert not [name for tag in root.iter() for name in tag.attrib.values() if name.startswith("http")]
    head, data = big.split(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        image.load()
        assert image.size == (1800, 720)
    assert page.values("width") == ["900", "900"]
    assert page.values("height") == ["360", "360"]


def test_svg_escapes_names(page):
    svg = base64.b64decode(page.values("src")[0].split(",")[1])
    assert b"<script" not in svg


def test_verdict_states_truth_fit_bound_and_deviation(page):
    start = page.texts.index("Deviation (CRLBs)") + 1
    assert page.texts[start : start + 6] == [EVIL, "mM", "12.50", "12.31", "0.21", "-0.9"]
    assert page.texts[start + 6 : start + 12] == ["Gln", "mM", "not known", "3.123", "0.018", "not determined"]


@pytest.mark.parametrize("crlb", [0.0, float("nan"), float("inf"), -1.0])
def test_no_deviation_without_a_bound(crlb):
    verdict = html.Verdict(name="Glu", fitted=1.0, crlb_sd=crlb, unit="mM", truth=2.0)
    assert verdict.deviation_in_crlbs is None
    texts = Page(html.report_html(content(verdicts=(verdict,), sections=()))).texts
    start = texts.index("Deviation (CRLBs)") + 1
    assert texts[start : start + 6] == ["Glu", "mM", "2", "1", "not determined", "not determined"]


def test_checks_keep_their_three_outcomes_apart(page):
    start = page.texts.index("Note") + 1
    words = page.texts[start : start + 15]
    assert words[:4] == ["Peak B1", "300 Hz", "851 Hz", "passed"]
    assert words[4:8] == ["Slew", "201 T/m/s", "200 T/m/s", "failed"]
    assert words[8:13] == ["PNS", "\u2013", "100 %", "not checked", "no coefficients"]
    assert "Checks: 1 passed, 1 failed, 1 not checked." in page.texts
    assert "Failed: Slew." in page.texts


def test_report_without_checks_says_so():
    texts = Page(html.report_html(content(sections=()))).texts
    assert "Checks: not checked." in texts
    assert not [text for text in texts if text.startswith("Failed")]


def test_safety_line_is_always_there():
    bare = html.ReportContent(title="Bare")
    line = "No statement here licenses a scan: the scanner's own supervision and the site's safety officer decide."
    assert Page(html.report_html(bare)).texts.count(line) == 2


def test_columns_of_numbers_and_hashes_are_set_apart(raw):
    assert '<td class="number ">12.5</td>' in raw
    assert '<td class="number ">\u22121e-3</td>' in raw
    assert '<td class="number ">not stated</td>' in raw
    assert f'<td class=" hash">{"a" * 64}</td>' in raw
    assert '<td class=" ">short</td>' in raw


def test_empty_table_keeps_its_head():
    empty = html.Table(header=("A", "B"), rows=())
    section = html.Section(title="T", items=(empty,))
    assert {"A", "B"} <= set(Page(html.report_html(content(sections=(section,)))).texts)


def test_equal_content_gives_equal_bytes(raw, tmp_path):
    html.write_report(tmp_path / "a.html", content())
    assert (tmp_path / "a.html").read_bytes() == raw.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_time_stands_there_when_given():
    assert "Made 2026-01-02 03:04" in Page(html.report_html(content(made_at="2026-01-02 03:04", sections=()))).texts
    assert "Made" not in html.report_html(content(sections=()))


def test_ten_large_figures_would_stay_below_three_megabytes(page):
    assert 10 * max(len(source) for source in page.values("src")) < 3e6


def test_file_names_that_are_no_text_do_not_stop_the_report(tmp_path):
    html.write_report(tmp_path / "r.html", html.ReportContent(title="a\udcff.seq"))
    assert b"a\\udcff.seq" in (tmp_path / "r.html").read_bytes()


def test_failed_write_keeps_the_old_report(tmp_path):
    (tmp_path / "r.html").mkdir()
    with pytest.raises(InputError, match="Cannot write"):
        html.write_report(tmp_path / "r.html", html.ReportContent(title="T"))
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_incomplete_content_is_refused():
    with pytest.raises(InputError, match="row 2 has 1 cells, but the header has 2"):
        html.Table(header=("A", "B"), rows=(("1", "2"), ("3",)), caption="T")
    with pytest.raises(InputError, match="no alternative text"):
        html.Figure(drawing=canvas.new_figure(1.0), caption="c", alt=" ")
    with pytest.raises(InputError, match="must be one of passed, failed, not checked"):
        html.Check(name="x", value="1", limit="2", outcome="ok")
