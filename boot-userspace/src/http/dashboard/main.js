// Puts the page together: looks at the wall, follows events, and asks for a token when one is needed.

import { Refused, events, get, hasToken, make, setToken } from "/ui/api.js";
import { EventList } from "/ui/events.js";
import { Figures } from "/ui/figures.js";
import { MachinePanel } from "/ui/machine.js";
import { PROGRESS, Wall, shownAs } from "/ui/wall.js";

const LOOK_EVERY = 2000;
const LONGEST_PAUSE = 10000;

const by = (id) => document.getElementById(id);
const wall = new Wall(by("racks"), open);
const figures = new Figures(by("numbers"));
const list = new EventList(by("event-list"), by("pause"));
const panel = new MachinePanel({
  section: by("machine"),
  title: by("machine-title"),
  body: by("machine-body"),
  confirm,
  closed: (id) => {
    wall.select(null);
    wall.focus(id);
  },
});
let revision = 0;
let leftOut = 0;
let stop = null;
let looking = 0;

function live(state, says) {
  const place = by("live");
  place.dataset.state = state;
  if (place.textContent !== says) place.textContent = says;
}

// Filters

function wanted() {
  const words = by("find").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const [progress, cause, state] = ["by-progress", "by-cause", "by-state"].map((id) => by(id).value);
  return (machine) => {
    if (progress && shownAs(machine) !== progress) return false;
    if (cause && machine.cause !== cause) return false;
    if (state && machine.state !== state) return false;
    if (words.length === 0) return true;
    const labels = Object.entries(machine.labels ?? {}).map(([key, value]) => `${key}=${value}`);
    const all = [machine.name ?? "", machine.id, ...(machine.macs ?? []), ...labels].map((text) => text.toLowerCase());
    return words.every((word) => all.some((text) => text.includes(word)));
  };
}

// Keeps a list of choices as long as what there is, and what was chosen.
function choices(select, values, fixed = 1) {
  const known = [...select.options].slice(fixed).map((option) => option.value);
  if (values.length === known.length && values.every((value, nth) => value === known[nth])) return;
  const chosen = select.value;
  while (select.options.length > fixed) select.remove(fixed);
  for (const value of values) {
    const option = make("option", value);
    option.value = value;
    select.append(option);
  }
  select.value = [...select.options].some((option) => option.value === chosen) ? chosen : select.options[0].value;
}

let counting = 0;
function count() {
  counting ||= setTimeout(() => {
    counting = 0;
    const [causes, states, labels] = [new Map(), new Set(), new Set()];
    let shown = 0;
    const fits = wanted();
    for (const machine of wall.machines.values()) {
      if (machine.cause) causes.set(machine.cause, (causes.get(machine.cause) ?? 0) + (machine.wrong ? 1 : 0));
      if (machine.state) states.add(machine.state);
      for (const label of Object.keys(machine.labels ?? {})) if (labels.size < 50 && label !== "rack") labels.add(label);
      if (fits(machine)) shown += 1;
    }
    choices(by("by-cause"), [...causes.keys()].sort());
    choices(by("by-state"), [...states].sort());
    choices(by("by-label"), [...labels].sort());
    const more = leftOut > 0 ? `; ${leftOut} more are not shown: xpxe machines list has them` : "";
    const told = `${shown} of ${wall.machines.size} machines${more}`;
    if (by("count").textContent !== told) by("count").textContent = told;
    failures([...causes].filter(([, wrong]) => wrong > 0).sort((one, other) => other[1] - one[1]));
  }, 300);
}

function failures(causes) {
  const root = by("cause-list");
  const told = JSON.stringify(causes);
  if (root.told === told) return;
  root.told = told;
  const item = ([cause, machines]) => {
    const button = make("button", `${machines} × ${cause}`);
    button.type = "button";
    button.addEventListener("click", () => {
      by("by-cause").value = cause;
      wall.filter(wanted());
    });
    const entry = make("li");
    entry.append(button);
    return entry;
  };
  root.replaceChildren(...(causes.length > 0 ? causes.map(item) : [make("li", "none")]));
}

// The server

