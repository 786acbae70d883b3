// JSON whose integers of 64 bits stay exact: keys of items are often hashes.

const LONG = /(?<![\d.eE+-])-?\d{16,}(?![\d.eE])/;

/** Parse JSON; integers beyond 2^53 become BigInt where the browser passes their text. */
export function parsed(text) {
  if (!LONG.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" &&
    !Number.isSafeInteger(value) &&
    /^-?\d+$/.test(context?.source ?? "")
      ? BigInt(context.source)
      : value,
  );
}

/** Return a value as JSON in one line. */
export function jsonText(value) {
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return `[${value.map(jsonText).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    const members = Object.entries(value);
    return `{${members.map(([name, each]) => `${JSON.stringify(name)}: ${jsonText(each)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

/** Return an object as JSON with one member per line. */
export function jsonLines(object) {
  const lines = Object.entries(object).map(
    ([name, value]) => `  ${JSON.stringify(name)}: ${jsonText(value)}`,
  );
  return lines.length ? `{\n${lines.join(",\n")}\n}` : "{}";
}
