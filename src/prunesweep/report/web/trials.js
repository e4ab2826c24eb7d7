// The three answers, the trial that is chosen, and the table of all.

const answerCard = (view, answer) => {
  const t = known(answer.trial) ? view.group.trials[answer.trial] : null;
  const title = h("h3", {}, answer.question === "Knee" || answer.question === "Dense" ? term(answer.question.toLowerCase(), answer.question) : answer.question);
  if (!t) return h("div", { class: "answer none" }, title, h("p", { class: "said" }, explained(answer.said)));
  const axis = view.group.axes[view.group.cost];
  const [size, rest] = known(t.error) ? [fixed(t.accuracy), ` ± ${fixed(t.error)}`] : [fixed(t.accuracy), known(t.low) ? ` [${fixed(t.low)}, ${fixed(t.high)}]` : " ± n/a"];
  return h("button", { type: "button", class: "answer", "data-trial": t.index, onclick: () => view.choose(t) }, title,
    h("div", { class: "figures" },
      h("div", {}, h("b", {}, size), h("span", {}, `${rest} (n=${t.samples})`), h("small", {}, "accuracy ± SE")),
      h("div", {}, h("b", {}, costText(t.costs[view.group.cost], axis)), h("small", {}, axis.short))),
    t.against ? h("p", {}, `${againstText(t.against)} against dense`) : null,
    h("p", { class: "who" }, h("span", { class: "number" }, `#${t.number}`), ` ${t.short}`),
    h("p", { class: "said" }, answer.said));
};
const answerCards = (view) => h("div", { class: "answers" }, view.group.answers.map((answer) => answerCard(view, answer)));

const detailsOf = (view, t) => {
  const axis = view.group.axes[view.axis], a = t.against, group = view.group;
  const all = { ...group.shared[t.reducer], ...t.settings };
  const said = [t.label, t.stands, t.stopped ? "stopped early" : null].filter(known);
  return [
    h("h3", {}, h("span", { class: "number" }, `#${t.number}`), ` ${t.name}`, said.map((word) => h("span", { class: "tag" }, ...(data.terms[word] ? [term(word)] : [word])))),
    t.preset ? h("p", { class: "preset" }, h("b", {}, "Preset. "), ...explained(t.preset)) : null,
    h("div", { class: "columns" },
      h("div", {}, h("h4", {}, "Numbers"), pairs([
        ["accuracy", accuracyText(t)], ["95 % interval", `${fixed(t.low)} to ${fixed(t.high)}`],
        [axis.short, costText(t.costs[view.axis], axis)], ["tokens in", `${fixed(t.costs.entrance_ratio)}x`], ["tokens at end", `${fixed(t.costs.final_ratio)}x`],
        ["LLM prefill", prefixed(t.costs.llm_flops, "FLOPs")], ["all FLOPs", prefixed(t.costs.total_flops, "FLOPs")], ["KV caches", prefixed(t.costs.kv_bytes, "B")],
        t.errors ? ["without an answer", String(t.errors)] : null,
        known(t.unclear) ? ["no option / several named", `${shareText(t.unclear)} / ${shareText(t.ambiguous)}`] : null])),
      a ? h("div", {}, h("h4", {}, "Against the dense model"), pairs([
        ["difference", signed(a.mean)], ["95 % interval", `${signed(a.low)} to ${signed(a.high)}`], ["questions in common", `n=${a.samples}`],
        ["gained / lost answers", `${a.gained} / ${a.lost}`], ["p", pText(a.p)], ["p, Holm", pText(a.holm)], ["p, FDR", pText(a.fdr)], ["p, McNemar", pText(a.mcnemar)]])) : null,
      t.tasks.length > 1 ? h("div", {}, h("h4", {}, "By task"), pairs(t.tasks.map((task, i) => [h("span", {}, group.tasks.names[i].replaceAll("_", " ")), accuracyText(taskOf(task))]))) : null,
      t.flips.length ? h("div", {}, h("h4", {}, "Flipped answers"), h("table", { class: "small" }, h("thead", {}, h("tr", {}, ["question", "target", "said"].map((c) => h("th", {}, c)))),
        h("tbody", {}, t.flips.map((f) => h("tr", {}, h("td", {}, `${f.gained ? "+" : "−"} ${f.sample}`), h("td", {}, f.target), h("td", {}, f.prediction))))),
        t.more ? h("p", { class: "note" }, `and ${t.more} more flips`) : null) : null),
    h("p", { class: "command" }, h("code", {}, `prunesweep ${t.overrides.join(" ")}`)),
    folded("All settings", pairs(Object.entries(all).map(([k, v]) => [h("span", {}, k), v === null ? "null" : String(v)]))),
  ].filter(known);
};
const showDetails = (view) => view.details.replaceChildren(...(view.chosen ? detailsOf(view, view.chosen)
  : [h("h3", {}, "Choose a trial"), h("p", { class: "note" }, "Click a point or a row to see its numbers, its tasks, the answers that flipped and the command.")]));

