"""An agent that speaks MCP by the protocol's own library, as its documentation says."""

import asyncio
import os
import pathlib
import sys

import httpx2
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

address, token, folder = os.environ["TFE_ADDRESS"], os.environ["TFE_TOKEN"], sys.argv[1]


def text(result):
    return "\n".join(block.text for block in result.content)


async def main():
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        async with streamable_http_client(f"{address}/mcp", http_client=http) as streams:
            async with ClientSession(streams[0], streams[1]) as session:
                await session.initialize()
                await talk(session)


async def talk(session):
    listed = {tool.name: tool for tool in (await session.list_tools()).tools}
    assert {"contract", "start_plan", "request_apply"} <= set(listed), sorted(listed)
    assert listed["contract"].annotations.read_only_hint is True
    assert listed["request_apply"].annotations.destructive_hint is True

    may = text(await session.call_tool("contract", {}))
    assert "Plans may run in" in may, may

    files = {path.name: path.read_text() for path in pathlib.Path(folder).glob("*.tf")}
    arguments = {"workspace": "staging-app", "files": files, "message": "two instances"}
    started = await session.call_tool("start_plan", arguments)
    assert not started.is_error, text(started)
    run = text(started).split()[1]
    for _ in range(600):
        status = text(await session.call_tool("plan_status", {"run": run}))
        if "planned" in status:
            break
        await asyncio.sleep(0.05)
    assert "1 to add" in status, status

    refused = await session.call_tool(
        "start_plan", {"workspace": "ws-production-app", "files": files}
    )
    assert refused.is_error and "WORKSPACE_NOT_ALLOWED" in text(refused), text(refused)
    refusals = text(await session.call_tool("refusals", {}))
    assert "WORKSPACE_NOT_ALLOWED" in refusals, refusals


asyncio.run(main())
print("everything as it should be")
