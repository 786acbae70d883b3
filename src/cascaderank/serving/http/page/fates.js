// The candidates of one stage, best first: which it kept, and what became of them.

import { $, alignedScore, count, element, fill } from "./dom.js";
import { PagedTable } from "./table.js";

const COLUMNS = [
  ["number", "Rank"],
  ["id", "Item"],
  ["number", "Score"],
  ["here", "Here"],
  ["end", "In the end"],
];

export class Fates {
  #table = new PagedTable($("fates-table"), "candidates of the stage");
  #explain;
  #run = null;
  #chosen = 0;

  /** @param explain called with the key of an item that the user chose */
  constructor(explain) {
    this.#explain = explain;
  }

  build(names) {
    this.#chosen = 0;
    const choices = names.map((name, i) =>
      element(
        "label",
        {},
        element("input", {
          type: "radio", name: "stage", value: i, checked: i === 0,
          onchange: () => this.#choose(i),
        }),
        element("span", {}, name),
      ),
    );
    fill($("stage-choice"), element("legend", {}, "Stage"), ...choices);
  }

  show(run, marked, options) {
    this.#run = run;
    const stage = run.stages[this.#chosen];
    const line = stage.order.findIndex((place) => !run.kept(stage, place));
    const cut = stage.order.length - stage.left;
    this.#table.show(
      {
        caption:
          `${count(stage.order.length)} candidates by the scores of ${stage.scorer}: ` +
          `${count(stage.left)} kept, ${count(cut)} cut`,
        columns: COLUMNS,
        length: stage.order.length,
        row: (i) => this.#row(run, stage, stage.order[i], marked),
        line: (i) => (i === line && i > 0 ? "Line of the cut" : null),
        jump: line > 0 ? { text: "To the cut", row: line } : null,
      },
      options,
    );
  }

  #choose(i) {
    this.#chosen = i;
    this.show(this.#run, "", { stay: false });
  }

  #row(run, stage, place, marked) {
    const kept = run.kept(stage, place);
    return [
      count(stage.ranks[place]),
      itemButton(run.ids[place], this.#explain, marked),
      alignedScore(stage.scores[place]),
      element("span", { class: kept ? "kept" : "cut" }, kept ? "✓ kept" : "✕ cut"),
      run.end(place),
    ];
  }
}

/** Return a button with the key of an item, which explains it. */
export function itemButton(id, explain, marked = "") {
  const key = String(id);
  return element(
    "button",
    {
      type: "button", class: "link", title: "Explain this item",
      "aria-current": key === marked ? "true" : null,
      onclick: () => explain(key),
    },
    key === "" ? "(empty)" : key,
  );
}
