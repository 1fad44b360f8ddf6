"""The quality page: complete, escaped, and alive in a real browser."""

import base64
import re
import shutil
import subprocess
import time
import zlib

import numpy as np
import pytest

from brainjax.records.flags import flag
from brainjax.report import qc
from brainjax.report.png import grey_png, outline_png
from brainjax.report.qc import summary, write_qc_page
from brainjax.volume.planes import Planes

HOSTILE = "<script>alert('x')</script>"
BROWSER = shutil.which("chromium")
WORDS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--hide-scrollbars"),
    *("--disable-component-update", "--disable-sync", "--virtual-time-budget=2000"),
)

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH")


def scans() -> list[dict]:
    """Sixteen scans, two of them flagged; the last has no measure but one."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "source": f"/data/{i}.nii.gz",
            "subject": f"sub-{i}",
            "session": None,
            "sequence": "T1w",
            "key": f"k{i}",
            "brain_ml": 1400 + 40 * float(rng.uniform(-1, 1)),
            "snr": None if i == 5 else 20 + float(rng.uniform(-1, 1)),
            "overlap": 0.9,
            "doubts": (),
        }
        for i in range(15)
    ]
    rows[3] |= {"subject": HOSTILE, "snr": 2.0, "doubts": ("an odd brain",)}
    rows[9] |= {"overlap": 0.5, "brain_ml": 5000.0, "key": "none"}
    rows.append({"source": "/data/last.nii.gz", "brain_ml": 1401.0, "key": "k15"})
    for row, flags in zip(rows, flag(rows), strict=True):
        row["flags"] = flags
    return rows


def planes(key: str) -> Planes | None:
    if key == "none":
        return None
    images = np.arange(3 * 40 * 40).reshape(3, 40, 40) % 251
    outlines = np.zeros((3, 40, 40), bool)
    outlines[:, 10, 5:31] = outlines[:, 30, 5:31] = True
    return Planes(images.astype(np.uint8), outlines)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    out = tmp_path_factory.mktemp("qc") / "new" / "qc.html"
    assert write_qc_page(out, scans(), planes, title="A <title>") == out
    assert [file.name for file in out.parent.iterdir()] == ["qc.html"]
    return out


@pytest.fixture(scope="module")
def page(path):
    return path.read_text()


def test_it_asks_for_nothing_outside_itself(page):
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(links) > 90
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert not re.search(r"https?:|@import|url\(|<link|fetch\(|XMLHttp", page)


def test_names_are_shown_and_never_run(page):
    assert page.count("<script") == 1
    assert "&lt;script&gt;alert(" in page
    assert "A &lt;title&gt;" in page


def test_the_flagged_come_first_and_are_told_why(page):
    assert "16 scans are here, and 2 are flagged." in page
    cards = re.findall(r'<figure class="scan".*?</figure>', page, re.DOTALL)
    assert len(cards) == 16
    assert "brain_ml 5000 (limit 2200, z beyond 99)" in cards[0]
    assert "overlap 0.5 (limit 0.7" in cards[0]
    assert "snr 2 (z " in cards[1]
    assert "an odd brain" in cards[1]
    assert "data-flagged" in cards[1]
    assert "data-flagged" not in cards[2]
    assert "last.nii.gz" in cards[15]


def test_file_and_key_are_shown_and_the_folder_is_not(page):
    cards = re.findall(r'<figure class="scan".*?</figure>', page, re.DOTALL)
    assert ">3.nii.gz<" in cards[1]
    assert ">key k3<" in cards[1]
    assert "/data" not in page
    assert page.count("<details><summary") == 15


def test_files_are_named_below_the_folder_they_share():
    def named(*sources):
        return qc._files([{"source": source} for source in sources])

    assert named("/home/doe/a/1.nii", "/home/doe/b::0a") == ["a/1.nii", "b::0a"]
    assert named("/home/doe/1.nii") == ["1.nii"]
    assert named("/home/doe/1.nii", "/mnt/b/2.nii") == ["1.nii", "2.nii"]
    assert named("/home/doe/1.nii", "b/2.nii", "") == ["1.nii", "2.nii", ""]
    assert named() == []


def test_a_picture_that_is_not_there_is_told(page):
    assert page.count('class="none">no picture') == 1
    assert page.count("<img") == 15 * 3 * 2
    assert "15 of 16 scans have a picture here" in page


def test_pages_of_many_scans_have_pictures_of_the_first(monkeypatch, tmp_path):
    monkeypatch.setattr(qc, "MOST_PICTURES", 2)
    page = write_qc_page(tmp_path / "qc.html", scans(), planes).read_text()
    assert page.count("<img") == 3 * 2
    assert "1 of 16 scans have a picture here" in page


def test_measures_that_nobody_has_have_no_column(page):
    found = re.findall(r'<th [^>]*data-column="(\w+)"', page)
    assert found == [
        *("scan", "sequence", "flags"),
        *("brain_ml", "overlap", "snr", "doubts"),
    ]
    assert page.count('<figure class="strip"') == 3


def test_the_same_scans_give_the_same_file(page, tmp_path):
    again = write_qc_page(tmp_path / "a.html", scans(), planes, title="A <title>")
    assert again.read_text() == page


@pytest.mark.parametrize("count", [0, 1])
def test_few_scans_make_a_page(count, tmp_path):
    page = write_qc_page(tmp_path / "qc.html", scans()[:count], planes).read_text()
    assert summary(scans()[:count]) in page


def test_pngs_hold_the_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 13)).astype(np.uint8)
    data = grey_png(pixels)
    start = data.index(b"IDAT") + 4
    rows = np.frombuffer(zlib.decompress(data[start:-16]), np.uint8).reshape(7, 14)
    assert (rows[:, 0] == 2).all()
    np.testing.assert_array_equal(
        np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8), pixels
    )


def test_pngs_are_read_by_others():
    image = pytest.importorskip("matplotlib.image")
    import io

    pixels = np.random.default_rng(0).integers(0, 256, (7, 13)).astype(np.uint8)
    read = image.imread(io.BytesIO(grey_png(pixels)))
    np.testing.assert_allclose(read * 255, pixels, atol=0.01)
    read = image.imread(io.BytesIO(outline_png(pixels > 99, (255, 196, 0))))
    np.testing.assert_array_equal(read[..., 3] > 0.5, pixels > 99)
    np.testing.assert_allclose(read[pixels > 99][0] * 255, (255, 196, 0, 255), atol=0.1)


def browse(address: str, profile, *words: str) -> str:
    """What a browser makes of the page: its elements as they are in the end."""
    command = [BROWSER, *WORDS, f"--user-data-dir={profile}", *words, address]
    for _ in range(3):  # a browser that starts on a busy machine may give up
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=90, check=False
        )
        if done.returncode == 0:
            return done.stdout
        time.sleep(1)
    raise AssertionError(done.stderr[-500:])


def shown(dom: str) -> list[int]:
    """Numbers of the rows of the table that are to be seen, in order."""
    body = dom[dom.index("<tbody>") : dom.index("</tbody>")]
    rows = re.findall(r"<tr [^>]*>", body)
    return [
        int(re.search(r'data-scan="(\d+)"', row)[1])
        for row in rows
        if "hidden" not in row
    ]


def by_flags(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: -len(row["flags"]))


@needs_browser
def test_a_browser_sorts_and_filters(path, tmp_path):
    rows = by_flags(scans())
    dom = browse(f"{path.as_uri()}#order=-snr", tmp_path, "--dump-dom")
    known = [i for i, row in enumerate(rows) if row.get("snr") is not None]
    highest = sorted(known, key=lambda i: -rows[i]["snr"])
    missing = [i for i in range(16) if i not in known]
    assert shown(dom) == highest + missing
    cards = [int(n) for n in re.findall(r'id="scan-(\d+)"', dom)]
    assert cards == shown(dom)
    assert re.search(r'data-column="snr"[^>]*aria-sort="descending"', dom)
    assert ">16 of 16 scans<" in dom
    dom = browse(f"{path.as_uri()}#flagged", tmp_path, "--dump-dom")
    assert shown(dom) == [0, 1]
    assert ">2 of 16 scans<" in dom


CLICKS = """
<script>
const press = (words) => document.querySelector(words).click();
press('[data-column=brain_ml] button');
press('[data-column=brain_ml] button');
press('#flagged');
press('#outlines');
document.title = [location.hash, document.body.className,
  document.documentElement.scrollWidth <= innerWidth].join(' ');
