// Every method of the npm package `ollama` against a running server: node ollama.mjs URL REPOSITORY
// Prints the names of the methods that were called; anything that is not as it should be ends it with an error.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [url, repository, installed] = process.argv.slice(2);
const { Ollama } = await import(pathToFileURL(createRequire(installed).resolve("ollama")).href);

const called = new Set();
const ollama = new Proxy(new Ollama({ host: url }), {
  get(target, name) {
    const value = target[name];
    if (typeof value !== "function") return value;
    called.add(name);
    return value.bind(target);
  },
});
const model = "qwen3-0.6b";
const script = (keys) => `<<script ${new URLSearchParams(keys).toString().replaceAll("+", "%20").replaceAll("&", " ")}>>`;
const saying = (keys) => [{ role: "user", content: script(keys) }];
const gather = async (stream) => {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
};
const refused = (promise, status, text) =>
  assert.rejects(promise, (error) => {
    assert.match(error.message, text);
    assert.equal(error.status_code, status);
    return true;
  });

// Talking
const whole = await ollama.chat({ model, messages: saying({ text: "Good day" }), think: false });
assert.equal(whole.message.content, "Good day");
assert.equal(whole.done_reason, "stop");
const thought = await gather(
  await ollama.chat({ model, messages: saying({ text: "<think>\nHm.\n</think>\n\nYes." }), stream: true }),
);
assert.equal(thought.map((part) => part.message.thinking ?? "").join(""), "Hm.");
assert.equal(thought.map((part) => part.message.content).join(""), "Yes.");
const tools = [{ type: "function", function: { name: "add", description: "", parameters: { type: "object", properties: {} } } }];
const text = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>';
const { message } = await ollama.chat({ model, messages: saying({ text }), tools, think: false });
assert.deepEqual(message.tool_calls[0].function, { index: 0, name: "add", arguments: { a: 1 } });
const generated = await ollama.generate({ model, prompt: script({ text: '{"a": 1}' }), format: "json", think: false });
assert.deepEqual(JSON.parse(generated.response), { a: 1 });
const pieces = await gather(
  await ollama.generate({ model, prompt: script({ tokens: 9 }), options: { num_predict: 3 }, stream: true, think: false }),
);
assert.equal(pieces.at(-1).done_reason, "length");
assert.equal(pieces.map((part) => part.response).join("").trim(), "w0 w1 w2");
await refused(
  ollama.chat({ model, messages: [{ role: "user", content: "Look", images: [await ollama.encodeImage(new Uint8Array(3))] }] }),
  400,
  /reads no images/,
);
await refused(ollama.chat({ model: "nothing", messages: saying({}) }), 404, /model 'nothing' not found/);

// A stream that is left frees the model for the next
const endless = await ollama.chat({ model, messages: saying({ tokens: 100000, decode_ms: 20 }), stream: true, think: false });
await assert.rejects(async () => {
  for await (const part of endless) if (part.message.content) ollama.abort();
}, { name: "AbortError" });
assert.equal((await ollama.generate({ model, prompt: script({ text: "Next" }), think: false })).response, "Next");

// Vectors
assert.equal((await ollama.embed({ model, input: ["one", "two"] })).embeddings.length, 2);
assert.ok((await ollama.embeddings({ model, prompt: "one" })).embedding.length > 0);

// Models
assert.match((await ollama.version()).version, /^\d+\.\d+\.\d+/);
assert.ok((await ollama.ps()).models.some((one) => one.name === `${model}:latest`));
assert.deepEqual((await ollama.show({ model })).capabilities, ["completion", "tools", "thinking"]);
await ollama.copy({ source: model, destination: "other" });
const steps = await gather(await ollama.pull({ model: repository, stream: true }));
assert.equal(steps.at(-1).status, "success");
assert.ok(steps.some((step) => step.total > 0 && step.completed === step.total));
assert.equal((await ollama.pull({ model: repository })).status, "success");
assert.equal((await ollama.create({ model: "pirate", from: model, system: "Arr." })).status, "success");
const weights = Buffer.from("load_ms=0\n# uploaded");
const digest = `sha256:${createHash("sha256").update(weights).digest("hex")}`;
const body = new ReadableStream({
  start(controller) {
    controller.enqueue(weights);
    controller.close();
  },
});
assert.equal((await fetch(`${url}/api/blobs/${digest}`, { method: "POST", body, duplex: "half" })).status, 201);
const made = await gather(await ollama.create({ model: "own", files: { "own.rkllm": digest }, stream: true }));
assert.equal(made.at(-1).status, "success");
await refused(ollama.push({ model: "own" }), 400, /no registry/);
await refused(ollama.push({ model: "own", stream: true }), 400, /no registry/);
const names = (await ollama.list()).models.map((one) => one.name);
for (const name of ["other", "pirate", "own"]) {
  assert.ok(names.includes(`${name}:latest`), name);
  assert.equal((await ollama.delete({ model: name })).status, "success");
}
assert.equal((await ollama.list()).models.length, names.length - 3);

// Which of the package's own methods were not called
const methods = new Set();
for (let at = Ollama.prototype; at !== Object.prototype; at = Object.getPrototypeOf(at))
  for (const name of Object.getOwnPropertyNames(at)) methods.add(name);
console.log(JSON.stringify([...methods].filter((name) => !called.has(name))));
