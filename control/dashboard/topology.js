// The network as the process sees it: anchors, gateways, mobiles, and each flow as a line. A flow that moves
// slides from one access to the other.

import { svg } from "./svg.js";

/** Milliseconds that a flow takes to slide over. */
const SLIDE = 900;
/** Most mobiles that are drawn; the filter finds the others. */
export const MOST = 8;

function make(parent, name, attributes, text) {
  const node = svg(name, attributes, text);
  parent.append(node);
  return node;
}

/** A smooth line through points that go from left to right. */
function line(points) {
  const [[x0, y0], ...rest] = points;
  let [x, y] = [x0, y0];
  let d = `M${x},${y.toFixed(1)}`;
  for (const [nx, ny] of rest) {
    const middle = (x + nx) / 2;
    d += `C${middle},${y.toFixed(1)} ${middle},${ny.toFixed(1)} ${nx},${ny.toFixed(1)}`;
    [x, y] = [nx, ny];
  }
  return d;
}

export class Topology {
  /** `choose` is called with the key of a flow that is clicked. */
  constructor(svg, choose) {
    this.svg = svg;
    this.choose = choose;
    this.back = make(svg, "g", {});
    this.lines = make(svg, "g", {});
    this.front = make(svg, "g", {});
    /** By key: the drawn line, and where it is. */
    this.flows = new Map();
  }

  /**
   * Draws `view`: `name`, `role`, `gateways` [{name, state, color}], `mobiles` [{id, accesses: [{peer, label,
   * up}]}], `flows` [{key, mn, peer, color, runs, chosen, text}].
   */
  draw(view) {
    const narrow = this.svg.clientWidth < 560;
    const width = narrow ? 420 : 900;
    const rows = view.mobiles.flatMap((mobile) => mobile.accesses.map((access) => ({ mobile, access })));
    const height = Math.max(150, 44 * rows.length + 14 * view.mobiles.length + 30, 70 * view.gateways.length + 30);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const at = narrow ? { left: 8, middle: 150, right: 300, box: 96 } : { left: 20, middle: 390, right: 700, box: 170 };

    this.back.replaceChildren();
    this.front.replaceChildren();
    const spread = (count, index) => (height * (index + 0.5)) / Math.max(count, 1);
    const own = height / 2;
    const gateways = new Map();
    view.gateways.forEach((gateway, index) => gateways.set(gateway.name, spread(view.gateways.length, index)));
    const places = new Map();
    let y = (height - (44 * rows.length + 14 * (view.mobiles.length - 1))) / 2 + 22;
    for (const mobile of view.mobiles) {
      const top = y - 20;
      for (const access of mobile.accesses) {
        places.set(`${mobile.id} ${access.peer} ${access.label}`, y);
        if (!places.has(`${mobile.id} ${access.peer}`)) places.set(`${mobile.id} ${access.peer}`, y);
        const from = gateways.get(access.peer);
        if (from !== undefined) {
          const d = line([[at.middle + at.box, from], [at.right, y]]);
          make(this.back, "path", { class: access.up ? "link" : "link down", d });
        }
        y += 44;
      }
      this.#box(at.right, top, at.box + (narrow ? 12 : 20), y - 14 - top, mobile.id, "", false);
      mobile.accesses.forEach((access, index) => {
        const text = narrow ? `${access.label}` : `access ${access.label} · ${access.technology}`;
        make(this.front, "text", { class: "small", x: at.right + 10, y: top + 36 + 44 * index }, text);
      });
      y += 14;
    }
    this.#box(at.left, own - 26, at.box, 52, view.name, view.role, false);
    for (const gateway of view.gateways) {
      const place = gateways.get(gateway.name);
      const d = line([[at.left + at.box, own], [at.middle, place]]);
      make(this.back, "path", { class: gateway.down ? "link down" : "link", d });
      this.#box(at.middle, place - 24, at.box, 48, gateway.name, gateway.text, gateway.down, gateway.color);
    }
    this.#drawFlows(view, { at, own, gateways, places });
  }

