"use strict"; // A drawing becomes X; the programs make of it every array of a pass and a step; these are shown.

const $ = (id) => document.getElementById(id), data = JSON.parse($("data").textContent);
const { n, S, labels } = data, L = n.length - 1, layers = n.slice(1).map((_, k) => k + 1);
const images = Float64Array.from(bytes(data.images), (pixel) => data.shades[pixel]);
const names = Object.keys(data.params), Kind = data.double ? Float64Array : Float32Array;
const chosen = n.map(() => 0), before = [], kept = [], GREY = [[0, 0, 0], [0, 0, 0], [255, 255, 255]];
let params = Object.fromEntries(names.map((x) => [x, floats(data.params[x], Kind)]));
let label = null, showing = "W", stale = true, found = null, X = null;

const set = (node, text) => node.textContent === text || (node.textContent = text); // else it is said again
const press = (button, pressed) => button.setAttribute("aria-pressed", pressed);
const sign = (text) => text.replace(/-/g, "−");
const number = (x) => sign(x && Math.abs(x) < 1e-3 ? x.toExponential(3) : String(+x.toPrecision(6)));
const plain = (x) => !x || (Math.abs(x) >= 5e-4 && Math.abs(x) < 1000);
const fixed = (x) => sign(plain(x) ? x.toFixed(3) : x.toExponential(0)).padStart(7);
const largest = (values) => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

function put(canvas, values, most = 1, [less, none, more] = data.colours) {
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (let k = 0; k < image.data.length; k++) {
    const x = Math.max(-1, Math.min(1, values[k >> 2] / (most || 1))), c = k % 4, to = x < 0 ? less : more;
    image.data[k] = c === 3 ? 255 : none[c] + (to[c] - none[c]) * Math.abs(x);
  }
  context.putImageData(image, 0, 0);
}

const pad = $("pad"), ink = pad.getContext("2d", { willReadFrequently: true }), pen = [S / 2, S / 2];
let strokes = [], stroke = null, centred = true, given = null; // given: a test image, in place of a drawing
let picture = data.first && Float64Array.from(bytes(data.first), (x) => x / 255), queued = 0;
Object.assign(ink, { strokeStyle: "#fff", lineWidth: S / 14, lineCap: "round", lineJoin: "round",
  imageSmoothingEnabled: false });

function paint() { // the drawing; its ink
  ink.fillRect(0, 0, S, S);
  if (picture) put(pad, picture, 1, GREY);
  for (const points of strokes) {
    ink.beginPath();
    for (const point of [points[0], ...points]) ink.lineTo(...point);
    ink.stroke();
  }
  const pixels = ink.getImageData(0, 0, S, S).data;
  return new Float64Array(S * S).map((_, k) => pixels[4 * k] / 255);
}
function see() {
  if (given === null) X = run(centred ? data.centred : data.uncentred, { G: array([S, S], paint()) }).X;
  else X = array([1, n[0]], images.slice(given * n[0], (given + 1) * n[0]));
  put($("seen"), X.data, 1, GREY);
  if (given !== null) ink.drawImage($("seen"), 0, 0, S, S);
}
const clear = () => choose("", ([strokes, stroke, picture, given] = [[], null, null, null]));
const lift = () => { stroke = null; $("pen").hidden = true; };
const later = () => (queued ||= requestAnimationFrame(redraw));
function draw(point, begin) {
  if (begin && given !== null) clear();
  if (begin) strokes.push((stroke = []));
  stroke.push(point);
  later();
}
const place = (event) => [event.offsetX, event.offsetY].map((x) => (x * S) / pad.clientWidth);
pad.onpointerdown = (event) => {
  event.preventDefault();
  pad.focus({ preventScroll: true });
  pad.setPointerCapture(event.pointerId);
  lift();
  draw(place(event), true);
};
pad.onpointermove = (event) => stroke && event.buttons && draw(place(event));
pad.onpointerup = pad.onpointercancel = pad.onblur = lift;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
  Home: [-1, -1], PageUp: [1, -1], End: [-1, 1], PageDown: [1, 1] };
