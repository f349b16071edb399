// Drives the official JavaScript client through everything that it offers on queues, subscriptions and sessions.
// The connection string comes in SERVICEBUS; the entities exist: queue "plain", queue "sessions" (which requires them),
// topic "events" with a subscription "all".
import assert from "node:assert/strict";
import { ServiceBusClient } from "@azure/service-bus";

const client = new ServiceBusClient(process.env.SERVICEBUS, {
  retryOptions: { maxRetries: 2, retryDelayInMs: 50, timeoutInMs: 10_000 },
});

const bodies = (messages) => messages.map((m) => m.body);

// receive returns exactly n messages.
async function receive(receiver, n) {
  const all = [];
  while (all.length < n) {
    const some = await receiver.receiveMessages(n - all.length, { maxWaitTimeInMs: 5_000 });
    assert.notEqual(some.length, 0, `only ${all.length} of ${n} messages came`);
    all.push(...some);
  }
  return all;
}

const proofs = {
  async "sends one message and completes it"() {
    const sender = client.createSender("plain");
    await sender.sendMessages({
      body: { order: 7 }, messageId: "m", subject: "s", correlationId: "c", contentType: "application/json",
      applicationProperties: { text: "t", number: 7, yes: true },
    });
    const receiver = client.createReceiver("plain");
    const [m] = await receive(receiver, 1);
    assert.deepEqual(m.body, { order: 7 });
    assert.equal(m.messageId, "m");
    assert.equal(m.subject, "s");
    assert.equal(m.correlationId, "c");
    assert.deepEqual(m.applicationProperties, { text: "t", number: 7, yes: true });
    assert.equal(m.deliveryCount, 0);
    assert.equal(m.state, "active");
    assert.ok(m.lockedUntilUtc > new Date());
    assert.ok((await receiver.renewMessageLock(m)) > new Date());
    await receiver.completeMessage(m);
  },

  async "receives nothing when there is nothing"() {
    const receiver = client.createReceiver("plain");
    assert.equal((await receiver.receiveMessages(5, { maxWaitTimeInMs: 100 })).length, 0);
    assert.equal((await receiver.receiveMessages(5, { maxWaitTimeInMs: 100 })).length, 0);
    await receiver.close();
  },

  async "sends batches"() {
    const sender = client.createSender("plain");
    const batch = await sender.createMessageBatch();
    assert.ok(batch.maxSizeInBytes > 0);
    for (let i = 0; i < 100; i++) assert.ok(batch.tryAddMessage({ body: i }));
    await sender.sendMessages(batch);
    const receiver = client.createReceiver("plain");
    const messages = await receive(receiver, 100);
    assert.deepEqual(bodies(messages), [...Array(100).keys()]);
    for (const m of messages) await receiver.completeMessage(m);
  },

  async "abandons, and the message comes again with its properties"() {
    await client.createSender("plain").sendMessages({ body: "again" });
    const receiver = client.createReceiver("plain");
    const [m] = await receive(receiver, 1);
    await receiver.abandonMessage(m, { tried: 1 });
    const [again] = await receive(receiver, 1);
    assert.equal(again.body, "again");
    assert.equal(again.deliveryCount, 1);
    assert.equal(again.applicationProperties.tried, 1);
    await receiver.completeMessage(again);
  },

  async "subscribes to a stream of messages"() {
    const receiver = client.createReceiver("plain");
    const got = [];
    const done = new Promise((resolve, reject) => {
      receiver.subscribe({
        async processMessage(m) { if (got.push(m.body) === 20) resolve(); },
        async processError(args) { reject(args.error); },
      });
    });
    await client.createSender("plain").sendMessages([...Array(20).keys()].map((body) => ({ body })));
    await done;
    assert.deepEqual(got, [...Array(20).keys()]);
    await receiver.close();
  },

  async "schedules, cancels and receives when due"() {
    const sender = client.createSender("plain");
    const soon = new Date(Date.now() + 200);
    const numbers = await sender.scheduleMessages([{ body: "kept" }, { body: "cancelled" }], soon);
    assert.equal(numbers.length, 2);
    await sender.cancelScheduledMessages(numbers[1]);
    const receiver = client.createReceiver("plain");
    const [m] = await receive(receiver, 1);
    assert.equal(m.body, "kept");
    assert.ok(Date.now() >= soon.getTime());
    await receiver.completeMessage(m);
  },

  async "defers"() {
    await client.createSender("plain").sendMessages({ body: "later" });
    const receiver = client.createReceiver("plain");
    const [m] = await receive(receiver, 1);
    await receiver.deferMessage(m);
    const [deferred] = await receiver.receiveDeferredMessages(m.sequenceNumber);
    assert.equal(deferred.body, "later");
    assert.equal(deferred.state, "deferred");
    await receiver.completeMessage(deferred);
    await assert.rejects(receiver.receiveDeferredMessages(m.sequenceNumber), { code: "MessageNotFound" });
  },

  async "peeks"() {
    await client.createSender("plain").sendMessages([{ body: 1 }, { body: 2 }]);
    const receiver = client.createReceiver("plain");
    assert.deepEqual(bodies(await receiver.peekMessages(10)), [1, 2]);
    assert.deepEqual(await receiver.peekMessages(10), []);
    for (const m of await receive(receiver, 2)) await receiver.completeMessage(m);
  },

  async "dead-letters"() {
    await client.createSender("plain").sendMessages({ body: "bad" });
    const receiver = client.createReceiver("plain");
    const [m] = await receive(receiver, 1);
    await receiver.deadLetterMessage(m, { deadLetterReason: "unreadable", deadLetterErrorDescription: "no JSON", by: "proof" });
    const dead = client.createReceiver("plain", { subQueueType: "deadLetter" });
    const [letter] = await receive(dead, 1);
    assert.equal(letter.body, "bad");
    assert.equal(letter.deadLetterReason, "unreadable");
    assert.equal(letter.deadLetterErrorDescription, "no JSON");
    assert.equal(letter.applicationProperties.by, "proof");
    await dead.completeMessage(letter);
  },

  async "receives and deletes"() {
    await client.createSender("plain").sendMessages([{ body: 1 }, { body: 2 }]);
    const receiver = client.createReceiver("plain", { receiveMode: "receiveAndDelete" });
    assert.deepEqual(bodies(await receive(receiver, 2)), [1, 2]);
    assert.deepEqual(await client.createReceiver("plain").peekMessages(1), []);
  },

  async "receives with sessions, named and next, in order"() {
    const sender = client.createSender("sessions");
    await sender.sendMessages([
      { body: 1, sessionId: "a" }, { body: 2, sessionId: "b" }, { body: 3, sessionId: "a" },
    ]);
    const a = await client.acceptSession("sessions", "a");
    assert.equal(a.sessionId, "a");
    assert.ok(a.sessionLockedUntilUtc > new Date());
    const messages = await receive(a, 2);
    assert.deepEqual(bodies(messages), [1, 3]);
    await assert.rejects(client.acceptSession("sessions", "a"), { code: "SessionCannotBeLocked" });
    const b = await client.acceptNextSession("sessions");
    assert.equal(b.sessionId, "b");
    assert.equal((await a.getSessionState()) ?? null, null);
    await a.setSessionState({ seen: 2 });
    assert.deepEqual(await a.getSessionState(), { seen: 2 });
    assert.ok((await a.renewSessionLock()) > new Date());
    await a.deferMessage(messages[0]);
    const [deferred] = await a.receiveDeferredMessages(messages[0].sequenceNumber);
    await a.completeMessage(deferred);
    assert.deepEqual(bodies(await a.peekMessages(10)), [3]);
    await a.completeMessage(messages[1]);
    await a.setSessionState(null);
    await b.completeMessage((await receive(b, 1))[0]);
    await a.close();
    await b.close();
  },

  async "refuses what Service Bus refuses"() {
    await assert.rejects(client.createSender("sessions").sendMessages({ body: 1 }), /SessionId was not set/);
    await assert.rejects(client.createSender("none").sendMessages({ body: 1 }), { code: "MessagingEntityNotFound" });
    await assert.rejects(receive(client.createReceiver("sessions"), 1), /requires sessions/);
  },

  async "manages rules"() {
    const rules = client.createRuleManager("events", "all");
    const names = async () => {
      const found = [];
      for await (const rule of rules.listRules()) found.push(rule);
      return found;
    };
    assert.deepEqual((await names()).map((r) => [r.name, r.filter]), [["$Default", { sqlExpression: "1=1" }]]);
    await rules.createRule("shipped", { subject: "shipped", applicationProperties: { region: "eu" } });
    await rules.deleteRule("$Default");
    const [rule] = await names();
    assert.equal(rule.name, "shipped");
    assert.equal(rule.filter.subject, "shipped");
    assert.deepEqual(rule.filter.applicationProperties, { region: "eu" });
    await assert.rejects(rules.createRule("sql", { sqlExpression: "a > 1" }));
    const sender = client.createSender("events");
    await sender.sendMessages([
      { body: 1, subject: "shipped", applicationProperties: { region: "eu" } },
      { body: 2, subject: "shipped" },
    ]);
    const receiver = client.createReceiver("events", "all", { receiveMode: "receiveAndDelete" });
    assert.deepEqual(bodies(await receive(receiver, 1)), [1]);
    assert.deepEqual(await receiver.peekMessages(1), []);
  },
};

let failed = 0;
for (const [name, proof] of Object.entries(proofs)) {
  const start = Date.now();
  try {
    await proof();
    console.log(`ok   ${name} (${Date.now() - start} ms)`);
  } catch (err) {
    failed++;
    console.log(`FAIL ${name}: ${err.stack}`);
  }
}
await client.close();
process.exit(failed === 0 ? 0 : 1);
