// Accuracy against cost: every trial a point that takes the mouse and the keyboard, the front as a line of steps.

const MANY = 40, CROWD = 200; // of more trials, only those that matter have a bar; or are large
const tipOf = (view, t) => {
  const axis = view.group.axes[view.axis], p = axis.probability[t.index];
  return [
    `#${t.number} ${t.name}`,
    t.label ? `this is the ${t.label === "dense" ? "dense model" : t.label}` : null,
    t.stopped ? "stopped early: never on the front" : null,
    `accuracy ${accuracyText(t)}`,
    `95 % interval ${fixed(t.low)} to ${fixed(t.high)}`,
    `${axis.short}: ${costText(t.costs[view.axis], axis)}`,
    known(p) ? `on the front in ${Math.round(100 * p)} % of the draws` : null,
    t.against ? `against dense ${againstText(t.against)}${t.stands ? `: ${t.stands}` : ""}` : null,
  ].filter(known).join("\n");
};

const scales = (view, shown) => {
  const [W, H] = view.narrow ? [430, 400] : [820, 500];
  const box = { W, H, left: 56, right: 18, top: 16, bottom: 52 };
  let [x0, x1] = range(shown.map((t) => t.costs[view.axis]));
  const log = view.log !== null ? view.log && x0 > 0 : x0 > 0 && x1 > 4 * x0;
  if (log) { const pad = Math.max((x1 / x0) ** 0.05, 1.05); x0 /= pad; x1 *= pad; } else { const pad = (x1 - x0) * 0.05 || Math.abs(x1) * 0.1 || 1; x0 -= pad; x1 += pad; }
  const barred = shown.filter((t) => hasBar(view, t));
  let [y0, y1] = range([...shown.map((t) => t.accuracy), ...barred.flatMap((t) => [t.low, t.high])]);
  const pad = (y1 - y0) * 0.05 || 0.05; y0 = Math.max(0, y0 - pad); y1 = Math.min(1, y1 + pad);
  if (y1 <= y0) y1 = y0 + 0.1;
  const X = (v) => box.left + (log ? Math.log(v / x0) / Math.log(x1 / x0) : (v - x0) / (x1 - x0)) * (W - box.left - box.right);
  const Y = (v) => H - box.bottom - ((Math.min(y1, Math.max(y0, v)) - y0) / (y1 - y0)) * (H - box.top - box.bottom);
  return { ...box, X, Y, yTicks: ticks(y0, y1), xTicks: log ? logTicks(x0, x1) : ticks(x0, x1, view.narrow ? 4 : 6) };
};

const hasBar = (view, t) => {
  if (!known(t.low) || view.bars === "none") return false;
  if (view.bars === "all") return true;
  return view.group.axes[view.axis].on[t.index] || t.label || view.chosen === t;
};

const grid = (at, axis, label) => {
  const bottom = at.H - at.bottom, right = at.W - at.right, middle = (at.top + bottom) / 2;
  return s("g", { "aria-hidden": "true" },
    at.yTicks.map((v) => [s("line", { class: "grid", x1: at.left, x2: right, y1: at.Y(v), y2: at.Y(v) }), s("text", { class: "soft", x: at.left - 8, y: at.Y(v) + 4, "text-anchor": "end" }, v.toFixed(2))]),
    at.xTicks.map((v) => [s("line", { class: "tick", x1: at.X(v), x2: at.X(v), y1: bottom, y2: bottom + 4 }), s("text", { class: "soft", x: at.X(v), y: bottom + 18, "text-anchor": "middle" }, axis.ratio ? `${v}x` : prefixed(v, axis.unit))]),
    s("line", { class: "axis", x1: at.left, x2: right, y1: bottom, y2: bottom }),
    s("text", { x: (at.left + right) / 2, y: at.H - 10, "text-anchor": "middle" }, label),
    s("text", { x: 15, y: middle, "text-anchor": "middle", transform: `rotate(-90 15 ${middle})` }, "accuracy, bars: 95 % intervals"));
};

const frontOf = (at, f) => {
  if (f.cost.length < 2) return null;
  const path = (values) => f.cost.map((c, i) => `${i ? `H${at.X(c)}V` : `M${at.X(c)} `}${at.Y(values[i])}`).join("");
  const back = f.cost.map((c, i) => ({ x: at.X(c), y: at.Y(f.low[i]) })).reverse();
  const lower = back.map((p, i) => `L${p.x} ${p.y}` + (i < back.length - 1 ? `V${back[i + 1].y}` : "")).join("");
  return [s("path", { class: "band", d: `${path(f.high)}${lower}Z` }), s("path", { class: "front", d: path(f.best) })];
};

// Labels stand where they cover no other label and few points: beside their point, or above or below it.
const labelled = (at, places, points) => {
  const taken = [];
  const hits = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
  return places.map(({ x, y, text, kind }) => {
    const w = text.length * 7.2 + 6, h = 15;
    const spots = [[10, -8], [-w - 10, -8], [-w / 2, -26], [-w / 2, 12], [10, -30], [-w - 10, -30], [10, 14], [-w - 10, 14], [18, -52], [-w - 18, -52], [18, 38]];
    const cost = ([dx, dy]) => {
      const b = { x: x + dx, y: y + dy, w, h };
      const outside = b.x < at.left || b.x + w > at.W || b.y < 0 || b.y + h > at.H - at.bottom;
      return (outside ? 1000 : 0) + taken.filter((o) => hits(o, b)).length * 100 + points.filter((p) => hits({ x: p.x - 6, y: p.y - 6, w: 12, h: 12 }, b)).length;
    };
    const [dx, dy] = spots.reduce((best, spot) => (cost(spot) < cost(best) ? spot : best));
    taken.push({ x: x + dx, y: y + dy, w, h });
    const far = Math.abs(dy) > 24;
    return [far ? s("line", { class: "leader", x1: x, y1: y, x2: x + dx + (dx < 0 ? w - 4 : 2), y2: y + dy + h / 2 }) : null,
      s("text", { class: `name halo ${kind}`, x: x + dx + 3, y: y + dy + 12 }, text)];
  });
};

