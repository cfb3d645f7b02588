// Line charts of the page's data; the values in them, and in heat maps, at the pointer or by the arrow keys.
const MARKS = ["M-3,0a3,3 0 1,0 6,0a3,3 0 1,0 -6,0", "M-3,-3h6v6h-6z", "M0,-4l4,7h-8z",
  "M0,-4l4,4l-4,4l-4,-4z", "M-3,-3l6,6m0,-6l-6,6", "M0,-4v8m-4,-4h8"];
const HEIGHT = 250, TOP = 24, BOTTOM = 214, LEFT = 56;

function element(parent, name, attributes, text = "") {
  const made = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  made.textContent = text;
  return made;
}

function told(value, percent) {
  if (value === null) return "not finite";
  if (percent) return Number((100 * value).toFixed(2)) + " %";
  const short = Number(value.toPrecision(4)), size = Math.abs(short);
  return !size || (size >= 1e-4 && size < 1e6) ? String(short) : short.toExponential().replace("+", "");
}

// Where an axis has lines: at multiples of 1, 2 or 5, or at powers of ten if these are several.
function ticks(least, most, log) {
  const powers = log && most / least > 30, [from, to] = [least, most].map(powers ? Math.log10 : (v) => v);
  const rough = (to - from) / 5, power = 10 ** Math.floor(Math.log10(rough)), found = [];
  const step = Math.max([1, 2, 5, 10].find((m) => m * power >= rough) * power, powers ? 1 : 0);
  const times = powers && to - from < 3 ? [1, 3] : [1], value = (k) => powers ? Number(`1e${k}`) : k;
  for (let k = Math.floor(from / step); k * step <= to + 1e-9 * step; k++)
    found.push(...times.map((m) => m * value(k * step)));
  return found.filter((t) => t > least - 1e-9 * Math.abs(least) && t < most + 1e-9 * Math.abs(most));
}

// The lines of an axis around all values, and how far up it (0 to 1) each value stands; zeros below a log's.
function axis(values, { log, percent }) {
  const positive = log ? values.filter((v) => v > 0) : [], [used, f] = positive.length ? [positive, Math.log]
    : [values, Number], below = used.length < values.length ? 0.12 : 0;
  let [least, most] = [Math.min(...used), Math.max(...used)];
  const pad = (most - least) / 20 || (percent ? 0.01 : most / 10 || 0.5);
  if (f === Math.log && most < 1.5 * least) [least, most] = [least / 1.3, most * 1.3];
  if (f === Number) [least, most] = [Math.max(least - pad, Math.min(least, 0)), most + pad];
  if (percent) most = Math.min(most, 1);
  const up = (v) => below + (1 - below) * (f(v) - f(least)) / (f(most) - f(least));
  const lines = ticks(least, most, f !== Number);
  return { up: (v) => Math.max(up(v), 0), lines: below ? [0, ...lines] : lines };
}

// Labels at these heights, moved so that none is on another or too low.
function apart(heights, distance, lowest) {
  const order = heights.map((_, k) => k).sort((a, b) => heights[a] - heights[b]), at = [...heights];
  order.forEach((k, i) => { if (i) at[k] = Math.max(at[k], at[order[i - 1]] + distance); });
  order.toReversed().forEach((k, i) => { at[k] = Math.min(at[k], lowest - i * distance); });
  return at;
}

function draw(figure, chart) {
  const { x, series, best, percent } = chart, WIDTH = Math.max(figure.clientWidth - 26, 240);
  const [, svg, say] = figure.children;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  const known = series.flatMap((s) => s.y).filter((v) => v !== null);
  if (!known.length) return;
  const { up, lines } = axis(known, chart), [first, last] = [x[0], x.at(-1)];
  const RIGHT = WIDTH - 16 - 7.5 * Math.max(...series.map((s) => s.name.length));
  const across = (e) => LEFT + (RIGHT - LEFT) * (last > first ? (e - first) / (last - first) : 0.5);
  const down = (v) => BOTTOM - (BOTTOM - TOP) * up(v);
  const line = (x1, x2, y1, y2) => element(svg, "line", { class: "grid", x1, x2, y1, y2 });
  const text = (x, y, anchor, said) => element(svg, "text", { x, y, "text-anchor": anchor }, said);
  lines.forEach((t) => line(LEFT, RIGHT, down(t), down(t)));
  lines.forEach((t) => text(LEFT - 6, down(t) + 4, "end", told(t, percent)));
  for (const t of last > first ? ticks(first, last).filter(Number.isInteger) : [first])
    text(across(t), BOTTOM + 17, "middle", t);
  text((LEFT + RIGHT) / 2, HEIGHT - 3, "middle", "epoch");
  line(across(best), across(best), TOP, BOTTOM);
  text(across(best), TOP - 8, across(best) > WIDTH / 2 ? "end" : "start", `best: epoch ${best}`);
  const ends = series.map(({ y }) => down(y.findLast((v) => v !== null) ?? known[0]));
  apart(ends, 15, BOTTOM).forEach((height, k) => {
    const { name, y } = series[k], every = Math.ceil(x.length / 9);
    const at = y.map((v, i) => v === null ? "" : `${across(x[i]).toFixed(1)},${down(v).toFixed(1)}`);
    const d = at.map((p, i) => p && (i && at[i - 1] ? "L" : "M") + p).join("");
    element(svg, "path", { class: `curve s${k}`, d });
    at.forEach((p, i) => p && i % every === Math.floor(every * k / series.length)
      && element(svg, "path", { class: `mark s${k}`, d: MARKS[k], transform: `translate(${p})` }));
    text(RIGHT + 8, height + 4, "start", name).classList.add(`s${k}`);
  });
  let here, guide = line(0, 0, TOP, BOTTOM);
  function point(i) {
    here = Math.min(Math.max(i ?? x.indexOf(best), 0), x.length - 1);
    const values = series.map((s) => `${s.name} ${told(s.y[here], percent)}`).join(", ");
    guide.style = i === undefined ? "display:none" : "stroke:var(--muted)";
    guide.setAttribute("transform", `translate(${across(x[here])})`);
    say.textContent = `epoch ${x[here]}${i === undefined ? ", the best" : ""}: ${values}`;
  }
  svg.onpointermove = svg.onpointerdown = (event) => {
    const far = x.map((e) => Math.abs(across(e) + svg.getBoundingClientRect().left - event.clientX));
    point(far.indexOf(Math.min(...far)));
  };
  svg.onpointerleave = () => point();
  svg.onkeydown = (event) => {
    const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: x.length }[event.key];
    if (to !== undefined) point(to), event.preventDefault();
  };
  point();
}

// The first cell of a heat map is gone to by Tab, the others from there by the arrow keys.
function tell(cell) {
  const say = cell.closest(".map").querySelector(".say"), { rows } = cell.closest("tbody");
  const row = cell.parentElement.sectionRowIndex, column = cell.cellIndex;
  cell.tabIndex = row || column > 1 ? -1 : 0;
  cell.onpointerenter = cell.onfocus = () => { say.textContent = cell.dataset.say; };
  cell.onpointerleave = cell.onblur = () => { say.textContent = say.dataset.hint; };
  cell.onkeydown = (event) => {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const to = by && rows[row + by[0]]?.cells[column + by[1]];
    if (to?.dataset.say) to.focus(), event.preventDefault();
  };
}

const { charts } = JSON.parse(document.getElementById("data").textContent);
(onresize = () => document.querySelectorAll(".chart").forEach((figure, k) => draw(figure, charts[k])))();
document.querySelectorAll(".heat td").forEach(tell);
