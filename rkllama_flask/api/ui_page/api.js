// The server's public API. Addresses are relative: a proxy may put the server below a path of its own.

import { byId } from "./dom.js";

const ROOT = new URL("../", location.href);
const KEY = "rkllama-key";

/** An error as a sentence. */
export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export const namePath = (name) => name.split("/").map(encodeURIComponent).join("/");

/** The JSON of a reply. */
export async function call(path, { method = "GET", body, signal } = {}) {
  const response = await send(path, { method, body, signal });
  return response.headers.get("Content-Type")?.includes("json") ? response.json() : response.text();
}

/** The lines of a reply as they come. */
export async function* lines(path, body, signal) {
  const response = await send(path, { method: "POST", body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const found = (rest + value).split("\n");
      rest = found.pop();
      yield* found;
    }
    if (rest) yield rest;
  } catch (error) {
    throw error.name === "AbortError" ? error : new Problem("The connection broke before the answer was complete. Try again.");
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The sentence of an error in any of the API's shapes. */
export function sentence(body) {
  const error = body?.error;
  return typeof error === "string" ? error : error?.message;
}

async function send(path, { method, body, signal }) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, ROOT), { method, headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server can't be reached. Look whether it runs, then try again.");
  }
  if (response.ok) return response;
  const said = sentence(await response.json().catch(() => null));
  if (response.status === 401) {
    byId("key-button").hidden = false;
    throw new Problem(key ? "The server does not know this API key. Choose “API key” above to enter another."
      : "The server wants an API key. Choose “API key” above to enter yours.", 401);
  }
  const wait = response.headers.get("Retry-After");
  const hint = response.status === 503 && wait ? ` Worth another try in ${wait} s.` : "";
  throw new Problem((said ?? `The server answered with status ${response.status}.`) + hint, response.status);
}

/** Ask for the key; calls `changed` when there is another. */
export function offerKey(changed) {
  const dialog = byId("key-dialog");
  byId("key-button").hidden = !sessionStorage.getItem(KEY);
  byId("key-button").addEventListener("click", () => {
    byId("key-input").value = "";
    dialog.returnValue = "";
    dialog.showModal();
  });
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "save") return;
    const key = byId("key-input").value.trim();
    byId("key-input").value = "";
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
    changed();
  });
}
