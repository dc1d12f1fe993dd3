// The wall: a tile for each machine, in racks.

import { make } from "/ui/api.js";

export const PROGRESS = {
  silent: ["·", "not heard"],
  address: ["A", "asks for an address"],
  loader: ["L", "has its loader"],
  script: ["S", "has its script"],
  system: ["O", "fetches or runs its system"],
  up: ["✓", "has booted"],
  wrong: ["!", "something is wrong"],
};
const ORDER = Object.keys(PROGRESS);
// So many tiles are painted in one frame; the others have the next one.
const MOST_A_FRAME = 3000;
// A guess from an event stands until the server was looked at so often.
const LOOKS = 3;
// A group of more machines than this has a row of its own.
const WIDE = 64;
const inOrder = new Intl.Collator("en", { numeric: true });

export function shownAs(machine) {
  return machine.wrong ? "wrong" : machine.progress;
}

function called(machine) {
  return machine.name ?? machine.id;
}

function place(machine) {
  const { labels = {} } = machine;
  return labels.position ?? labels.slot ?? labels.unit ?? called(machine);
}

export class Wall {
  constructor(root, opened) {
    this.root = root;
    this.opened = opened;
    this.machines = new Map();
    this.byMac = new Map();
    this.tiles = new Map();
    this.racks = new Map();
    this.dirty = new Set();
    this.guesses = new Map();
    this.label = "rack";
    this.wanted = () => true;
    this.focused = null;
    this.current = null;
    this.frame = 0;
    this.changed = () => {};
    root.addEventListener("click", (event) => this.open(event.target.closest("button.tile")));
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("focusin", (event) => this.rove(event.target.closest("button.tile")));
  }

  put(machine) {
    const before = this.machines.get(machine.id);
    this.guesses.delete(machine.id);
    this.machines.set(machine.id, machine);
    for (const mac of [machine.id, ...(machine.macs ?? [])]) this.byMac.set(mac, machine.id);
    if (before && this.rackOf(before) === this.rackOf(machine) && place(before) === place(machine)) {
      this.repaint(machine.id);
      return;
    }
    if (before) this.take(machine.id);
    this.hang(machine);
  }

  remove(id) {
    this.guesses.delete(id);
    this.take(id);
    this.machines.delete(id);
  }

  // What an event shows comes at once; the server's own judgement comes with the next look at the wall.
  event({ mac, progress }) {
    const machine = this.machines.get(this.byMac.get(mac));
    if (!machine || !progress) return;
    if (progress === "address" || ORDER.indexOf(progress) > ORDER.indexOf(machine.progress)) {
      if (!this.guesses.has(machine.id)) {
        this.guesses.set(machine.id, { progress: machine.progress, wrong: machine.wrong, looks: 0 });
      }
      machine.progress = progress;
      machine.wrong = false;
      this.repaint(machine.id);
    }
  }

  // Called after each look at the wall: what the server has not confirmed by then is as it was.
  settle() {
    for (const [id, guess] of this.guesses) {
      guess.looks += 1;
      if (guess.looks < LOOKS) continue;
      const { progress, wrong } = guess;
      Object.assign(this.machines.get(id), { progress, wrong });
      this.guesses.delete(id);
      this.repaint(id);
    }
  }

  group(label) {
    this.label = label;
    this.rebuild();
  }

  filter(wanted) {
    this.wanted = wanted;
    for (const id of this.machines.keys()) this.dirty.add(id);
    this.schedule();
  }

  select(id) {
    this.tiles.get(this.current)?.removeAttribute("aria-current");
    this.current = id;
    this.tiles.get(id)?.setAttribute("aria-current", "true");
  }

  focus(id) {
    this.tiles.get(id)?.focus();
  }

  rackOf(machine) {
    return machine.labels?.[this.label] ?? "";
  }

  rebuild() {
    this.root.replaceChildren();
    this.tiles.clear();
    this.racks.clear();
    const all = [...this.machines.values()].sort((one, other) => inOrder.compare(place(one), place(other)));
    for (const machine of all) this.hang(machine, true);
    this.select(this.current);
  }

  rack(name) {
    let rack = this.racks.get(name);
    if (rack) return rack;
    const title = name === "" ? `no ${this.label}` : `${this.label} ${name}`;
    const section = make("section", undefined, "rack");
    const heading = make("h3", title);
    const tiles = make("div", undefined, "tiles");
    heading.append(make("small"));
    tiles.setAttribute("role", "group");
    tiles.setAttribute("aria-label", title);
    section.append(heading, tiles);
    rack = { name, section, tiles, note: heading.lastChild, ids: new Set(), told: "" };
    this.racks.set(name, rack);
    const after = [...this.racks.values()].filter((other) => other !== rack && inOrder.compare(other.name, name) > 0);
    after.sort((one, other) => inOrder.compare(one.name, other.name));
    // Those without a rack come last.
    const next = name === "" ? null : (after[0] ?? this.racks.get(""))?.section ?? null;
    this.root.insertBefore(section, next);
    return rack;
  }

