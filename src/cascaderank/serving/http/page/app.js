// The page: asks the server, and shows a funnel.

import { AnswerList } from "./answer.js";
import * as api from "./api.js";
import { $, element, fill, plural, setText, showError } from "./dom.js";
import { Fates } from "./fates.js";
import { Funnel, summarise } from "./funnel.js";
import { FieldError, RequestForm } from "./request_form.js";
import { themeChoice } from "./theme_choice.js";
import { Run } from "./trace.js";
import { notFound, notInCatalogue, why } from "./why.js";

const PAUSE = 120; // ms without a further change of a quota, before a request is sent

const state = {
  served: null, // what `GET /v1/bundle` describes
  variant: "main",
  body: null, // of the request that is shown, without quotas
  base: null, // its run with the quotas of the bundle
  run: null, // that with the quotas of the page
  item: "", // key of the item that is explained
};
let latest = null; // aborts the action that is running
let unfinished = null; // that action, unless it only tries quotas
let again = start; // what failed last

const form = new RequestForm({ choose: (index) => act(() => chooseGolden(index)), rank: () => act(rankForm) });
const funnel = new Funnel(debounced(() => act(unfinished ?? rankQuotas)));
const explain = (key) => {
  $("item-id").value = key;
  showItem(key);
  $("sentence").focus({ preventScroll: true }); // the row of the button is drawn anew
  $("item").scrollIntoView({ block: "nearest" });
};
const fates = new Fates(explain);
const answerList = new AnswerList(explain);

/** Do something that asks the server; a newer action replaces one that is running. */
async function act(action) {
  latest?.abort();
  const own = (latest = new AbortController());
  again = action;
  unfinished = action === rankQuotas ? null : action;
  document.body.setAttribute("aria-busy", "true");
  try {
    await action(own.signal);
    $("problem").hidden = true;
  } catch (error) {
    if (!own.signal.aborted) showProblem(error);
  } finally {
    if (latest === own) {
      unfinished = null;
      document.body.removeAttribute("aria-busy");
    }
  }
}

async function start() {
  state.served = await api.bundles();
  $("token").hidden = true;
  const names = Object.keys(state.served.variants);
  if (!names.includes(state.variant)) state.variant = names[0];
  fill($("variant"), ...names.map((name) => element("option", { value: name }, name)));
  $("variant").value = state.variant;
  $("variant-field").hidden = names.length < 2;
  await openBundle();
}

async function openBundle() {
  const { served, variant } = state;
  const bundle = served.variants[variant];
  const { requests } = await api.goldenList(variant);
  funnel.build(bundle.stages, served.limits.quota_factor);
  fates.build(bundle.stages.map((stage) => stage.name));
  form.build(bundle, requests, served.limits.candidates);
  document.title = `${bundle.name} · cascaderank`;
  const items = bundle.items ? `, ${plural(bundle.items.count, "item")}` : "";
  $("lead").textContent =
    `A cascade ranks in stages: each stage scores what the stage before left, and keeps the best. ` +
    `This is the bundle ${bundle.name}: ${plural(bundle.stages.length, "stage")}${items}.`;
  $("main").hidden = false;
  if (requests.length) await chooseGolden(0);
}

async function chooseGolden(index, signal) {
  form.fill(await api.golden(state.variant, index));
  await rankForm(signal);
}

/** Rank what the form has. */
async function rankForm(signal) {
  form.clear();
  const body = form.body(state.variant);
  state.base = await ranked(body, null, signal);
  state.body = body;
  await rankQuotas(signal);
}

/** Rank the same request with the quotas of the page. */
async function rankQuotas(signal) {
  if (!state.body || !funnel.check()) return;
  const quotas = funnel.quotas;
  state.run = quotas ? await ranked(state.body, quotas, signal) : state.base;
  show();
}

async function ranked(body, quotas, signal) {
  const members = quotas ? [...body.members, `"quotas": ${JSON.stringify(quotas)}`] : body.members;
  const answer = await api.rank(`{${members.join(", ")}}`, signal);
  const names = state.served.variants[state.variant].stages.map((stage) => stage.name);
  if (names.some((name, i) => answer.stages[i]?.name !== name)) {
    throw new Error("The server has loaded another bundle. Load this page again.");
  }
  return new Run(answer, names, body.kind, body.pinned);
}

function show(options) {
  const { run, base, item } = state;
  summarise(run);
  $("legend-item").hidden = !run.placeOf.has(item);
  $("legend-item-name").textContent = `item ${item}`;
  funnel.show(run, base, item);
  fates.show(run, item, options);
  answerList.show(run, base, item);
  showSentence();
}

function showItem(key) {
  state.item = key;
  if (state.run) show();
}

async function showSentence() {
  const { run, item } = state;
  let sentence = item ? why(run, item) : "";
  if (item && run.kind === "search" && run.answer.approximate && !run.placeOf.has(item)) {
    sentence = (await inCatalogue(item)) ? notFound(item) : notInCatalogue(item);
    if (state.run !== run || state.item !== item) return;
  }
  setText($("sentence"), sentence);
}

/** Return whether the catalogue has an item that an index did not find. */
async function inCatalogue(item) {
  const number = typeof state.run.ids[0] !== "string" && /^-?\d{1,18}$/.test(item);
  const key = number ? item : JSON.stringify(item);
  const members = state.body.members.filter((each) => !/^"(filters|rerank|candidates)":/.test(each));
  try {
    const answer = await api.rank(`{${members.join(", ")}, "candidates": [${key}]}`);
    return answer.unknown.length === 0;
  } catch {
    return false; // a key of another type
  }
}

function showProblem(error) {
  $("problem").hidden = true;
  if (error instanceof FieldError) return form.show(error);
  if (!(error instanceof api.Problem)) return showGeneral(error.message);
  if (error.status === 401) return showToken(error);
  const message = error.message.charAt(0).toUpperCase() + error.message.slice(1).replace(/\.?$/, ".");
  const [first, stage] = error.field.split(".");
  if (first === "quotas") return funnel.refuse(stage, message);
  const mistake = form.mistakeOf({ field: error.field, message });
  return mistake ? form.show(mistake) : showGeneral(message);
}

function showGeneral(message) {
  $("problem-text").textContent = message;
  $("problem").hidden = false;
}

function showToken() {
  const tried = !$("token").hidden || state.served;
  $("token").hidden = false;
  $("main").hidden = true;
  showError($("token-error"), $("token-value"), tried ? "The server did not accept this token." : "");
  $("token-value").focus();
}

function debounced(action) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, PAUSE);
  };
}

$("token").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("token-value").value.trim();
  if (!/^[\x21-\x7e]+$/.test(text)) {
    showError($("token-error"), $("token-value"), "Enter the token: printable ASCII characters without spaces.");
    return;
  }
  api.useToken(text);
  act(start);
});
$("item").addEventListener("submit", (event) => {
  event.preventDefault();
  showItem($("item-id").value.trim());
});
$("variant").addEventListener("change", () => {
  state.variant = $("variant").value;
  state.body = null;
  act(openBundle);
});
$("again").addEventListener("click", () => act(again));

themeChoice($("theme"));
$("settings").hidden = false;
act(start);
