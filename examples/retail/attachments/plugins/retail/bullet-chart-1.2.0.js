// Bullet chart: a bar for the value, a mark for the target, bands for the ranges.
// render(element, rows, options): rows are { label, value, target }, ranges are shares of the largest target.

const SVG = "http://www.w3.org/2000/svg";

function node(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (parent) parent.appendChild(element);
  return element;
}

export const version = "1.2.0";

export function render(element, rows, options = {}) {
  const { ranges = [0.5, 0.75, 1], colors = ["#d8503c", "#22304a"], width = 480, rowHeight = 34 } = options;
  const top = Math.max(1, ...rows.flatMap((row) => [row.value, row.target]));
  const left = 120;
  const scale = (value) => (Math.max(0, value) / top) * (width - left - 10);
  const svg = node("svg", { viewBox: `0 0 ${width} ${rows.length * rowHeight}`, role: "img" });

  rows.forEach((row, index) => {
    const y = index * rowHeight;
    [...ranges].sort((a, b) => b - a).forEach((share, band) => {
      node("rect", { x: left, y: y + 6, width: scale(top * share), height: 22, fill: "#8a8f9c", opacity: 0.15 + band * 0.12 }, svg);
    });
    node("rect", { x: left, y: y + 12, width: scale(row.value), height: 10, fill: colors[0] }, svg);
    node("rect", { x: left + scale(row.target) - 1.5, y: y + 8, width: 3, height: 18, fill: colors[1] }, svg);
    const label = node("text", { x: left - 8, y: y + 21, "text-anchor": "end", "font-size": 12 }, svg);
    label.textContent = row.label;
  });

  element.replaceChildren(svg);
}
