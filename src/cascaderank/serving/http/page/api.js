// Requests to the server, and its problem documents (RFC 9457).

import { parsed } from "./json_text.js";

const KEY = "cascaderank-token";
let token = "";
try {
  token = sessionStorage.getItem(KEY) ?? "";
} catch {
  // storage is switched off: the token is kept in memory
}

/** An error that the server answered, or `status` 0 if it did not answer. */
export class Problem extends Error {
  constructor(status, content) {
    super(content.detail ?? content.title ?? `the server answered with status ${status}`);
    this.status = status;
    this.field = content.field ?? "";
  }
}

/** Keep a token for this tab. */
export function useToken(text) {
  token = text;
  try {
    sessionStorage.setItem(KEY, text);
  } catch {
    // kept in memory
  }
}

/** Return the content of an answer of the server; paths are relative to the page. */
export async function call(path, { body = null, signal = null } = {}) {
  const headers = {};
  if (token) headers.authorization = `Bearer ${token}`;
  if (body !== null) headers["content-type"] = "application/json";
  const options = { method: body === null ? "GET" : "POST", headers, signal, body };
  let reply, text;
  try {
    reply = await fetch(path, { ...options, credentials: "omit", redirect: "error" });
    text = await reply.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The server does not answer; check that it runs." });
  }
  let content;
  try {
    content = parsed(text);
  } catch {
    content = {};
  }
  if (!reply.ok) throw new Problem(reply.status, content);
  return content;
}

/** Return an answer of `POST /v1/rank`. */
export const rank = (body, signal) => call("v1/rank", { body, signal });

export const bundles = () => call("v1/bundle");

export const goldenList = (variant) => call(`v1/golden?variant=${encodeURIComponent(variant)}`);

export const golden = (variant, index) =>
  call(`v1/golden/${index}?variant=${encodeURIComponent(variant)}`);
