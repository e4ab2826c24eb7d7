// Tasks as differences to the dense model, and what each trial costs, part by part.

// Orange below dense, blue above; the ink stays readable on both, in light and dark.
const leaning = (mean, most) => {
  const share = Math.min(1, Math.abs(mean) / (most || 1));
  return `color-mix(in srgb, var(${mean < 0 ? "--below" : "--above"}) ${Math.round(70 * share)}%, var(--card))`;
};
const differenceCell = (found, most, name) => {
  if (!found || !known(found[0])) return h("td", { class: "none" }, "–");
  const [mean, low, high, n] = found, sure = known(low) && (low > 0 || high < 0);
  const node = h("td", { title: `${name}: ${signed(mean)}, 95 % interval ${signed(low)} to ${signed(high)}, n=${n}`, class: sure ? "sure" : null }, signed(mean, 2), h("small", {}, known(low) ? `${signed(low, 2)} to ${signed(high, 2)}` : "no interval"), h("small", {}, `n=${n}`));
  node.style.background = leaning(mean, most);
  return node;
};
const accuracyCell = (task, name) => {
  if (!task.samples) return h("td", { class: "none" }, "–");
  const error = known(task.error) ? `± ${fixed(task.error, 2)}` : `${fixed(task.low, 2)}–${fixed(task.high, 2)}`;
  return h("td", { title: `${name}: ${accuracyText(task)}` }, fixed(task.accuracy, 2), h("small", {}, error), h("small", {}, `n=${task.samples}`));
};

const tasks = (view) => {
  const { group } = view, chosen = group.heat.map((i) => group.trials[i]), names = group.tasks.names;
  const cells = Object.values(group.tasks.against).flat().map((c) => Math.abs(c[0] ?? 0)), most = Math.max(0, ...cells);
  const rest = chosen.length < group.trials.length ? ` The front and the dense model, ${chosen.length} of ${group.trials.length} trials.` : "";
  const row = (t) => {
    const own = group.tasks.against[t.index];
    return h("tr", { "data-trial": t.index, class: own ? null : "whole", onclick: () => view.choose(t) }, h("td", { class: "number" }, t.number),
      h("td", { class: "name" }, t.short, t.label ? h("span", { class: "tag" }, t.label) : null),
      names.map((name, i) => (own ? differenceCell(own[i], most, name) : accuracyCell(taskOf(t.tasks[i]), name))));
  };
  const note = cells.length ? "Dense on top with its accuracy ± SE; below, differences to it on the same questions with their 95 % intervals: orange is worse, blue better, bold where the interval excludes none." : "Accuracy ± SE of each trial: there is no dense trial to compare with.";
  return section("Tasks", note + rest, h("div", { class: "scroll", tabindex: 0, "aria-label": "table of tasks" }, h("table", { class: "heat tasks" },
    h("thead", {}, h("tr", {}, h("th", { class: "number" }, "#"), h("th", { class: "name" }, "trial, cheapest first"), names.map((name) => h("th", {}, name.replaceAll("_", " "))))), h("tbody", {}, chosen.map(row)))));
};

const PARTS = [["LLM prefill", (t) => t.costs.llm_flops, "var(--c0)"], ["merging and scoring", (t) => t.costs.reduction_flops, "var(--c1)"],
  ["vision, head, decoding", (t) => t.costs.total_flops - t.costs.llm_flops - t.costs.reduction_flops, "var(--c4)"]];
const costBar = (t, most) => {
  let x = 0;
  return s("svg", { viewBox: "0 0 240 14", preserveAspectRatio: "none", role: "img", "aria-label": PARTS.map(([n, v]) => `${n} ${prefixed(v(t), "FLOPs")}`).join(", ") },
    PARTS.map(([name, value, colour]) => { const width = Math.max(0, (value(t) / most) * 240); const rect = s("rect", { x, y: 1, width, height: 12, fill: colour }, s("title", {}, `${name}: ${prefixed(value(t), "FLOPs")}`)); x += width; return rect; }));
};
const LEDGER = [["in all", (c) => prefixed(c.total_flops, "FLOPs")], ["LLM prefill", (c) => prefixed(c.llm_flops, "FLOPs")], ["of dense", (c) => `${fixed(c.llm_flops_ratio)}x`], ["FastV's count", (c) => `${fixed(c.fastv_flops_ratio)}x`],
  ["tokens in", (c) => `${fixed(c.entrance_ratio)}x`], ["layer average", (c) => `${fixed(c.layer_ratio)}x`], ["at end", (c) => `${fixed(c.final_ratio)}x`], ["KV caches", (c) => prefixed(c.kv_bytes, "B")]];
const ledger = (view) => {
  const chosen = view.group.heat.map((i) => view.group.trials[i]), most = Math.max(...chosen.map((t) => t.costs.total_flops));
  const heads = ["#", "trial", "FLOPs by part", ...LEDGER.map(([name]) => name)];
  return section("Costs", `FLOPs per question as if the trial ran alone: a multiply-add counts twice, attention in full. Of dense: of ${view.group.relative_to}.`,
    h("div", { class: "legend" }, PARTS.map(([name, , colour]) => h("span", {}, s("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, s("rect", { width: 14, height: 14, fill: colour })), name))),
    h("div", { class: "scroll", tabindex: 0, "aria-label": "table of costs" }, h("table", { class: "small ledger" }, h("thead", {}, h("tr", {}, heads.map((c, i) => h("th", { class: ["number", "name"][i] ?? null }, c)))),
      h("tbody", {}, chosen.map((t) => h("tr", {}, h("td", { class: "number" }, t.number), h("td", { class: "name" }, t.short), h("td", {}, costBar(t, most)), LEDGER.map(([, show]) => h("td", {}, show(t.costs)))))))));
};
