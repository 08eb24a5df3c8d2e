"""A short storm on every run; `python -m tests.storm` is the long one."""

from __future__ import annotations

from tests.storm.storm import storm


async def test_nothing_is_lost_and_nothing_comes_twice() -> None:
    """Five kills, cuts after the commit, double and missed events: each question has one reply, and the ledger adds up."""
    outcome = await storm(seed=4, kills=5)
    assert (outcome.lost, outcome.twice, outcome.stopped) == (0, 0, 0)
    assert outcome.ledger == {"accepted": outcome.asked, "answered": outcome.asked, "dead": 0, "expired": 0, "pending": 0}
