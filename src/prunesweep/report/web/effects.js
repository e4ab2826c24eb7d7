// Settings: their effects on one scale, pairs of them, and lines through them.

const shade = (share) => {  // cividis, from Nunez, Anderton and Renslow (2018), five stops
  const stops = [[0, 34, 78], [66, 78, 108], [124, 123, 120], [187, 173, 109], [254, 232, 56]];
  const at = Math.min(3.999, Math.max(0, share * 4)), i = Math.floor(at);
  const colour = stops[i].map((c, k) => Math.round(c + (stops[i + 1][k] - c) * (at - i)));
  const bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 128;
  return { background: `rgb(${colour.join(" ")})`, ink: bright ? "#111" : "#fff" };
};

// Rows of one chart: a setting's name and what is known of it, then a dot with its interval for each of its values.
const effectChart = (effects, [x0, x1], narrow) => {
  const W = narrow ? 400 : 900, left = narrow ? 84 : 150, right = 16, row = 24, head = 30, top = 22;
  const H = top + effects.reduce((sum, e) => sum + head + row * e.levels.length, 0) + 10;
  const X = (v) => left + ((v - x0) / (x1 - x0)) * (W - left - right);
  const root = s("svg", { viewBox: `0 0 ${W} ${H}`, class: "effects", role: "img", "aria-label": effects.map((e) => `${e.name}: ${e.levels.map((l) => `${l.value} ${fixed(l.accuracy)} (${fixed(l.low)} to ${fixed(l.high)})`).join(", ")}`).join("; ") });
  for (const v of ticks(x0, x1, narrow ? 4 : 8)) root.append(s("line", { class: "grid", x1: X(v), x2: X(v), y1: top - 4, y2: H - 8 }), s("text", { class: "soft", x: X(v), y: 12, "text-anchor": "middle" }, v.toFixed(2)));
  let y = top;
  for (const e of effects) {
    const share = known(e.share) ? `, importance ${Math.round(100 * e.share)} %` : "";
    const said = narrow ? `${(100 * e.range).toFixed(1)} points, ${pSaid(e.p)}` : `moves accuracy by ${(100 * e.range).toFixed(1)} points, ${known(e.p) ? pSaid(e.p) : "no test possible"}${share}`;
    root.append(s("text", { class: "strong halo", x: 4, y: y + 19 }, clipped(e.name, narrow ? 22 : 40), s("tspan", { class: "soft plain", dx: 10 }, said)));
    y += head;
    const middle = (l) => y + row * (e.levels.indexOf(l) + 0.5);
    root.append(s("polyline", { class: "path", points: e.levels.map((l) => `${X(l.accuracy)},${middle(l)}`).join(" ") }));
    for (const l of e.levels) {
      const at = middle(l);
      root.append(s("text", { class: "soft", x: left - 10, y: at + 4, "text-anchor": "end" }, clipped(l.value, narrow ? 11 : 20)));
      if (known(l.low)) root.append(s("line", { class: "interval", x1: X(l.low), x2: X(l.high), y1: at, y2: at }));
      root.append(s("circle", { class: "dot", cx: X(l.accuracy), cy: at, r: 4.5 }, s("title", {}, `${e.name}=${l.value}: ${fixed(l.accuracy)} (95 % interval ${fixed(l.low)} to ${fixed(l.high)})`)));
    }
    y += row * e.levels.length;
  }
  return root;
};

const cell = (value, low, high, title, small) => {
  if (!known(value)) return h("td", { class: "none" }, "–");
  const look = shade((value - low) / (high - low || 1));
  const node = h("td", { title }, fixed(value, 2), small ? h("small", {}, small) : null);
  node.style.background = look.background;
  node.style.color = look.ink;
  return node;
};
const jointPanel = (joint, low, high) => {
  const find = (a, b) => joint.cells.find((c) => c.first === a && c.second === b);
  const shown = (c) => cell(c ? c.accuracy : null, low, high, c ? plural(c.trials, "trial") : "", c && known(c.low) ? `${fixed(c.low, 2)}–${fixed(c.high, 2)}` : "");
  return h("div", { class: "panel" }, h("h4", {}, `${joint.names[0]} × ${joint.names[1]}`),
    h("p", { class: "note" }, known(joint.p) ? `interaction ${pSaid(joint.p)} (Holm)` : "too few combinations were tried to test the interaction"),
    h("div", { class: "scroll" }, h("table", { class: "heat small" }, h("thead", {}, h("tr", {}, h("th", {}), h("th", { colspan: joint.second.length }, joint.names[1])), h("tr", {}, h("th", {}, joint.names[0]), joint.second.map((b) => h("th", {}, b)))),
      h("tbody", {}, joint.first.map((a) => h("tr", {}, h("td", {}, a), joint.second.map((b) => shown(find(a, b)))))))));
};

