// The stages as they ran, with their plots and quotas.

import { $, count, element, fill, milliseconds, plural, setText, showError } from "./dom.js";
import { flow, scorePlot } from "./plot.js";

export class Funnel {
  #list = $("stages");
  #cards = [];
  #changed;
  #factor = 1;
  #shown = null;

  /** @param changed called when the user has changed a quota to a valid one */
  constructor(changed) {
    this.#changed = changed;
    new ResizeObserver(() => this.#draw()).observe(this.#list);
    $("reset").addEventListener("click", () => {
      this.reset();
      $("funnel").focus();
      changed();
    });
  }

  /** Make the cards of the stages of a bundle; `factor` limits quotas to its multiple. */
  build(stages, factor) {
    this.#factor = factor;
    this.#shown = null;
    this.#cards = stages.map((stage, i) => this.#card(stage, i));
    fill(this.#list, ...this.#cards.map((card) => card.item));
    this.reset();
  }

  /** Set the quotas of the bundle. */
  reset() {
    for (const card of this.#cards) this.#set(card, card.own);
    this.check();
  }

  /** Quotas by name; `null` for those of the bundle. */
  get quotas() {
    if (this.#cards.every((card) => card.quota === card.own)) return null;
    return Object.fromEntries(this.#cards.map((card) => [card.name, card.quota]));
  }

  /** Check the quotas, show what is wrong at the field, and return whether all are valid. */
  check() {
    let valid = true;
    this.#cards.forEach((card, i) => {
      const wrong = this.#mistake(card, this.#cards[i - 1]);
      showError(card.error, card.number, wrong);
      valid &&= !wrong;
    });
    showError($("quotas-error"), null, "");
    return valid;
  }

  /** Show an error of the server at the quota of a stage. */
  refuse(name, message) {
    const card = this.#cards.find((each) => each.name === name);
    showError(card?.error ?? $("quotas-error"), card?.number, message);
  }

  /** Show a run beside that with the quotas of the bundle; `marked` is an item's key or "". */
  show(run, base, marked) {
    this.#shown = { run, base, marked };
    const most = run.stages[0]?.came ?? 0;
    for (const [i, card] of this.#cards.entries()) {
      const [stage, own] = [run.stages[i], base.stages[i]];
      card.time.textContent = stage.skipped ? "left out" : milliseconds(stage.milliseconds);
      const share = stage.came ? ` (${((100 * stage.left) / stage.came).toPrecision(2) * 1} %)` : "";
      card.came.textContent = `${count(stage.came)} came`;
      card.left.textContent = `${count(stage.left)} left${share}`;
      fill(card.flow, flow(stage.came, stage.left, most, own.left));
      const range = Math.min(card.own * this.#factor, Math.max(most, card.own, card.quota));
      card.range.max = range;
      card.range.value = card.quota;
    }
    this.#list.querySelector(".rules")?.remove();
    if (run.rules) this.#list.append(rulesCard(run.rules));
    $("reset").hidden = this.quotas === null;
    this.#draw();
  }

  #draw() {
    if (!this.#shown) return;
    const { run, marked } = this.#shown;
    const place = run.placeOf.get(marked) ?? -1;
    for (const [i, card] of this.#cards.entries()) {
      const width = Math.floor(card.plot.clientWidth);
      if (width > 0) fill(card.plot, scorePlot(run, run.stages[i], width, place));
    }
  }

  #card(stage, i) {
    const card = { name: stage.name, own: stage.quota, quota: stage.quota };
    const id = `quota-${i}`;
    card.time = element("span", { class: "time" });
    card.came = element("span");
    card.left = element("strong");
    card.flow = element("div", { class: "flow-place" });
    card.plot = element("div", { class: "plot" });
    card.error = element("p", { class: "error", id: `${id}-error`, role: "alert" });
    const limits = { min: 1, max: stage.quota * this.#factor };
    card.number = element("input", {
      id, ...limits, type: "number", inputmode: "numeric", "aria-describedby": `${id}-own ${id}-error`,
      oninput: () => this.#read(card, card.number),
    });
    card.range = element("input", {
      ...limits, type: "range", "aria-label": `Quota of ${stage.name}`,
      oninput: () => this.#read(card, card.range),
    });
    card.item = element(
      "li",
      { class: "stage" },
      element(
        "div",
        { class: "head" },
        element("h3", {}, stage.name),
        element("span", { class: "hint" }, stage.model),
        card.time,
      ),
      card.flow,
      element("p", { class: "numbers" }, card.came, card.left),
      card.plot,
      element(
        "div",
        { class: "quota" },
        element("label", { for: id }, "Quota", element("span", { class: "unseen" }, ` of ${stage.name}`)),
        card.number,
        card.range,
        element("span", { class: "hint", id: `${id}-own` }, `bundle: ${count(stage.quota)}`),
      ),
      card.error,
    );
    return card;
  }

  #set(card, quota) {
    card.quota = quota;
    card.number.value = quota;
    card.range.value = quota;
  }

  #read(card, input) {
    const quota = input.value.trim() === "" ? NaN : Number(input.value);
    card.quota = quota;
    if (input === card.range) card.number.value = quota;
    else if (Number.isInteger(quota)) card.range.value = quota;
    if (this.check()) this.#changed();
  }

  #mistake(card, before) {
    const most = card.own * this.#factor;
    if (!Number.isInteger(card.quota) || card.quota < 1 || card.quota > most) {
      return `Enter a whole number from 1 to ${count(most)}.`;
    }
    if (before && card.quota > before.quota) {
      return `At most ${count(before.quota)}, the quota of ${before.name} before it.`;
    }
    return "";
  }
}

function rulesCard(report) {
  return element(
    "li",
    { class: "stage rules" },
    element(
      "div",
      { class: "head" },
      element("h3", {}, "rules for the final list"),
      element("span", { class: "time" }, milliseconds(report.milliseconds)),
    ),
    element(
      "p",
      { class: "numbers" },
      element("span", {}, `${count(report.came)} came`),
      element("strong", {}, `${count(report.left)} left`),
    ),
    element("p", { class: "hint" }, "Caps, pins and diversity order what the last stage left."),
  );
}

/** Show in one sentence what happened, and below it what the reader should be aware of. */
export function summarise(run) {
  const { answer } = run;
  const steps = [run.stages[0].came, ...run.stages.map((stage) => stage.left)].map(count);
  setText(
    $("summary"),
    `${steps.join(" → ")} in ${milliseconds(answer.milliseconds)}: of ` +
      `${plural(run.stages[0].came, "candidate")}, ${count(answer.items.length)} ` +
      `${answer.items.length === 1 ? "is" : "are"} in the answer.`,
  );
  const notes = [];
  if (answer.filtered) notes.push(`${plural(answer.filtered, "candidate")} left out by the filters.`);
  if (answer.unknown.length) {
    notes.push(`${plural(answer.unknown.length, "candidate")} not in the catalogue, left out.`);
  }
  if (answer.degraded.length) {
    notes.push(
      `Left out to meet the deadline: ${answer.degraded.join(", ")}. The scores before it decided.`,
    );
  }
  if (answer.stale.length) {
    notes.push(`Values of the catalogue were used for ${answer.stale.join(", ")}: the source did not answer.`);
  }
  if (answer.approximate) {
    notes.push(
      `An index searched: the plot of ${run.stages[0].name} has the ${count(run.ids.length)} items that it found.`,
    );
  }
  fill($("notes"), ...notes.map((note) => element("li", {}, note)));
}
