// Calendar heatmap: a square per day, a column per week, the colour says how much.
// render(element, rows, options): rows are { date: "2026-10-31", value: 1234.5 }.

const SVG = "http://www.w3.org/2000/svg";
const DAY = 24 * 60 * 60 * 1000;

export const version = "0.9.1";

export function render(element, rows, options = {}) {
  const { week_starts_on = "monday", color = "#2f6f73", cell = 14 } = options;
  const shift = week_starts_on === "monday" ? 6 : 0;
  const days = rows.map((row) => ({ time: Date.parse(`${row.date}T00:00:00Z`), ...row })).filter((day) => !Number.isNaN(day.time));
  const svg = document.createElementNS(SVG, "svg");
  element.replaceChildren(svg);
  if (days.length === 0) return;

  const first = days.reduce((least, day) => Math.min(least, day.time), Infinity);
  const most = days.reduce((top, day) => Math.max(top, day.value), 0) || 1;
  const weekday = (time) => (new Date(time).getUTCDay() + shift) % 7;
  const start = first - weekday(first) * DAY;
  let weeks = 1;

  for (const day of days) {
    const week = Math.floor((day.time - start) / (7 * DAY));
    weeks = Math.max(weeks, week + 1);
    const square = document.createElementNS(SVG, "rect");
    const place = { x: week * cell, y: weekday(day.time) * cell, width: cell - 2, height: cell - 2, rx: 2, fill: color };
    for (const [key, value] of Object.entries(place)) square.setAttribute(key, value);
    square.setAttribute("fill-opacity", (0.1 + 0.9 * Math.max(0, day.value / most)).toFixed(2));
    const hint = document.createElementNS(SVG, "title");
    hint.textContent = `${day.date}: ${day.value}`;
    square.appendChild(hint);
    svg.appendChild(square);
  }

  svg.setAttribute("viewBox", `0 0 ${weeks * cell} ${7 * cell}`);
}
