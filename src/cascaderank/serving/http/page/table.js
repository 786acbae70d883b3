// A table in pages: ten thousand rows cost as much as one page of them.

import { count, element, fill, setText } from "./dom.js";

const SIZE = 25;

export class PagedTable {
  #table;
  #caption = element("caption");
  #head = element("tr");
  #body = element("tbody");
  #controls = element("div", { class: "pages", role: "group" });
  #label = element("span", { role: "status" });
  #page = 0;
  #content = { length: 0 };

  constructor(container, label) {
    this.#table = element("table", {}, this.#caption, element("thead", {}, this.#head), this.#body);
    this.#controls.setAttribute("aria-label", `Pages: ${label}`);
    fill(container, element("div", { class: "scroll" }, this.#table), this.#controls);
    const button = (name, text, move) =>
      element("button", { type: "button", "aria-label": name, onclick: () => this.#turn(move()) }, text);
    this.buttons = {
      first: button("First page", "«", () => 0),
      before: button("Page before", "‹", () => this.#page - 1),
      next: button("Next page", "›", () => this.#page + 1),
      last: button("Last page", "»", () => this.#pages - 1),
    };
    this.jump = element("button", {
      type: "button",
      onclick: () => this.#turn(Math.floor(this.#content.jump.row / SIZE)),
    });
    const { first, before, next, last } = this.buttons;
    this.#controls.append(first, before, this.#label, next, last, this.jump);
  }

  /**
   * Show rows.
   *
   * @param content `caption`; `columns`, titles by class; `length`; `row(i)`, the cells of a row;
   *     `line(i)`, a text for a line before a row, or `null`; `jump`, a button's text and row
   * @param stay whether the page that is shown stays
   */
  show(content, { stay = true } = {}) {
    this.#content = content;
    this.#caption.textContent = content.caption;
    const titles = content.columns.map(([name, title]) =>
      element("th", { scope: "col", class: name }, title),
    );
    fill(this.#head, ...titles);
    if (!stay) this.#page = 0;
    this.#turn(this.#page);
  }

  get #pages() {
    return Math.max(1, Math.ceil(this.#content.length / SIZE));
  }

  #turn(page) {
    const { length, columns, row, line, jump } = this.#content;
    this.#page = Math.min(this.#pages - 1, Math.max(0, page));
    const start = this.#page * SIZE;
    const end = Math.min(length, start + SIZE);
    const rows = [];
    for (let i = start; i < end; i++) {
      const above = line?.(i);
      if (above) {
        const cell = element("td", { colspan: columns.length }, above);
        rows.push(element("tr", { class: "line" }, cell));
      }
      const cells = row(i).map((cell, c) => element("td", { class: columns[c][0] }, cell));
      rows.push(element("tr", {}, ...cells));
    }
    fill(this.#body, ...rows);
    setText(this.#label, length ? `${count(start + 1)}–${count(end)} of ${count(length)}` : "none");
    const { first, before, next, last } = this.buttons;
    // A disabled button would lose the focus of the keyboard.
    for (const button of [first, before]) button.setAttribute("aria-disabled", this.#page === 0);
    for (const button of [next, last]) {
      button.setAttribute("aria-disabled", this.#page === this.#pages - 1);
    }
    this.jump.hidden = !jump;
    if (jump) this.jump.textContent = jump.text;
    this.#controls.hidden = length <= SIZE;
  }
}
