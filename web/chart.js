/* A curve over time, in words for who cannot see it, and the same as a table. */
/* global Dygraph */
import { h, clock } from "./dom.js";
import { feed } from "./metrics.js";

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* Our own legend says more, and the library's breaks the pages' Content-Security-Policy. */
addEventListener("DOMContentLoaded", () => {
  Dygraph.PLUGINS = Dygraph.PLUGINS.filter(p => p !== Dygraph.Plugins.Legend);
});

/* series: [{name, color: "--s1", get: row → number, dash}]; format: number → text; axis: the same, short;
 * wide: room for long numbers at
 * the axis; idle: what the line below the curve says while nobody points at it (else a legend). */
export class Chart {
  constructor({ title, series, format, axis, rows = () => feed.rows, idle, wide }) {
    Object.assign(this, { title, series, format, axis: axis || format, all: rows, idle, wide });
    this.plot = h("div.plot");
    this.wait = h("p.wait", null, "collecting…");
    this.box = h("div.chart", { role: "img" }, this.plot, this.wait);
    this.legend = h("div.legend");
    this.graph = null;
    this.width = 300;
    this.spoken = 0;
    this.watch = new ResizeObserver(() => this.graph && this.plot.clientWidth && this.graph.resize());
    this.watch.observe(this.box);
  }

  draw() {
    if (!this.box.isConnected || !window.Dygraph) return;
    const rows = this.all(), now = rows.length ? rows[rows.length - 1].t : Date.now();
    /* While there is less than the whole window the curve fills what there is, 20 s at least. */
    const from = Math.max(now - this.width * 1000, Math.min(rows.length ? rows[0].t : now, now - 20000));
    const data = rows.filter(r => r.t >= from).map(r => [new Date(r.t), ...this.series.map(s => {
      const v = s.get(r);
      return Number.isFinite(v) ? v : null;
    })]);
    if (!this.pointed) this.tell();
    this.speak(data);
    this.wait.hidden = data.length > 1;
    if (data.length < 2 || !this.plot.clientWidth) return;
    this.narrow = now - from < 240000;
    if (this.graph) this.graph.updateOptions({ file: data, dateWindow: [from, now] });
    else this.make(data, [from, now]);
  }

  make(data, range) {
    const label = css("--soft");
    this.graph = new Dygraph(this.plot, data, {
      labels: ["time", ...this.series.map(s => s.name)],
      colors: this.series.map(s => css(s.color)),
      series: Object.fromEntries(this.series.filter(s => s.dash).map(s => [s.name, { strokePattern: [6, 5] }])),
      strokeWidth: 1.6, fillGraph: this.series.length === 1, fillAlpha: 0.13, includeZero: true,
      connectSeparatedPoints: false, legend: "never", dateWindow: range, interactionModel: {},
      gridLineColor: css("--grid"), axisLineColor: css("--grid"), axisLineWidth: 1, animatedZooms: false,
      axisLabelColor: label, xRangePad: 0, yRangePad: 4, highlightCircleSize: 3, rightGap: 12, axisTickSize: 3,
      axes: {
        y: { axisLabelFormatter: v => (v === 0 ? "0" : this.axis(v)), axisLabelWidth: this.wide ? 52 : 34, pixelsPerLabel: 26, drawGrid: true },
        x: { drawGrid: false, pixelsPerLabel: 74, axisLabelFormatter: d => (this.narrow ? clock(d) : clock(d).slice(0, 5)) },
      },
      highlightCallback: (e, x, points) => { this.pointed = true; this.tell(x, points); },
      unhighlightCallback: () => { this.pointed = false; this.tell(); },
    });
  }

  /* The line below the curve. */
  tell(x, points) {
    const rows = this.all(), last = rows[rows.length - 1];
    if (!points && this.idle) {
      this.legend.replaceChildren(...[this.idle()].flat());
      return;
    }
    const parts = this.series.map(s => {
      const v = points ? (points.find(p => p.name === s.name) || {}).yval : last && s.get(last);
      return h("span", null, mark(s), `${s.name} ${Number.isFinite(v) ? this.format(v) : "–"}`);
    });
    if (points) parts.unshift(h("span", null, clock(x)));
    this.legend.replaceChildren(...parts);
  }

  /* What the curve shows, in a sentence; not oftener than each five seconds. */
  speak(data) {
    const now = performance.now();
    if (this.spoken && now - this.spoken < 5000) return;
    this.spoken = now;
    const parts = this.series.map((s, i) => {
      const v = data.map(r => r[i + 1]).filter(x => x !== null);
      if (!v.length) return `${s.name}: no data`;
      return `${s.name}: now ${this.format(v[v.length - 1])}, lowest ${this.format(v.reduce((a, b) => Math.min(a, b)))}, highest ${this.format(v.reduce((a, b) => Math.max(a, b)))}`;
    });
    this.box.setAttribute("aria-label", `${this.title}, curve of the last ${Math.round(this.width / 60)} minutes. ${parts.join(". ")}`);
  }

  /* The last readings, newest first. */
  rows(most = 20) {
    return this.all().slice(-most).reverse().map(r => [clock(r.t), ...this.series.map(s => {
      const v = s.get(r);
      return Number.isFinite(v) ? this.format(v) : "–";
    })]);
  }

  forget() {
    if (this.graph) this.graph.destroy();
    this.graph = null;
    this.pointed = false;
  }
  end() {
    this.watch.disconnect();
    this.forget();
  }
}

export function mark(s) {
  const i = h("i", { "aria-hidden": "true" });
  i.style.background = `var(${s.color})`;
  return i;
}
