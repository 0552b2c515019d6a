"""``cspbench fleet``: a row for each board, with what it does and how it differs."""

import json

import pytest

from cspbench.cli.fleet import state_text
from cspbench.fleet.answers import MAX_SENTENCE, Now, read_now
from cspbench.fleet.devices import BoardInfo
from cspbench.fleet.overview import overview, unlike_their_label
from cspbench.fleet.protocol import encode
from cspbench.fleet.workers import Glance

ORIN = {"cpu": "Cortex-A78AE", "nvpmodel": "MAXN", "kernel": "5.15", "python": "3.10.12",
        "libraries": {"numpy": "2.1.0", "opencv": None}}  # fmt: skip


def board(name, *labels, **facts):
    return BoardInfo(name, f"tcp://{name}", labels, backends={"opencv-cpu": None, "torch": "no"},
                     environment={**ORIN, **facts}, cspbench="0.3")  # fmt: skip


IDLE = Now("idle", "", 61.4, 41.5, {})


def test_a_row_says_what_a_board_is_and_does():
    measuring = Now("measuring", "net@224/opencv-cpu/b1/t1", 12.0, 52.0, {"nvpmodel": "15W"})
    [row] = overview([Glance(board("one", "orin"), measuring, 0.4)])
    assert row == {
        "board": "one", "labels": ["orin"], "state": "measuring",
        "what": "net@224/opencv-cpu/b1/t1", "seconds": 12, "temperature_c": 52.0,
        "power_mode": "15W", "backends": ["opencv-cpu"], "cspbench": "0.3",
        "versions": ["python 3.10.12", "numpy 2.1.0"], "differs": [],
    }  # fmt: skip
    assert state_text(row) == "measuring net@224/opencv-cpu/b1/t1 for 12 s"


def test_what_it_waits_for_follows_a_colon():
    waiting = Now("waiting", "another run measures", 180.0, None, {})
    [row] = overview([Glance(board("one"), waiting, 0.0)])
    assert state_text(row) == "waiting: another run measures for 3 min"


@pytest.mark.parametrize(
    ("now", "silent", "text"),
    [(IDLE, 42.0, "silent for 42 s"), (None, 0.0, "unknown its agent does not say")],
)
def test_a_board_that_says_nothing(now, silent, text):
    [row] = overview([Glance(board("one"), now, silent)])
    assert state_text(row) == text


def test_a_board_is_compared_with_most_boards_of_its_label():
    slow = board("a", "orin", nvpmodel="15W")
    boards = [slow, board("b", "orin"), board("c", "orin"), board("d", "pi", nvpmodel="10W")]
    assert unlike_their_label(boards) == {"a": ["nvpmodel is 15W, MAXN on b"]}


def test_a_long_fact_is_cut():
    flags = board("a", "x", cpu_flags=["avx"] * 100)
    [[text]] = unlike_their_label([board("b", "x"), board("c", "x"), flags]).values()
    assert len(text) < 150


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "dancing"}, {"seconds": -1}, {"seconds": float("inf")}, {"what": None},
        {"temperature_c": "hot"}, {"temperature_c": 1e9}, {"settings": {"a b": "c"}},
        {"settings": {f"s{n}": "x" for n in range(11)}}, {"settings": ["x"]},
    ],
)  # fmt: skip
def test_a_malformed_heartbeat_shows_as_unknown(changes):
    said = {"state": "idle", "what": "", "seconds": 1.0, "temperature_c": None, "settings": {}}
    assert read_now(encode("now", said), "one") == Now("idle", "", 1.0, None, {})
    text = json.dumps({**json.loads(encode("now", said)), **changes})
    assert read_now(text, "one") is None


def test_a_sentence_of_a_board_is_cut_and_inert():
    said = {"state": "waiting", "what": "x\x1b[31m" * 1000, "seconds": 1.0, "temperature_c": None,
            "settings": {}}  # fmt: skip
    what = read_now(encode("now", said), "one").what
    assert "\x1b" not in what
    assert len(what) <= 8 * MAX_SENTENCE


@pytest.mark.slow
def test_the_command_lists_real_boards(fleet):
    result = fleet.cspbench("fleet", fleet.address)
    assert result.returncode == 0, result.stderr
    rows = {line.split()[0]: line for line in result.stdout.splitlines()[1:]}
    assert set(rows) == {"a1", "a2", "b1"}
    assert "idle for" in rows["a1"]
    for form in ("json", "csv", "md"):
        listed = fleet.cspbench("fleet", fleet.address, "--format", form)
        assert listed.returncode == 0, listed.stderr
        assert "opencv-cpu" in listed.stdout


@pytest.mark.slow
def test_it_watches_until_it_is_stopped(fleet):
    import signal
    import sys

    from tests.fleet.machines import eventually

    watch = fleet.start(
        "watch", sys.executable, "-m", "cspbench", "fleet", fleet.address, "--watch"
    )
    eventually(lambda: fleet.log("watch").count("b1 ") >= 2)
    watch.send_signal(signal.SIGINT)
    assert watch.wait(20) == 130
    assert "Traceback" not in fleet.log("watch")


def test_what_watching_cannot_do_is_refused(fleet_command):
    assert "--watch shows a table" in fleet_command(
        "tcp://127.0.0.1:1", "--watch", "--format", "csv"
    )


@pytest.fixture
def fleet_command(capsys):
    from cspbench.cli.main import main

    def run(*words):
        with pytest.raises(SystemExit) as end:
            main(["fleet", *words])
        assert end.value.code == 2
        return capsys.readouterr().err

    return run
