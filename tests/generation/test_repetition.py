"""Where a model only repeats itself, and where it doesn't."""

import pytest

from rkllama_flask.generation.guided.repetition import (
    COUNTED_ITEMS,
    LEAST_CHARACTERS,
    LEAST_TIMES,
    LONGEST_PIECE,
    REPEATED_ITEMS,
    RepeatingText,
    only_repeats,
)

SENTENCE = "The gem is said to have been found in a river by a boy who was looking for his lost dog. "
LOREM = " ".join(f"Sentence {number} of this page says what no other says, {number * 7919}." for number in range(200))


def end_of(text):
    """How many characters there are when the text is found to repeat itself, None if it never is."""
    reader = RepeatingText()
    return next((count for count, character in enumerate(text, 1) if reader.add(character)), None)


def items_before_end(items):
    return next((count for count in range(1, len(items) + 1) if only_repeats(items[:count])), None)


@pytest.mark.parametrize(
    "piece", ["a", " ", "ha ", "AB12", SENTENCE, "x" * 70 + "y", "-" * 400 + "1\n", LOREM[:LONGEST_PIECE]]
)
def test_one_piece_again_and_again_is_found_behind_a_whole_one(piece):
    end = end_of(LOREM[:3001] + "|" + piece * 1000)
    times, rest = divmod(end - 3002, len(piece))
    assert rest == 0
    assert times == max(LEAST_TIMES, -(-LEAST_CHARACTERS // len(piece)))


@pytest.mark.parametrize(
    "text",
    [
        LOREM,
        "ha " * 100,
        "-" * 300,
        SENTENCE * 3,
        (LOREM[:LONGEST_PIECE] + "\n") * 3,
        "\n".join(f"| {row:3} | {row * row:6} | {'yes' if row % 3 else 'no':3} |" for row in range(60)),
        "+-----+--------+-----+\n".join(f"| {row:3} |        |     |\n" for row in range(60)),
        ", ".join(map(str, range(1, 400))),
        "\n".join(". " * 8 for _ in range(8)),
        "na na na na, hey\n" * 16 + LOREM[:400] + "na na na na, hey\n" * 16,
        "\n".join(f"10 green bottles, and if one should fall, {number} are left" for number in range(99, 0, -1)),
    ],
)
def test_prose_tables_refrains_and_lists_of_numbers_are_no_such_repetition(text):
    assert end_of(text) is None


@pytest.mark.parametrize(
    ("items", "count"),
    [
        (['"gem"'] * 40, REPEATED_ITEMS),
        (['"a"', '"b"', '"c"'] * 20, REPEATED_ITEMS),
        (['"first"', '"second"'] + ['"a"', '"b"'] * 20, REPEATED_ITEMS + 2),
        ([f'"{SENTENCE}"'] * 40, 3),
        (['{"name": "Ann", "age": 31, "home": {"street": "High Street", "city": "London"}}'] * 9, 3),
        ([f'"Gemstone {number}"' for number in range(21, 90)], COUNTED_ITEMS),
        ([f'"victim{number * 3}"' for number in range(64)], COUNTED_ITEMS),
        ([f'{{"id": {number}, "name": "Item {number}"}}' for number in range(64)], COUNTED_ITEMS),
        ([f'{{"name": "Emerald", "id": {number}}}' for number in range(64)], COUNTED_ITEMS),
    ],
)
def test_an_array_repeats_itself_with_a_cycle_or_a_name_that_is_counted_on(items, count):
    assert items_before_end(items) == count


@pytest.mark.parametrize(
    "items",
    [
        [],
        [str(number) for number in range(1, 41)],
        ["0"] * 64,
        ["true"] * 64,
        ["[0, 0, 0]"] * 64,
        [f'"{word}"' for word in LOREM.split()[:60:2]],
        ['"positive"'] * 8 + ['"negative"'] + ['"positive"'] * 8,
        [f'"2024-05-{day:02}"' for day in range(1, 32)],
        [f'"{hour:02}:30"' for hour in range(24)],
        [f'"Chapter {number}: {LOREM.split(".")[number][-12:]}"' for number in range(30)],
        [f'"SKU-{number * 7919 % 1000}"' for number in range(40)],
        [f'{{"x": {number}, "y": {number + 1}, "first": false, "second": true}}' for number in range(40)],
        [f'{{"sensor": "S{number}", "value": {number * 37 % 50}}}' for number in range(40)],
    ],
)
def test_numbers_words_labels_dates_and_records_are_no_such_repetition(items):
    assert items_before_end(items) is None
