// The page of one model and benchmark, from the picture to the small print.

let redraw = () => {};
window.addEventListener("resize", () => redraw());

const words = (group) => section("In words", null,
  group.headline ? h("p", { class: "headline" }, explained(group.headline)) : null,
  h("dl", { class: "words" }, group.words.map(([key, text]) => [h("dt", {}, data.terms[key] ? term(key) : key), h("dd", {}, explained(text))])));
const failures = (group) => section("Samples without an answer", "They count in no accuracy.",
  pairs(group.failures.map((f) => [h("span", {}, f.error), `sample${f.samples.length + f.more > 1 ? "s" : ""} ${f.samples.join(", ")}${f.more ? ` and ${f.more} more` : ""}`]), "small facts"));
const notRun = () => section("Trials that could not be run", "They have no records: the model or the benchmark does not allow them.",
  h("ul", {}, data.notRun.map((t) => h("li", {}, `${t.name}: ${t.reason}`))));
const maps = () => section("Where the tokens go", "Drawn by prunesweep tokens.", data.tokens.map((t) => h("figure", {}, h("img", { src: t.src, alt: t.caption }), h("figcaption", {}, t.caption))));
const provenance = () => section("Provenance", null, pairs(data.provenance.map(([k, v]) => [h("span", {}, k), v]), "small facts"));

const viewOf = (group) => {
  const drawn = group.trials.filter((t) => t.samples > 0);
  const start = group.answers.map((a) => a.trial).filter(known);
  const knee = group.answers.find((a) => a.question === "Knee")?.trial;
  const chosen = group.trials[known(knee) ? knee : start[0]] ?? drawn[0] ?? null;
  const view = { group, drawn, axis: group.cost, log: null, bars: drawn.length > MANY ? "front" : "all", narrow: isNarrow(), chosen, focus: chosen, looks: looksOf(group), chart: h("div", { id: "chart" }), details: h("div", { id: "details", "aria-live": "polite" }), drawTable: () => {} };
  view.update = () => { drawChart(view); showDetails(view); view.drawTable(); for (const card of main.querySelectorAll(".answer")) card.classList.toggle("chosen", Number(card.dataset.trial) === view.chosen?.index); };
  view.choose = (t) => { view.chosen = view.focus = t; hideTip(); view.update(); };
  return view;
};

const render = (group) => {
  main.replaceChildren();
  anchors.length = 0;
  hideTip();
  const view = viewOf(group), rest = () => [group.failures.length ? failures(group) : null, data.tokens.length ? maps() : null, data.notRun.length ? notRun() : null, provenance()].filter(known);
  if (!view.drawn.length) {
    main.append(section("Nothing to draw", null, h("p", {}, "No trial has an answer, so there is no accuracy to draw.")), words(group), ...rest());
    return;
  }
  main.append(section("Accuracy against cost", null, h("div", { class: "split" }, h("div", {}, chartTools(view), view.chart, legend(view)), answerCards(view))),
    section("The chosen trial", null, view.details), words(group), trialsTable(view));
  const effects = h("div");
  const drawEffects = () => { const own = ablations(group, view.narrow); effects.replaceChildren(own); anchors.pop(); };
  if (group.ablations.length) { drawEffects(); anchors.push(["which-settings-matter", "Which settings matter"]); main.append(effects); }
  if (group.heat.length && group.tasks.names.length > 1) main.append(tasks(view));
  if (group.parallel.length) main.append(parallel(view));
  main.append(ledger(view), ...rest());
  document.getElementById("nav").replaceChildren(...anchors.map(([id, title]) => h("a", { href: `#${id}` }, title)));
  redraw = () => { if (isNarrow() === view.narrow) return; view.narrow = isNarrow(); drawChart(view); if (group.ablations.length) drawEffects(); };
  view.update();
};

const chooser = document.getElementById("group");
data.groups.forEach((g, i) => chooser.append(h("option", { value: i }, `${g.model} on ${g.benchmark}`)));
document.getElementById("chooser").hidden = data.groups.length < 2;
chooser.addEventListener("change", () => render(data.groups[chooser.value]));
document.getElementById("lead").textContent = data.lead;
render(data.groups[0]);
