// Events as they come, the newest first.

import { make } from "/ui/api.js";

const MOST = 150;
const EVERY = 250;

export function clock(millis) {
  const time = new Date(millis);
  return `${time.toLocaleTimeString("en-GB")}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}

export class EventList {
  constructor(root, button) {
    this.root = root;
    this.waiting = [];
    this.isPaused = false;
    button.addEventListener("click", () => {
      this.isPaused = !this.isPaused;
      button.setAttribute("aria-pressed", String(this.isPaused));
    });
    setInterval(() => this.flush(), EVERY);
  }

  take(line) {
    if (this.isPaused || !line.says) return;
    this.waiting.push(line);
    // What nobody could read need not be shown.
    if (this.waiting.length > MOST) this.waiting.shift();
  }

  flush() {
    if (this.waiting.length === 0 || document.hidden) return;
    const fresh = document.createDocumentFragment();
    for (const { at, mac, name, says } of this.waiting.reverse()) {
      const item = make("li");
      const words = make("span");
      words.append(make("strong", name ?? mac ?? ""), ` ${says}`);
      item.append(make("time", clock(at)), words);
      fresh.append(item);
    }
    this.waiting = [];
    this.root.prepend(fresh);
    while (this.root.childElementCount > MOST) this.root.lastElementChild.remove();
  }
}
