"""Labels find their scans, or say which line of the table is wrong."""

import pytest

from brainjax.errors import InputRefusedError
from brainjax.records.labels import label_scans, read_labels
from brainjax.records.sources import Source


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "participants.tsv"
        path.write_text(text.replace(" ", "\t"))
        return path

    return write


def test_prefixes_and_missing_values(write, caplog):
    table = write(
        "participant_id age sex code\nsub-1 46.7 M 7\n2 n/a nan x\nsub-3 30 F 8\n"
    )
    scans = [Source(name, name) for name in ("1", "2", "3", "4")]
    assert label_scans(scans, table) == [
        {"age": 46.7, "sex": "M", "code": "7"},
        {"age": None, "sex": None, "code": "x"},
        {"age": 30, "sex": "F", "code": "8"},
        {"age": None, "sex": None, "code": None},
    ]
    assert "1 of 4 scans have no row, such as 4" in caplog.text


def test_sessions(write):
    table = read_labels(
        write("subject session age\n1 ses-a 5\n1 b 6\n2 a 7\n3 n/a 8\n")
    )
    assert table.of("1", "a") == {"age": 5}
    assert table.of("1", "b") == {"age": 6}
    assert table.of("1", "c") == {}
    assert table.of("1", None) == {}
    assert table.of("2", None) == {"age": 7}
    assert table.of("3", "z") == {"age": 8}
    assert table.of(None, None) == {}


def test_infinity_is_no_number(write):
    table = read_labels(write("subject x\n1 inf\n2 3\n"))
    assert table.of("2", None) == {"x": "3"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("who age\n1 2\n", "line 1: wanted a column participant_id or subject"),
        (
            "subject age\nsub-1 2\n1 2\n",
            "line 3: column subject: wanted 1 once",
        ),
        ("subject age\nn/a 2\n", "line 2: column subject: wanted a subject"),
        ("subject age\n1 2 3\n", "line 2: wanted 2 values"),
    ],
)
def test_bad_tables(write, text, message):
    with pytest.raises(InputRefusedError, match=message):
        read_labels(write(text))
