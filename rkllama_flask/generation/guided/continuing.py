"""A prompt with an answer growing behind it, cut into tokens without cutting all of it again each time."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from rkllama_flask.generation.guided.filling import Encode
from rkllama_flask.generation.prompt.segments import Prompt, Segment
from rkllama_flask.generation.prompt.tokens import Tokenizer

_PROBE = (Segment('{"', trusted=False),)


def continuing(
    prompt: Prompt, encode: Callable[[Prompt], tuple[str | list[int], int | None]], tokenizer: Tokenizer | None
) -> Encode:
    """Encodes the prompt with more behind it as `encode` would the whole.

    Nothing reaches over a special token. So what stands up to the last one is cut once, if a trial shows that it is the
    same: tokenizers that treat the beginning of a text differently fail it.
    """

    def whole(more: Sequence[Segment]) -> tuple[str | Sequence[int], int | None]:
        return encode(replace(prompt, segments=(*prompt.segments, *more)))

    expected, _ = whole(_PROBE)
    if tokenizer is None or isinstance(expected, str):
        return whole
    head, tail = tokenizer.split(prompt)
    beginning, _ = encode(head)
    assert not isinstance(beginning, str)

    def behind_head(more: Sequence[Segment]) -> tuple[str | Sequence[int], int | None]:
        ids = [*beginning, *tokenizer.encode(Prompt((*tail.segments, *more)), add_bos=False)]
        return ids, len(ids)

    return behind_head if head.segments and behind_head(_PROBE)[0] == expected else whole