const pointOf = (view, t, x, y, at) => {
  const axis = view.group.axes[view.axis], look = view.looks.of(t);
  const show = (event) => { const box = event.currentTarget.getBoundingClientRect(); showTip(tipOf(view, t), box.left + box.width / 2, box.top); };
  const node = s("g", {
    class: `point${axis.on[t.index] || t.label ? "" : " off"}${t.stopped ? " stopped" : ""}`, tabindex: view.focus === t ? 0 : -1, role: "button",
    transform: `translate(${x} ${y})`, "data-trial": t.index, "aria-pressed": String(view.chosen === t), "aria-label": tipOf(view, t).replaceAll("\n", ", "),
    onpointerenter: show, onpointerleave: hideTip, onfocus: show, onblur: hideTip, onclick: () => view.choose(t),
  });
  if (hasBar(view, t)) node.append(s("line", { class: "bar", stroke: look.colour, x1: 0, x2: 0, y1: at.Y(t.low) - y, y2: at.Y(t.high) - y }));
  node.append(s("circle", { class: "hit", r: 11 }), mark(look, t.stopped ? 3 : view.drawn.length > CROWD && node.classList.contains("off") ? 3.2 : 5.5));
  return node;
};

// One stop for the Tab key; arrows go from point to point by cost, Enter chooses.
const keys = (view, ordered, event) => {
  const here = ordered.findIndex((t) => String(t.index) === event.target.closest(".point")?.dataset.trial);
  const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
  const last = ordered.length - 1;
  const to = step ? Math.min(last, Math.max(0, here + step)) : { Home: 0, End: last }[event.key];
  if (here < 0) return;
  if (event.key === "Escape") hideTip();
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); view.choose(ordered[here]); view.chart.querySelector(`.point[data-trial="${ordered[here].index}"]`)?.focus(); }
  if (!known(to)) return;
  event.preventDefault();
  view.focus = ordered[to];
  for (const point of view.chart.querySelectorAll(".point")) point.setAttribute("tabindex", Number(point.dataset.trial) === ordered[to].index ? 0 : -1);
  view.chart.querySelector(`.point[data-trial="${ordered[to].index}"]`).focus();
};

const drawChart = (view) => {
  const { group } = view, axis = group.axes[view.axis];
  const shown = view.drawn.filter((t) => known(t.costs[view.axis]));
  if (!shown.length) { view.chart.replaceChildren(h("p", { class: "note" }, "No trial has this cost.")); return; }
  const at = scales(view, shown), xy = (t) => ({ x: at.X(t.costs[view.axis]), y: at.Y(t.accuracy) });
  const ordered = shown.slice().sort((a, b) => a.costs[view.axis] - b.costs[view.axis] || a.index - b.index);
  if (!shown.includes(view.focus)) view.focus = ordered[0];
  const label = view.narrow ? axis.short : axis.label;
  const root = s("svg", { viewBox: `0 0 ${at.W} ${at.H}`, role: "group", "aria-label": `Accuracy against ${axis.label}: ${plural(shown.length, "trial")}; arrow keys go from one to the next`, onkeydown: (event) => keys(view, ordered, event) });
  root.append(grid(at, axis, label), ...(frontOf(at, axis.front) ?? []));
  const rank = (t) => (view.chosen === t ? 3 : t.label ? 2 : axis.on[t.index] ? 1 : 0);
  root.append(s("g", {}, shown.slice().sort((a, b) => rank(a) - rank(b)).map((t) => pointOf(view, t, xy(t).x, xy(t).y, at))));
  const names = shown.filter((t) => t.label).map((t) => ({ ...xy(t), text: t.label, kind: "" }));
  if (view.chosen && shown.includes(view.chosen)) {
    const t = view.chosen, known = names.find((n) => n.x === xy(t).x && n.y === xy(t).y);
    if (known) Object.assign(known, { text: `${known.text} #${t.number}`, kind: "chosen" });
    else names.unshift({ ...xy(t), text: `#${t.number}`, kind: "chosen" });
  }
  root.append(s("g", { class: "names", "aria-hidden": "true" }, labelled(at, names, shown.map(xy))));
  view.chart.replaceChildren(root);
};

const chartTools = (view) => {
  const { group } = view;
  const choice = (id, name, options, now, change) => h("label", {}, `${name} `, h("select", { id, onchange: (e) => { change(e.target.value); view.update(); } },
    options.map(([value, shown]) => h("option", { value, selected: value === now ? "" : null }, shown))));
  return h("div", { class: "tools" },
    choice("axis", "cost", Object.entries(group.axes).map(([key, axis]) => [key, axis.short]), view.axis, (v) => { view.axis = v; view.log = null; }),
    choice("scale", "scale", ["auto", "log", "linear"].map((v) => [v, v]), "auto", (v) => { view.log = { auto: null, log: true, linear: false }[v]; }),
    choice("bars", "intervals", [["all", "of all"], ["front", "of the front"], ["none", "none"]], view.bars, (v) => { view.bars = v; }));
};

const legend = (view) => h("div", { class: "legend" },
  view.looks.all.map((look) => h("span", {}, s("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, mark(look, 5.5)), look.name)),
  h("span", {}, s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, s("rect", { class: "band", width: 16, height: 16 }), s("path", { class: "front", d: "M0 8H16" })), ...explained("Pareto front"), `, with 95 % of it over ${data.replicates} draws of the videos; pale: not on it`));
