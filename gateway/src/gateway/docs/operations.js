// One section for each operation, and the list of error codes.

import { curl, example } from "./examples.js";
import { anchor, codeBlock, el, inline, prose } from "./markup.js";
import { limits, members, typeOf } from "./schemas.js";

export const verbTag = (verb) => el("span", { class: `verb ${verb}` }, verb.toUpperCase());

export function operationSection(api, path, verb, operation, codes) {
  const id = operation.operationId;
  return el("section", { class: "operation", id, "aria-labelledby": `${id}-title` },
    el("h3", { id: `${id}-title` }, operation.summary || id, " ", anchor(id)),
    el("p", { class: "path" }, verbTag(verb), " ", el("code", {}, path)),
    el("div", { class: "columns" },
      el("div", {}, prose(operation.description, codes), security(operation), parameters(api, operation, codes),
        requestBody(api, operation, codes), responses(api, operation, codes)),
      el("div", { class: "aside" }, codeBlock(curl(api, location.origin, path, verb, operation), "Example call"),
        answerExample(api, operation))));
}

function security(operation) {
  if (!(operation.security || []).length) return null;
  const ways = operation.security.map((one) => Object.keys(one).join(" + "));
  return el("p", { class: "muted" }, "Credentials: ", ways.join(", or "), ".");
}

function parameters(api, operation, codes) {
  const all = operation.parameters || [];
  if (!all.length) return null;
  return el("div", {}, el("h4", {}, "Parameters"), el("ul", { class: "members" }, all.map((parameter) => el("li", {},
    el("code", { class: "name" }, parameter.name), " ",
    el("span", { class: "type" }, parameter.in, ", ", typeOf(api, parameter.schema)), " ",
    parameter.required ? el("span", { class: "required" }, "required") : null,
    limits(parameter.schema),
    parameter.description ? el("div", { class: "text" }, inline(parameter.description, codes)) : null))));
}

function requestBody(api, operation, codes) {
  if (!operation.requestBody) return null;
  return Object.entries(operation.requestBody.content).map(([type, { schema }]) => el("div", {},
    el("h4", {}, "Request body ", el("small", {}, type)),
    prose(operation.requestBody.description, codes),
    members(api, schema, codes) ?? el("p", { class: "muted" }, "An object without members, or nothing.")));
}

function responses(api, operation, codes) {
  return el("div", {}, el("h4", {}, "Answers"), Object.entries(operation.responses).map(([status, answer]) => {
    const [type, content] = Object.entries(answer.content || {})[0] || [];
    const isGood = status.startsWith("2");
    const event = content?.["x-event-schema"];
    return el("details", { class: isGood ? "answer good" : "answer", open: isGood },
      el("summary", {}, el("span", { class: "status" }, status), " ", el("small", {}, type || "no body")),
      prose(answer.description, codes),
      isGood && content ? members(api, event || content.schema, codes) : null);
  }));
}

function answerExample(api, operation) {
  const content = operation.responses["200"]?.content?.["application/json"];
  return content ? codeBlock(JSON.stringify(example(api, content.schema), null, 2), "Example answer") : null;
}

/** Problems link here: each code is an anchor of its own. One code may belong to several services. */
export function codesSection(api) {
  const byCode = Map.groupBy ? Map.groupBy(api["x-error-codes"], (each) => each.code) : grouped(api["x-error-codes"]);
  return el("section", { id: "errors", "aria-labelledby": "errors-title" },
    el("h2", { id: "errors-title" }, "Error codes ", anchor("errors")),
    el("p", {}, "Every failure is ", el("code", {}, "application/problem+json"), " (RFC 9457). Its ",
      el("code", {}, "code"), " is one of these; its ", el("code", {}, "type"), " leads here."),
    el("dl", { class: "codes" }, [...byCode].sort(([a], [b]) => a.localeCompare(b)).map(([code, all]) => el("div", { id: code },
      el("dt", {}, el("code", {}, code), " ", anchor(code)),
      all.map((each) => el("dd", {}, el("span", { class: "status" }, String(each.status)), " ",
        inline(each.description), " ", el("small", {}, each.owner === "options" ? "platform" : each.owner)))))));
}

function grouped(all) {
  const groups = new Map();
  for (const each of all) groups.set(each.code, [...(groups.get(each.code) || []), each]);
  return groups;
}
