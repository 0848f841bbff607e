// Small ways to build a page. Text only ever becomes text: nothing here parses markup.

export const byId = (id) => document.getElementById(id);

/** An element with properties (`class`, `on…`, attributes) and children; strings become text. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Told to those who hear the page; what is said twice is heard twice. */
export function announce(text) {
  byId("announcer").textContent = "";
  requestAnimationFrame(() => (byId("announcer").textContent = text));
}

export function notice(place, text, kind = "bad") {
  place.replaceChildren(...(text ? [make("p", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" }, text)] : []));
}

/** Fill a select, and keep what was chosen if it is still there. */
export function fillSelect(select, options, wanted = select.value) {
  const before = [...select.options].map((one) => `${one.value}\n${one.text}`).join("\n\n");
  if (before !== options.map(([value, text]) => `${value}\n${text}`).join("\n\n")) {
    select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  }
  if (options.some(([value]) => value === wanted)) select.value = wanted;
}

/** Whether the person really wants that; `word` is what the button says. */
export function ask(title, text, word) {
  const dialog = byId("ask-dialog");
  byId("ask-title").textContent = title;
  byId("ask-text").textContent = text;
  byId("ask-yes").textContent = word;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }),
  );
}

export const bytes = (count) => {
  const units = ["B", "KB", "MB", "GB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) [count, unit] = [count / 1000, unit + 1];
  return `${count >= 100 || unit === 0 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
};

export const seconds = (count) => {
  if (count < 0.0995) return `${Math.round(count * 1000)} ms`;
  if (count < 100) return `${count.toFixed(1)} s`;
  return count < 5400 ? `${Math.round(count / 60)} min` : `${Math.round(count / 3600)} h`;
};

export const speed = (perSecond) => (perSecond < 100 ? perSecond.toFixed(1) : number(perSecond));

export const number = (count) => Math.round(count).toLocaleString("en");
