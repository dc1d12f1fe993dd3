// Figures: from the metrics, as differences between two looks.

import { make, text } from "/ui/api.js";

const ANSWERS = ["offered", "acked", "bootp", "informed", "boot-server"];

// The text format of Prometheus: name, labels in braces, value.
export function parse(page) {
  const samples = [];
  for (const line of page.split("\n")) {
    const found = /^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, key, value] of (found[2] ?? "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) labels[key] = value;
    samples.push({ name: found[1], labels, value: Number(found[3]) });
  }
  return samples;
}

function sum(samples, name, fits = () => true) {
  return samples.filter((one) => one.name === name && fits(one.labels)).reduce((all, one) => all + one.value, 0);
}

function totals(samples) {
  const packets = (fits) => sum(samples, "xpxe_packets_total", fits);
  const byHook = (...hooks) => packets(({ hook, reason }) => hooks.includes(hook) && ANSWERS.includes(reason));
  return {
    offers: packets(({ reason }) => reason === "offered"),
    xdp: byHook("xdp"),
    tc: byHook("tc"),
    daemon: byHook("daemon"),
    tftp: sum(samples, "xpxe_tftp_bytes_total"),
    transfers: sum(samples, "xpxe_tftp_transfers"),
    http: sum(samples, "xpxe_http_bytes_total"),
    connections: sum(samples, "xpxe_http_connections"),
  };
}

function bytes(rate) {
  for (const [unit, size] of [["GB/s", 1e9], ["MB/s", 1e6], ["kB/s", 1e3]]) {
    if (rate >= size) return `${(rate / size).toFixed(1)} ${unit}`;
  }
  return `${Math.round(rate)} B/s`;
}

const share = (part, of) => (of > 0 ? `${Math.round((100 * part) / of)} %` : "–");

export class Figures {
  constructor(root) {
    this.root = root;
    this.cells = new Map();
    this.before = null;
    this.window = { at_once: 0, of: 0 };
  }

  async look() {
    const now = { at: performance.now(), ...totals(parse(await text("/metrics"))) };
    const { before } = this;
    this.before = now;
    const seconds = before ? (now.at - before.at) / 1000 : 1;
    // A restarted daemon counts from zero.
    const rate = (key) => (before ? Math.max(0, now[key] - before[key]) / seconds : 0);
    const answered = now.xdp + now.tc + now.daemon;
    this.show("Offers", `${rate("offers").toFixed(rate("offers") < 10 ? 1 : 0)} /s`);
    this.show("Answered on the card (XDP)", share(now.xdp, answered));
    this.show("in the kernel (TC)", share(now.tc, answered));
    this.show("by the daemon", share(now.daemon, answered));
    this.show("In the first window", share(this.window.at_once, this.window.of), `of ${this.window.of} boots`);
    this.show("TFTP", bytes(rate("tftp")), `${now.transfers} under way`);
    this.show("HTTP", bytes(rate("http")), `${now.connections} connections`);
  }

  show(name, value, note = "") {
    let cell = this.cells.get(name);
    if (!cell) {
      const box = make("div");
      cell = make("dd");
      box.append(make("dt", name), cell);
      this.root.append(box);
      this.cells.set(name, cell);
    }
    const told = `${value} ${note}`;
    if (cell.told === told) return;
    cell.told = told;
    cell.replaceChildren(`${value} `, make("small", note));
  }
}
