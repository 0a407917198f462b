"""Virtual time: order, dropping, and what is asked while it runs."""

from functools import partial

from sidecar.sim.timeline import Timeline


def test_things_happen_in_order_of_time_and_then_of_asking() -> None:
    timeline, seen = Timeline(), list[tuple[str, float]]()

    def see(name: str) -> None:
        seen.append((name, timeline.now_s))

    for name, delay_s in (("c", 2.0), ("a", 1.0), ("b", 1.0)):
        timeline.after(delay_s, partial(see, name))
    timeline.run_out()
    assert seen == [("a", 1.0), ("b", 1.0), ("c", 2.0)]


def test_what_is_dropped_does_not_happen_and_is_not_held() -> None:
    timeline = Timeline()
    due = timeline.after(1.0, lambda: None)
    due.drop()
    timeline.run_out()
    assert due.act is None
    assert timeline.now_s == 1.0


def test_a_moment_that_has_passed_is_now() -> None:
    timeline, seen = Timeline(), list[float]()

    def look_back() -> None:
        timeline.at(1.0, lambda: seen.append(timeline.now_s))

    timeline.after(2.0, look_back)
    timeline.run_out()
    assert seen == [2.0]


def test_what_is_due_later_stays() -> None:
    timeline, seen = Timeline(), list[float]()
    timeline.after(5.0, lambda: seen.append(timeline.now_s))
    timeline.run(3.0)
    assert (seen, timeline.now_s) == ([], 3.0)
    timeline.run(5.0)
    assert seen == [5.0]
