// Schemas as nested lists of members that open and close.

import { nameOf, resolve } from "./examples.js";
import { el, inline, prose } from "./markup.js";

const LIMITS = {
  minLength: "at least {} characters", maxLength: "at most {} characters", minimum: "from {}", maximum: "up to {}",
  exclusiveMinimum: "more than {}", exclusiveMaximum: "less than {}", minItems: "at least {} items",
  maxItems: "at most {} items", pattern: "pattern {}",
};
const UNBOUNDED = new Set([2 ** 31 - 1, -(2 ** 31), 2 ** 32 - 1]);

/** The type in a few words, with a link where it has a name. */
export function typeOf(api, given) {
  const name = nameOf(given);
  if (name) return [el("a", { href: `#schema-${name}` }, name)];
  if (given.type === "array") return ["array of ", ...typeOf(api, given.items || {})];
  if (given.type === "object" && typeof given.additionalProperties === "object") {
    return ["map of ", ...typeOf(api, given.additionalProperties)];
  }
  const format = given.format || (given.anyOf || []).map((each) => each.format).find(Boolean);
  return [`${given.type || "any value"}${format ? ` (${format})` : ""}`];
}

/** Rules as short words. */
export function limits(schema) {
  const told = Object.entries(LIMITS)
    .filter(([key]) => schema[key] !== undefined && !UNBOUNDED.has(schema[key]))
    .map(([key, text]) => {
      const [before, after] = text.split("{}");
      return el("span", { class: "rule" }, before, key === "pattern" ? el("code", {}, schema[key]) : String(schema[key]), after);
    });
  if (schema.enum) {
    const values = schema.enum.filter((value) => value !== "").map((value) => el("code", {}, String(value)));
    told.push(el("span", { class: "rule" }, "one of ", ...values.flatMap((value, place) => (place ? [", ", value] : [value]))));
  }
  return told;
}

/** Members of an object, each with what lies below it. `open` names the schemas above, so that none is inside itself. */
export function members(api, given, codes, open = []) {
  const schema = resolve(api, given);
  const name = nameOf(given);
  if (schema.type === "array") return members(api, schema.items || {}, codes, open);
  const properties = Object.entries(schema.properties || {});
  if (!properties.length || (name && open.includes(name))) return null;
  const required = new Set(schema.required || []);
  const choices = (schema.oneOf || []).filter((one) => one.required).map((one) => one.required[0]);
  const isRequest = schema.additionalProperties === false;
  return el("ul", { class: "members" }, properties.map(([key, below]) => {
    const nested = members(api, below, codes, [...open, name]);
    const resolved = resolve(api, below);
    return el("li", {},
      el("code", { class: "name" }, key), " ",
      el("span", { class: "type" }, typeOf(api, below)), " ",
      isRequest && required.has(key) ? el("span", { class: "required" }, "required") : null,
      choices.includes(key) ? el("span", { class: "choice" }, `one of ${choices.join(", ")}`) : null,
      limits(resolved),
      below.description ? el("div", { class: "text" }, inline(below.description, codes)) : null,
      nested ? el("details", {}, el("summary", {}, `Members of ${key}`), nested) : null);
  }));
}

export function schemaSection(api, name, codes) {
  const schema = api.components.schemas[name];
  const reference = { $ref: `#/components/schemas/${name}` };
  const body = members(api, reference, codes) ?? (schema.oneOf || schema.anyOf ? null : el("p", { class: "muted" }, "No members."));
  return el("details", { class: "schema", id: `schema-${name}` },
    el("summary", {}, el("code", {}, name)), prose(schema.description, codes), body);
}