const NUMBER_WIDTH = 12; // numbers are text, which sorts as they do once all are as long
const columnsOf = (view) => {
  const { group } = view, axis = () => group.axes[view.axis];
  return [
    ["#", (t) => t.number.padStart(NUMBER_WIDTH, "0"), (t) => t.number],
    ["trial", (t) => t.short, (t) => [t.short, t.label ? h("span", { class: "tag" }, t.label) : null, t.preset ? h("span", { class: "tag" }, "preset") : null]],
    ["accuracy ± SE", (t) => (t.samples ? t.accuracy : null), accuracyText],
    [axis().short, (t) => t.costs[view.axis], (t) => costText(t.costs[view.axis], axis())],
    ["against dense (95 %)", (t) => t.against?.mean, (t) => againstText(t.against)],
    ["p, Holm", (t) => t.against?.holm, (t) => (t.against ? pText(t.against.holm) : "–")],
    ["on the front", (t) => axis().probability[t.index], (t) => (known(axis().probability[t.index]) ? `${axis().on[t.index] ? "★ " : ""}${Math.round(100 * axis().probability[t.index])} %` : "–")],
    ["tokens at end", (t) => t.costs.final_ratio, (t) => `${fixed(t.costs.final_ratio)}x`],
    ...(group.trials.some((t) => known(t.unclear)) ? [
      ["no option named", (t) => t.unclear, (t) => shareText(t.unclear)],
      ["several named", (t) => t.ambiguous, (t) => shareText(t.ambiguous)],
    ] : []),
  ];
};

const PAGE = 50; // rows at a time: a thousand at once make a phone slow
const KINDS = { all: "all trials", front: "on the front", "within the margin": "within the margin", "cannot tell": "cannot tell", worse: "worse" };
const trialsTable = (view) => {
  const { group } = view;
  const order = { by: 3, down: false, words: [], method: "all", kind: "all", rows: PAGE };
  const body = h("tbody"), head = h("tr"), count = h("span", { class: "count", role: "status" }), more = h("button", { type: "button", class: "more", onclick: () => { order.rows += 4 * PAGE; draw(); } });
  const classOf = (i) => ["number", "name"][i] ?? null;
  const matches = (t) => {
    const text = `#${t.number} ${t.name} ${t.label ?? ""} ${t.stands ?? ""}`.toLowerCase();
    const kind = order.kind === "all" || (order.kind === "front" ? group.axes[view.axis].on[t.index] : t.stands === order.kind);
    return kind && (order.method === "all" || t.reducer === order.method) && (order.words[0] === t.number || order.words.every((word) => text.includes(word)));
  };
  const draw = () => {
    const columns = columnsOf(view), value = columns[order.by][1];
    head.replaceChildren(...columns.map(([name], i) => h("th", { scope: "col", class: classOf(i), "aria-sort": i === order.by ? (order.down ? "descending" : "ascending") : "none" },
      h("button", { type: "button", onclick: () => { order.down = order.by === i ? !order.down : false; order.by = i; draw(); } }, name, h("span", { class: "arrow", "aria-hidden": "true" }, i === order.by ? (order.down ? " ▾" : " ▴") : "")))));
    const rows = group.trials.filter(matches).sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (!known(x) || !known(y)) return known(y) - known(x);
      return (x < y ? -1 : x > y ? 1 : a.index - b.index) * (order.down ? -1 : 1);
    });
    const shown = rows.slice(0, order.rows);
    body.replaceChildren(...shown.map((t) => h("tr", { "data-trial": t.index, class: view.chosen === t ? "chosen" : null, onclick: () => view.choose(t) }, columns.map(([, , show], i) => h("td", { class: classOf(i) }, show(t))))));
    count.textContent = rows.length === group.trials.length ? plural(rows.length, "trial") : `${rows.length.toLocaleString("en")} of ${plural(group.trials.length, "trial")}`;
    more.hidden = shown.length === rows.length;
    more.textContent = `Show more: ${(rows.length - shown.length).toLocaleString("en")} left`;
  };
  const changed = (change) => { change(); order.rows = PAGE; draw(); };
  const methods = [...new Set(group.trials.map((t) => t.reducer))].sort();
  const kinds = Object.keys(KINDS).filter((kind) => kind === "all" || kind === "front" || group.trials.some((t) => t.stands === kind));
  const select = (id, options, change) => h("select", { id, "aria-label": id, onchange: (e) => changed(() => change(e.target.value)) }, options.map(([v, shown]) => h("option", { value: v }, shown)));
  const tools = h("div", { class: "tools" },
    h("input", { type: "search", placeholder: "find: layer=4 keep", "aria-label": "find a trial", oninput: (e) => changed(() => { order.words = e.target.value.toLowerCase().split(/\s+/).filter(Boolean); }) }),
    methods.length > 1 ? select("method", [["all", "all methods"], ...methods.map((m) => [m, m])], (v) => { order.method = v; }) : null,
    select("kind", kinds.map((k) => [k, KINDS[k]]), (v) => { order.kind = v; }), count);
  const common = Object.entries(group.common).map(([r, text]) => `All ${r} trials: ${text}.`).join(" ");
  view.drawTable = draw;
  return section("All trials", `Click a heading to sort, a row to see the trial. ★: on the front as measured; the share: of ${data.replicates} draws of the videos. ${common}`,
    tools, h("div", { class: "scroll", tabindex: 0, "aria-label": "table of all trials" }, h("table", { class: "trials" }, h("thead", {}, head), body)), more);
};
