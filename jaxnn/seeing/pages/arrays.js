"use strict";
// Arrays {shape, data}, and the primitives of a program that seeing/program.py printed.

const size = (shape) => shape.reduce((a, b) => a * b, 1);
const array = (shape, data) => ({ shape, data: data || new Float64Array(size(shape)) });
const strides = (shape) => shape.map((_, k) => size(shape.slice(k + 1)));

// numbers that are in the page as base64
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const floats = (text) => Float64Array.from(new Float32Array(bytes(text).buffer));

function mapped(f) { // entry by entry; an axis of one goes along with any other
  return (_, ...given) => {
    const whole = given.reduce((a, b) => (b.shape.length > a.shape.length ? b : a)).shape;
    const out = array(whole.map((_, k) => Math.max(...given.map((x) => x.shape[k] ?? 1))));
    const same = (x) => x.data.length === 1 || x.data.length === out.data.length;
    const spread = (x) => moved(out.shape, x, along(x, x.shape.map((_, k) => k), out.shape));
    const [a, b, c] = given.map((x) => (same(x) ? x : spread(x)).data), [i, j, k] = given.map((x) => +(x.data.length > 1));
    if (!b) for (let n = 0; n < out.data.length; n++) out.data[n] = f(a[i * n]);
    else if (!c) for (let n = 0; n < out.data.length; n++) out.data[n] = f(a[i * n], b[j * n]);
    else for (let n = 0; n < out.data.length; n++) out.data[n] = f(a[i * n], b[j * n], c[k * n]);
    return out;
  };
}

function along(x, axes, shape) { // the steps in x of each axis of a shape, of which `axes` are those of x
  const at = shape.map(() => 0), own = strides(x.shape);
  axes.forEach((axis, k) => { if (x.shape[k] > 1) at[axis] = own[k]; });
  return at;
}

function moved(shape, x, at, place = 0) { // out[index] = x.data[place + Σ index · at]
  const out = array(shape), index = shape.map(() => 0);
  for (let n = 0; n < out.data.length; n++) {
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

function ordered(axes, x) { // x with its axes in this order
  if (axes.every((axis, k) => axis === k)) return x;
  const at = strides(x.shape);
  return moved(axes.map((k) => x.shape[k]), x, axes.map((k) => at[k]));
}

function rows(axes, x) { // these axes last, as the rows of a matrix
  const kept = x.shape.map((_, k) => k).filter((k) => !axes.includes(k));
  const shape = kept.map((k) => x.shape[k]), length = size(axes.map((k) => x.shape[k]));
  return { shape, length, data: ordered([...kept, ...axes], x).data };
}

function reduced(f) { // each row along the axes becomes one number
  return (axes, x) => {
    const { shape, length, data } = rows(axes, x), out = array(shape);
    for (let n = 0; n < out.data.length; n++) out.data[n] = f(data.subarray(n * length, (n + 1) * length));
    return out;
  };
}

function product([[over, other], batch], x, y) { // Σ over an axis of each
  if (batch[0].length || over.length !== 1) throw Error("dot_general: expected one axis of each");
  const a = rows(over, x), b = rows(other, y), out = array([...a.shape, ...b.shape]), m = a.length;
  const columns = size(b.shape);
  for (let n = 0; n < out.data.length; n++) {
    const i = Math.floor(n / columns) * m, j = (n % columns) * m;
    let sum = 0;
    for (let k = 0; k < m; k++) sum += a.data[i + k] * b.data[j + k];
    out.data[n] = sum;
  }
  return out;
}

function erfc(x) {
  const x2 = x * x;
  if (Math.abs(x) < 2) { // 1 − erf: e^−x² 2/√π Σ 2ⁿ x²ⁿ⁺¹ / (2n + 1)!!
    let sum = x, term = x;
    for (let n = 1; n < 60; n++) sum += term *= (2 * x2) / (2 * n + 1);
    return 1 - ((2 * Math.exp(-x2)) / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0; // Laplace's continued fraction
  for (let k = 120; k > 0; k--) fraction = k / 2 / (Math.abs(x) + fraction);
  const tail = Math.exp(-x2) / Math.sqrt(Math.PI) / (Math.abs(x) + fraction);
  return x < 0 ? 2 - tail : tail;
}

const even = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
const away = (x) => Math.sign(x) * Math.round(Math.abs(x));
const sum = reduced((row) => { let s = 0; for (const x of row) s += x; return s; });
const most = (row) => row.reduce((a, b) => Math.max(a, b));
const least = (row) => row.reduce((a, b) => Math.min(a, b));

const PRIMITIVES = {
  add: mapped((a, b) => a + b), sub: mapped((a, b) => a - b), mul: mapped((a, b) => a * b),
  div: mapped((a, b) => a / b), pow: mapped(Math.pow), max: mapped(Math.max), min: mapped(Math.min),
  neg: mapped((a) => -a), abs: mapped(Math.abs), sign: mapped(Math.sign), square: mapped((a) => a * a),
  sqrt: mapped(Math.sqrt), floor: mapped(Math.floor), trunc: mapped(Math.trunc), exp: mapped(Math.exp),
  expm1: mapped(Math.expm1), log: mapped(Math.log), log1p: mapped(Math.log1p), tanh: mapped(Math.tanh),
  logistic: mapped((a) => 1 / (1 + Math.exp(-a))), erfc: mapped(erfc), is_finite: mapped(Number.isFinite),
  eq: mapped((a, b) => a === b), ne: mapped((a, b) => a !== b), lt: mapped((a, b) => a < b),
  le: mapped((a, b) => a <= b), gt: mapped((a, b) => a > b), ge: mapped((a, b) => a >= b),
  and: mapped((a, b) => a && b), or: mapped((a, b) => a || b), not: mapped((a) => !a),
  select_n: mapped((p, no, yes) => (p ? yes : no)), clamp: mapped((a, x, b) => Math.min(Math.max(x, a), b)),
  integer_pow: (y, x) => array(x.shape, x.data.map((a) => a ** y)),
  round: (method, x) => array(x.shape, x.data.map(method ? even : away)),
  reduce_sum: sum, reduce_max: reduced(most), reduce_min: reduced(least),
  argmax: reduced((row) => row.indexOf(most(row))), dot_general: product, transpose: ordered,
  reshape: (shape, x) => array(shape, x.data),
  iota: ([shape, axis]) =>
    moved(shape, { data: [...Array(shape[axis]).keys()] }, shape.map((_, k) => +(k === axis))),
  broadcast_in_dim: ([shape, axes], x) => moved(shape, x, along(x, axes, shape)),
};

function run(program, inputs) { // {name: array} → {name: array}
  const known = { ...inputs };
  for (const [name, [shape, data]] of Object.entries(program.constants))
    known[name] = array(shape, Float64Array.from(data, Number));
  const read = (x) => (typeof x === "number" ? array([], Float64Array.of(x)) : known[x]);
  for (const [name, primitive, operands, settings] of program.lines)
    known[name] = PRIMITIVES[primitive](settings, ...operands.map(read));
  return Object.fromEntries(Object.entries(program.outputs).map(([name, x]) => [name, read(x)]));
}
