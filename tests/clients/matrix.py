"""What aetcd offers, against the member at the URL given; ends with "all good" or an exception."""

import asyncio
import sys
from urllib.parse import urlsplit

import aetcd


async def keys(client):
    await client.put(b"p/1", b"one")
    await client.put(b"p/2", b"two")
    got = await client.get(b"p/1")
    assert (got.key, got.value, got.version) == (b"p/1", b"one", 1), got
    assert await client.get(b"p/none") is None
    everything = [(kv.key, kv.value) for kv in await client.get_prefix(b"p/")]
    assert everything == [(b"p/1", b"one"), (b"p/2", b"two")], everything
    backwards = [kv.key for kv in await client.get_prefix(b"p/", sort_order="descend")]
    assert backwards == [b"p/2", b"p/1"], backwards
    some = [kv.key for kv in await client.get_range(b"p/1", b"p/2")]
    assert some == [b"p/1"], some
    replaced = await client.put(b"p/1", b"uno", prev_kv=True)
    assert replaced.prev_kv.value == b"one", replaced
    assert await client.replace(b"p/1", b"uno", b"ein")
    assert not await client.replace(b"p/1", b"uno", b"un")
    deleted = await client.delete_prefix(b"p/")
    assert deleted.deleted == 2, deleted


async def watch(client):
    watching = await client.watch_prefix(b"w/")
    await client.put(b"w/1", b"one")
    await client.delete(b"w/1")
    seen = []
    async for event in watching:
        seen.append((event.kind, event.kv.key, event.kv.value))
        if len(seen) == 2:
            break
    await watching.cancel()
    assert seen == [("PUT", b"w/1", b"one"), ("DELETE", b"w/1", b"")], seen


async def lease(client):
    lease = await client.lease(600)
    await client.put(b"leased", b"value", lease=lease)
    assert 590 <= await lease.remaining_ttl() <= 600
    assert list(await lease.keys()) == [b"leased"]
    await lease.refresh()
    await lease.revoke()
    assert await client.get(b"leased") is None


async def transaction(client):
    await client.put(b"t", b"old")
    txn = client.transactions
    swap = dict(
        compare=[txn.value(b"t") == b"old", txn.version(b"t") > 0],
        success=[txn.put(b"t", b"new"), txn.get(b"t")],
        failure=[txn.delete(b"t")],
    )
    succeeded, responses = await client.transaction(**swap)
    assert succeeded and len(responses) == 2, responses
    succeeded, _ = await client.transaction(**swap)
    assert not succeeded
    assert await client.get(b"t") is None


async def upkeep(client):
    status = await client.status()
    assert status.leader, status
    members = [member async for member in client.members()]
    assert len(members) == 3, members


async def main(url):
    where = urlsplit(url)
    async with aetcd.Client(host=where.hostname, port=where.port) as client:
        for part in (keys, watch, lease, transaction, upkeep):
            await asyncio.wait_for(part(client), 20)
    print("all good")


asyncio.run(main(sys.argv[1]))
