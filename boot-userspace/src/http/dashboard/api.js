// Asks the API, with the token of this tab.

const KEY = "xpxe-token";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function hasToken() {
  return sessionStorage.getItem(KEY) !== null;
}

export function setToken(token) {
  if (token) sessionStorage.setItem(KEY, token);
  else sessionStorage.removeItem(KEY);
}

async function ask(method, path, headers, signal) {
  const token = sessionStorage.getItem(KEY);
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { method, headers, signal, cache: "no-store", credentials: "omit" });
  if (answer.ok) return answer;
  let message = `${answer.status} ${answer.statusText}`;
  try {
    message = (await answer.json()).error ?? message;
  } catch {
    // Not an answer of the API: the status has to do.
  }
  throw new Refused(answer.status, message);
}

export async function get(path) {
  return (await ask("GET", path, { Accept: "application/json" })).json();
}

export async function text(path) {
  return (await ask("GET", path, {})).text();
}

export async function post(path) {
  return (await ask("POST", path, {})).json();
}

// Gives each event to `take`, until the stream ends. `began` is called when the first bytes may come.
export async function events(began, take, signal) {
  const answer = await ask("GET", "/api/v1/events", { Accept: "text/event-stream" }, signal);
  began();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) take(JSON.parse(line.slice(5)));
    }
  }
}

// A machine's name in a path.
export function which(id) {
  return encodeURIComponent(id);
}

// An element with this text. What a client sends only ever becomes text.
export function make(name, text, kind) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}
