"""An agent that uses both vendors' libraries as their documentation has it."""

import os

import anthropic
import openai

gateway, token = os.environ["GATEWAY"], os.environ["TOKEN"]
ASK = [{"role": "user", "content": "What shall I change?"}]
CALL = [{"role": "user", "content": "Please call the tool."}]
SCHEMA = {"type": "object", "properties": {"workspace": {"type": "string"}}}


def denied(code, kind, call):
    try:
        call()
    except kind as error:
        assert error.status_code == 403, error
        assert code in str(error), error
    else:
        raise AssertionError(f"{code} was not raised")


def with_openai():
    client = openai.OpenAI(base_url=f"{gateway}/openai/v1", api_key=token)
    chat = client.chat.completions
    answer = chat.create(model="gpt-standin", messages=ASK)
    assert answer.choices[0].message.content and answer.usage.total_tokens > 0

    def function(name):
        return [{"type": "function", "function": {"name": name, "parameters": SCHEMA}}]

    answer = chat.create(model="gpt-standin", messages=CALL, tools=function("plan_staging"))
    assert answer.choices[0].message.tool_calls[0].function.name == "plan_staging"
    names, usage = [], None
    for chunk in chat.create(
        model="gpt-standin",
        messages=CALL,
        tools=function("plan_staging"),
        stream=True,
        stream_options={"include_usage": True},
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or []:
                names += [call.function.name] if call.function.name else []
    assert names == ["plan_staging"] and usage.total_tokens > 0, (names, usage)

    def tool(name):
        return [{"type": "function", "name": name, "parameters": SCHEMA, "strict": False}]

    response = client.responses.create(model="gpt-standin", input="What shall I change?")
    assert response.output_text
    response = client.responses.create(
        model="gpt-standin", input="Please call the tool.", tools=tool("plan_staging")
    )
    assert response.output[0].name == "plan_staging"
    with client.responses.stream(
        model="gpt-standin", input="Please call the tool.", tools=tool("plan_staging")
    ) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output[0].name == "plan_staging"

    vectors = client.embeddings.create(model="text-embedding-standin", input="a")
    assert vectors.data[0].embedding
    models = [model.id for model in client.models.list()]
    assert "gpt-standin" in models and "gpt-standin-mini" not in models, models

    denied(
        "MODEL_NOT_ALLOWED",
        openai.PermissionDeniedError,
        lambda: chat.create(model="gpt-standin-mini", messages=ASK),
    )
    denied(
        "MODEL_TOOL_NOT_ALLOWED",
        openai.PermissionDeniedError,
        lambda: chat.create(
            model="gpt-standin", messages=ASK, tools=function("exec"), stream=True
        ),
    )


def with_anthropic():
    client = anthropic.Anthropic(base_url=f"{gateway}/anthropic", api_key=token)
    plain = {"model": "claude-standin", "max_tokens": 256}

    def tool(name):
        return [{"name": name, "input_schema": SCHEMA}]

    answer = client.messages.create(messages=ASK, **plain)
    assert answer.content[0].text and answer.usage.output_tokens > 0
    answer = client.beta.messages.create(messages=ASK, betas=["some-feature"], **plain)
    assert answer.content[0].text
    answer = client.messages.create(messages=CALL, tools=tool("plan_staging"), **plain)
    assert answer.content[-1].name == "plan_staging"
    with client.messages.stream(messages=CALL, tools=tool("plan_staging"), **plain) as stream:
        for _ in stream:
            pass
        final = stream.get_final_message()
    assert final.content[-1].input == {"workspace": "staging-app"}, final

    counted = client.messages.count_tokens(model="claude-standin", messages=ASK)
    assert counted.input_tokens > 0
    denied(
        "MODEL_NOT_ALLOWED",
        anthropic.PermissionDeniedError,
        lambda: client.messages.create(model="other", max_tokens=1, messages=ASK),
    )
    denied(
        "MODEL_TOOL_NOT_ALLOWED",
        anthropic.PermissionDeniedError,
        lambda: client.messages.create(messages=ASK, tools=tool("exec"), **plain),
    )


with_openai()
with_anthropic()
print("everything as it should be")
