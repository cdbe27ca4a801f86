"""The comparison that every system test trusts: it excuses what it must and nothing else."""

from tests.support.truth import BAD, Answer, Row, Stretch, compare

STEP = 100_000


def sent(bits: str) -> list[Answer]:
    """One answer a step, each on its way for 1 ms."""
    return [Answer(n * STEP, n * STEP + 1000, bit == "1") for n, bit in enumerate(bits)]


def stored(answers: list[Answer]) -> list[Row]:
    return [Row(one.sent_us + 500, one.value, 0) for one in answers]


def test_what_was_sent_is_stored() -> None:
    answers = sent("1001")
    found = compare("p", answers, stored(answers), [])
    assert (found.equal, found.wrong) == (4, [])


def test_an_answer_lost_in_an_outage_stands_in_for_no_later_one_of_the_same_value() -> None:
    answers = sent("100001")
    outage = Stretch(2 * STEP, 2 * STEP + 50_000)
    found = compare("p", answers, stored(answers[:2] + answers[3:]), [outage])
    assert (found.equal, found.in_outage, found.wrong) == (5, 1, [])


def test_an_answer_that_is_missing_is_named_with_its_own_time() -> None:
    answers = sent("100001")
    found = compare("p", answers, stored(answers[:2] + answers[3:]), [])
    assert found.wrong == [f"p: False sent at {2 * STEP + 1000} is not stored"]


def test_a_row_that_is_stored_twice_or_was_never_sent_is_named() -> None:
    answers = sent("101")
    rows = stored(answers)
    assert compare("p", answers, [rows[0], *rows], []).wrong
    assert compare("p", answers, [*rows, rows[2]], []).wrong
    assert compare("p", answers[1:], rows, []).wrong


def test_an_answer_that_the_agent_gave_up_on_meets_its_bad_row() -> None:
    answers = sent("101")
    rows = stored(answers)
    found = compare("p", answers, [rows[0], Row(rows[1].time_us, None, BAD), rows[2]], [])
    assert (found.equal, found.timed_out, found.bad_rows, found.wrong) == (2, 1, 1, [])


def test_a_bad_row_speaks_for_one_answer() -> None:
    answers = sent("1011")
    rows = stored(answers)
    given_up = Row(rows[2].time_us, None, BAD)
    found = compare("p", answers, [rows[0], given_up, rows[3]], [])
    assert (found.equal, found.timed_out) == (2, 1)
    assert found.wrong == [f"p: False sent at {STEP + 1000} is not stored"]


def test_an_answer_before_a_good_row_is_not_excused_by_a_bad_one_after_it() -> None:
    answers = sent("1010")
    rows = stored(answers)
    found = compare("p", answers, [rows[0], rows[2], Row(rows[3].time_us, None, BAD)], [])
    assert found.wrong == [f"p: False sent at {STEP + 1000} is not stored"]


def test_a_bad_row_comes_later_than_patience_only_after_the_agent_stood_still() -> None:
    answers = sent("10")
    rows = [stored(answers)[0], Row(STEP + 9_000_000, None, BAD)]
    pause = Stretch(STEP + 500, STEP + 8_900_000)
    assert compare("p", answers, rows, []).wrong
    assert compare("p", answers, rows, [], [Stretch(0, STEP - 1)]).wrong
    found = compare("p", answers, rows, [], [pause])
    assert (found.timed_out, found.wrong) == (1, [])
