// The parts of the page, and which of them is shown.

import { call, offerKey } from "./api.js";
import * as caches from "./caches.js";
import * as chat from "./chat.js";
import { byId } from "./dom.js";
import * as models from "./models.js";
import * as status from "./status.js";

const PARTS = { chat, models, caches, status };
const LOOK_EVERY = 4000; // milliseconds between two looks at the server
const LOOK_CLOSELY = 1500; // while the status is shown, or an answer waits

let timer;

function shown() {
  const name = location.hash.slice(1);
  return name in PARTS ? name : "chat";
}

function showPart() {
  const current = shown();
  for (const name of Object.keys(PARTS)) {
    byId(name).hidden = name !== current;
    const link = document.querySelector(`nav a[href="#${name}"]`);
    if (name === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${byId(`${current}-title`).textContent} · rkllama-flask`;
  PARTS[current].refresh();
  look();
}

async function look() {
  clearTimeout(timer);
  if (document.visibilityState === "visible") {
    let health = null;
    try {
      health = await call("health");
    } catch {
      // said by the pill
    }
    status.showPill(health);
    chat.hear(health);
    if (shown() === "status") await status.refresh(health);
  }
  clearTimeout(timer);
  timer = setTimeout(look, shown() === "status" || chat.isWaiting() ? LOOK_CLOSELY : LOOK_EVERY);
}

offerKey(showPart);
addEventListener("hashchange", () => {
  byId("ask-dialog").close(); // the question was about what one has left
  showPart();
  byId("view").focus({ preventScroll: true });
});
document.addEventListener("visibilitychange", look);
chat.begin(look);
models.begin();
caches.begin();
showPart();
