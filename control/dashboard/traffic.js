// Bits per second by access over the last two minutes.

import { short } from "./api.js";
import { svg } from "./svg.js";

/** Samples that are kept: one a second. */
const KEPT = 120;

export class Traffic {
  constructor(svg, legend) {
    this.svg = svg;
    this.legend = legend;
    /** By name: color, and the latest samples. */
    this.series = new Map();
  }

  /** Adds a sample of each access: [{name, color, bits}]. */
  add(samples) {
    for (const { name, color, bits } of samples) {
      const series = this.series.get(name) ?? { bits: [] };
      series.color = color;
      this.series.set(name, series);
      series.bits.push(bits);
      if (series.bits.length > KEPT) series.bits.shift();
    }
    for (const name of [...this.series.keys()]) {
      if (!samples.some((sample) => sample.name === name)) this.series.delete(name);
    }
    this.draw();
  }

  draw() {
    const [width, height, left, bottom] = [560, 200, 74, 22];
    const all = [...this.series.values()].flatMap((series) => series.bits);
    const top = nice(Math.max(1000, ...all));
    const x = (age) => left + (width - left - 6) * (1 - age / (KEPT - 1));
    const y = (bits) => (height - bottom) - (height - bottom - 10) * (bits / top);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const at = y(top * share).toFixed(1);
      parts.push(svg("path", { class: "link", d: `M${left},${at}H${width - 6}` }));
      parts.push(svg("text", { class: "small", x: left - 6, y: Number(at) + 4, "text-anchor": "end" }, short(top * share, "bit/s")));
    }
    for (const age of [0, 30, 60, 90]) {
      parts.push(svg("text", { class: "small", x: x(age), y: height - 4, "text-anchor": "end" }, age ? `−${age} s` : "now"));
    }
    for (const series of this.series.values()) {
      const count = series.bits.length;
      const points = series.bits.map((bits, i) => `${x(count - 1 - i).toFixed(1)},${y(bits).toFixed(1)}`);
      parts.push(svg("polyline", { points: points.join(" "), style: `fill: none; stroke: ${series.color}; stroke-width: 2` }));
    }
    this.svg.replaceChildren(...parts);
    this.legend.replaceChildren(...[...this.series].map(([name, series]) => {
      const item = document.createElement("li");
      const chip = document.createElement("span");
      chip.className = "chip";
      chip.style.setProperty("--c", series.color);
      item.append(chip, ` ${name} ${short(series.bits.at(-1) ?? 0, "bit/s")}`);
      return item;
    }));
  }
}

/** The next of 1, 2, 5, 10, ... that is not less. */
function nice(value) {
  const step = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * step).find((n) => n >= value);
}
