// How the server stands: the small sign in the head of the page, and the part that tells all.

import { call } from "./api.js";
import { ask, byId, bytes, make, notice, number, seconds, speed as rate } from "./dom.js";

const WORDS = { generating: "Answering", loading: "Loading a model", saving: "Saving a cache", embed: "Embedding" };
let before = null;

export function showPill(health) {
  const kind = !health ? "bad" : health.busy || !health.ready ? "busy" : "good";
  let text = "Not reachable";
  if (health) {
    text = health.status === "draining" ? "Shutting down" : health.busy ? (WORDS[health.busy] ?? "Busy") : "Ready";
    if (health.queue.waiting) text += `, ${health.queue.waiting} waiting`;
  }
  byId("pill").className = `pill ${kind}`;
  if (byId("pill-text").textContent !== text) byId("pill-text").textContent = text;
}

export async function refresh(known) {
  try {
    const health = known ?? (await call("health"));
    const figures = parse(await call("metrics"));
    render(health, figures);
  } catch (error) {
    notice(byId("status-notice"), error.message);
  }
}

/** Samples by name, with their labels: the text format of Prometheus. */
export function parse(text) {
  const figures = new Map();
  for (const [, name, labels, value] of text.matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)) {
    const found = figures.get(name) ?? [];
    const pairs = [...(labels ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, word]) => [key, word]);
    figures.set(name, [...found, { ...Object.fromEntries(pairs), value: Number(value) }]);
  }
  return figures;
}

function render(health, figures) {
  const samples = (name) => figures.get(`rkllama_${name}`) ?? [];
  const sum = (name) => samples(name).reduce((total, one) => total + one.value, 0);
  const tiles = [];
  const tile = (title, value, more = "", share = null) => tiles.push({ title, value, more, share });

  tile("Server", byId("pill-text").textContent, `version ${health.version}`);
  tile("Queue", `${health.queue.waiting} waiting`,
    health.queue.waiting || health.busy ? `a new request would wait ${seconds(health.queue.expected_wait)}` : "an answer would begin now");

  const totals = { tokens: sum("completion_tokens_total"), time: sum("decode_seconds_total") };
  const recent = before && totals.time > before.time && totals.tokens > before.tokens;
  if (recent) totals.speed = (totals.tokens - before.tokens) / (totals.time - before.time);
  const speed = totals.speed ?? before?.speed ?? (totals.time ? totals.tokens / totals.time : null);
  before = { ...totals, speed };
  tile("Speed", speed ? `${rate(speed)} tokens/s` : "none yet", `${number(totals.tokens)} tokens generated`);

  const prompt = sum("prompt_tokens_total");
  const cached = sum("cached_tokens_total");
  tile("Prompts", `${number(prompt)} tokens`,
    prompt ? `${Math.round((100 * cached) / prompt)} % of them did not have to be computed` : "none yet", prompt ? cached / prompt : null);

  const memory = samples("memory_available_bytes")[0];
  const own = figures.get("process_resident_memory_bytes")?.[0];
  if (memory) tile("Memory", `${bytes(memory.value)} free`, own ? `the server takes ${bytes(own.value)}` : "");
  const limit = sum("cache_limit_bytes");
  tile("Caches", bytes(sum("cache_bytes")), `of ${bytes(limit)}`, limit ? sum("cache_bytes") / limit : null);

  const cores = samples("npu_load_ratio");
  const clock = samples("npu_frequency_hertz")[0];
  if (cores.length || clock) {
    const busiest = Math.max(0, ...cores.map((one) => one.value));
    tile("NPU", cores.length ? cores.map((one) => `${Math.round(one.value * 100)} %`).join(" · ") : "load not readable",
      clock ? `at ${Math.round(clock.value / 1e6)} MHz of ${Math.round(sum("npu_frequency_limit_hertz") / 1e6)}` : "", cores.length ? busiest : null);
  }
  const failed = sum("errors_total");
  const kinds = samples("errors_total").filter((one) => one.value).map((one) => `${one.code} ${one.value}`);
  if (failed) tile("Errors", number(failed), kinds.join(", "));

  byId("status-tiles").replaceChildren(...tiles.map(({ title, value, more, share }) => make("div", { class: "tile" },
    make("dt", {}, title),
    make("dd", {}, make("span", { class: "big" }, value), make("span", { class: "faint" }, more),
      share === null ? null : make("meter", { value: share, min: 0, max: 1, "aria-label": title })))));
  byId("status-models").replaceChildren(...(health.models.length ? health.models.map(inMemory) : [make("li", { class: "faint" }, "None: the next request loads one.")]));
  tellOfTrouble(health);
}

function inMemory(model) {
  const left = model.expires_at ? model.expires_at - Date.now() / 1000 : null;
  const stays = left === null ? "stays until it is unloaded" : `leaves in ${seconds(Math.max(left, 0))} unless it is used`;
  return make("li", { class: "card" }, make("strong", {}, model.name),
    make("p", { class: "faint" }, `${number(model.context_length)} tokens of context, ${stays}`));
}

function tellOfTrouble(health) {
  const crashes = Object.values(health.crashes).reduce((total, count) => total + count, 0);
  notice(byId("status-notice"), health.config.error ? `The configuration file is wrong, so its last good values hold: ${health.config.error}` : "");
  if (!crashes) return;
  const forget = make("button", { type: "button", class: "small", onclick: async () => {
    if (!(await ask("Forget the crashes?", "What crashed the runtime will be tried again, and may crash it again.", "Allow again"))) return;
    await call("health/crashes", { method: "DELETE" }).catch((error) => notice(byId("status-notice"), error.message));
    refresh();
  } }, "Allow again");
  byId("status-notice").append(make("p", { class: "notice bad" }, `The runtime has crashed ${crashes} times; what crashed it twice is refused. `, forget));
}
