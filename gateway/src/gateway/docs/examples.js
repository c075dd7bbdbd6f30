// Values that fit a schema, for examples.

const TEXTS = {
  uuid: "0197c2a4-5d1e-7c3a-9b7e-2f4d6a8c0e12",
  "date-time": "2026-01-31T23:59:59Z",
  email: "ada@example.com",
  int64: "1024",
  uint64: "1024",
  "uri-reference": "/docs#INVALID_REQUEST",
};
const BY_NAME = {
  password: "correct horse battery",
  to: "+16505551234",
  language: "en_US",
  mimeType: "image/jpeg",
  name: "Ada",
  workspaceName: "Example Ltd",
  wabaId: "102290129340398",
  phoneNumberId: "106540352242922",
  sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
};

/** Resolves a reference into the document. */
export function resolve(api, schema) {
  if (!schema || !schema.$ref) return schema || {};
  const found = schema.$ref.slice(2).split("/").reduce((place, step) => place[step], api);
  return { ...found, ...Object.fromEntries(Object.entries(schema).filter(([key]) => key !== "$ref")) };
}

export const nameOf = (schema) => (schema && schema.$ref ? schema.$ref.split("/").pop() : "");

export function example(api, given, name = "", depth = 0) {
  const schema = resolve(api, given);
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum.find((value) => value !== "") ?? schema.enum[0];
  if (schema.type === "object") return exampleObject(api, schema, depth);
  if (schema.type === "array") return depth > 5 ? [] : [example(api, schema.items, name, depth + 1)];
  if (schema.type === "integer" || schema.type === "number") return Math.max(schema.minimum ?? 1, name === "pageSize" ? 50 : 1);
  if (schema.type === "boolean") return true;
  if (schema.type === "string") return exampleText(schema, name);
  const choice = (schema.anyOf || schema.oneOf || [])[0];
  return choice ? example(api, choice, name, depth + 1) : {};
}

function exampleObject(api, schema, depth) {
  if (depth > 5) return {};
  // Of a choice, the first: a request with all of them would be refused.
  const choices = (schema.oneOf || []).filter((one) => one.required).map((one) => one.required[0]);
  const made = {};
  for (const [name, below] of Object.entries(schema.properties || {})) {
    if (!choices.includes(name) || choices[0] === name) made[name] = example(api, below, name, depth + 1);
  }
  return made;
}

function exampleText(schema, name) {
  const formats = [schema, ...(schema.anyOf || [])].map((each) => TEXTS[each.format]);
  const known = formats.find(Boolean) ?? BY_NAME[name];
  if (known) return known;
  // Descriptions name the words that a text may be, the usual one first.
  const word = /^(?:[A-Z][\w ]*: )?"([^"]+)"/.exec(schema.description || "");
  if (word) return word[1];
  if (/Id$|^id$/.test(name)) return TEXTS.uuid;
  if ((schema.pattern || "").endsWith("s$")) return "900s";
  return schema.pattern ? "a" : "text";
}

/** The call as a command line. */
export function curl(api, origin, path, verb, operation) {
  const parameters = operation.parameters || [];
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => example(api, parameters.find((p) => p.name === name)?.schema, name));
  const query = parameters.filter((p) => p.in === "query" && p.required)
    .map((p) => `${p.name}=${encodeURIComponent(example(api, p.schema, p.name))}`).join("&");
  const lines = [`curl ${verb === "get" ? "" : `-X ${verb.toUpperCase()} `}'${origin}${filled}${query ? `?${query}` : ""}'`];
  if ((operation.security || []).length) lines.push(`-H "Authorization: Bearer $TOKEN"`);
  const content = operation.requestBody?.content || {};
  if (content["application/json"]) {
    const body = JSON.stringify(example(api, content["application/json"].schema), null, 2);
    lines.push("-H 'Content-Type: application/json'", `-d '${body.replaceAll("'", "'\\''")}'`);
  } else if (content["multipart/form-data"]) {
    lines.push("-F 'file=@photo.jpg;type=image/jpeg'");
  }
  if (operation.responses?.["200"]?.content?.["text/event-stream"]) lines.push("--no-buffer");
  return lines.join(" \\\n  ");
}
