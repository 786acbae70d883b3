// Elements. Text of data enters the page by `textContent` alone, so that it is never markup.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/** Return an element with attributes, properties (`.name`), listeners (`onname`) and children. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Return an element of SVG. */
export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.startsWith(".")) made[name.slice(1)] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined).map(node));
  return made;
}

function node(child) {
  return child instanceof Node ? child : document.createTextNode(String(child));
}

/** Replace the children of an element. */
export function fill(parent, ...children) {
  parent.replaceChildren(...children.filter((child) => child !== null).map(node));
}

/** Set a text; an equal one is left, since some screen readers would read it out again. */
export function setText(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

/** Show an error beside a field, or remove it with an empty text. */
export function showError(place, field, text) {
  setText(place, text);
  if (text) field?.setAttribute("aria-invalid", "true");
  else field?.removeAttribute("aria-invalid");
}

const COUNT = new Intl.NumberFormat("en");
const SCORE = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const ALIGNED = new Intl.NumberFormat("en", { minimumSignificantDigits: 4, maximumSignificantDigits: 4 });

export const count = (value) => COUNT.format(value);
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** Return a score as text; `null` is a score that is not finite. */
export const score = (value) => (value === null ? "not finite" : SCORE.format(value));

/** The same in a column of scores. */
export const alignedScore = (value) => (value === null ? "not finite" : ALIGNED.format(value));

export const milliseconds = (value) => `${value.toFixed(value < 1 ? 2 : 1)} ms`;