async function look() {
  clearTimeout(looking);
  try {
    const seen = await get(`/api/v1/wall?after=${revision}`);
    revision = seen.revision;
    leftOut = seen.left_out;
    figures.window = seen.first_window;
    if (seen.whole) {
      const there = new Set(seen.machines.map((machine) => machine.id));
      for (const id of [...wall.machines.keys()]) if (!there.has(id)) wall.remove(id);
    }
    if (wall.machines.size === 0 && seen.machines.length > 0) {
      for (const machine of seen.machines) wall.machines.set(machine.id, machine);
      for (const machine of seen.machines) for (const mac of [machine.id, ...(machine.macs ?? [])]) wall.byMac.set(mac, machine.id);
      wall.rebuild();
    } else {
      for (const machine of seen.machines) wall.put(machine);
    }
    for (const id of seen.gone ?? []) wall.remove(id);
    wall.settle();
    count();
    await figures.look();
    const open = wall.machines.get(panel.id);
    if (open && panel.key !== `${open.last}/${open.state}/${open.cause}`) await panel.load(open);
  } catch (error) {
    if (failed(error)) return;
  }
  looking = setTimeout(look, LOOK_EVERY);
}

// Whether nothing more is to be asked before somebody has signed in.
function failed(error) {
  if (error instanceof Refused && error.status === 401) {
    live("off", hasToken() ? "This token is not valid" : "Sign in to see machines");
    stop?.abort();
    signIn(hasToken() ? "This token is not valid, or not any more." : "");
    return true;
  }
  live("off", error instanceof Refused ? error.message : "The server does not answer");
  return false;
}

async function follow() {
  stop?.abort();
  const own = (stop = new AbortController());
  for (let pause = 1000; !own.signal.aborted; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    try {
      await events(
        () => {
          pause = 500;
          live("on", "Live");
        },
        (line) => {
          wall.event(line);
          list.take(line);
        },
        own.signal,
      );
      live("off", "The server has ended the stream");
    } catch (error) {
      if (own.signal.aborted || failed(error)) return;
    }
    await new Promise((done) => setTimeout(done, pause));
  }
}

async function begin() {
  try {
    const { name, role, expires_at: ends } = await get("/api/v1/whoami");
    panel.role = role;
    by("who").textContent = name ? `${name} (${role})` : "Sign in";
    by("who").title = ends ? `valid until ${ends}; press to sign out` : "";
  } catch (error) {
    if (failed(error)) return;
  }
  follow();
  look();
}

// People

function signIn(why) {
  const dialog = by("sign-in");
  by("sign-in-error").textContent = why;
  by("token").value = "";
  if (!dialog.open) dialog.showModal();
}

by("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = by("token").value.trim();
  if (!token) return;
  setToken(token);
  by("sign-in").close();
  revision = 0;
  begin();
});
by("sign-in-cancel").addEventListener("click", () => by("sign-in").close());
by("who").addEventListener("click", () => {
  if (!hasToken()) return signIn("");
  setToken(null);
  location.reload();
});

// Asks before something is done; gives what it gave, or nothing.
function confirm(title, says, word, act) {
  const dialog = by("confirm");
  by("confirm-title").textContent = title;
  by("confirm-text").textContent = says;
  by("confirm-error").textContent = "";
  const yes = by("confirm-yes");
  yes.textContent = word;
  yes.disabled = false;
  return new Promise((done) => {
    let given = null;
    yes.onclick = async () => {
      yes.disabled = true;
      try {
        given = await act();
        dialog.close();
      } catch (error) {
        by("confirm-error").textContent = error.message;
        yes.disabled = false;
      }
    };
    by("confirm-no").onclick = () => dialog.close();
    dialog.onclose = () => done(given);
    dialog.showModal();
    by("confirm-no").focus();
  });
}

async function open(id) {
  const machine = wall.machines.get(id);
  if (!machine) return;
  wall.select(id);
  try {
    await panel.open(machine);
  } catch (error) {
    failed(error);
  }
}

by("close").addEventListener("click", () => panel.close());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) panel.close();
});
for (const id of ["find", "by-progress", "by-cause", "by-state"]) {
  by(id).addEventListener("input", () => {
    wall.filter(wanted());
    count();
  });
}
by("filter").addEventListener("submit", (event) => event.preventDefault());
by("by-label").addEventListener("input", () => wall.group(by("by-label").value));
wall.changed = count;

for (const [kind, [letter, says]] of Object.entries(PROGRESS)) {
  const option = make("option", says);
  option.value = kind;
  by("by-progress").append(option);
  const sample = make("span", letter, "tile");
  sample.dataset.p = kind;
  sample.setAttribute("aria-hidden", "true");
  const entry = make("li");
  entry.append(sample, says);
  by("legend").append(entry);
}

begin();
