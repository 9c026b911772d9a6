import multiprocessing
from dataclasses import asdict, replace
from pathlib import Path

import orjson
import pytest

from serve.votes import DuplicateVoteError, Vote, VoteLog

VOTE = Vote(
    duel="d0",
    generation="g",
    query="book-1",
    left="pinsage",
    right="text",
    num_items=1,
    choice="left",
    voter="",
    at="2026-01-01T00:00:00+00:00",
)


def cast_many(folder: Path, first: int) -> None:
    log = VoteLog(folder)
    for number in range(first, first + 40):
        # Every other vote is one that the other process casts too.
        log.cast(replace(VOTE, duel=f"d{number // 2 if number % 2 else number}"))


def test_a_vote_survives_the_process_and_other_replicas_see_it_at_once(tmp_path: Path):
    ours, theirs = VoteLog(tmp_path / "new"), VoteLog(tmp_path / "new")
    assert theirs.read() == ([], 0)
    assert ours.cast(VOTE)
    assert theirs.read() == ([VOTE], 0)
    assert VoteLog(tmp_path / "new").read() == ([VOTE], 0)


def test_the_same_vote_again_counts_once_and_another_choice_is_refused(tmp_path: Path):
    ours, theirs = VoteLog(tmp_path), VoteLog(tmp_path)
    assert ours.cast(VOTE)
    assert not theirs.cast(replace(VOTE, at="later"))
    with pytest.raises(DuplicateVoteError):
        theirs.cast(replace(VOTE, choice="equal"))
    assert ours.read() == ([VOTE], 0)


def test_a_voter_answers_a_question_once_whatever_the_sides(tmp_path: Path):
    log = VoteLog(tmp_path)
    named = replace(VOTE, voter="p1")
    log.cast(named)
    with pytest.raises(DuplicateVoteError):
        log.cast(replace(named, duel="d1", left="text", right="pinsage"))
    assert log.cast(replace(named, duel="d2", query="book-2"))
    assert log.cast(replace(named, duel="d3", voter="p2"))


def test_a_line_cut_short_by_a_crash_is_counted_and_harms_no_later_vote(tmp_path: Path):
    VoteLog(tmp_path).cast(VOTE)
    with (tmp_path / "votes.jsonl").open("ab") as file:
        file.write(b'{"duel": "d1", "gene')
    log = VoteLog(tmp_path)
    assert log.read() == ([VOTE], 0)
    later = replace(VOTE, duel="d2")
    assert log.cast(later)
    assert log.read() == ([VOTE, later], 1)
    assert VoteLog(tmp_path).read() == ([VOTE, later], 1)


@pytest.mark.parametrize("how", ["emptied", "replaced"])
def test_a_file_of_votes_that_somebody_begins_anew_is_read_anew(tmp_path: Path, how: str):
    log, path = VoteLog(tmp_path), tmp_path / "votes.jsonl"
    for number in range(3):
        log.cast(replace(VOTE, duel=f"d{number}"))
    if how == "replaced":
        (tmp_path / "fresh").touch()
        (tmp_path / "fresh").replace(path)
    else:
        path.write_bytes(b"")
    assert log.read() == ([], 0)
    assert log.cast(VOTE)
    assert log.read() == VoteLog(tmp_path).read() == ([VOTE], 0)


def test_a_line_that_is_no_vote_is_counted_as_damaged(tmp_path: Path):
    log = VoteLog(tmp_path)
    log.cast(VOTE)
    for wrong in ({"duel": []}, {"choice": "neither"}, {"num_items": None}):
        with (tmp_path / "votes.jsonl").open("ab") as file:
            file.write(orjson.dumps({**asdict(VOTE), "duel": "d1", **wrong}) + b"\n")
    assert log.read() == VoteLog(tmp_path).read() == ([VOTE], 3)


def test_processes_that_vote_at_once_lose_nothing_and_share_one_secret(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=cast_many, args=(tmp_path, 0)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    votes, damaged = VoteLog(tmp_path).read()
    expected = {number // 2 if number % 2 else number for number in range(40)}
    assert (sorted(vote.duel for vote in votes), damaged) == (
        sorted(f"d{number}" for number in expected),
        0,
    )
    assert VoteLog(tmp_path).secret() == VoteLog(tmp_path).secret()
    assert len((tmp_path / "votes.jsonl").read_bytes().splitlines()) == len(expected)


def test_a_secret_that_is_not_whole_signs_nothing(tmp_path: Path):
    log = VoteLog(tmp_path)
    assert len(log.secret()) == 32
    (tmp_path / "secret").write_bytes(b"")
    with pytest.raises(OSError, match="has 0 bytes instead of 32; delete it"):
        log.secret()
    (tmp_path / "secret").unlink()
    assert len(log.secret()) == 32
