// An answer with its trace, as what each stage received, kept and cut.

const FILTERS = "filters";
const RULES = "reranking";

/** One stage of a run; candidates are numbered by their places in the trace. */
class Stage {
  constructor(report, index) {
    this.name = report.name;
    this.index = index;
    this.came = report.came;
    this.left = report.left;
    this.milliseconds = report.milliseconds;
    this.skipped = report.skipped;
    /** Name of the stage whose scores decide: an earlier one, if this one was left out. */
    this.scorer = report.name;
    /** Scores of all candidates by place, `null` for those that are not finite. */
    this.scores = [];
    /** Places of the candidates that came, best first. */
    this.order = new Int32Array(0);
    /** Ranks from 1 by place; 0 for a candidate that did not come. */
    this.ranks = new Int32Array(0);
    /** Worst kept candidate that is not pinned, and best one that was cut; -1 for none. */
    this.lastKept = -1;
    this.firstCut = -1;
  }

  /** The score of the cut, halfway between both sides; `null` if there is none. */
  get cut() {
    if (this.lastKept < 0 || this.firstCut < 0) return null;
    const [kept, cut] = [this.scores[this.lastKept], this.scores[this.firstCut]];
    return kept === null || cut === null ? null : (kept + cut) / 2;
  }
}

/** What a cascade did for one request. */
export class Run {
  /**
   * @param answer content of an answer of `POST /v1/rank` with `trace`
   * @param names names of the stages of the bundle
   * @param kind where the candidates are from: "search", "golden" or "own"
   * @param pinned keys of pinned items, which pass in addition to the quotas, as texts
   */
  constructor(answer, names, kind, pinned = new Set()) {
    this.answer = answer;
    this.kind = kind;
    this.pinned = pinned;
    this.ids = answer.trace.ids;
    this.cutBy = answer.trace.cut_by;
    this.placeOf = new Map();
    for (let i = this.ids.length - 1; i >= 0; i--) this.placeOf.set(String(this.ids[i]), i);
    this.positionOf = new Map(answer.items.map((item) => [String(item.id), item.position]));
    this.stages = answer.stages.slice(0, names.length).map((s, i) => new Stage(s, i));
    /** Report of the rules for the final list; `null` without rules. */
    this.rules = answer.stages[names.length] ?? null;
    this.fate = this.#fates(names);
    for (const stage of this.stages) this.#complete(stage);
  }

  /** Whether a stage and all before it kept a candidate. */
  kept(stage, place) {
    return this.fate[place] > stage.index;
  }

  isPinned(place) {
    return this.pinned.size > 0 && this.pinned.has(String(this.ids[place]));
  }

  filtered(place) {
    return this.fate[place] < 0;
  }

  /** Stage that cut a candidate; `null` if no stage did. */
  cutStage(place) {
    return this.stages[this.fate[place]] ?? null;
  }

  /** What became of a candidate, in a few words. */
  end(place) {
    const position = this.positionOf.get(String(this.ids[place]));
    if (position !== undefined) return `position ${position}`;
    if (this.filtered(place)) return "filtered";
    const stage = this.cutStage(place);
    if (stage) return `cut by ${stage.name}`;
    return this.cutBy[place] === null ? "below the top" : "left out by rules";
  }

  /** Index of the stage that cut each candidate: -1 for filters, the number of stages or more
   * for those that all stages kept. */
  #fates(names) {
    const index = new Map(names.map((name, i) => [name, i]));
    const last = names.length - 1;
    return Int32Array.from(this.cutBy, (step) => {
      if (step === null) return last + 2;
      if (step === RULES && this.rules && (index.get(step) ?? last) === last) return last + 1;
      return index.get(step) ?? (step === FILTERS ? -1 : last + 1);
    });
  }

  #complete(stage) {
    const own = this.answer.trace.ranks[stage.name];
    const before = this.stages[stage.index - 1];
    if (own) {
      stage.scores = this.answer.trace.scores[stage.name];
      const came = own.reduce((n, rank) => n + (rank > 0), 0);
      stage.order = new Int32Array(came);
      own.forEach((rank, place) => {
        if (rank > 0) stage.order[rank - 1] = place;
      });
    } else if (before) {
      stage.scorer = before.scorer;
      stage.scores = before.scores;
      stage.order = before.order.filter((place) => this.kept(before, place));
    }
    stage.ranks = new Int32Array(this.ids.length);
    stage.order.forEach((place, i) => {
      stage.ranks[place] = i + 1;
      if (this.kept(stage, place)) {
        if (!this.isPinned(place)) stage.lastKept = place;
      } else if (stage.firstCut < 0) stage.firstCut = place;
    });
  }
}