</script>
"""


@needs_browser
def test_clicks_sort_turn_round_and_filter(path, tmp_path):
    clicked = tmp_path / "clicked.html"
    clicked.write_text(path.read_text().replace("</body>", CLICKS + "</body>"))
    words = ("--dump-dom", "--window-size=500,900")
    dom = browse(clicked.as_uri(), tmp_path / "profile", *words)
    assert shown(dom) == [0, 1]
    assert re.search(r'data-column="brain_ml"[^>]*aria-sort="descending"', dom)
    title = re.search("<title>(.*?)</title>", dom)[1]
    assert title == "#order=-brain_ml&amp;flagged scripted bare true"


ENLARGED = """
<script>
const card = document.querySelector('.scan:has(details)');
const before = card.clientWidth;
card.querySelector('img').click();
document.title = card.clientWidth > 2 * before;
</script>
"""


@needs_browser
def test_a_click_enlarges_a_picture(path, tmp_path):
    clicked = tmp_path / "clicked.html"
    clicked.write_text(path.read_text().replace("</body>", ENLARGED + "</body>"))
    words = ("--dump-dom", "--window-size=1200,900")
    dom = browse(clicked.as_uri(), tmp_path / "profile", *words)
    assert "<title>true</title>" in dom


@needs_browser
def test_a_browser_draws_it(path, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    picture = tmp_path / "qc.png"
    words = (f"--screenshot={picture}", "--window-size=900,1200")
    browse(path.as_uri(), tmp_path / "profile", *words)
    pixels = image.imread(picture)
    assert pixels.shape[:2] == (1200, 900)
    yellow = (pixels[..., :3] * 255).round()
    assert (np.abs(yellow - qc.OUTLINE).max(axis=-1) < 40).sum() > 50


def test_pictures_are_written_as_they_are(page):
    first = re.search(r'src="data:image/png;base64,([^"]+)"', page)[1]
    assert base64.b64decode(first) == grey_png(planes("k3").images[0])
