// One machine: its verdict, what it did step by step, its state, and what can be ordered of it.

import { Refused, get, make, post, which } from "/ui/api.js";
import { clock } from "/ui/events.js";
import { PROGRESS, shownAs } from "/ui/wall.js";

// What makes sense in which state; the server has the last word.
const ORDERS = {
  discovered: ["accept", "ignore"],
  accepted: ["ignore"],
  ready: ["allocate", "ignore"],
  allocated: ["release", "reinstall"],
  installing: ["release", "reinstall"],
  running: ["release", "reinstall"],
  released: [],
  maintenance: ["resume"],
  ignored: ["accept"],
  failed: ["resume", "release", "wipe"],
};
const SAYS = {
  accept: "The machine is taken into the fleet. If the configuration says so, its disks are wiped.",
  ignore: "The machine gets no answer any more, until it is accepted.",
  allocate: "The machine installs its profile at its next boot.",
  release: "What runs on the machine is given up: its disks are wiped at its next boot.",
  reinstall: "The machine installs its profile anew at its next boot. What is on its disks is lost.",
  wipe: "The machine's disks are wiped at its next boot.",
  resume: "The machine goes on from where it was held.",
  on: "The machine is switched on by its BMC.",
  off: "The machine is switched off by its BMC at once, whatever runs on it.",
  cycle: "The machine is switched off and on by its BMC at once, whatever runs on it.",
};
// What a BMC does. The states of the machine want its power, too, and go on after that.
const POWER = ["on", "off", "cycle"];

function power({ is, unknown, tries, last }) {
  const parts = [is, unknown];
  if (tries > 0) parts.push(`tries without success: ${tries}`);
  if (last) parts.push([`${last.command} by ${last.by}: ${last.end}`, last.error].filter(Boolean).join(", "));
  return parts.filter(Boolean).join("; ");
}

function work({ text, done, of }) {
  return of > 0 ? `${text}, ${Math.floor((100 * done) / of)} %` : text;
}

function pairs(rows) {
  const list = make("dl");
  for (const [name, value] of rows) {
    if (value === undefined || value === null || value === "") continue;
    list.append(make("dt", name), make("dd", String(value)));
  }
  return list;
}

function verdict({ cause, says, sure, because, evidence, console: screen, remedy, page }, isWrong) {
  const box = make("div", undefined, isWrong ? "verdict wrong" : "verdict");
  box.append(make("p", says, "says"), make("p", `${cause}, ${sure}: ${because}`, "dim"));
  if (remedy) box.append(make("h3", "What to do"), make("p", remedy));
  if (evidence.length > 0) {
    const list = make("ul", undefined, "steps evidence");
    for (const step of evidence) {
      const item = make("li");
      item.append(make("time", clock(step.at)), make("span", step.says, "says"));
      list.append(item);
    }
    box.append(make("h3", "Evidence"), list);
  }
  if (screen.length > 0) {
    const list = make("ul", undefined, "console");
    for (const line of screen) list.append(make("li", line));
    box.append(make("h3", "Its console may show"), list);
  }
  box.append(make("p", `More: ${page}`, "dim"));
  return box;
}

function timeline(boot) {
  const list = make("ol", undefined, "steps");
  const length = Math.max(1, ...boot.steps.map(({ last }) => last - boot.opened));
  for (const { at, last, count, by, says } of boot.steps) {
    const item = make("li");
    // What was done with the machine may be before its first word.
    const sign = at < boot.opened ? "−" : "+";
    const after = make("time", `${sign}${(Math.abs(at - boot.opened) / 1000).toFixed(3)} s`);
    after.dateTime = new Date(at).toISOString();
    const scale = make("span", undefined, "scale");
    const bar = make("i");
    bar.style.left = `${Math.max(0, Math.min(99, (100 * (at - boot.opened)) / length))}%`;
    bar.style.width = `${(100 * (last - at)) / length}%`;
    scale.append(bar);
    scale.setAttribute("aria-hidden", "true");
    const times = count > 1 ? ` (${count} times)` : "";
    item.append(after, make("span", by, "by"), make("span", says + times, "says"), scale);
    list.append(item);
  }
  if (boot.more > 0) list.append(make("li", `and ${boot.more} steps more`));
  return list;
}

async function or(promise, otherwise) {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof Refused) return otherwise;
    throw error;
  }
}

export class MachinePanel {
  constructor({ section, title, body, confirm, closed }) {
    Object.assign(this, { section, title, body, confirm, closed });
    this.id = null;
    this.boot = 0;
    this.role = "public";
  }

  get canOrder() {
    return this.role === "operate" || this.role === "admin";
  }

  async open(machine) {
    this.id = machine.id;
    this.boot = 0;
    this.section.hidden = false;
    this.title.textContent = machine.name ?? machine.id;
    this.body.replaceChildren(make("p", "Loading"));
    await this.load(machine);
    this.title.focus();
  }

  close() {
    const { id } = this;
    if (id === null) return;
    this.id = null;
    this.section.hidden = true;
    this.closed(id);
  }

