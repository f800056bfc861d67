"""SIGINT and SIGTERM are noted while training, and only then."""

import os
import signal
import threading

import pytest

from hw_common.training.signals import StopNow, StopSignals

BOTH = (signal.SIGINT, signal.SIGTERM)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_is_noted_and_said(number, capfd):
    with StopSignals() as signals:
        assert signals.received is None
        send(number)
        assert signals.received == number
    assert "finishing the step" in capfd.readouterr().err


def test_the_handlers_before_come_back():
    before = [signal.getsignal(number) for number in BOTH]
    with StopSignals():
        assert [signal.getsignal(number) for number in BOTH] != before
    assert [signal.getsignal(number) for number in BOTH] == before


@pytest.mark.parametrize("first", BOTH)
def test_a_second_ctrl_c_quits_at_once(first):
    with pytest.raises(KeyboardInterrupt), StopSignals():
        send(first)
        send(signal.SIGINT)


def test_a_second_sigterm_waits_too():
    with StopSignals() as signals:
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert signals.received == signal.SIGTERM


@pytest.mark.parametrize("number", BOTH)
def test_immediate_ends_at_once(number):
    reached = []
    with StopSignals() as signals:
        with pytest.raises(StopNow), signals.immediate():
            send(number)
            reached.append("after the signal")
        assert signals.received == number and not reached
        with pytest.raises(StopNow), signals.immediate():  # the signal came before the block began
            reached.append("inside")
        assert not reached


def test_a_signal_after_immediate_is_noted_again():
    with StopSignals() as signals:
        with signals.immediate():
            pass
        send(signal.SIGTERM)
        assert signals.received == signal.SIGTERM


def test_another_thread_leaves_the_handlers_alone():
    handlers = []

    def train():
        with StopSignals():
            handlers.extend(signal.getsignal(number) for number in BOTH)

    before = [signal.getsignal(number) for number in BOTH]
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert handlers == before
