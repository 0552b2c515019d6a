"""``--format``: what each form prints, and that hostile names stay inert in all of them."""

import csv
import importlib.util
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.core.text import printable
from cspbench.errors import InputError
from cspbench.views.formats import FORMATS, records, render, write
from tests.inertness import ATTACKS, alive, hidden

FRAME = pd.DataFrame(
    {
        "id": ["a@64", "b@64"],
        "latency_ms": [1.23456, np.nan],
        "flags": [["contended", "resumed"], []],
        "status": ["ok", "failed"],
    }
)
NUMBERS = {"latency_ms": ".2f"}


def lines(text):
    return [line.rstrip() for line in text.splitlines()]


def test_table_rounds_numbers_and_marks_what_is_missing():
    assert lines(render(FRAME, "table", NUMBERS)) == [
        "id    latency_ms  flags               status",
        "a@64        1.23  contended, resumed  ok",
        "b@64           -  -                   failed",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.000"), (0.0005, "0.001"), (0.00022, "0.00022"), (0.0000221, "2.2e-05"),
     (-0.0001, "-0.0001"), (12.3456, "12.346")],
)  # fmt: skip
def test_a_small_number_never_reads_0(value, shown):
    frame = pd.DataFrame({"macs_g": [value]})
    assert lines(render(frame, "table", {"macs_g": ".3f"}))[1].strip() == shown


def test_markdown_is_a_pipe_table():
    assert lines(render(FRAME, "md", NUMBERS)) == [
        "| id     |   latency_ms | flags              | status   |",
        "|:-------|-------------:|:-------------------|:---------|",
        "| `a@64` |         1.23 | contended, resumed | ok       |",
        "| `b@64` |              |                    | failed   |",
    ]


def test_csv_keeps_exact_numbers_and_leaves_missing_ones_empty():
    assert list(csv.reader(io.StringIO(render(FRAME, "csv", NUMBERS)))) == [
        ["id", "latency_ms", "flags", "status"],
        ["a@64", "1.23456", "contended;resumed", "ok"],
        ["b@64", "", "", "failed"],
    ]


def test_json_is_a_list_of_records_with_null_for_missing():
    assert json.loads(render(FRAME, "json", NUMBERS)) == [
        {"id": "a@64", "latency_ms": 1.23456, "flags": ["contended", "resumed"], "status": "ok"},
        {"id": "b@64", "latency_ms": None, "flags": [], "status": "failed"},
    ]


def test_latex_is_a_booktabs_table():
    text = render(pd.DataFrame({"id": ["a_b & 50 %"], "fps": [2.5]}), "latex", {"fps": ".1f"})
    assert r"\toprule" in text
    assert r"a\_b \& 50 \% & 2.5" in text


def test_no_latex_command_of_a_name_is_one():
    text = render(
        pd.DataFrame({"id": [r"\input{/etc/passwd} \write18{x} $x$ % ^^5cinput"]}), "latex"
    )
    row = text.split(r"\midrule")[1].split(r"\\")[0]
    assert r"\input" not in row
    assert r"\write" not in row
    assert not re.search(r"(?<!\\)[$%]", row)
    assert "^^" not in row


def test_whole_numbers_of_a_column_with_gaps_print_without_decimals():
    """pandas makes floats of whole numbers where one is missing: a launch that failed."""
    frame = pd.DataFrame({"samples": [120, None]})
    assert lines(render(frame, "table", {"samples": ".0f"})) == ["samples", "    120", "      -"]


def test_numpy_values_become_plain_json():
    frame = pd.DataFrame({"a": [np.float32("nan"), np.float32(0.5)], "b": [np.int64(3), True]})
    assert records(frame) == [{"a": None, "b": 3}, {"a": 0.5, "b": True}]


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "parquet"])
def test_an_empty_frame_is_no_error(form):
    text = render(pd.DataFrame(columns=["id", "fps"]), form, {"fps": ".1f"})
    assert text == "[]" if form == "json" else "id" in text


