/* Drawings of 20 × 20, as strokes in the colour of the text around them. */
const PATHS = {
  overview: "M3 16V9M8 16V4M13 16v-5M18 16V7",
  channels: "M3 5h14M3 10h14M3 15h9",
  usage: "M10 3a7 7 0 1 0 7 7h-7zM13 3.6A7 7 0 0 1 16.4 7H13z",
  manage: "M4 6h6M14 6h2M4 14h2M10 14h6M12 4v4M8 12v4",
  try: "M6 4l10 6-10 6z",
  moon: "M16 12.2A6.8 6.8 0 0 1 7.8 4 6.8 6.8 0 1 0 16 12.2z",
  check: "M4 10.5l4 4 8-9",
  none: "M4 6.5l6-3 6 3v7l-6 3-6-3zM4 6.5l6 3 6-3M10 9.5v7",
  connections: "M8 8l4 4",
  key: "M9.7 9.7l6.8 6.8M13.6 13.6l2-2",
  sun: "M10 1.8v1.9M10 16.3v1.9M1.8 10h1.9M16.3 10h1.9M4.2 4.2l1.3 1.3M14.5 14.5l1.3 1.3M4.2 15.8l1.3-1.3M14.5 5.5l1.3-1.3",
  search: "M13 13l4 4",
};
const SVG = "http://www.w3.org/2000/svg";
const CIRCLES = {
  connections: [[6, 6, 2.5], [14, 14, 2.5]], key: [[7, 7, 3.6]], sun: [[10, 10, 3.4]], search: [[9, 9, 5.4]],
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  for (const [cx, cy, r] of CIRCLES[name] || []) {
    const c = document.createElementNS(SVG, "circle");
    c.setAttribute("cx", cx);
    c.setAttribute("cy", cy);
    c.setAttribute("r", r);
    svg.append(c);
  }
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
