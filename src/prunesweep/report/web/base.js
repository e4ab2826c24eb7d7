"use strict";
// Everything that comes from data is set as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const tip = document.getElementById("tip");

const fill = (node, attributes, children) => {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
  }
  for (const child of children.flat(Infinity)) if (child !== null && child !== undefined) node.append(child);
  return node;
};
const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes = {}, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// ---- numbers

const known = (value) => value !== null && value !== undefined;
// As Python's, so that page and terminal agree: of two numbers equally near, the even one.
const rounded = (value, digits) => {
  const exact = Math.abs(value).toFixed(60);
  const kept = exact.slice(0, exact.indexOf(".") + digits + 1);
  const tied = /^50*$/.test(exact.slice(kept.length)) && "02468".includes(kept.at(-1));
  return tied ? (value < 0 ? "-" : "") + kept : value.toFixed(digits);
};
const fixed = (value, digits = 3) => (known(value) ? rounded(value, digits) : "n/a");
const signed = (value, digits = 3) => (known(value) ? (value >= 0 ? "+" : "−") + rounded(Math.abs(value), digits) : "n/a");
const prefixed = (value, unit) => {
  if (!known(value)) return "n/a";
  for (const [factor, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (value >= factor) return `${(value / factor).toPrecision(3)} ${prefix}${unit}`;
  return `${Number(value.toPrecision(3))} ${unit}`;
};
const costText = (value, axis) => (!known(value) ? "n/a" : axis.ratio ? fixed(value) + "x" : prefixed(value, axis.unit));
const pText = (p) => (!known(p) ? "n/a" : p < 1e-12 ? "< 1e-12" : p < 0.001 ? p.toExponential(1) : p.toPrecision(2));
const pSaid = (p) => (known(p) && p < 1e-12 ? `p ${pText(p)}` : `p = ${pText(p)}`);
const shareText = (value) => (known(value) ? `${(100 * value).toFixed(1)} %` : "n/a");
const accuracyText = (t) => {
  if (!t.samples) return "no answer";
  if (!known(t.error) && t.accuracy !== 0 && t.accuracy !== 1) return `${fixed(t.accuracy)} ± n/a (n=${t.samples})`;
  return known(t.error)
    ? `${fixed(t.accuracy)} ± ${fixed(t.error)} (n=${t.samples})`
    : `${fixed(t.accuracy)} [${fixed(t.low)}, ${fixed(t.high)}] (n=${t.samples})`;
};
const againstText = (a) => (a ? `${signed(a.mean)} (${signed(a.low)} to ${signed(a.high)})` : "–");
const taskOf = ([accuracy, error, low, high, samples]) => ({ accuracy, error, low, high, samples });
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
const clipped = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const range = (values) => { const all = values.filter(known); return [Math.min(...all), Math.max(...all)]; };

// ---- axes

const ticks = (low, high, count = 6) => {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((v) => v >= raw);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) found.push(Number(v.toPrecision(12)));
  return found;
};
const logTicks = (low, high) => {
  const found = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
    for (const m of [1, 2, 5]) { const v = m * 10 ** e; if (v >= low * 0.999 && v <= high * 1.001) found.push(Number(v.toPrecision(6))); }
  return found;
};

// ---- marks: a colour and a shape per method, each once in a chart; more methods than colours share grey, named on hover

const SHAPES = [
  (r) => s("circle", { r }),
  (r) => s("rect", { x: -r, y: -r, width: 2 * r, height: 2 * r }),
  (r) => s("path", { d: `M0 ${-r * 1.25} L${r * 1.15} ${r} L${-r * 1.15} ${r} Z` }),
  (r) => s("path", { d: `M0 ${r * 1.25} L${r * 1.15} ${-r} L${-r * 1.15} ${-r} Z` }),
  (r) => s("path", { d: `M${-r} ${-r / 3}H${-r / 3}V${-r}H${r / 3}V${-r / 3}H${r}V${r / 3}H${r / 3}V${r}H${-r / 3}V${r / 3}H${-r}Z` }),
  (r) => s("path", { d: `M${-r} 0 L${-r / 2} ${-r} H${r / 2} L${r} 0 L${r / 2} ${r} H${-r / 2} Z` }),
  (r) => s("path", { d: `M0 ${-r * 1.2} L${r * 1.2} ${-r * 0.3} L${r * 0.75} ${r} L${-r * 0.75} ${r} L${-r * 1.2} ${-r * 0.3} Z` }),
];
const DENSE = "none", OTHERS = "other methods";
const diamond = (r) => s("path", { d: `M0 ${-r * 1.4} L${r * 1.4} 0 L0 ${r * 1.4} L${-r * 1.4} 0 Z` });
const looksOf = (group) => {
  const best = new Map();
  for (const t of group.trials) {
    const on = group.axes[group.cost].on[t.index] ? 2 : 0;
    if (t.reducer !== DENSE && t.samples) best.set(t.reducer, Math.max(best.get(t.reducer) ?? -1, on + t.accuracy));
  }
  const ranked = [...best.keys()].sort((a, b) => best.get(b) - best.get(a) || (a < b ? -1 : 1));
  const looks = new Map(ranked.slice(0, SHAPES.length).map((name, i) => [name, { name, colour: `var(--c${i})`, shape: SHAPES[i] }]));
  if (group.trials.some((t) => t.reducer === DENSE)) looks.set(DENSE, { name: "none (dense)", colour: "var(--ink)", shape: diamond });
  if (ranked.length > SHAPES.length) looks.set(OTHERS, { name: `${ranked.length - SHAPES.length} other methods`, colour: "var(--grey)", shape: SHAPES[0] });
  return { all: [...looks.values()], of: (t) => looks.get(t.reducer) ?? looks.get(OTHERS) };
};
const mark = (look, r) => fill(look.shape(r), { class: "mark", fill: look.colour }, []);

// ---- hovering

const showTip = (text, x, y) => {
  tip.textContent = text;
  tip.hidden = false;
  const width = tip.offsetWidth, height = tip.offsetHeight;
  const left = Math.min(Math.max(8, x + 14), document.documentElement.clientWidth - width - 8);
  tip.style.left = `${left + window.scrollX}px`;
  tip.style.top = `${(y - height - 12 < 4 ? y + 18 : y - height - 12) + window.scrollY}px`;
};
const hideTip = () => { tip.hidden = true; };
const above = (event, text) => { const box = event.currentTarget.getBoundingClientRect(); showTip(text, box.left, box.top); };
const hints = (text) => ({
  onpointerenter: (event) => above(event, text), onpointerleave: hideTip,
  onfocus: (event) => above(event, text), onblur: hideTip, onclick: (event) => above(event, text),
});

// Terms of data.terms in a text become words that explain themselves; longer ones first, each once in a text.
const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const TERM = new RegExp(`(?<![\\w-])(${Object.keys(data.terms).sort((a, b) => b.length - a.length).map(escaped).join("|")})(?![\\w-])`, "g");
const term = (word, shown = word) => h("span", { class: "term", tabindex: 0, role: "note", "aria-label": `${shown}: ${data.terms[word]}`, ...hints(data.terms[word]) }, shown);
const explained = (text) => {
  const seen = new Set();
  return text.split(TERM).map((part, i) => {
    if (i % 2 === 0 || seen.has(part)) return part;
    seen.add(part);
    return term(part);
  });
};

// ---- parts of the page

const anchors = [];
const section = (title, note, ...children) => {
  const id = title.toLowerCase().replace(/[^a-z]+/g, "-");
  anchors.push([id, title]);
  return h("section", { id, "aria-label": title }, h("h2", {}, title), note ? h("p", { class: "note" }, explained(note)) : null, ...children);
};
const pairs = (rows, kind = "small") => h("table", { class: kind }, h("tbody", {}, rows.filter(known).map(([k, v]) => h("tr", {}, h("td", {}, typeof k === "string" ? explained(k) : k), h("td", {}, v)))));
const folded = (title, ...children) => h("details", { class: "folded" }, h("summary", {}, title), ...children);
const isNarrow = () => document.documentElement.clientWidth < 620;
