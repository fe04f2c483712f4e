/* A curve over time with its legend, and the same as a table for who cannot see it. */
/* global Dygraph */
import { h, clock } from "./dom.js";
import { feed } from "./metrics.js";

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* Our own legend says more, and the library's breaks the pages' Content-Security-Policy. */
addEventListener("DOMContentLoaded", () => {
  Dygraph.PLUGINS = Dygraph.PLUGINS.filter(p => p !== Dygraph.Plugins.Legend);
});

/* series: [{name, color: "--s1", get: row → number}]; format: number → text. */
export class Chart {
  constructor({ title, series, format, tall }) {
    this.series = series;
    this.format = format;
    this.box = h(tall ? "div.chart.tall" : "div.chart", { role: "img", "aria-label": `${title}: curve of the last minutes` });
    this.legend = h("div.legend");
    this.title = title;
    this.graph = null;
    this.width = 300;
  }

  draw(rows) {
    if (!this.box.isConnected || !window.Dygraph) return;
    /* While there is less than the whole window the curve fills what there is, a minute at least. */
    const now = Date.now(), first = rows.length ? rows[0].t : now;
    const from = Math.max(now - this.width * 1000, Math.min(first, now - 60000));
    const data = rows.filter(r => r.t >= from).map(r => [new Date(r.t), ...this.series.map(s => {
      const v = s.get(r);
      return Number.isFinite(v) ? v : null;
    })]);
    this.tell(rows[rows.length - 1]);
    if (data.length < 2) return;
    const range = [from, now];
    this.narrow = now - from < 240000;
    if (this.graph) this.graph.updateOptions({ file: data, dateWindow: range });
    else this.make(data, range);
  }

  make(data, range) {
    this.graph = new Dygraph(this.box, data, {
      labels: ["time", ...this.series.map(s => s.name)],
      colors: this.series.map(s => css(s.color)),
      strokeWidth: 1.8, fillGraph: this.series.length === 1, fillAlpha: 0.12, includeZero: true,
      connectSeparatedPoints: false, legend: "never", dateWindow: range, interactionModel: {},
      gridLineColor: css("--grid"), axisLineColor: css("--line"), axisLineWidth: 1, animatedZooms: false,
      xRangePad: 0, yRangePad: 6, highlightCircleSize: 3, rightGap: 6,
      axes: {
        y: { axisLabelFormatter: v => this.format(v), axisLabelWidth: 58, pixelsPerLabel: 28, drawGrid: true },
        x: { drawGrid: false, pixelsPerLabel: 70, axisLabelFormatter: d => (this.narrow ? clock(d) : clock(d).slice(0, 5)) },
      },
      highlightCallback: (e, x, points) => this.tell(null, x, points),
      unhighlightCallback: () => this.tell(feed.rows[feed.rows.length - 1]),
    });
  }

  tell(row, x, points) {
    const parts = this.series.map((s, i) => {
      const v = points ? (points.find(p => p.name === s.name) || {}).yval : row && s.get(row);
      const mark = h("i");
      mark.style.background = `var(${s.color})`;
      return h("span", null, mark, `${s.name} ${Number.isFinite(v) ? this.format(v) : "–"}`);
    });
    if (points) parts.unshift(h("span", null, clock(x)));
    this.legend.replaceChildren(...parts);
  }

  /* The last readings, newest first. */
  rows(most = 20) {
    return feed.rows.slice(-most).reverse().map(r => [clock(r.t), ...this.series.map(s => {
      const v = s.get(r);
      return Number.isFinite(v) ? this.format(v) : "–";
    })]);
  }

  forget() {
    if (this.graph) this.graph.destroy();
    this.graph = null;
  }
}
