"""Processes do what one of them wants at the same moment."""

import concurrent.futures
import time

from connections import connected, free_address

from t5like.processes.agreement import Agreement


def test_all_do_at_one_moment_what_any_of_them_wants_and_go_on_to_the_next():
    """Processes of different speeds; one wants a save, and another, when it has it, a stop."""
    wanted: list[str | None] = [None, "save"]
    heard: list[str] = []
    with connected(free_address(), 2) as processes:

        def hears(asked: str) -> None:
            heard.append(asked)
            wanted[:] = [None, None] if asked == "SIGTERM" else ["SIGTERM", None]

        agreements = [Agreement(p, lambda p=p: wanted[p.index], hears, 60.0) for p in processes]
        for each in agreements:
            each._key = "t5like/agree/test"  # processes of their own count alike

        def run(number: int) -> list[tuple[int, str]]:
            found: list[tuple[int, str]] = []
            agreements[number].start()
            latest = time.monotonic() + 60
            while (not found or found[-1][1] != "SIGTERM") and time.monotonic() < latest:
                if asked := agreements[number].now():
                    found.append((agreements[number].moments, asked))
                time.sleep(0.001 * (1 + 5 * number))
            agreements[number].end(together=True)
            return found

        with concurrent.futures.ThreadPoolExecutor() as pool:
            first, second = pool.map(run, range(2))
    assert first == second
    assert [asked for _, asked in first] == ["save", "SIGTERM"]
    assert sorted(heard) == ["SIGTERM", "SIGTERM", "save", "save"]


def test_a_moment_costs_no_message():
    with connected(free_address(), 1) as (process,):
        agreement = Agreement(process, lambda: None, print, None)
        started = time.monotonic()
        assert [agreement.now() for _ in range(10_000)] == [None] * 10_000
        assert time.monotonic() - started < 1