pad.onkeydown = (event) => {
  const way = KEYS[event.key], by = event.shiftKey ? 1 : S / 35;
  if ((!way && event.key !== " ") || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  if (way) way.forEach((w, k) => (pen[k] = Math.max(0, Math.min(S, pen[k] + w * by))));
  if (way ? stroke : !stroke) draw([...pen], !way);
  else stroke = null;
  const [x, y] = pen.map((at) => `${Math.round((100 * at) / S)}%`);
  Object.assign($("pen"), { hidden: false, className: stroke ? "down" : "", style: `left:${x};top:${y}` });
  set($("told"), `Pen ${stroke ? "down" : "up"}, ${x} across, ${y} down`);
};

const oneHot = (these) => array([these.length, n[L]],
  Float64Array.from({ length: these.length * n[L] }, (_, k) => k % n[L] === these[Math.floor(k / n[L])]));
const tests = [data.many, array([labels.length, n[0]], images), oneHot(labels)];
const pass = (program, X, Y, wanted) =>
  run(program, { X, Y, α: array([], Float64Array.of($("alpha").value)), ...params }, wanted);
const shown = (name) => // of a drawing
  !/^new/.test(name) && (showing === "⊙" || !/⊙/.test(name)) && (label !== null || !/^d|J/.test(name));
function redraw() {
  queued = 0;
  see();
  found = pass(data.one, X, oneHot([label]), Object.keys(data.one.outputs).filter(shown));
  show();
}
function learnt(now) { // these parameters, from now on
  [params, stale] = [now, true];
  const { guess, J } = pass(...tests, ["guess", "J"]);
  [...$("strip").children].forEach((tile, k) => {
    tile.className = labels[k] === guess.data[k] ? "" : "misread";
    tile.title = tile.ariaLabel = `a ${labels[k]}, read as ${guess.data[k]}`;
  });
  const wrong = document.querySelectorAll(".misread").length;
  set($("read"), `✗: misread, ${wrong} of these ${labels.length}. Their J = ${number(J.data[0])}`);
  redraw();
}

function show() {
  const some = X.data.some((x) => x), known = label !== null, guess = found.guess.data[0];
  for (const l of layers) {
    const [A, Z, dZ] = ["A", "Z", "dZ"].map((x) => found[`${x}[${l}]`]?.data), m = n[l - 1];
    const most = Math.max(1, largest(A)), zero = A.some((a) => a < 0) ? 50 : 0;
    const images = { W: params[`W[${l}]`], "⊙": found[`A[${l - 1}] ⊙ W[${l}]`], dW: found[`dW[${l}]`] };
    const { data: values } = images[showing] || array([n[l], m]), scale = largest(values);
    [...$(`layer${l}`).children].forEach((tile, j) => {
      const [canvas, bar, z, a, dz] = [...tile.children].slice(-5), to = zero + ((100 - zero) * A[j]) / most;
      bar.firstChild.style = `left:${Math.min(zero, to)}%;width:${Math.abs(to - zero)}%`;
      set(z, `z ${fixed(Z[j])}`);
      set(a, `${l === L ? "ŷ" : "a"} ${fixed(A[j])}`);
      set(dz, known ? `dz${fixed(dZ[j])}` : "");
      press(tile, j === chosen[l]);
      if (l === L) tile.classList.toggle("guessed", j === guess && some);
      const row = values.subarray(j * m, (j + 1) * m);
      if (stale || showing !== "W") put(canvas, row, showing === "W" ? largest(row) : scale);
    });
  }
  set($("guess"), some ? String(guess) : "?");
  set($("sure"), some ? `ŷ = ${number(found[`A[${L}]`].data[guess])}` : "draw, or choose a test image");
  set($("cost"), known ? `J = ${number(found.J.data[0])}` : "");
  set($("keep"), known ? `Keep as a ${label}` : "Keep");
  $("keep").disabled = !known || !some || given !== null;
  $("step").disabled = !($("alpha").value > 0) || ($("on").value === "one" && (!known || !some));
  $("back").disabled = !before.length;
  [stale, chosen[0]] = [false, X.data.indexOf(largest(X.data))];
  data.equations.forEach(([, name, text], k) =>
    set($("sums").rows[k].cells[2], found[name] ? `${worked(text)} = ${entry(name)}` : ""));
}
function entry(name) { // of the chosen neurons, in the array of that name
  const l = name.match(/\d+|$/)[0], k = /W/.test(name) ? chosen[l] * n[l - 1] + chosen[l - 1] : chosen[l];
  return number((params[name] || found[name]).data[k ?? 0]);
}
const worked = (text) => text.replace(/softmax\((.*?)\)/, "softmax(…, $1, …)") // an equation, with numbers
  .replace(/(\S+\]) (W\S+\])ᵀ?/, "… + $1·$2 + …").replace(/ᵀ (?!\+)/, "·").replace(/⊙/g, "·")
  .replace(/Σ (.*)/, "(… + $1 + …)").replace("1/N", "1/1")
  .replace(/Ŷ/g, `A[${L}]`).replace(/Y/g, +(chosen[L] === label))
  .replace(/(d?[AWZb]\[\d+\])ᵀ?/g, (_, name) => entry(name).replace(/^−.*/, "($&)"))
  .replace(/\(\((−[^()]+)\)\)/g, "($1)");

