// What the official JavaScript client of EventStoreDB does to a server: node client.mjs CONNECTION_STRING
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import {
  ANY, BACKWARDS, END, EventStoreDBClient, FORWARDS, NO_STREAM, START, STREAM_EXISTS,
  StreamDeletedError, StreamNotFoundError, WrongExpectedVersionError, binaryEvent, jsonEvent, streamNameFilter,
} from "@eventstore/db-client";

const client = EventStoreDBClient.connectionString(process.argv[2]);
const events = (n, type = "t") => Array.from({ length: n }, (_, i) => jsonEvent({ id: randomUUID(), type, data: { i }, metadata: { m: i } }));
const collect = async (reading) => { const all = []; for await (const e of reading) all.push(e); return all; };
const numbers = async (reading) => (await collect(reading)).map((e) => Number(e.event.revision));

// Appends are batched, but for those with credentials of their own.
const order = events(3);
const first = await client.appendToStream("order-1", order, { expectedRevision: NO_STREAM });
assert.equal(first.nextExpectedRevision, 2n);
assert.ok(first.position.commit > 0n);
const again = await client.appendToStream("order-1", order, { expectedRevision: NO_STREAM });
assert.equal(again.nextExpectedRevision, 2n);
const plain = await client.appendToStream("order-1", events(1), { expectedRevision: 2n, credentials: { username: "admin", password: "changeit" } });
assert.equal(plain.nextExpectedRevision, 3n);

// Many appends under way at once, to many streams and to one.
await Promise.all(Array.from({ length: 50 }, (_, i) => client.appendToStream(`many-${i % 5}`, events(2), { expectedRevision: ANY })));
for (let i = 0; i < 5; i++) assert.deepEqual(await numbers(client.readStream(`many-${i}`)), [...Array(20).keys()]);
const inOrder = Array.from({ length: 20 }, (_, i) =>
  client.appendToStream("in-order", events(1), { expectedRevision: i === 0 ? NO_STREAM : BigInt(i - 1) }));
assert.equal((await Promise.all(inOrder)).at(-1).nextExpectedRevision, 19n);

// Conflicts.
const conflict = (p) => assert.rejects(p, (e) => e instanceof WrongExpectedVersionError);
await conflict(client.appendToStream("order-1", events(1), { expectedRevision: NO_STREAM }));
await conflict(client.appendToStream("order-1", events(1), { expectedRevision: 7n }));
await conflict(client.appendToStream("missing", events(1), { expectedRevision: STREAM_EXISTS }));
await assert.rejects(client.appendToStream("order-1", events(1), { expectedRevision: 1n }), (e) => {
  assert.equal(e.expectedVersion, 1n);
  assert.equal(e.actualVersion, 3n);
  return true;
});

// Reading both ways.
assert.deepEqual(await numbers(client.readStream("order-1", { direction: FORWARDS, fromRevision: 1n, maxCount: 2 })), [1, 2]);
assert.deepEqual(await numbers(client.readStream("order-1", { direction: BACKWARDS, fromRevision: END })), [3, 2, 1, 0]);
await assert.rejects(collect(client.readStream("missing")), (e) => e instanceof StreamNotFoundError);
const [read] = await collect(client.readStream("order-1", { maxCount: 1 }));
assert.deepEqual(read.event.data, { i: 0 });
assert.deepEqual(read.event.metadata, { m: 0 });
assert.equal(read.event.id, order[0].id);
assert.ok(Math.abs(Date.now() - read.event.created.getTime()) < 60_000);

await client.appendToStream("binary", binaryEvent({ type: "b", data: Buffer.from([1, 2, 3]) }));
const [binary] = await collect(client.readStream("binary"));
assert.deepEqual([...binary.event.data], [1, 2, 3]);

// $all, and subscriptions to it.
const all = await collect(client.readAll({ direction: FORWARDS, fromPosition: START }));
const back = await collect(client.readAll({ direction: BACKWARDS, fromPosition: END }));
assert.deepEqual(back.reverse().map((e) => e.event.id), all.map((e) => e.event.id));
const orders = all.filter((e) => e.event.streamId.startsWith("order-"));
const filter = streamNameFilter({ prefixes: ["order-"], checkpointInterval: 1 });
const ids = [];
for await (const e of client.subscribeToAll({ fromPosition: orders[0].event.position, filter })) {
  ids.push(e.event.id);
  if (ids.length === orders.length - 1) await client.appendToStream("order-2", events(1, "last"));
  if (e.event.type === "last") break;
}
assert.deepEqual(ids.slice(0, -1), orders.slice(1).map((e) => e.event.id));
const listened = [];
for await (const e of client.subscribeToStream("order-1", { fromRevision: 1n })) {
  listened.push(Number(e.event.revision));
  if (listened.length === 2) await client.appendToStream("order-1", events(1));
  if (listened.length === 3) break;
}
assert.deepEqual(listened, [2, 3, 4]);

// Deletion.
await conflict(client.deleteStream("order-1", { expectedRevision: 0n }));
await client.deleteStream("order-1", { expectedRevision: 4n });
await assert.rejects(collect(client.readStream("order-1")), (e) => e instanceof StreamNotFoundError);
await client.appendToStream("order-1", events(1), { expectedRevision: NO_STREAM });
assert.deepEqual(await numbers(client.readStream("order-1")), [5]);
await client.setStreamMetadata("many-1", { maxCount: 2 });
assert.deepEqual(await numbers(client.readStream("many-1")), [18, 19]);
assert.equal((await client.getStreamMetadata("many-1")).metadata.maxCount, 2);
await client.tombstoneStream("order-1");
const deleted = (p) => assert.rejects(p, (e) => e instanceof StreamDeletedError);
await deleted(collect(client.readStream("order-1")));
await deleted(client.appendToStream("order-1", events(1)));

await client.dispose();
console.log("done");
process.exit(0);
