"use strict";
// Everything that comes from data is set as text, never as markup.
(() => {
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

  const known = (value) => value !== null && value !== undefined;
  // As Python's, so that page and terminal agree: of two numbers equally near, the even one.
  const rounded = (value, digits) => {
    const exact = Math.abs(value).toFixed(60);
    const kept = exact.slice(0, exact.indexOf(".") + digits + 1);
    const tied = /^50*$/.test(exact.slice(kept.length)) && "02468".includes(kept.at(-1));
    return tied ? (value < 0 ? "-" : "") + kept : value.toFixed(digits);
  };
  const fixed = (value, digits = 3) => (known(value) ? rounded(value, digits) : "n/a");
  const signed = (value) => (known(value) ? (value >= 0 ? "+" : "−") + rounded(Math.abs(value), 3) : "n/a");
  const prefixed = (value, unit) => {
    if (!known(value)) return "n/a";
    for (const [factor, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (value >= factor) return `${(value / factor).toPrecision(3)} ${prefix}${unit}`;
    return `${Number(value.toPrecision(3))} ${unit}`;
  };
  const costText = (value, axis) => (axis.ratio ? fixed(value) + "x" : prefixed(value, axis.unit));
  const pText = (p) => (!known(p) ? "n/a" : p < 1e-12 ? "< 1e-12" : p < 0.001 ? p.toExponential(1) : p.toPrecision(2));
  const NUMBER_WIDTH = 12; // numbers are text, which sorts as they do once all are as long
  const share = (value) => (known(value) ? `${(100 * value).toFixed(1)} %` : "n/a");
  const accuracyText = (t) => {
    if (!t.samples) return "no answer";
    if (!known(t.error) && t.accuracy !== 0 && t.accuracy !== 1) return `${fixed(t.accuracy)} ± n/a (n=${t.samples})`;
    return known(t.error)
      ? `${fixed(t.accuracy)} ± ${fixed(t.error)} (n=${t.samples})`
      : `${fixed(t.accuracy)} [${fixed(t.low)}, ${fixed(t.high)}] (n=${t.samples})`;
  };

  // Marks: a shape and a colour per reducer, so that neither alone has to tell them apart.
  const SHAPES = [
    (r) => s("circle", { r }),
    (r) => s("rect", { x: -r, y: -r, width: 2 * r, height: 2 * r }),
    (r) => s("path", { d: `M0 ${-r * 1.25} L${r * 1.15} ${r} L${-r * 1.15} ${r} Z` }),
    (r) => s("path", { d: `M0 ${-r * 1.35} L${r * 1.35} 0 L0 ${r * 1.35} L${-r * 1.35} 0 Z` }),
    (r) => s("path", { d: `M0 ${r * 1.25} L${r * 1.15} ${-r} L${-r * 1.15} ${-r} Z` }),
    (r) => s("path", { d: `M${-r} ${-r / 3}H${-r / 3}V${-r}H${r / 3}V${-r / 3}H${r}V${r / 3}H${r / 3}V${r}H${-r / 3}V${r / 3}H${-r}Z` }),
    (r) => s("path", { d: `M${-r} 0 L${-r / 2} ${-r} H${r / 2} L${r} 0 L${r / 2} ${r} H${-r / 2} Z` }),
  ];
  const mark = (index, r) => fill(SHAPES[index % SHAPES.length](r), { class: "mark", fill: `var(--c${index % 7})` }, []);

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

  const showTip = (text, x, y) => {
    tip.textContent = text;
    tip.hidden = false;
    const width = tip.offsetWidth, height = tip.offsetHeight;
    const left = Math.min(Math.max(8, x + 14), document.documentElement.clientWidth - width - 8);
    tip.style.left = `${left + window.scrollX}px`;
    tip.style.top = `${(y - height - 12 < 4 ? y + 18 : y - height - 12) + window.scrollY}px`;
  };
  const hideTip = () => { tip.hidden = true; };

  const section = (title, note, ...children) =>
    h("section", { "aria-label": title }, h("h2", {}, title), note ? h("p", { class: "note" }, note) : null, ...children);

  const pairs = (rows) => h("table", { class: "small" }, h("tbody", {}, rows.map(([k, v]) => h("tr", {}, h("td", {}, k), h("td", {}, v)))));

  const isNarrow = () => document.documentElement.clientWidth < 560;
  let redraw = () => {};
  window.addEventListener("resize", () => redraw());

  // ---- one model and benchmark

  const render = (group) => {
    main.replaceChildren();
    hideTip();
    const reducers = [...new Set(group.trials.map((t) => t.reducer))].sort();
    const look = (t) => reducers.indexOf(t.reducer);
    const state = { axis: group.cost, log: null, bars: true, chosen: null, narrow: isNarrow() };
    const drawn = group.trials.filter((t) => t.samples > 0);

    main.append(words(group));
    if (!drawn.length) {
      main.append(section("Nothing to draw", null, h("p", {}, "No trial has an answer, so there is no accuracy to draw.")));
      if (group.failures.length) main.append(failures(group));
      if (data.notRun.length) main.append(notRun());
      main.append(provenance());
      return;
    }

    const chart = h("div"), details = h("div", { class: "details", id: "details", "aria-live": "polite" });
    const choose = (t) => { state.chosen = t; showDetails(t); update(); };

    const tipText = (t, axis) => {
      const p = axis.probability[t.index];
      return [
        t.name,
        `accuracy ${accuracyText(t)}`,
        `95 % interval ${fixed(t.low)} to ${fixed(t.high)}`,
        `${axis.label}: ${costText(t.costs[state.axis], axis)}`,
        known(p) ? `on the front in ${Math.round(100 * p)} % of the draws` : null,
        t.against ? `against dense ${signed(t.against.mean)} (${signed(t.against.low)} to ${signed(t.against.high)})` : null,
      ].filter(known).join("\n");
    };

    const drawChart = () => {
      const axis = group.axes[state.axis];
      const [W, H] = state.narrow ? [430, 390] : [780, 470];
      const left = 58, right = 16, top = 14, bottom = 52;
      const label = state.narrow ? axis.label.replace(/, relative to .*/, " (of dense)") : axis.label;
      const shown = drawn.filter((t) => known(t.costs[state.axis]));
      const xs = shown.map((t) => t.costs[state.axis]);
      let [x0, x1] = [Math.min(...xs), Math.max(...xs)];
      const log = state.log !== null ? state.log && x0 > 0 : x0 > 0 && x1 > 4 * x0;
      if (log) { const pad = Math.max((x1 / x0) ** 0.05, 1.05); x0 /= pad; x1 *= pad; } else { const pad = (x1 - x0) * 0.05 || Math.abs(x1) * 0.1 || 1; x0 -= pad; x1 += pad; }
      const lows = shown.map((t) => (known(t.low) ? t.low : t.accuracy)), highs = shown.map((t) => (known(t.high) ? t.high : t.accuracy));
      let [y0, y1] = [Math.min(...lows), Math.max(...highs)];
      const padY = (y1 - y0) * 0.05 || 0.05; y0 = Math.max(0, y0 - padY); y1 = Math.min(1, y1 + padY);
      if (y1 <= y0) y1 = y0 + 0.1;
      const X = (v) => left + (log ? Math.log(v / x0) / Math.log(x1 / x0) : (v - x0) / (x1 - x0)) * (W - left - right);
      const Y = (v) => H - bottom - ((Math.min(y1, Math.max(y0, v)) - y0) / (y1 - y0)) * (H - top - bottom);
      const root = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": `Accuracy against ${axis.label}: ${shown.length} trials` });
      for (const v of ticks(y0, y1)) root.append(s("line", { class: "grid", x1: left, x2: W - right, y1: Y(v), y2: Y(v) }), s("text", { class: "soft", x: left - 8, y: Y(v) + 4, "text-anchor": "end" }, v.toFixed(2)));
      for (const v of log ? logTicks(x0, x1) : ticks(x0, x1, state.narrow ? 4 : 6)) root.append(s("line", { class: "grid", x1: X(v), x2: X(v), y1: top, y2: H - bottom }), s("text", { class: "soft", x: X(v), y: H - bottom + 17, "text-anchor": "middle" }, axis.ratio ? `${v}x` : prefixed(v, axis.unit)));
      root.append(s("line", { class: "axis", x1: left, x2: W - right, y1: H - bottom, y2: H - bottom }), s("line", { class: "axis", x1: left, x2: left, y1: top, y2: H - bottom }));
      root.append(s("text", { x: (left + W - right) / 2, y: H - 10, "text-anchor": "middle" }, label), s("text", { x: 16, y: (top + H - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 16 ${(top + H - bottom) / 2})` }, "accuracy, 95 % intervals"));
      const f = axis.front;
      if (f.cost.length > 1) {
        const path = (values) => f.cost.map((c, i) => `${i ? `H${X(c)}V` : `M${X(c)} `}${Y(values[i])}`).join("");
        const back = f.cost.map((c, i) => ({ x: X(c), y: Y(f.low[i]) })).reverse();
        const lower = back.map((p, i) => `L${p.x} ${i ? p.y : p.y}` + (i < back.length - 1 ? `V${back[i + 1].y}` : "")).join("");
        root.append(s("path", { class: "band", d: `${path(f.high)}${lower}Z` }), s("path", { class: "front", d: path(f.best) }));
      }
      const points = s("g");
      for (const t of shown.slice().sort((a, b) => axis.on[a.index] - axis.on[b.index])) {
        const x = X(t.costs[state.axis]), y = Y(t.accuracy), colour = `var(--c${look(t) % 7})`;
        const show = (event) => { const box = event.currentTarget.getBoundingClientRect(); showTip(tipText(t, axis), box.left + box.width / 2, box.top); };
        const node = s("g", {
          class: `point${axis.on[t.index] ? "" : " off"}`, tabindex: 0, role: "button", transform: `translate(${x} ${y})`, "data-trial": t.index,
          "aria-pressed": String(state.chosen === t), "aria-label": tipText(t, axis).replaceAll("\n", ", "),
          onpointerenter: show, onpointerleave: hideTip, onfocus: show, onblur: hideTip, onclick: () => choose(t),
          onkeydown: (event) => {
            if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(t); }
            if (event.key === "Escape") hideTip();
          },
        });
        if (state.bars && known(t.low)) node.append(s("line", { class: "bar", stroke: colour, x1: 0, x2: 0, y1: Y(t.low) - y, y2: Y(t.high) - y }));
        node.append(s("circle", { class: "hit", r: 11 }), mark(look(t), 5.5));
        points.append(node);
      }
      root.append(points);
      chart.replaceChildren(root);
    };

    const showDetails = (t) => {
      if (!t) { details.replaceChildren(h("h3", {}, "Choose a trial"), h("p", { class: "note" }, "Hover or tab to a point to see its numbers; click it, press Enter, or click a row of the table for its configuration, its accuracy by task and the answers that flipped.")); return; }
      const axis = group.axes[state.axis];
      const a = t.against;
      const parts = [
        h("h3", {}, t.name),
        pairs([
          ["#", t.number],
          ["accuracy", accuracyText(t)],
          ["95 % interval", `${fixed(t.low)} to ${fixed(t.high)}`],
          [axis.label, costText(t.costs[state.axis], axis)],
          ["tokens in / at end", `${fixed(t.costs.entrance_ratio)}x / ${fixed(t.costs.final_ratio)}x`],
          ["LLM prefill", prefixed(t.costs.llm_flops, "FLOPs")],
          ["all FLOPs", prefixed(t.costs.total_flops, "FLOPs")],
          ["KV caches", prefixed(t.costs.kv_bytes, "B")],
          ...(t.errors ? [["without an answer", String(t.errors)]] : []),
          ...(known(t.unclear) ? [["no option / several named", `${share(t.unclear)} / ${share(t.ambiguous)}`]] : []),
        ]),
        a ? h("h3", {}, "Against the dense model") : null,
        a ? pairs([
          ["difference, 95 % interval", `${signed(a.mean)} (${signed(a.low)} to ${signed(a.high)})`],
          ["gained / lost answers", `${a.gained} / ${a.lost}`],
          ["p, Holm, FDR", `${pText(a.p)}, ${pText(a.holm)}, ${pText(a.fdr)}`],
          ["exact McNemar p", pText(a.mcnemar)],
        ]) : null,
        t.tasks.length > 1 ? h("h3", {}, "By task") : null,
        t.tasks.length > 1 ? pairs(t.tasks.map((task) => [task.task, accuracyText(task)])) : null,
        t.flips.length ? h("h3", {}, "Flipped answers") : null,
        t.flips.length ? h("table", { class: "small" }, h("thead", {}, h("tr", {}, ["question", "target", "said"].map((c) => h("th", {}, c)))),
          h("tbody", {}, t.flips.map((f) => h("tr", {}, h("td", {}, `${f.gained ? "+" : "−"} ${f.sample}`), h("td", {}, f.target), h("td", {}, f.prediction))))) : null,
        t.more ? h("p", { class: "note" }, `and ${t.more} more flips`) : null,
        h("h3", {}, "Configuration"),
        h("p", {}, h("code", {}, `prunesweep ${t.overrides.join(" ")}`)),
        h("details", {}, h("summary", {}, "all settings"), pairs(Object.entries(t.settings).map(([k, v]) => [k, v === null ? "null" : String(v)]))),
      ];
      details.replaceChildren(...parts.filter(known));
      details.scrollTop = 0;
    };

    const axisChoice = h("select", { id: "axis", onchange: (e) => { state.axis = e.target.value; state.log = null; update(); showDetails(state.chosen); } },
      Object.entries(group.axes).map(([key, axis]) => h("option", { value: key, selected: key === state.axis ? "" : null }, axis.label)));
    const flip = (name, label, checked) => h("label", {}, h("input", { type: "checkbox", checked: checked ? "" : null, onchange: (e) => { state[name] = e.target.checked; update(); } }), ` ${label}`);
    const scale = h("select", { id: "scale", onchange: (e) => { state.log = { auto: null, log: true, linear: false }[e.target.value]; update(); } },
      ["auto", "log", "linear"].map((v) => h("option", { value: v }, v)));
    const legend = h("div", { class: "legend" }, reducers.map((r, i) => h("span", {}, s("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, mark(i, 5.5)), r)),
      h("span", {}, "line: Pareto front; band: 95 % of its best accuracy over draws of the videos; pale: not on the front"));
    main.append(section("Accuracy against cost", "Costs are counted from the recorded tokens of every layer, as if each trial ran alone.",
      h("div", { class: "tools" }, h("label", {}, "cost ", axisChoice), h("label", {}, "scale ", scale), flip("bars", "intervals", true)),
      h("div", { class: "split" }, h("div", {}, chart, legend), details)));

    // trials
    const columns = [
      ["#", (t) => t.number.padStart(NUMBER_WIDTH, "0"), (t) => t.number],
      ["trial", (t) => t.short, (t) => t.short],
      ["front", (t) => group.axes[state.axis].probability[t.index], (t) => fixed(group.axes[state.axis].probability[t.index], 2) + (group.axes[state.axis].on[t.index] ? " ★" : "")],
      ["accuracy ± SE", (t) => t.accuracy, accuracyText],
      ["against dense (95 %)", (t) => (t.against ? t.against.mean : null), (t) => (t.against ? `${signed(t.against.mean)} (${signed(t.against.low)} to ${signed(t.against.high)})` : "–")],
      ["Holm p", (t) => (t.against ? t.against.holm : null), (t) => (t.against ? pText(t.against.holm) : "–")],
      ["tokens at end", (t) => t.costs.final_ratio, (t) => `${fixed(t.costs.final_ratio)}x`],
      ...(group.trials.some((t) => known(t.unclear)) ? [
        ["no option named", (t) => t.unclear, (t) => share(t.unclear)],
        ["several named", (t) => t.ambiguous, (t) => share(t.ambiguous)],
      ] : []),
      ["cost (chart's axis)", (t) => t.costs[state.axis], (t) => costText(t.costs[state.axis], group.axes[state.axis])],
    ];
    const order = { by: columns.length - 1, down: false, find: "" };
    const classOf = (column) => ({ "#": "number", trial: "name" })[column];
    const body = h("tbody");
    const head = h("tr", {}, columns.map(([name], i) => h("th", { scope: "col", class: classOf(name) }, h("button", { type: "button", onclick: () => { order.down = order.by === i ? !order.down : false; order.by = i; drawTable(); } }, name))));
    const drawTable = () => {
      [...head.children].forEach((cell, i) => cell.setAttribute("aria-sort", i === order.by ? (order.down ? "descending" : "ascending") : "none"));
      const value = columns[order.by][1];
      const rows = group.trials.filter((t) => t.number === order.find || t.name.toLowerCase().includes(order.find));
      rows.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (!known(x) || !known(y)) return known(y) - known(x);
        return (x < y ? -1 : x > y ? 1 : 0) * (order.down ? -1 : 1);
      });
      body.replaceChildren(...rows.map((t) => h("tr", { "data-trial": t.index, class: state.chosen === t ? "chosen" : null, onclick: () => choose(t) }, columns.map(([name, , show]) => h("td", { class: classOf(name) }, show(t))))));
    };
    const find = h("input", { type: "search", placeholder: "find a trial", "aria-label": "find a trial", oninput: (e) => { order.find = e.target.value.toLowerCase(); drawTable(); } });
    const common = Object.entries(group.common).map(([r, text]) => `all ${r} trials: ${text}`).join("; ");
    main.append(section("Trials", `front: share of ${data.replicates} draws of the videos in which the trial is on the front; ★: on it as measured. ${common}`,
      h("div", { class: "tools" }, find), h("div", { class: "scroll" }, h("table", { class: "trials" }, h("thead", {}, head), body))));

    if (group.ablations.length) main.append(ablations(group));
    if (group.parallel.length) main.append(parallel(group, (t) => { choose(t); details.scrollIntoView({ block: "center" }); }, tipText, state));
    if (group.heat.length && group.tasks.length > 1) main.append(heat(group));
    main.append(ledger(group, look));
    if (group.failures.length) main.append(failures(group));
    if (data.tokens.length) main.append(section("Where the tokens go", "Drawn by prunesweep tokens.", data.tokens.map((t) => h("figure", {}, h("img", { src: t.src, alt: t.caption }), h("figcaption", {}, t.caption)))));
    if (data.notRun.length) main.append(notRun());
    main.append(provenance());
    const update = () => { drawChart(); drawTable(); };
    redraw = () => { if (isNarrow() !== state.narrow) { state.narrow = isNarrow(); drawChart(); } };
    showDetails(null);
    update();
  };

  const words = (group) => section("What the records say", null,
    group.headline ? h("p", { class: "headline" }, group.headline) : null,
    h("dl", { class: "words" }, group.words.map(([key, text]) => [h("dt", {}, key), h("dd", {}, text)])));

  const failures = (group) => section("Samples without an answer", "They count in no accuracy.",
    pairs(group.failures.map((f) => [f.error, `sample${f.samples.length + f.more > 1 ? "s" : ""} ${f.samples.join(", ")}${f.more ? ` and ${f.more} more` : ""}`])));

  // ---- ablation

  const effectPanel = (effect) => {
    const W = 300, row = 26, top = 8, left = 86, right = 12, H = top + row * effect.levels.length + 30;
    const values = effect.levels.flatMap((l) => [l.low, l.high, l.accuracy]).filter(known);
    let [x0, x1] = [Math.min(...values), Math.max(...values)];
    const pad = (x1 - x0) * 0.06 || 0.02; x0 -= pad; x1 += pad;
    const X = (v) => left + ((v - x0) / (x1 - x0)) * (W - left - right);
    const root = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${effect.name}: ${effect.levels.map((l) => `${l.value} ${fixed(l.accuracy)}`).join(", ")}` });
    for (const v of ticks(x0, x1, 4)) root.append(s("line", { class: "grid", x1: X(v), x2: X(v), y1: top, y2: H - 26 }), s("text", { class: "soft", x: X(v), y: H - 12, "text-anchor": "middle" }, v.toFixed(2)));
    effect.levels.forEach((l, i) => {
      const y = top + row * (i + 0.5);
      root.append(s("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, l.value.length > 12 ? `${l.value.slice(0, 11)}…` : l.value));
      if (known(l.low)) root.append(s("line", { x1: X(l.low), x2: X(l.high), y1: y, y2: y, stroke: "var(--c0)", "stroke-width": 2 }));
      root.append(s("circle", { cx: X(l.accuracy), cy: y, r: 4.5, fill: "var(--c0)" }));
    });
    return h("div", { class: "panel" }, h("h3", {}, effect.name),
      h("p", { class: "note" }, `mean accuracy, 95 % intervals; range ${(100 * effect.range).toFixed(1)} points, p = ${pText(effect.p)} (paired, Holm)`), root);
  };

  const shade = (share) => {  // cividis, from Nunez, Anderton and Renslow (2018), five stops
    const stops = [[0, 34, 78], [66, 78, 108], [124, 123, 120], [187, 173, 109], [254, 232, 56]];
    const at = Math.min(3.999, Math.max(0, share * 4)), i = Math.floor(at);
    const colour = stops[i].map((c, k) => Math.round(c + (stops[i + 1][k] - c) * (at - i)));
    const bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 128;
    return { background: `rgb(${colour.join(" ")})`, ink: bright ? "#111" : "#fff" };
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
    return h("div", { class: "panel" }, h("h3", {}, `${joint.names[0]} × ${joint.names[1]}`),
      h("p", { class: "note" }, `mean accuracy, 95 % intervals; ${known(joint.p) ? `interaction p = ${pText(joint.p)} (Holm)` : "too few combinations were tried to test the interaction"}`),
      h("div", { class: "scroll" }, h("table", { class: "heat small" }, h("thead", {}, h("tr", {}, h("th", {}), h("th", { colspan: joint.second.length }, joint.names[1])), h("tr", {}, h("th", {}, joint.names[0]), joint.second.map((b) => h("th", {}, b)))),
        h("tbody", {}, joint.first.map((a) => h("tr", {}, h("td", {}, a), joint.second.map((b) => { const c = find(a, b); return cell(c ? c.accuracy : null, low, high, c ? `${c.trials} trial${c.trials > 1 ? "s" : ""}` : "", c && known(c.low) ? `${fixed(c.low, 2)}–${fixed(c.high, 2)}` : ""); })))))));
  };

  const importancePanel = (importance) => {
    const W = 300, row = 24, left = 120, H = row * importance.shares.length + 8;
    const root = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": importance.shares.map(([n, v]) => `${n} ${Math.round(100 * v)} %`).join(", ") });
    importance.shares.forEach(([name, share], i) => {
      const y = 4 + row * i;
      root.append(s("text", { x: left - 8, y: y + 15, "text-anchor": "end" }, name.length > 17 ? `${name.slice(0, 16)}…` : name),
        s("rect", { x: left, y: y + 3, height: row - 9, width: Math.max(1, share * (W - left - 46)), fill: "var(--c2)" }),
        s("text", { class: "soft", x: left + share * (W - left - 46) + 6, y: y + 15 }, `${Math.round(100 * share)} %`));
    });
    return h("div", { class: "panel" }, h("h3", {}, `Importance, ${importance.reducer}`), h("p", { class: "note" }, `share of accuracy's variance over ${importance.trials} trials that each explains alone (fANOVA)`), root);
  };

  const range = (values) => [Math.min(...values.filter(known)), Math.max(...values.filter(known))];
  const ablations = (group) => section("Which settings matter", "Means over the values of the other settings, on the questions that all trials of the method answered. Colours of pairs: the yellower, the more accurate, on one scale for all pairs of a method.",
    group.ablations.map((a) => [h("h3", {}, `${a.reducer}: ${a.trials} trials, n = ${a.samples} questions on ${a.videos} videos`),
      h("div", { class: "panels" }, a.main.map(effectPanel), a.joint.map((joint) => jointPanel(joint, ...range(a.joint.flatMap((j) => j.cells.map((c) => c.accuracy))))), group.importances.filter((i) => i.reducer === a.reducer && i.shares.length > 1).map(importancePanel))]));

  const parallel = (group, choose, tipText, state) => section("Parallel coordinates", "A line per trial through its settings to its cost and accuracy: the yellower, the more accurate. Hover to see a trial, click it for its details above.",
    group.parallel.map((one) => {
      const gap = Math.max(130, Math.min(220, 1000 / (one.axes.length - 1))), W = gap * (one.axes.length - 1) + 170, H = 270, left = 50, top = 34, bottom = 20;
      const X = (i) => left + gap * i, Y = (v) => H - bottom - v * (H - top - bottom);
      const own = one.trials.map((i) => group.trials[i]);
      const values = own.map((t) => t.accuracy), [low, high] = [Math.min(...values), Math.max(...values)];
      const root = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": `${one.reducer}: ${own.length} trials`, style: `min-width:${Math.min(W, 560)}px;max-width:${W}px` });
      own.map((t, i) => ({ t, places: one.lines[i] })).sort((a, b) => a.t.accuracy - b.t.accuracy).forEach(({ t, places }) => {
        const points = places.map((v, i) => (known(v) ? `${X(i)},${Y(v)}` : null)).filter(known).join(" ");
        const show = (event) => showTip(tipText(t, group.axes[state.axis]), event.clientX, event.clientY);
        root.append(s("g", { class: "line", "data-trial": t.index, onpointerenter: show, onpointermove: show, onpointerleave: hideTip, onclick: () => choose(t) },
          s("polyline", { class: "hit", points }), s("polyline", { class: "stroke", points, style: `stroke:${shade((t.accuracy - low) / (high - low || 1)).background}` })));
      });
      one.axes.forEach((axis, i) => root.append(s("line", { class: "axis", x1: X(i), x2: X(i), y1: top, y2: H - bottom }), s("text", { x: X(i), y: 16, "text-anchor": "middle" }, axis.name.length > 20 ? `${axis.name.slice(0, 19)}…` : axis.name),
        ...axis.ticks.map(([v, text]) => s("text", { class: "soft halo", x: X(i) + 6, y: Y(v) - 4 }, text))));
      return [one.axes.length > 1 ? h("h3", {}, one.reducer) : null, h("div", { class: "scroll" }, root)];
    }));

  const heat = (group) => {
    const chosen = group.heat.map((i) => group.trials[i]);
    const values = chosen.flatMap((t) => t.tasks.map((task) => task.accuracy)).filter(known);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const least = Math.min(...chosen.flatMap((t) => t.tasks.map((task) => task.samples))), most = Math.max(...chosen.flatMap((t) => t.tasks.map((task) => task.samples)));
    const rest = chosen.length < group.trials.length ? ` The front and the dense model, ${chosen.length} of ${group.trials.length} trials.` : "";
    return section("Accuracy by task", `n = ${least === most ? least : `${least} to ${most}`} questions a cell; hover for errors.${rest} Colours from ${fixed(low, 2)} to ${fixed(high, 2)}.`,
      h("div", { class: "scroll" }, h("table", { class: "heat" }, h("thead", {}, h("tr", {}, h("th", {}, "#"), h("th", { class: "name" }, "trial, cheapest first"), group.tasks.map((task) => h("th", {}, task.replaceAll("_", " "))))),
        h("tbody", {}, chosen.map((t) => h("tr", {}, h("td", { class: "number" }, t.number), h("td", { class: "name" }, t.short), group.tasks.map((name) => { const task = t.tasks.find((x) => x.task === name); return cell(task && task.samples ? task.accuracy : null, low, high, task ? accuracyText(task) : ""); })))))));
  };

  const ledger = (group, look) => {
    const chosen = group.heat.map((i) => group.trials[i]);
    const parts = [["LLM prefill", (t) => t.costs.llm_flops, "var(--c0)"], ["merging and scoring", (t) => t.costs.reduction_flops, "var(--c1)"],
      ["vision, head, decoding", (t) => t.costs.total_flops - t.costs.llm_flops - t.costs.reduction_flops, "var(--c4)"]];
    const most = Math.max(...chosen.map((t) => t.costs.total_flops));
    const bar = (t) => {
      let x = 0;
      return s("svg", { viewBox: "0 0 240 14", preserveAspectRatio: "none", role: "img", "aria-label": parts.map(([n, v]) => `${n} ${prefixed(v(t), "FLOPs")}`).join(", ") },
        parts.map(([name, value, colour]) => { const width = (value(t) / most) * 240; const rect = s("rect", { x, y: 1, width, height: 12, fill: colour }, s("title", {}, `${name}: ${prefixed(value(t), "FLOPs")}`)); x += width; return rect; }));
    };
    return section("Cost ledger", "FLOPs per question as if the trial ran alone: a multiply-add counts twice, attention in full. Of dense: of " + group.relative_to + ".",
      h("div", { class: "legend" }, parts.map(([name, , colour]) => h("span", {}, s("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, s("rect", { width: 14, height: 14, fill: colour })), name))),
      h("div", { class: "scroll" }, h("table", { class: "small ledger" }, h("thead", {}, h("tr", {}, ["#", "trial", "FLOPs by part", "in all", "LLM prefill", "of dense", "FastV's count", "tokens in", "layer average", "at end", "KV caches"].map((c) => h("th", { class: c === "trial" ? "name" : null }, c)))),
        h("tbody", {}, chosen.map((t) => h("tr", {}, h("td", { class: "number" }, t.number), h("td", { class: "name" }, t.short), h("td", {}, bar(t)), [prefixed(t.costs.total_flops, "FLOPs"), prefixed(t.costs.llm_flops, "FLOPs"), `${fixed(t.costs.llm_flops_ratio)}x`, `${fixed(t.costs.fastv_flops_ratio)}x`, `${fixed(t.costs.entrance_ratio)}x`, `${fixed(t.costs.layer_ratio)}x`, `${fixed(t.costs.final_ratio)}x`, prefixed(t.costs.kv_bytes, "B")].map((v) => h("td", {}, v))))))));
  };

  const notRun = () => section("Trials that could not be run", "They have no records: the model or the benchmark does not allow them.",
    h("ul", {}, data.notRun.map((t) => h("li", {}, `${t.name}: ${t.reason}`))));
  const provenance = () => section("Provenance", null, fill(pairs(data.provenance), { class: "small facts" }, []));

  const chooser = document.getElementById("group");
  data.groups.forEach((g, i) => chooser.append(h("option", { value: i }, `${g.model} on ${g.benchmark}`)));
  document.getElementById("chooser").hidden = data.groups.length < 2;
  chooser.addEventListener("change", () => render(data.groups[chooser.value]));
  document.getElementById("lead").textContent = data.lead;
  render(data.groups[0]);
})();