  hang(machine, isSorted = false) {
    const rack = this.rack(this.rackOf(machine));
    const tile = make("button", undefined, "tile");
    tile.type = "button";
    tile.tabIndex = this.tiles.size === 0 ? 0 : -1;
    tile.machine = machine.id;
    let next = null;
    const last = rack.tiles.lastElementChild;
    const isBefore = (other) => inOrder.compare(place(machine), place(this.machines.get(other.machine))) < 0;
    if (!isSorted && last && isBefore(last)) {
      const tiles = rack.tiles.children;
      let [from, to] = [0, tiles.length];
      while (from < to) {
        const middle = (from + to) >> 1;
        if (isBefore(tiles[middle])) to = middle;
        else from = middle + 1;
      }
      next = tiles[from];
    }
    rack.tiles.insertBefore(tile, next);
    rack.ids.add(machine.id);
    this.tiles.set(machine.id, tile);
    this.repaint(machine.id);
  }

  take(id) {
    const tile = this.tiles.get(id);
    if (!tile) return;
    const rack = this.racks.get(this.rackOf(this.machines.get(id))) ?? null;
    for (const other of this.racks.values()) other.ids.delete(id);
    this.tiles.delete(id);
    this.dirty.delete(id);
    tile.remove();
    if (rack && rack.ids.size === 0) {
      rack.section.remove();
      this.racks.delete(rack.name);
    }
    if (tile.tabIndex === 0) this.roveToFirst();
    this.schedule();
  }

  repaint(id) {
    this.dirty.add(id);
    this.schedule();
  }

  schedule() {
    this.frame ||= requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.frame = 0;
    const touched = new Set();
    let painted = 0;
    for (const id of this.dirty) {
      if (painted++ >= MOST_A_FRAME) break;
      this.dirty.delete(id);
      const machine = this.machines.get(id);
      const tile = this.tiles.get(id);
      if (!machine || !tile) continue;
      const kind = shownAs(machine);
      if (tile.dataset.p !== kind) {
        tile.dataset.p = kind;
        tile.textContent = PROGRESS[kind][0];
      }
      const why = machine.wrong ? machine.cause : PROGRESS[kind][1];
      const says = [called(machine), why, machine.state].filter(Boolean).join(", ");
      if (tile.title !== says) {
        tile.title = says;
        tile.setAttribute("aria-label", says);
      }
      tile.hidden = !this.wanted(machine);
      touched.add(this.rackOf(machine));
    }
    for (const name of touched) this.note(this.racks.get(name));
    if (this.dirty.size > 0) this.schedule();
    else this.changed();
  }

  note(rack) {
    if (!rack) return;
    let [up, wrong, shown] = [0, 0, 0];
    for (const id of rack.ids) {
      const machine = this.machines.get(id);
      if (machine.progress === "up") up += 1;
      if (machine.wrong) wrong += 1;
      if (!this.tiles.get(id).hidden) shown += 1;
    }
    const told = `${up} of ${rack.ids.size} booted${wrong ? `, ${wrong} wrong` : ""}`;
    rack.section.classList.toggle("wide", rack.ids.size > WIDE);
    if (rack.told !== told) rack.note.textContent = rack.told = told;
    rack.section.hidden = shown === 0;
  }

  open(tile) {
    if (tile) this.opened(tile.machine);
  }

  rove(tile) {
    if (!tile || tile === this.focused) return;
    for (const old of [this.focused, this.first]) if (old) old.tabIndex = -1;
    tile.tabIndex = 0;
    this.focused = tile;
    this.first = null;
  }

  roveToFirst() {
    const first = this.root.querySelector("button.tile:not([hidden])");
    if (first) first.tabIndex = 0;
    this.first = first;
    this.focused = null;
  }

  key(event) {
    const tile = event.target.closest("button.tile");
    if (!tile || event.ctrlKey || event.altKey || event.metaKey) return;
    const next = this.neighbour(tile, event.key);
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }

  neighbour(tile, key) {
    const shown = (node) => [...node.querySelectorAll("button.tile:not([hidden])")];
    const inRack = shown(tile.parentElement);
    const at = inRack.indexOf(tile);
    const beside = (way) => {
      let section = tile.closest(".rack");
      do section = way < 0 ? section.previousElementSibling : section.nextElementSibling;
      while (section?.hidden);
      return section ? shown(section) : [];
    };
    const columns = inRack.filter((other) => other.offsetTop === inRack[0].offsetTop).length;
    switch (key) {
      case "ArrowRight": return inRack[at + 1] ?? beside(1)[0];
      case "ArrowLeft": return inRack[at - 1] ?? beside(-1).at(-1);
      case "ArrowDown": return inRack[at + columns] ?? beside(1)[Math.min(at % columns, beside(1).length - 1)];
      case "ArrowUp": return inRack[at - columns] ?? beside(-1).at(-1);
      case "Home": return inRack[0];
      case "End": return inRack.at(-1);
      case "PageDown": return beside(1)[0];
      case "PageUp": return beside(-1)[0];
      default: return null;
    }
  }
}
