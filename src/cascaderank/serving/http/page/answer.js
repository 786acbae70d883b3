// The ranked list, and how it differs from that with the quotas of the bundle.

import { $, alignedScore, count, element, fill, plural, setText } from "./dom.js";
import { itemButton } from "./fates.js";
import { PagedTable } from "./table.js";

const PLAIN = [
  ["number", "Position"],
  ["id", "Item"],
  ["number", "Score"],
];
const COMPARED = [...PLAIN, ["end", "Change"]];
const MOST = 50; // items that left, in words

export class AnswerList {
  #table = new PagedTable($("answer-table"), "answer");
  #explain;

  /** @param explain called with the key of an item that the user chose */
  constructor(explain) {
    this.#explain = explain;
  }

  show(run, base, marked) {
    const items = run.answer.items;
    const changed = run !== base;
    const came = items.filter((item) => !base.positionOf.has(String(item.id))).length;
    const gone = base.answer.items.filter((item) => !run.positionOf.has(String(item.id)));
    const difference = changed
      ? `Compared with the quotas of the bundle, ${plural(came, "item")} came into the answer and ${count(gone.length)} left it.`
      : "These are the quotas of the bundle. Change one to see what it would do.";
    setText($("difference"), difference);
    this.#table.show({
      caption: plural(items.length, "item"),
      columns: changed ? COMPARED : PLAIN,
      length: items.length,
      row: (i) => {
        const cells = [count(items[i].position), itemButton(items[i].id, this.#explain, marked), alignedScore(items[i].score)];
        return changed ? [...cells, change(items[i], base)] : cells;
      },
    });
    this.#showGone(run, gone, marked);
  }

  #showGone(run, gone, marked) {
    $("left-part").hidden = !gone.length;
    $("left-heading").textContent = `${plural(gone.length, "item")} left the answer`;
    const lines = gone.slice(0, MOST).map((item) => {
      const place = run.placeOf.get(String(item.id));
      const end = place === undefined ? "not found" : run.end(place);
      return element(
        "li", {}, element("span", { class: "cut" }, "−"), " ", itemButton(item.id, this.#explain, marked),
        ` was at position ${count(item.position)}; now ${end}`,
      );
    });
    if (gone.length > MOST) lines.push(element("li", {}, `and ${count(gone.length - MOST)} more`));
    fill($("left"), ...lines);
  }
}

function change(item, base) {
  const before = base.positionOf.get(String(item.id));
  if (before === undefined) return element("span", { class: "kept" }, "+ came in");
  return before === item.position ? "same" : `was ${count(before)}`;
}