  #box(x, y, width, height, title, text, down, color) {
    const group = make(this.front, "g", { class: down ? "node down" : "node" });
    make(group, "rect", { x, y, width, height, rx: 7 });
    if (color) make(group, "rect", { x, y, width: 5, height, rx: 2, style: `fill: ${color}; stroke: none` });
    const fits = Math.floor((width - 14) / 7.8);
    const shown = title.length > fits ? `${title.slice(0, fits - 1)}…` : title;
    const label = make(group, "text", { x: x + 10, y: y + 20 }, shown);
    make(label, "title", {}, title);
    if (text) make(group, "text", { class: "small", x: x + 10, y: y + 36 }, text);
  }

  #drawFlows(view, { at, own, gateways, places }) {
    const seen = new Set();
    const crowd = view.flows.length;
    view.flows.forEach((flow, index) => {
      const place = places.get(`${flow.mn} ${flow.peer} ${flow.bid}`) ?? places.get(`${flow.mn} ${flow.peer}`);
      const gateway = gateways.get(flow.peer);
      if (place === undefined || gateway === undefined) return;
      seen.add(flow.key);
      // Beside each other where they share a way.
      const beside = (index - (crowd - 1) / 2) * Math.min(8, 34 / Math.max(crowd, 1));
      const ys = [own + beside, gateway + beside, gateway + beside, place + beside / 2];
      const xs = [at.left + at.box, at.middle, at.middle + at.box, at.right];
      let drawn = this.flows.get(flow.key);
      if (!drawn) {
        const group = make(this.lines, "g", { "data-flow": flow.key });
        const parts = ["flow", "beads", "hit"].map((name) => make(group, "path", { class: name }));
        const [, , hit] = parts;
        hit.setAttribute("tabindex", "0");
        hit.setAttribute("role", "button");
        make(hit, "title", {}, flow.text);
        hit.setAttribute("aria-label", flow.text);
        hit.addEventListener("click", () => this.choose(flow.key));
        hit.addEventListener("keydown", (event) => {
          if (event.key === "Enter" || event.key === " ") this.choose(flow.key);
        });
        drawn = { group, parts, ys, xs, peer: flow.peer };
        this.flows.set(flow.key, drawn);
      }
      const [stroke, beads] = drawn.parts;
      stroke.style.stroke = flow.color;
      stroke.classList.toggle("still", !flow.runs);
      stroke.classList.toggle("chosen", flow.chosen);
      beads.classList.toggle("runs", flow.runs);
      drawn.group.setAttribute("data-peer", flow.peer);
      this.#slide(drawn, xs, ys, flow.peer !== drawn.peer);
      drawn.peer = flow.peer;
    });
    for (const [key, drawn] of this.flows) {
      if (!seen.has(key)) {
        drawn.group.remove();
        this.flows.delete(key);
      }
    }
  }

  /** Puts a line where it belongs: at once, or over a while if its flow has moved. */
  #slide(drawn, xs, ys, moved) {
    const put = (now) => {
      drawn.ys = now;
      const d = line(xs.map((x, i) => [x, now[i]]));
      for (const part of drawn.parts) part.setAttribute("d", d);
    };
    drawn.target = ys;
    drawn.xs = xs;
    if (!moved) {
      if (!drawn.sliding) put(ys);
      return;
    }
    const from = drawn.ys;
    const start = performance.now();
    drawn.sliding = true;
    const step = (time) => {
      const part = Math.min(1, (time - start) / SLIDE);
      const eased = part < 0.5 ? 2 * part * part : 1 - 2 * (1 - part) * (1 - part);
      put(from.map((y, i) => y + (drawn.target[i] - y) * eased));
      if (part < 1) requestAnimationFrame(step);
      else drawn.sliding = false;
    };
    requestAnimationFrame(step);
  }
}