  // What is known of the machine now.
  async load(machine) {
    const { id } = this;
    const path = which(id);
    const [why, boots, known] = await Promise.all([
      or(get(`/api/v1/why/${path}`), null),
      or(get(`/api/v1/boots/${path}`), []),
      this.role === "public" ? null : or(get(`/api/v1/machines/${path}`), null),
    ]);
    // Another one may have been opened meanwhile.
    if (this.id === id) this.show(machine, why, boots, known);
  }

  show(machine, why, boots, known) {
    this.key = `${machine.last}/${machine.state}/${machine.cause}`;
    const status = known?.status;
    const labels = Object.entries(machine.labels ?? {}).map(([key, value]) => `${key}=${value}`).join(", ");
    const parts = [
      pairs([
        ["MAC", [machine.id, ...(machine.macs ?? [])].join(", ")],
        ["Progress", PROGRESS[shownAs(machine)][1]],
        ["State", machine.state],
        ["Since", status?.since_at],
        ["Wanted", status?.wanted],
        ["Because", status?.reason],
        ["Waits for", status?.waits],
        ["Its agent", status?.progress ? work(status.progress) : ""],
        ["Power", status?.power ? power(status.power) : ""],
        ["Too long", status?.overdue ? `longer than its limit of ${status.limit} s` : ""],
        ["Not served", status?.not_served],
        ["Profile", known?.spec.profile],
        ["Address", known?.spec.ip],
        ["Labels", labels],
        ["Source", known?.source],
      ]),
    ];
    if (why) parts.push(verdict(why.verdict, machine.wrong));
    if (this.canOrder && known?.source === "registry") parts.push(this.orders(machine, known));
    if (boots.length > 0) parts.push(...this.boots(boots));
    if (status?.history?.length > 0) parts.push(make("h3", "States"), this.history(status.history));
    if (known?.inventory) parts.push(make("h3", "Inventory"), pairs(flat(known.inventory)));
    this.body.replaceChildren(...parts);
  }

  boots(boots) {
    const nth = Math.min(this.boot, boots.length - 1);
    const heading = make("div", undefined, "title");
    heading.append(make("h3", `Boot, begun ${new Date(boots[nth].opened).toLocaleString("en-GB")}`));
    const steps = make("div");
    steps.append(timeline(boots[nth]));
    if (boots.length > 1) {
      const select = make("select");
      select.setAttribute("aria-label", "Which boot");
      boots.forEach((boot, index) => {
        const cause = boot.verdict ? `, ${boot.verdict.cause}` : "";
        const option = make("option", `${index + 1}: ${new Date(boot.opened).toLocaleString("en-GB")}${cause}`);
        option.value = String(index);
        select.append(option);
      });
      select.value = String(nth);
      select.addEventListener("change", () => {
        this.boot = Number(select.value);
        const boot = boots[this.boot];
        heading.firstChild.textContent = `Boot, begun ${new Date(boot.opened).toLocaleString("en-GB")}`;
        steps.replaceChildren(timeline(boot));
      });
      heading.append(select);
    }
    return [heading, steps];
  }

  history(past) {
    const list = make("ul", undefined, "steps");
    for (const { at, from, to, by, why } of [...past].reverse()) {
      const item = make("li");
      const when = new Date(at * 1000).toLocaleString("en-GB");
      item.append(make("time", when), make("span", by, "by"), make("span", `${from} → ${to}: ${why}`, "says"));
      list.append(item);
    }
    return list;
  }

  orders(machine, known) {
    const box = make("div", undefined, "buttons");
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "Orders");
    const path = `/api/v1/machines/${which(machine.id)}`;
    const add = (word, order, to) => {
      const button = make("button", word);
      button.type = "button";
      button.addEventListener("click", () => this.order(machine, word, order, to));
      box.append(button);
    };
    for (const order of ORDERS[known.status?.state] ?? []) {
      add(order[0].toUpperCase() + order.slice(1), order, `${path}/${order}?version=${known.version}`);
    }
    for (const command of known.status?.power ? POWER : []) add(`Power ${command}`, command, `${path}/power?command=${command}`);
    return box;
  }

  async order(machine, word, order, to) {
    const name = machine.name ?? machine.id;
    const after = await this.confirm(`${word}: ${name}?`, SAYS[order], word, () => post(to));
    if (!after) return;
    machine.state = after.status?.state ?? machine.state;
    await this.load(machine);
    this.title.focus();
  }
}

const BYTES = /(^|\.)(memory|size)$/;

function amount(value, name) {
  return BYTES.test(name) && Number.isInteger(value) ? `${(value / 2 ** 30).toFixed(1)} GiB` : value;
}

// A document as rows: `memory.total` and so on.
function flat(value, name = "") {
  if (value === null || typeof value !== "object") return [[name, amount(value, name)]];
  return Object.entries(value).flatMap(([key, inner]) => flat(inner, name ? `${name}.${key}` : key));
}
