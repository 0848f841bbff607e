// A conversation: it is kept here, and sent whole each time.

import { lines, Problem, sentence } from "./api.js";
import { list as listCaches } from "./caches.js";
import { announce, byId, fillSelect, make, number, seconds, speed } from "./dom.js";
import { copyButton, show } from "./markdown.js";
import { list as listModels } from "./models.js";

let messages = []; // as the API takes them
let running = null; // the answer that is being written
let caches = [];
let lookAgain = () => {};
let following = true; // whether the end of the conversation is kept in view

export const isWaiting = () => running !== null && !running.begun;

export async function refresh() {
  try {
    const models = await listModels();
    caches = await listCaches();
    const usable = models.filter((model) => (model.capabilities ?? ["completion"]).includes("completion"));
    const chosen = byId("chat-model").value || usable.find((model) => model.first)?.name;
    fillSelect(byId("chat-model"), usable.map((model) => [model.name, model.loaded ? `${model.name} (loaded)` : model.name]), chosen);
    offerCaches();
    hint(usable.length ? "Enter sends, Shift and Enter begin a new line." : "There is no model yet: fetch one under Models.");
  } catch (error) {
    hint(error.message);
  }
}

/** What the server does while an answer has not begun. */
export function hear(health) {
  if (!running || running.begun) return;
  let text = "Reading the prompt …";
  if (!health) text = "The server can't be reached …";
  else if (health.busy === "loading") text = "Loading the model …";
  else if (health.queue.waiting) text = `Waiting for its turn, ${health.queue.waiting} in the queue …`;
  running.tell(text);
}

export function begin(look) {
  lookAgain = look;
  const input = byId("chat-input");
  byId("chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  input.addEventListener("input", fit);
  const place = byId("chat-scroll");
  place.addEventListener("scroll", () => {
    following = place.scrollHeight - place.scrollTop - place.clientHeight < 60;
  }, { passive: true });
  byId("chat-stop").addEventListener("click", () => running?.stop());
  byId("chat-new").addEventListener("click", startAnew);
  byId("chat-model").addEventListener("change", offerCaches);
  byId("chat-options").addEventListener("submit", (event) => event.preventDefault());
  byId("chat-options-button").addEventListener("click", () => {
    const hidden = byId("chat-options").toggleAttribute("hidden");
    byId("chat-options-button").setAttribute("aria-expanded", String(!hidden));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running && !document.querySelector("dialog[open]")) running.stop();
  });
}

function hint(text) {
  byId("chat-hint").textContent = text;
}

function fit() {
  const input = byId("chat-input");
  input.rows = Math.min(8, Math.max(1, input.value.split("\n").length));
}

function offerCaches() {
  const model = byId("chat-model").value;
  const own = caches.filter((cache) => cache.model_name === model && cache.source === "named" && !cache.stale);
  fillSelect(byId("chat-cache"), [["", own.length ? "none" : "none made"], ...own.map(({ cache_name: name }) => [name, name])]);
}

function startAnew() {
  running?.stop();
  messages = [];
  byId("chat-log").replaceChildren();
  byId("chat-empty").hidden = false;
  byId("chat-input").focus();
}

function submit() {
  const input = byId("chat-input");
  const text = input.value.trim();
  if (!text || running) return;
  input.value = "";
  fit();
  say({ role: "user", content: text });
  answer();
}

/** Add a message of the person's or of a tool. */
function say(message) {
  messages.push(message);
  byId("chat-empty").hidden = true;
  byId("chat-log").append(message.role === "tool" ? turn("tool", "Result", make("pre", {}, message.content))
    : turn("user", "You", make("p", { class: "plain" }, message.content)));
}

function turn(kind, who, ...content) {
  return make("li", { class: `turn ${kind}` }, make("p", { class: "who" }, who), ...content);
}

function request() {
  const value = (id) => byId(id).value.trim();
  const system = value("chat-system");
  const body = {
    messages: [...(system ? [{ role: "system", content: system }] : []), ...messages],
    stream: true,
    stream_options: { include_usage: true },
  };
  if (value("chat-model")) body.model = value("chat-model");
  if (value("chat-cache")) body.use_cache = value("chat-cache");
  if (value("chat-temperature")) body.temperature = Number(value("chat-temperature"));
  if (value("chat-limit")) body.max_tokens = Number(value("chat-limit"));
  if (value("chat-thinking")) body.enable_thinking = value("chat-thinking") === "on";
  if (value("chat-tools")) body.tools = readTools(value("chat-tools"));
  return body;
}

function readTools(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Problem(`The tools under Options are not valid JSON: ${error.message}`);
  }
}

async function answer() {
  const view = new Answer(byId("chat-model").value || "Model");
  const conversation = messages; // another one may begin before this answer has ended
  running = view;
  byId("chat-log").append(view.element);
  scroll(true);
  setRunning(true);
  lookAgain();
  try {
    for await (const line of lines("v1/chat/completions", request(), view.signal)) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const chunk = JSON.parse(line.slice(6));
      if (chunk.error) throw new Problem(sentence(chunk));
      view.read(chunk);
    }
    view.end();
    announce(view.calls.length ? "The model wants to call a tool." : "The answer is complete.");
  } catch (error) {
    if (error.name === "AbortError") view.end("Stopped.");
    else view.fail(error.message);
    announce(error.name === "AbortError" ? "Stopped." : error.message);
  }
  if (view.message()) conversation.push(view.message());
  if (running === view) {
    running = null;
    setRunning(false);
    lookAgain();
  }
  refresh();
}

