"""Rows survive a kill: whole lines count, half a line is cut off, failures go again."""

import csv

from brainjax.study.rows import Rows


def row(digest: str, error: str = "", **more) -> dict:
    return {"digest": digest, "error": error, "score": 1.5, "answers": [1, 2], **more}


def test_rows_are_read_back_and_half_a_line_is_cut_off(tmp_path):
    rows = Rows(tmp_path)
    rows.append(row("a"))
    rows.append(row("b", "no such label"))
    with rows.path.open("ab") as file:
        file.write(b'{"digest": "c", "err')
    again = Rows(tmp_path)
    assert again.finished("a")
    assert not again.finished("b")
    assert not again.finished("c")
    again.append(row("c"))
    assert [r["digest"] for r in Rows(tmp_path).all()] == ["a", "b", "c"]


def test_a_line_that_a_disk_has_damaged_costs_one_run(tmp_path):
    rows = Rows(tmp_path)
    for name in "abc":
        rows.append(row(name))
    lines = rows.path.read_bytes().splitlines(keepends=True)
    rows.path.write_bytes(lines[0] + b"\x00" + lines[1][1:] + lines[2])
    assert [r["digest"] for r in Rows(tmp_path).all()] == ["a", "c"]


def test_the_last_row_of_a_run_counts_and_is_in_the_tables(tmp_path):
    rows = Rows(tmp_path)
    rows.append(row("a", "it failed", score=None))
    rows.append(row("a"))
    rows.append(row("other study"))
    rows.write_tables(["a", "never run"])
    with rows.table.open() as file:
        table = list(csv.DictReader(file))
    assert [(r["digest"], r["score"], r["error"]) for r in table] == [("a", "1.5", "")]
    assert "answers" not in table[0]
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(rows.parquet).num_rows == 1
