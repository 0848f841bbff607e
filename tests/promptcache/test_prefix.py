"""What two prompts have in common."""

from hypothesis import given
from hypothesis import strategies as st

from rkllama_flask.promptcache.prefix import common_prefix, residue

IDS = st.lists(st.integers(0, 2), max_size=40).map(tuple)


@given(IDS, IDS)
def test_the_common_prefix_is_as_long_as_a_look_at_each_token_finds(
    one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    expected = 0
    while expected < min(len(one), len(other)) and one[expected] == other[expected]:
        expected += 1
    assert common_prefix(one, other) == common_prefix(other, one) == expected


def test_text_and_tokens_have_nothing_in_common() -> None:
    assert common_prefix("", ()) == common_prefix("abc", (97, 98, 99)) == common_prefix(None, "abc") == 0


def test_of_a_short_prefix_half_has_to_be_reused_of_a_long_one_all_but_a_block() -> None:
    assert [residue(tokens) for tokens in (1, 2, 12, 32, 600)] == [0, 1, 6, 16, 16]