def test_parquet_needs_a_file(tmp_path):
    with pytest.raises(InputError, match="--out"):
        render(FRAME, "parquet")
    if importlib.util.find_spec("pyarrow") is None:
        with pytest.raises(InputError, match=r"cspbench\[parquet\]"):
            write(FRAME, "parquet", tmp_path / "a.parquet")
    else:
        write(FRAME, "parquet", tmp_path / "a.parquet")
        assert list(pd.read_parquet(tmp_path / "a.parquet")["id"]) == ["a@64", "b@64"]


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path):
    write(FRAME, "csv", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == render(FRAME, "csv") + "\n"
    with pytest.raises(InputError, match=r"cannot write .*missing/a\.csv: No such file"):
        write(FRAME, "csv", tmp_path / "missing" / "a.csv")


# Hostile cells -----------------------------------------------------------------------------------

ESCAPE = "x\x1b[2J\x9b31m\r\ny"


@pytest.mark.parametrize("form", ["table", "json", "csv", "md", "latex"])
def test_no_form_lets_a_name_drive_the_terminal(form):
    text = render(pd.DataFrame({"id": [ESCAPE], "flags": [[ESCAPE]]}), form)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    if form == "table":
        assert len(text.splitlines()) == 2  # a newline in a name adds no row


def test_a_terminal_table_shows_markup_as_it_is():
    assert "[red]a[/red] [link=x]" in render(
        pd.DataFrame({"id": ["[red]a[/red] [link=x]"]}), "table"
    )


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_takes_no_cell_for_a_formula(cell):
    rows = list(csv.reader(io.StringIO(render(pd.DataFrame({"reason": [cell]}), "csv"))))
    assert rows[1] == ["'" + printable(cell)]


def test_negative_numbers_stay_numbers_in_csv():
    assert render(pd.DataFrame({"change": [-1.5]}), "csv") == "change\n-1.5"


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("a|b", r"a\|b"),
        ("a\\|b", r"`a\\u007cb`"),  # else the backslash would free the pipe
        ("<script>x</script>", "`<script>x</script>`"),
    ],
)
def test_a_markdown_cell_ends_neither_its_cell_nor_the_page(cell, shown):
    assert lines(render(pd.DataFrame({"id": [cell]}), "md"))[-1] == f"| {shown} |"


@given(st.text(alphabet='ab|\\<>&"\n\r\x1b=', max_size=30))
def test_a_markdown_row_has_as_many_cells_as_the_header(cell):
    text = render(pd.DataFrame({"id": [cell], "n": ["x"]}), "md")
    assert len(text.splitlines()) == 3
    row = re.sub(r"\\.", "", text.splitlines()[-1])  # without what is escaped
    assert row.count("|") == 3
    assert not alive(text)


@pytest.mark.parametrize("form", ["table", "csv", "md", "latex"])
@given(st.text(max_size=30))
def test_no_form_leaves_a_hidden_character(form, cell):
    text = render(pd.DataFrame({"id": [cell], "flags": [[cell]]}, dtype=object), form)
    assert not hidden(text)
    assert form != "md" or not alive(text)


@pytest.mark.parametrize("form", ["table", "csv", "md", "latex"])
@pytest.mark.parametrize("cell", ATTACKS)
def test_no_form_leaves_an_attack(form, cell):
    text = render(pd.DataFrame({"id": [cell], "flags": [[cell]]}, dtype=object), form)
    assert not hidden(text)
    assert form != "md" or not alive(text)


@given(st.text(max_size=30))
def test_a_csv_cell_is_read_back_whole(cell):
    rows = list(csv.reader(io.StringIO(render(pd.DataFrame({"a": [cell], "b": ["x"]}), "csv"))))
    assert rows[1][0].removeprefix("'") == printable(cell).removeprefix("'")
    assert rows[1][1] == "x"


WIDE = pd.DataFrame(
    {
        "id": ["peleenet@224/opencv-cpu/b1/t1", "yolov3-tiny@416/torch-cpu/b1/t1"],
        "params_m": [2.8, 8.9],
        "bflops": [1.0, 5.5],
        "latency_ms": [12.0, 120.5],
        "flags": [["contended", "not_steady"], []],
    }
)
WIDE_NUMBERS = {"params_m": ".1f", "bflops": ".1f", "latency_ms": ".2f"}
LOW_PRIORITY = ("params_m", "bflops")


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        # id 31 + params_m 8 + bflops 6 + latency_ms 10 + flags (a word) 14 + 4 gaps of 2 = 77
        (77, ["id", "params_m", "bflops", "latency_ms", "flags"]),
        (76, ["id", "bflops", "latency_ms", "flags"]),
        (60, ["id", "latency_ms", "flags"]),
        (58, ["id", "latency_ms"]),
    ],
)
def test_a_narrow_terminal_shows_fewer_columns_and_names_the_others(monkeypatch, width, shown):
    monkeypatch.setenv("COLUMNS", str(width))
    printed = lines(render(WIDE, "table", WIDE_NUMBERS, LOW_PRIORITY))
    assert printed[0].split() == shown
    missing = [name for name in WIDE if name not in shown]
    assert ("too narrow for " + ", ".join(missing) in printed[-1]) == bool(missing)
    assert max(map(len, printed[:-1])) <= width


def test_ids_are_folded_before_more_than_three_columns_go(monkeypatch):
    monkeypatch.setenv("COLUMNS", "31")  # with ids on two lines: 19 + 2 + 10
    printed = lines(render(WIDE.assign(fps=[1, 2]), "table", WIDE_NUMBERS, LOW_PRIORITY))
    assert printed[0].split() == ["id", "latency_ms"]
    assert printed[1:3] == ["peleenet@224              12.00", "  /opencv-cpu/b1/t1"]


def test_in_a_pipe_nothing_is_left_out(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert lines(render(WIDE, "table", WIDE_NUMBERS, LOW_PRIORITY))[0].split() == list(WIDE)
