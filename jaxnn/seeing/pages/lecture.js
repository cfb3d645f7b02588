"use strict";
const asked = JSON.parse(document.getElementById("data").textContent);
const sections = [...document.querySelectorAll("section")];
const links = [...document.querySelectorAll(".rail a")];
const [back, on] = ["back", "on"].map(id => document.getElementById(id));
let at = 0;

// What is wrong with an answer, or "" if it is right.
const judge = {
  shapes(text, [shape, rules]) {
    text = text.replace(/\b(\d{1,3}),(\d{3})\b(?=\D+\d)/g, "$1$2"); // 60,000, 784
    const sizes = /^[0-9\s,;x×()[\]]{1,40}$/.test(text) ? (text.match(/[0-9]+/g) ?? []).map(Number) : [];
    const fits = ([p]) => p.length === sizes.length && p.every((size, k) => (size ?? sizes[k]) === sizes[k]);
    return [[shape, ""], ...rules].find(fits)?.[1] ?? asked.how;
  },
  steps(text, [right, [i, j], mistakes]) {
    const plain = text.replace("−", "-").replace(",", ".");
    if (!/^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)$/.test(plain)) return "Write a number, such as 0.125 or −0.125.";
    const is = value => Math.abs(plain - value) <= asked.within;
    if (is(right[i][j])) return "";
    const made = mistakes.find(([, wrong]) => is(wrong[i][j]));
    if (made) return `Not yet. This is what comes out when ${made[0]}.`;
    for (const [k, row] of right.entries()) {
      const l = row.findIndex(is);
      if (l >= 0) return `Not yet. This is the entry in row ${k + 1}, column ${l + 1}.`;
    }
    const decimals = plain.split(".")[1]?.length ?? 0;
    const close = decimals < 3 && Number(right[i][j].toFixed(decimals)) === Number(plain);
    return close ? "Close. Three decimals are needed." : "Not yet. It is made of what is underlined.";
  },
};

function show(k) {
  at = Math.min(Math.max(k, 0), sections.length - 1);
  sections.forEach((section, k) => { section.hidden = k !== at; });
  links.forEach((link, k) => { link.ariaCurrent = k === at ? "step" : null; });
  back.disabled = at === 0;
  on.disabled = at === sections.length - 1;
  scrollTo(0, 0);
}

function turn(by) {
  const next = sections[at + by];
  if (!next) return;
  history.replaceState(null, "", "#" + next.id);
  show(at + by);
}

for (const form of document.querySelectorAll(".ask")) {
  const { kind, name } = form.dataset;
  const [input, said, answer] = [...form.querySelectorAll("input, p"), form.nextElementSibling];
  let tries = 0;
  form.addEventListener("submit", event => {
    event.preventDefault();
    const wrong = judge[kind](input.value.trim().slice(0, 60), asked[kind][name]);
    said.textContent = wrong || "Right.";
    tries += 1;
    answer.open ||= !wrong || (kind === "shapes" && tries === 2);
  });
}
addEventListener("keydown", event => {
  if (event.target.tagName === "INPUT" || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowRight") turn(1);
  if (event.key === "ArrowLeft") turn(-1);
});
back.addEventListener("click", () => turn(-1));
on.addEventListener("click", () => turn(1));
const here = () => sections.findIndex(section => "#" + section.id === location.hash);
addEventListener("hashchange", () => show(here()));
document.documentElement.classList.add("js");
show(here());