const does = (button, done) => (button.onclick = () => { done(button); later(); });
const choose = (what) => ([label, $("label").value] = [what === "" ? null : (chosen[L] = +what), what]);
does($("clear"), clear);
does($("undo"), () => strokes.pop());
does($("centre"), (button) => press(button, (centred = !centred)));
does($("back"), () => { learnt(before.pop()); set($("told"), `Back: ${before.length} steps are left`); });
does($("step"), () => {
  const on = $("on").value === "many" ? tests : [data.one, X, oneHot([label])];
  const after = pass(...on, ["J", ...names.map((name) => `new ${name}`)]);
  before.push(params);
  learnt(Object.fromEntries(names.map((name) => [name, after[`new ${name}`]])));
  const [J, then] = [after, pass(...on, ["J"])].map((x) => number(x.J.data[0]));
  set($("told"), `Step ${before.length}, on ${$("on").selectedOptions[0].text}: J = ${J} → ${then}`);
});
$("label").onchange = () => { choose($("label").value); later(); };
$("alpha").oninput = $("on").onchange = later;
[...$("strip").children].forEach((tile, k) => {
  put(tile.firstChild, images.subarray(k * n[0], (k + 1) * n[0]), 1, GREY);
  does(tile, () => { clear(); given = k; choose(labels[k]); });
});
layers.forEach((l) => [...$(`layer${l}`).children].forEach((tile, j) => does(tile, () => (chosen[l] = j))));
document.onkeydown = ({ key, target }) => { // among the test images, or neurons of a layer: Tab stops at one
  const way = { ArrowLeft: "previous", ArrowRight: "next" }[key], next = target[`${way}ElementSibling`];
  if (next && target.matches("button[tabindex]")) [target.tabIndex, next.tabIndex] = [-1, next.focus() || 0];
};
document.querySelectorAll(".shown").forEach((button, _, all) => does(button, () => {
  [showing, stale, $("legend").textContent] = [button.value, true, button.title];
  all.forEach((other) => press(other, other === button));
}));
does($("keep"), () => {
  kept.push({ label, centred, ink: btoa(String.fromCharCode(...paint().map((x) => Math.round(255 * x)))) });
  set($("save"), `Save ${kept.length} drawing${kept.length > 1 ? "s" : ""}`);
  $("save").disabled = false;
});
does($("save"), () => {
  const text = JSON.stringify({ format: "jaxnn drawings 1", side: S, drawings: kept });
  const href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  Object.assign(document.createElement("a"), { href, download: "drawings.json" }).click();
});
learnt(params);
$("strip").children[location.hash.slice(1) - 1]?.click(); // pad.html#20: the 20th is chosen
