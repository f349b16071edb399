// asyncapi.mjs DOCS TESTDATA: see asyncapi. It runs beside the packages that it needs.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Parser } from "@asyncapi/parser";
import Ajv from "ajv";
import addFormats from "ajv-formats";

const [docs, testdata] = process.argv.slice(2);
let failures = 0;
const fail = (text) => { failures++; console.error(text); };

const { document, diagnostics } = await new Parser().parse(readFileSync(join(docs, "asyncapi.yaml"), "utf8"));
for (const d of diagnostics) {
  const where = `asyncapi.yaml:${d.range.start.line + 1} ${d.path.join(".")}: ${d.message}`;
  if (d.severity === 0) fail(where);
  else if (d.severity === 1) console.warn(where);
}
if (!document) process.exit(1);

const ajv = new Ajv({ strict: false, allErrors: true });
addFormats(ajv);
const schemas = document.json().components.schemas;
const check = Object.fromEntries(Object.keys(schemas).map((name) => [name, ajv.compile(schemas[name])]));

// Each message that is kept is of one kind.
const kept = Object.fromEntries(readdirSync(testdata).filter((f) => f.endsWith(".json"))
  .map((f) => [f, JSON.parse(readFileSync(join(testdata, f), "utf8"))]));
if (!kept["event.json"] || !kept["large.json"] || !kept["tick.json"]) fail("the messages that are kept are missing");
for (const [file, message] of Object.entries(kept)) {
  const [is, isNot] = file.startsWith("tick") ? ["Tick", "Event"] : ["Event", "Tick"];
  if (!check[is](message)) fail(`${file} is no ${is}: ${ajv.errorsText(check[is].errors)}`);
  if (check[isNot](message)) fail(`${file} is taken for a ${isNot}`);
  for (const attribute of Object.keys(message)) {
    if (!attributes(is).has(attribute)) fail(`${file} has ${attribute}, which ${is} does not name`);
  }
}

// What a message must not be like is refused.
const wrong = [
  ["event.json", "Event", "no chain", (m) => { delete m.chain; }],
  ["event.json", "Event", "no revision", (m) => { delete m.revision; }],
  ["event.json", "Event", "a position that is a number", (m) => { m.position = 12; }],
  ["event.json", "Event", "a position with a leading zero", (m) => { m.position = "012"; }],
  ["event.json", "Event", "a lane that does not exist", (m) => { m.lane = "40"; }],
  ["event.json", "Event", "data in two forms", (m) => { m.data_base64 = "AA=="; }],
  ["event.json", "Event", "somebody else's type", (m) => { m.type = "com.example.order.shipped.v1"; }],
  ["large.json", "Event", "data beside dataref", (m) => { m.data = {}; }],
  ["large.json", "Event", "metadata beside dataref", (m) => { m.metadata = "{}"; }],
  ["tick.json", "Tick", "a revision", (m) => { m.revision = "1"; }],
  ["tick.json", "Tick", "another type", (m) => { m.type = "com.orderledger.order.shipped.v1"; }],
  ["tick.json", "Tick", "another id", (m) => { m.id = "9d5a4f2e-6c7b-5e1d-8f3a-2b1c0d9e8f7a"; }],
];
for (const [file, kind, what, spoil] of wrong) {
  const message = structuredClone(kept[file]);
  spoil(message);
  if (check[kind](message)) fail(`${kind} permits ${what}`);
}

// Examples are what they are examples of.
for (const message of document.allMessages().all()) {
  for (const example of message.examples().all()) {
    for (const [part, schema, value] of [["payload", message.payload(), example.payload()], ["properties", message.headers(), example.headers()]]) {
      const valid = ajv.compile(schema.json());
      if (value !== undefined && !valid(value)) fail(`${part} of the example ${example.name()}: ${ajv.errorsText(valid.errors)}`);
    }
  }
}

// Both documents name the same.
const rows = (file, from, to) => {
  const text = readFileSync(join(docs, file), "utf8");
  return new Set([...text.slice(text.indexOf(from), text.indexOf(to)).matchAll(/^\| (`[^|]*`) \|/gm)]
    .flatMap((m) => [...m[1].matchAll(/`([a-z_0-9]+)`/g)].map((n) => n[1])));
};
same("events.md", rows("events.md", "## A message", "### Large events"), attributes("Event"));
same("commands.md", rows("commands.md", "## A message", "In JavaScript"), new Set(Object.keys(schemas.CommandProperties.properties)));

function attributes(kind) {
  return new Set(["Envelope", kind].flatMap((name) => [schemas[name], ...(schemas[name].allOf ?? [])])
    .flatMap((s) => Object.keys(s.properties ?? {})));
}

function same(file, named, here) {
  for (const n of named) if (!here.has(n)) fail(`${file} names ${n}, asyncapi.yaml does not`);
  for (const n of here) if (!named.has(n)) fail(`asyncapi.yaml names ${n}, ${file} does not`);
}

if (failures > 0) process.exit(1);
console.log(`asyncapi.yaml is valid, and ${Object.keys(kept).length} messages are as it says`);