function setRunning(on) {
  const focused = document.activeElement;
  byId("chat-send").hidden = on;
  byId("chat-stop").hidden = !on;
  if (focused === byId("chat-send") && on) byId("chat-stop").focus();
  if (focused === byId("chat-stop") && !on) byId("chat-input").focus();
}

/** Follow the text, unless the person has scrolled up to read. */
function scroll(always = false) {
  const place = byId("chat-scroll");
  if (always || following) place.scrollTop = place.scrollHeight;
}

/** One answer as it is written. */
class Answer {
  #abort = new AbortController();
  #text = "";
  #thoughts = "";
  #usage = null;
  #timings = null;
  #asked = performance.now();
  #first = null;
  #drawn = false;
  begun = false;
  calls = [];

  constructor(model) {
    this.wait = make("p", { class: "wait" }, "Sending …");
    this.summary = make("summary", {}, "Thinking …");
    this.thinking = make("div", { class: "thoughts" });
    this.folded = make("details", { hidden: true }, this.summary, this.thinking);
    this.body = make("div", { class: "text" });
    this.tools = make("div", { class: "calls" });
    this.foot = make("div", { class: "foot" });
    this.element = turn("assistant", model, this.wait, this.folded, this.body, this.tools, this.foot);
    this.element.setAttribute("aria-busy", "true");
  }

  get signal() {
    return this.#abort.signal;
  }

  stop() {
    this.#abort.abort();
  }

  tell(text) {
    this.wait.textContent = text;
  }

  read(chunk) {
    if (chunk.usage) this.#usage = chunk.usage;
    if (chunk.timings) this.#timings = chunk.timings;
    const delta = chunk.choices[0]?.delta;
    if (!delta) return;
    this.#text += delta.content ?? "";
    this.#thoughts += delta.reasoning_content ?? "";
    for (const { index, id, function: called } of delta.tool_calls ?? []) {
      this.calls[index] ??= { id, type: "function", function: { name: "", arguments: "" } };
      this.calls[index].function.name += called.name ?? "";
      this.calls[index].function.arguments += called.arguments ?? "";
    }
    if (!this.begun && (this.#text || this.#thoughts || this.calls.length)) {
      this.begun = true;
      this.#first = performance.now();
      this.wait.remove();
    }
    if (this.#drawn) return;
    this.#drawn = true;
    requestAnimationFrame(() => {
      this.#drawn = false;
      if (this.element.hasAttribute("aria-busy")) this.draw();
    });
  }

  draw() {
    show(this.body, this.#text);
    if (this.#thoughts) {
      this.folded.hidden = false;
      show(this.thinking, this.#thoughts);
      const done = this.#text || this.calls.length || !this.element.hasAttribute("aria-busy");
      this.summary.textContent = done ? "Thoughts" : "Thinking …";
    }
    if (this.tools.children.length !== this.calls.length || this.calls.length) this.tools.replaceChildren(...this.calls.map(card));
    scroll();
  }

  end(remark = "") {
    this.wait.remove();
    this.element.removeAttribute("aria-busy");
    this.draw();
    for (const [index, call] of this.calls.entries()) {
      if (!remark && this.tools.children[index]) this.tools.children[index].append(resultForm(call));
    }
    const facts = [remark, ...this.#facts()].filter(Boolean).join(" · ");
    if (facts) this.foot.append(make("span", { class: "faint" }, facts));
    if (this.#text) this.foot.append(copyButton(() => this.#text));
    scroll();
  }

  fail(text) {
    this.end();
    const again = make("button", { type: "button", class: "small", onclick: () => {
      if (running) return;
      if (messages.at(-1)?.role === "assistant") messages.pop();
      this.element.remove();
      answer();
    } }, "Try again");
    this.foot.before(make("p", { class: "notice bad", role: "alert" }, text, " ", again));
    scroll();
  }

  /** The answer as a message of the conversation; none if nothing came. */
  message() {
    const message = { role: "assistant", content: this.#text };
    if (this.calls.length) message.tool_calls = this.calls;
    return this.#text || this.calls.length ? message : null;
  }

  #facts() {
    const timings = this.#timings;
    if (!timings) return [];
    const facts = [`${number(timings.predicted_n)} tokens`];
    if (timings.predicted_per_second) facts.push(`${speed(timings.predicted_per_second)} tokens/s`);
    if (this.#first) facts.push(`first after ${seconds((this.#first - this.#asked) / 1000)}`);
    const prompt = timings.cache_n + timings.prompt_n;
    if (timings.cache_n) facts.push(`${number(timings.cache_n)} of ${number(prompt)} prompt tokens from a cache`);
    if (this.#usage?.cache_miss_reason) facts.push(`cache not used: ${this.#usage.cache_miss_reason}`);
    return facts;
  }
}

function card({ function: called }) {
  let shown = called.arguments;
  try {
    shown = JSON.stringify(JSON.parse(called.arguments), null, 2);
  } catch {
    // not whole yet
  }
  return make("div", { class: "call" },
    make("p", {}, "Calls ", make("strong", {}, called.name)),
    make("pre", { tabindex: "0" }, shown));
}

function resultForm(call) {
  const input = make("textarea", { rows: "1" });
  const form = make("form", { class: "result", onsubmit: (event) => {
    event.preventDefault();
    if (running) return;
    const place = form.closest(".calls");
    form.remove();
    say({ role: "tool", tool_call_id: call.id, content: input.value });
    if (!place.querySelector(".result")) answer(); // every call has its result
  } }, make("label", {}, "What the tool answers ", input), make("button", {}, "Send the result"));
  return form;
}
