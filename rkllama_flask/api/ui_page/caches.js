// Prompt caches: make, look at, delete.

import { call, namePath } from "./api.js";
import { announce, ask, byId, bytes, fillSelect, make, notice, number, seconds } from "./dom.js";
import { list as listModels } from "./models.js";

export const list = async () => (await call("v1/cache")).data;

export async function refresh() {
  try {
    const [caches, models] = await Promise.all([call("v1/cache"), listModels()]);
    const chosen = byId("cache-model").value || models.find((model) => model.first)?.name;
    fillSelect(byId("cache-model"), models.map(({ name }) => [name, name]), chosen);
    byId("caches-room").textContent = `${bytes(caches.size_mb * 2 ** 20)} of ${bytes(caches.max_mb * 2 ** 20)}`;
    byId("caches-list").replaceChildren(...(caches.data.length ? caches.data.map(card)
      : [make("li", { class: "empty" }, "There is no cache yet. Openings that conversations share are cached by themselves.")]));
  } catch (error) {
    notice(byId("caches-notice"), error.message);
  }
}

function card(cache) {
  const facts = [cache.model_name, cache.prompt_tokens === null ? `${number(cache.prompt_length)} characters` : `${number(cache.prompt_tokens)} tokens`,
    bytes(cache.size_mb * 2 ** 20), `last used ${new Date(cache.last_used_at * 1000).toLocaleString()}`];
  return make("li", { class: "card" },
    make("div", { class: "grow" },
      make("p", { class: "name" }, make("strong", {}, cache.cache_name), cache.source === "named" ? null : make("span", { class: "badge" }, "automatic"),
        cache.stale ? make("span", { class: "badge bad" }, "can't be used") : null),
      make("p", { class: "faint" }, facts.join(" · ")),
      make("p", {}, cache.stale ? cache.stale_reason : saved(cache))),
    make("button", { type: "button", class: "danger quiet", "aria-label": `Delete ${cache.cache_name}`, onclick: () => remove(cache) }, "Delete"));
}

/** What the cache spares at each use. */
function saved({ ttft_ms: computed, load_ms: loaded }) {
  if (loaded === null) return `Computing it took ${seconds(computed / 1000)}; it was not loaded yet.`;
  const spared = (computed - loaded) / 1000;
  const took = `computing ${seconds(computed / 1000)}, loading ${seconds(loaded / 1000)}`;
  return spared >= 0.001 ? `Saves ${seconds(spared)} each time: ${took}.` : `Saves nothing: ${took}.`;
}

async function remove(cache) {
  if (!(await ask("Delete this cache?", `${cache.cache_name} of ${cache.model_name} will have to be computed again.`, "Delete"))) return;
  try {
    await call(`v1/cache/${namePath(cache.model_name)}/${encodeURIComponent(cache.cache_name)}`, { method: "DELETE" });
    announce(`The cache ${cache.cache_name} is deleted.`);
    notice(byId("caches-notice"), "");
  } catch (error) {
    notice(byId("caches-notice"), error.message);
  }
  refresh();
}

async function create(event) {
  event.preventDefault();
  const button = byId("cache-make");
  const name = byId("cache-name").value.trim();
  button.disabled = true;
  button.textContent = "Computing …";
  notice(byId("caches-notice"), "");
  try {
    const body = { cache_name: name, prompt: byId("cache-prompt").value };
    await call(`v1/cache/${namePath(byId("cache-model").value)}`, { method: "POST", body });
    notice(byId("caches-notice"), `The cache ${name} is made. Choose it under Options in the chat.`, "good");
    byId("cache-form").reset();
  } catch (error) {
    notice(byId("caches-notice"), error.message);
  }
  button.disabled = false;
  button.textContent = "Make the cache";
  refresh();
}

export function begin() {
  byId("cache-form").addEventListener("submit", create);
}
