"use strict"; // Arrays {shape, data}, and the primitives of a program that seeing/program.py printed.

const size = (shape) => shape.reduce((a, b) => a * b, 1);
const array = (shape, data) => ({ shape, data: data || new Float64Array(size(shape)) });
const strides = (shape) => shape.map((_, k) => size(shape.slice(k + 1)));

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)); // of base64
const floats = ([shape, text], Kind) => array(shape, Float64Array.from(new Kind(bytes(text).buffer)));

function mapped(f) { // entry by entry; an axis of one goes along with any other
  return (...given) => {
    const { shape } = given.reduce((a, b) => (b.shape.length > a.shape.length ? b : a));
    const out = array(shape.map((_, k) => Math.max(...given.map((x) => x.shape[k] ?? 1))));
    const whole = (x) => (size(x.shape) === size(out.shape) ? x : spread(x, out.shape, [...x.shape.keys()]));
    const [a, b = a, c = a] = given.map((x) => whole(x).data);
    for (let n = 0; n < out.data.length; n++) out.data[n] = f(a[n], b[n], c[n]);
    return out;
  };
}

function spread(x, shape, axes) { // over a shape, of which `axes` are those of x
  const at = shape.map(() => 0), own = strides(x.shape);
  axes.forEach((axis, k) => { if (x.shape[k] > 1) at[axis] = own[k]; });
  return moved(x, shape, at);
}

function moved(x, shape, at) { // out[index] = x.data[Σ index · at]
  const out = array(shape), index = shape.map(() => 0);
  for (let n = 0, place = 0; n < out.data.length; n++) {
    out.data[n] = x.data[place];
    for (let k = shape.length - 1; k >= 0; k--) {
      place += at[k];
      if (++index[k] < shape[k]) break;
      place -= at[k] * shape[k];
      index[k] = 0;
    }
  }
  return out;
}

function ordered(x, axes) { // x with its axes in this order
  const at = strides(x.shape), kept = axes.every((axis, k) => axis === k);
  return kept ? x : moved(x, axes.map((k) => x.shape[k]), axes.map((k) => at[k]));
}

function rows(x, axes) { // these axes last, as the rows of a matrix
  const kept = [...x.shape.keys()].filter((k) => !axes.includes(k));
  const shape = kept.map((k) => x.shape[k]), length = size(axes.map((k) => x.shape[k]));
  return { shape, length, data: ordered(x, [...kept, ...axes]).data };
}

function reduced(f) { // each row along the axes becomes one number
  return (x, axes) => {
    const { shape, length, data } = rows(x, axes);
    return array(shape, array(shape).data.map((_, n) => f(data.subarray(n * length, (n + 1) * length))));
  };
}

function product(x, y, [[over, other], batch]) { // Σ over an axis of each
  if (batch[0].length || over.length !== 1) throw Error("dot_general: expected one axis of each");
  const a = rows(x, over), b = rows(y, other), m = a.length, columns = size(b.shape);
  const out = array([...a.shape, ...b.shape]);
  for (let n = 0; n < out.data.length; n++) {
    const i = Math.floor(n / columns) * m, j = (n % columns) * m;
    let sum = 0;
    for (let k = 0; k < m; k++) sum += a.data[i + k] * b.data[j + k];
    out.data[n] = sum;
  }
  return out;
}

function erfc(x) {
  const x2 = x * x, size = Math.abs(x);
  if (size < 2) { // 1 − erf: e^−x² 2/√π Σ 2ⁿ x²ⁿ⁺¹ / (2n + 1)!!
    let sum = x, term = x;
    for (let n = 1; n < 60; n++) sum += term *= (2 * x2) / (2 * n + 1);
    return 1 - ((2 * Math.exp(-x2)) / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0; // Laplace's continued fraction
  for (let k = 120; k > 0; k--) fraction = k / 2 / (size + fraction);
  const tail = Math.exp(-x2) / Math.sqrt(Math.PI) / (size + fraction);
  return x < 0 ? 2 - tail : tail;
}

const even = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
const away = (x) => Math.sign(x) * Math.round(Math.abs(x));
const sum = (a, b) => a + b, larger = (a, b) => Math.max(a, b), smaller = (a, b) => Math.min(a, b);

const PRIMITIVES = {
  add: mapped(sum), sub: mapped((a, b) => a - b), mul: mapped((a, b) => a * b), div: mapped((a, b) => a / b),
  pow: mapped(Math.pow), max: mapped(larger), min: mapped(smaller),
  neg: mapped((a) => -a), abs: mapped(Math.abs), sign: mapped(Math.sign), square: mapped((a) => a * a),
  sqrt: mapped(Math.sqrt), floor: mapped(Math.floor), trunc: mapped(Math.trunc), exp: mapped(Math.exp),
  expm1: mapped(Math.expm1), log: mapped(Math.log), log1p: mapped(Math.log1p), tanh: mapped(Math.tanh),
  logistic: mapped((a) => 1 / (1 + Math.exp(-a))), erfc: mapped(erfc), is_finite: mapped(Number.isFinite),
  eq: mapped((a, b) => a === b), ne: mapped((a, b) => a !== b), lt: mapped((a, b) => a < b),
  le: mapped((a, b) => a <= b), gt: mapped((a, b) => a > b), ge: mapped((a, b) => a >= b),
  and: mapped((a, b) => a && b), or: mapped((a, b) => a || b), not: mapped((a) => !a),
  select_n: mapped((p, no, yes) => (p ? yes : no)), clamp: mapped((a, x, b) => Math.min(Math.max(x, a), b)),
  integer_pow: (x, y) => array(x.shape, x.data.map((a) => a ** y)),
  round: (x, method) => array(x.shape, x.data.map(method ? even : away)),
  reduce_sum: reduced((row) => row.reduce(sum, 0)), reduce_max: reduced((row) => row.reduce(larger)),
  reduce_min: reduced((row) => row.reduce(smaller)), transpose: ordered, broadcast_in_dim: spread,
  argmax: reduced((row) => Math.max(row.findIndex(Number.isNaN), row.indexOf(row.reduce(larger)))),
  dot_general: product,
  constant: (shape, data) => array(shape, Float64Array.from(data, Number)),
  reshape: (x, shape) => array(shape, x.data),
  squeeze: (x, axes) => array(x.shape.filter((_, k) => !axes.includes(k)), x.data),
  iota: (shape, axis) => spread(array([shape[axis]], [...Array(shape[axis]).keys()]), shape, [axis]),
};

function run({ lines, outputs }, inputs, wanted = Object.keys(outputs)) { // {name: array} → {name: array}
  const known = { ...inputs }, needed = new Set(wanted.map((name) => outputs[name]));
  for (const [name, , operands] of [...lines].reverse()) // what it takes is needed, too
    if (needed.has(name)) operands.forEach((x) => needed.add(x));
  const read = (x) => (typeof x === "number" ? array([], Float64Array.of(x)) : known[x]);
  for (const [name, primitive, operands, settings] of lines)
    if (needed.has(name)) known[name] = PRIMITIVES[primitive](...operands.map(read), ...settings);
  return Object.fromEntries(wanted.map((name) => [name, read(outputs[name])]));
}
