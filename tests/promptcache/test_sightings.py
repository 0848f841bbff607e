"""Openings are worth keeping once a second conversation has them."""

from rkllama_flask.promptcache.sightings import Opening, Sightings


def opening(number: int = 1) -> Opening:
    return Opening("tiny", "weights", "chatml", (number, 2, 3), 12)


def test_the_first_sighting_is_not_enough_and_the_same_conversation_again_neither() -> None:
    seen = Sightings()
    for _turn in range(5):
        seen.saw(opening(), "first")
    seen.saw(opening(2), "second")
    assert seen.wanted == []


def test_a_second_conversation_with_the_same_opening_makes_it_wanted_once() -> None:
    seen = Sightings()
    for conversation in ("first", "second", "third"):
        seen.saw(opening(), conversation)
    assert seen.wanted == [opening()]
    seen.saved(opening())
    assert seen.wanted == []


def test_after_a_save_it_has_to_be_seen_twice_again() -> None:
    seen = Sightings()
    seen.saw(opening(), "first")
    seen.saw(opening(), "second")
    seen.saved(opening())
    seen.saw(opening(), "third")
    assert seen.wanted == []
    seen.saw(opening(), "fourth")
    assert seen.wanted == [opening()]


def test_what_could_not_be_saved_is_not_tried_again() -> None:
    seen = Sightings()
    seen.saw(opening(), "first")
    seen.saw(opening(), "second")
    seen.give_up(opening())
    seen.saw(opening(), "first")
    seen.saw(opening(), "second")
    assert seen.wanted == []


def test_many_openings_that_come_once_are_forgotten() -> None:
    seen = Sightings()
    seen.saw(opening(0), "first")
    for number in range(1, 200):
        seen.saw(opening(number), "first")
    seen.saw(opening(0), "second")
    assert seen.wanted == []
