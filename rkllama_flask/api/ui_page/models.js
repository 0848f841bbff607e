// Models on disk: load, unload, fetch.

import { call, lines, Problem, sentence } from "./api.js";
import { announce, byId, bytes, make, notice, number } from "./dom.js";

const busy = new Set();
let fetching = null;

/** What is on disk, each with whether it is loaded. */
export async function list() {
  const [tags, loaded] = await Promise.all([call("api/tags"), call("v1/models/loaded")]);
  return tags.models.map((model) => {
    const name = model.name.replace(/:latest$/, "");
    return { ...model, name, loaded: loaded.models.includes(name), first: loaded.model_name === name };
  }).sort((one, other) => one.name.localeCompare(other.name));
}

export async function refresh() {
  try {
    const found = await list();
    byId("models-list").replaceChildren(...(found.length ? found.map(card)
      : [make("li", { class: "empty" }, "There is no model yet. Fetch one below, or put one into the server's models folder.")]));
  } catch (error) {
    notice(byId("models-notice"), error.message);
  }
}

function card(model) {
  const { details } = model;
  const facts = [details.parameter_size, details.quantization_level, details.format, bytes(model.size),
    `${number(details.context_length)} tokens of context`, ...(model.capabilities ?? []).filter((word) => word !== "completion")];
  const working = busy.has(model.name);
  const action = model.loaded ? "unload" : "load";
  const label = working ? (model.loaded ? "Unloading …" : "Loading …") : model.loaded ? "Unload" : "Load";
  return make("li", { class: "card", "aria-busy": working ? "true" : null },
    make("div", { class: "grow" },
      make("p", { class: "name" }, make("strong", {}, model.name), model.loaded ? make("span", { class: "badge" }, "loaded") : null),
      make("p", { class: "faint" }, facts.filter(Boolean).join(" · "))),
    make("button", { type: "button", disabled: working, "aria-label": `${label} ${model.name}`, onclick: () => change(action, model.name) }, label));
}

async function change(action, name) {
  busy.add(name);
  notice(byId("models-notice"), "");
  refresh();
  try {
    const done = await call(`v1/models/${action}`, { method: "POST", body: { model: name } });
    announce(done.message);
  } catch (error) {
    notice(byId("models-notice"), error.message);
  }
  busy.delete(name);
  refresh();
}

async function fetchModel(event) {
  event.preventDefault();
  const name = byId("pull-name").value.trim();
  if (!name || fetching) return;
  fetching = new AbortController();
  showFetching(true);
  notice(byId("models-notice"), "");
  try {
    let last = "";
    for await (const line of lines("api/pull", { model: name }, fetching.signal)) {
      if (!line) continue;
      const step = JSON.parse(line);
      if (step.error) throw new Problem(sentence(step));
      last = step.status;
      showStep(step);
    }
    if (last !== "success") throw new Problem("The download ended before it was complete. Fetch it again: it goes on where it stopped.");
    notice(byId("models-notice"), `${name} is here.`, "good");
    byId("pull-name").value = "";
  } catch (error) {
    if (error.name === "AbortError") notice(byId("models-notice"), "Cancelled. Fetch it again: it goes on where it stopped.", "good");
    else notice(byId("models-notice"), error.message);
  }
  fetching = null;
  showFetching(false);
  refresh();
}

function showStep({ status, completed, total }) {
  const bar = byId("pull-bar");
  if (total) [bar.max, bar.value] = [total, completed ?? 0];
  else bar.removeAttribute("value");
  byId("pull-text").textContent = total ? `${status}: ${bytes(completed ?? 0)} of ${bytes(total)}` : status;
}

function showFetching(on) {
  byId("pull-progress").hidden = !on;
  byId("pull-stop").hidden = !on;
  byId("pull-start").disabled = on;
  byId("pull-text").textContent = "";
}

export function begin() {
  byId("pull-form").addEventListener("submit", fetchModel);
  byId("pull-stop").addEventListener("click", () => fetching?.abort());
}