const withPad = ([low, high]) => { const pad = (high - low) * 0.04 || 0.02; return [Math.max(0, low - pad), Math.min(1, high + pad)]; };
const effectsOf = (a, scale, narrow) => {
  const sure = a.main.filter((e) => e.significant), quiet = a.main.filter((e) => !e.significant);
  const joint = a.joint.filter((j) => j.significant), rest = a.joint.filter((j) => !j.significant);
  const [low, high] = range(a.joint.flatMap((j) => j.cells.map((c) => c.accuracy)));
  const panels = (some) => h("div", { class: "panels" }, some.map((j) => jointPanel(j, low, high)));
  const what = a.importance ? ", sorted by importance" : ", sorted by range";
  return [h("h3", {}, a.reducer), h("p", { class: "note" }, `${plural(a.trials, "trial")}, n = ${a.samples} questions on ${plural(a.videos, "video")}${what}`),
    sure.length ? effectChart(sure, scale, narrow) : h("p", {}, a.main.length ? "No setting has a significant effect." : "These trials tell no setting's effect apart."),
    quiet.length ? folded(`${plural(quiet.length, "setting")} without a significant effect: ${quiet.map((e) => e.name).join(", ")}`, effectChart(quiet, scale, narrow)) : null,
    joint.length ? panels(joint) : null,
    rest.length ? folded(`${plural(rest.length, "pair")} of settings without a significant interaction`, panels(rest)) : null];
};
const ablations = (group, narrow) => {
  const levels = group.ablations.flatMap((a) => a.main.flatMap((e) => e.levels.flatMap((l) => [l.low, l.high, l.accuracy])));
  const scale = levels.length ? withPad(range(levels)) : [0, 1];
  return section("Which settings matter", "Mean accuracy at each value over the values of the other settings, on the questions that all trials of the method answered. One scale for all; bars are 95 % intervals; p is paired and Holm-corrected. Importance is the share of accuracy's variance that a setting explains alone (fANOVA).",
    group.ablations.map((a) => effectsOf(a, scale, narrow)));
};

const parallelChart = (view, one) => {
  const { group } = view;
  const gap = Math.max(130, Math.min(220, 1000 / (one.axes.length - 1))), W = gap * (one.axes.length - 1) + 170, H = 300, left = 50, top = 34, bottom = 20;
  const X = (i) => left + gap * i, Y = (v) => H - bottom - v * (H - top - bottom);
  const own = one.trials.map((i) => group.trials[i]), [low, high] = range(own.map((t) => t.accuracy));
  const root = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": `${one.reducer}: ${plural(own.length, "trial")}`, style: `min-width:${Math.min(W, 560)}px;max-width:${W}px` });
  const lines = own.map((t, i) => ({ t, places: one.lines[i] })).sort((a, b) => a.t.accuracy - b.t.accuracy);
  for (const { t, places } of lines) {
    const points = places.map((v, i) => (known(v) ? `${X(i)},${Y(v)}` : null)).filter(known).join(" ");
    const show = (event) => showTip(tipOf(view, t), event.clientX, event.clientY);
    root.append(s("g", { class: "line", "data-trial": t.index, onpointerenter: show, onpointermove: show, onpointerleave: hideTip, onclick: () => { view.choose(t); view.details.scrollIntoView({ block: "center" }); } },
      s("polyline", { class: "hit", points }), s("polyline", { class: "stroke", points, style: `stroke:${shade((t.accuracy - low) / (high - low || 1)).background}` })));
  }
  one.axes.forEach((axis, i) => root.append(s("line", { class: "axis", x1: X(i), x2: X(i), y1: top, y2: H - bottom }), s("text", { x: X(i), y: 16, "text-anchor": "middle" }, clipped(axis.name, 20)),
    ...axis.ticks.map(([v, text]) => s("text", { class: "soft halo", x: X(i) + 6, y: Y(v) - 4 }, text))));
  return root;
};
const parallel = (view) => section("Lines through the settings", "A line per trial through its settings to its cost and accuracy: the yellower, the more accurate. Hover to see a trial, click it for its details above.",
  view.group.parallel.map((one) => [h("h3", {}, one.reducer), one.left ? h("p", { class: "note" }, `The ${one.lines.length} most accurate trials; ${one.left} others are in the table.`) : null, h("div", { class: "scroll" }, parallelChart(view, one))]));
