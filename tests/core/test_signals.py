"""Signals that are put off."""

import signal
import threading

import pytest

from cspbench.core.signals import stops_put_off


def interrupted(numbers, done):
    """A Ctrl-C comes with each number."""
    for number in numbers:
        signal.raise_signal(signal.SIGINT)
        done.append(number)


def put_off(numbers, done):
    with stops_put_off():
        interrupted(numbers, done)


def outcomes():
    with stops_put_off():
        yield from range(3)


def test_what_is_under_way_becomes_whole():
    done = []
    with pytest.raises(KeyboardInterrupt):
        put_off(range(3), done)
    assert done == [0, 1, 2]
    with pytest.raises(KeyboardInterrupt):  # afterwards all is as before
        interrupted(range(3), done)
    assert done == [0, 1, 2]


def test_a_generator_puts_them_off_while_its_caller_works():
    done = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(outcomes(), done)
    assert done == [0, 1, 2]


def test_an_error_comes_first():
    def disk():
        yield 0
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        put_off(disk(), [])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_are_left_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with stops_put_off():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
