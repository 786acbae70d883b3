// One sentence on why an item is, or is not, in an answer.

import { count, score } from "./dom.js";

/** Return the sentence for an item, given by its key as text. */
export function why(run, key) {
  const place = run.placeOf.get(key);
  if (place === undefined) return absent(run, key);
  const position = run.positionOf.get(key);
  if (position !== undefined) return kept(run, key, place, position);
  if (run.filtered(place)) return `Item ${key} was left out by the filters, before the first stage.`;
  const stage = run.cutStage(place);
  if (stage) return cut(run, key, place, stage);
  const last = run.stages.at(-1);
  const at = `rank ${count(last.ranks[place])} of ${count(last.order.length)} in ${last.name}`;
  if (run.cutBy[place] === null) {
    const top = count(run.answer.items.length);
    return `Item ${key} passed all stages, but the answer has only the first ${top}: ${at}.`;
  }
  return (
    `Item ${key} passed all stages (${at}), but the rules for the final list gave its place to ` +
    "others: caps, pins or diversity."
  );
}

/** Return the sentence for an item that an index did not find. */
export const notFound = (key) =>
  `Item ${key} was not found by the index, which does not compare all items; an exact search could ` +
  "have found it.";

export const notInCatalogue = (key) => `The catalogue of this bundle has no item ${key}.`;

function absent(run, key) {
  if (run.answer.unknown.some((each) => String(each) === key)) {
    return `Item ${key} was a candidate of the request, but the catalogue of this bundle does not have it.`;
  }
  if (run.kind === "search") return notInCatalogue(key);
  return `Item ${key} was not among the ${count(run.ids.length)} candidates of the request.`;
}

function kept(run, key, place, position) {
  const path = run.stages
    .filter((stage) => !stage.skipped && stage.ranks[place] > 0)
    .map((stage) => `${count(stage.ranks[place])} of ${count(stage.order.length)} in ${stage.name}`);
  const pinned = run.isPinned(place) ? ", where it is pinned" : "";
  const ranks = path.length ? `; its rank was ${listed(path)}` : "";
  return `Item ${key} is in the answer at position ${count(position)}${pinned}${ranks}.`;
}

function cut(run, key, place, stage) {
  const rank = stage.ranks[place];
  const by = stage.skipped
    ? `in ${stage.name}, which was left out to meet the deadline, by the scores of ${stage.scorer}`
    : `by ${stage.name}`;
  const [own, last] = [stage.scores[place], stage.scores[stage.lastKept] ?? null];
  let distance = "";
  if (own === null) distance = ", with a score that is not finite";
  else if (stage.lastKept >= 0 && last === own) {
    distance = ", with the score of the last one that was kept, which came earlier";
  } else if (last !== null) distance = `, ${distanceOf(last - own)} below the last one that was kept`;
  const quota = neededQuota(run, place, stage);
  return (
    `Item ${key} was cut ${by}: rank ${count(rank)} of ${count(stage.order.length)}${distance}; ` +
    `a quota of ${count(quota)} would have kept it.`
  );
}

/** Return the smallest quota of a stage that keeps a candidate; pinned ones do not count. */
export function neededQuota(run, place, stage) {
  const rank = stage.ranks[place];
  if (!run.pinned.size) return rank;
  let quota = 0;
  for (let i = 0; i < rank; i++) quota += run.isPinned(stage.order[i]) ? 0 : 1;
  return quota;
}

function listed(parts) {
  return parts.length < 2 ? parts.join("") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

function distanceOf(difference) {
  return score(Number(difference.toPrecision(3)));
}
