"""An agent program that builds on the openai client; it needs a newer Python than the server does."""

import asyncio
from collections.abc import Iterator

import openai
from pydantic_ai import Agent, Tool
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.contract.conversations import SYSTEM, Said, Stage


def pydantic_agent(url: str, model: str, stage: Stage) -> Iterator[Said]:
    async def talk() -> list[Said]:
        said, history = [], list[ModelMessage]()
        tools = [Tool(one, sequential=True) for one in (stage.search, stage.note)]
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
            asked = OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client))
            agent = Agent(asked, instructions=SYSTEM, tools=tools, retries=0)
            for turn in stage.turns:
                run = await agent.run(turn.question, message_history=history)
                history = run.all_messages()
                replies = [message for message in run.new_messages() if message.kind == "response"]
                said.append(Said(run.output, tuple(message.usage.cache_read_tokens for message in replies)))
        return said

    yield from asyncio.run(talk())
