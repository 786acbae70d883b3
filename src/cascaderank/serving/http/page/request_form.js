// The form of a request: a golden one of the bundle, or values that the user types.

import { $, count, element, fill, plural, showError } from "./dom.js";
import { jsonLines, jsonText, parsed } from "./json_text.js";

/** A mistake in a field of the form. */
export class FieldError extends Error {
  /** @param member name in the field that the message is about, if any */
  constructor(part, message, member = "") {
    super(message);
    this.part = part;
    this.member = member;
  }
}

const PARTS = {
  values: { field: "values", error: "values-error", within: "values-part" },
  options: { field: "options", error: "options-error", within: "options-part" },
  candidates: { field: "own", error: "candidates-error", within: null },
};

export class RequestForm {
  #golden = { request: {}, candidates: {} };

  /**
   * @param handlers `choose(index)` loads a golden request; `rank()` ranks
   */
  constructor({ choose, rank }) {
    $("golden").addEventListener("change", () => choose(Number($("golden").value)));
    $("golden-before").addEventListener("click", () => choose(this.#beside(-1)));
    $("golden-after").addEventListener("click", () => choose(this.#beside(1)));
    $("request").addEventListener("submit", (event) => {
      event.preventDefault();
      rank();
    });
    for (const id of ["values", "options", "own"]) {
      $(id).addEventListener("input", () => this.#edited());
      $(id).addEventListener("keydown", (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) rank();
      });
    }
    $("candidates").addEventListener("change", () => {
      $("own").hidden = this.kind !== "own";
      if (this.kind === "own") $("own").focus();
      else rank();
    });
    $("values-part").open = matchMedia("(min-width: 64rem)").matches;
  }

  /** Fill the form for a bundle with its golden requests; `most` candidates may have a trace. */
  build(bundle, requests, most) {
    const options = requests.map((each) =>
      element("option", { value: each.index }, `${count(each.index + 1)} of ${count(requests.length)}: id ${each.id}`),
    );
    fill($("golden"), ...options);
    for (const id of ["golden", "golden-before", "golden-after"]) $(id).disabled = !requests.length;
    radio("golden").disabled = !requests.length;
    $("of-golden").textContent = "those of the golden request";
    $("values").value = "{}";
    const items = bundle.items?.count ?? 0;
    $("of-search").textContent = items ? `all ${plural(items, "item")} of the bundle` : "all items";
    const searchable = bundle.searches && items <= most;
    const search = radio("search");
    search.disabled = !searchable;
    radio(searchable ? "search" : requests.length ? "golden" : "own").checked = true;
    $("own").hidden = this.kind !== "own";
    $("candidates-hint").textContent = searchable ? "" : whyNot(bundle, items, most);
  }

  /** Show a golden request. */
  fill(golden) {
    this.#golden = golden;
    $("golden").value = golden.index;
    $("values").value = jsonLines(golden.request);
    const columns = Object.values(golden.candidates);
    $("of-golden").textContent = `the ${count(columns[0]?.length ?? 0)} of this golden request`;
    this.clear();
  }

  get kind() {
    return new FormData($("request")).get("candidates");
  }

  /** Body of a request as members of JSON text, without quotas. Throws FieldError. */
  body(variant) {
    const values = $("values").value;
    object(values, "values");
    const members = [`"request": ${values}`];
    if (this.kind === "golden") members.push(`"candidates": ${jsonText(this.#golden.candidates)}`);
    if (this.kind === "own") {
      parse($("own").value || "[]", "candidates");
      members.push(`"candidates": ${$("own").value || "[]"}`);
    }
    const options = $("options").value.trim();
    const rules = options ? object(options, "options") : {};
    for (const [name, value] of Object.entries(rules)) {
      members.push(`${JSON.stringify(name)}: ${jsonText(value)}`);
    }
    members.push(`"variant": ${JSON.stringify(variant)}`, '"trace": true', '"record": false');
    const pins = Array.isArray(rules.rerank?.pins) ? rules.rerank.pins : [];
    return { members, kind: this.kind, pinned: new Set(pins.map((pin) => String(pin?.item))) };
  }

  /** Remove errors and the note on edits. */
  clear() {
    for (const { field, error } of Object.values(PARTS)) showError($(error), $(field), "");
    $("edited").textContent = "";
  }

  /** Show a mistake at its field, and select the name that it is about. */
  show({ part, message, member }) {
    const { field, error, within } = PARTS[part];
    const input = $(field);
    if (within) $(within).open = true;
    showError($(error), input, message);
    const name = JSON.stringify(member);
    const at = member ? input.value.indexOf(name) : -1;
    if (at < 0 || input.hidden) return;
    input.focus();
    input.setSelectionRange(at, at + name.length);
    const line = input.value.slice(0, at).split("\n").length;
    input.scrollTop = (line - 2) * (input.scrollHeight / input.value.split("\n").length);
  }

  /** Return the mistake in the form that a problem of the server names; `null` if in none. */
  mistakeOf({ field, message }) {
    const [first, ...rest] = field.split(/[.[]/);
    const name = rest.join(".").replace(/\]$/, "");
    if (first === "request" || first === "history") {
      const elsewhere = !(name in this.#values) && this.kind !== "search";
      if (elsewhere && name in this.#columns) return new FieldError("candidates", message, name);
      return new FieldError("values", message, name);
    }
    if (first === "candidates" || first === "trace") return new FieldError("candidates", message, name);
    const rules = ["filters", "rerank", "caps", "pins", "diversity", "top", "deadline_ms"];
    if (rules.includes(first) || (first === "body" && $("options").value.trim())) {
      return new FieldError("options", message, name || first);
    }
    return null;
  }

  get #values() {
    try {
      return JSON.parse($("values").value);
    } catch {
      return {};
    }
  }

  get #columns() {
    if (this.kind === "golden") return this.#golden.candidates;
    try {
      const own = JSON.parse($("own").value);
      return (Array.isArray(own) ? own[0] : own) ?? {};
    } catch {
      return {};
    }
  }

  #beside(step) {
    const length = $("golden").length;
    return length ? (Number($("golden").value) + step + length) % length : 0;
  }

  #edited() {
    $("edited").textContent = "Edited: press “Rank”, or Ctrl and Enter.";
  }
}

function radio(value) {
  return document.querySelector(`#candidates input[value=${value}]`);
}

function whyNot(bundle, items, most) {
  const [stage, features] = Object.entries(bundle.needs_rows)[0] ?? [];
  if (!bundle.items) return "This bundle has no catalogue of items to search.";
  if (stage) {
    return `Items cannot be searched: stage ${stage} reads ${features.join(", ")}, of request and item together.`;
  }
  return `A search over ${plural(items, "item")} cannot be shown here: the limit of the server is ${count(most)}.`;
}

function parse(text, part) {
  try {
    return parsed(text);
  } catch (error) {
    throw new FieldError(part, `This is no JSON: ${error.message}.`);
  }
}

function object(text, part) {
  const found = parse(text, part);
  if (found === null || typeof found !== "object" || Array.isArray(found)) {
    throw new FieldError(part, 'Enter a JSON object, such as {"name": 7}.');
  }
  return found;
}
